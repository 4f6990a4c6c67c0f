//! `fixtures/*.yaml` of a plugin: records to feed the real component and what must come out. A field that
//! an expectation does not name is not compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_pipeline::diagnostic::of_settings;
use millstream_protocol::{Columns, Row};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::format::text;
use crate::problem::Problem;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixture {
    /// The step's `with` for all cases that have none of their own.
    #[serde(default)]
    pub(crate) config: Value,
    pub(crate) cases: Vec<Case>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) config: Option<Value>,
    #[serde(default)]
    pub(crate) input: Vec<Record>,
    /// The main output, in order.
    #[serde(default)]
    pub(crate) output: Vec<Record>,
    /// The other outputs by name; one that is not named must be empty.
    #[serde(default)]
    pub(crate) outputs: BTreeMap<String, Vec<Record>>,
    #[serde(default)]
    pub(crate) rejected: Vec<Rejected>,
    /// The plugin must refuse to start, with these words in its message.
    #[serde(default)]
    pub(crate) refused: Option<String>,
}

/// A record to feed or to find. `value: null` is a tombstone, an absent value too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(default, deserialize_with = "present")]
    pub(crate) key: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) value: Option<Value>,
    /// Bytes that are no text.
    #[serde(default)]
    pub(crate) key_base64: Option<String>,
    #[serde(default)]
    pub(crate) value_base64: Option<String>,
    /// The value as JSON: fed in its shortest form, compared without regard to the order of fields.
    #[serde(default, deserialize_with = "present")]
    pub(crate) json: Option<Value>,
    /// By name, or as a list of `name` and `value` where names repeat.
    #[serde(default)]
    pub(crate) headers: Option<Headers>,
    #[serde(default)]
    pub(crate) timestamp: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Headers {
    ByName(BTreeMap<String, Option<String>>),
    InOrder(Vec<Header>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

impl Headers {
    fn pairs(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        match self {
            Headers::ByName(map) => map.iter().map(|(n, v)| (n.as_bytes(), v.as_deref().map(str::as_bytes))).collect(),
            Headers::InOrder(list) => {
                list.iter().map(|header| (header.name.as_bytes(), header.value.as_deref().map(str::as_bytes))).collect()
            }
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rejected {
    pub(crate) index: u32,
    #[serde(default)]
    pub(crate) contains: String,
}

/// `null` is a value of its own, not an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads all fixtures of a folder, by file name.
///
/// # Errors
/// There is none, or one can't be read.
pub(crate) fn load(folder: &Path) -> Result<Vec<(PathBuf, Fixture)>> {
    let entries = std::fs::read_dir(folder).map_err(|_| {
        Problem::not_found(format!("there is no folder {}", folder.display()))
            .help("put input records and expected outputs into fixtures/NAME.yaml; plugins/identity has an example")
    })?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml")).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Problem::not_found(format!("{} holds no .yaml file", folder.display())).into());
    }
    paths.into_iter().map(|path| read(&path).map(|fixture| (path, fixture))).collect()
}

fn read(path: &Path) -> Result<Fixture> {
    let content =
        std::fs::read_to_string(path).map_err(|error| Problem::failure(format!("{}: {error}", path.display())))?;
    let help = "plugins/identity/fixtures has an example";
    let parsed = serde_yaml::from_str(&content);
    Ok(parsed.map_err(|error| of_settings(&path.to_string_lossy(), &content, &error, help))?)
}

impl Case {
    /// The case's records as the batch that the component gets; a record's offset is its index.
    pub(crate) fn batch(&self) -> Columns {
        let mut columns = Columns::default();
        for (offset, record) in (0..).zip(&self.input) {
            let value = record.json.as_ref().map(|json| json.to_string().into_bytes());
            let value = value.or_else(|| record.wanted_value().flatten());
            let key = record.wanted_key().flatten();
            columns.push(offset, record.timestamp.unwrap_or(0), key.as_deref(), value.as_deref());
            for (name, value) in record.headers.iter().flat_map(Headers::pairs) {
                columns.push_header(name, value);
            }
        }
        columns
    }
}

impl Record {
    /// The key that it says, if it says one.
    fn wanted_key(&self) -> Option<Option<Vec<u8>>> {
        wanted(self.key.as_ref(), self.key_base64.as_deref())
    }

    fn wanted_value(&self) -> Option<Option<Vec<u8>>> {
        wanted(self.value.as_ref(), self.value_base64.as_deref())
    }
}

/// What is no base64 stands for itself, and so differs from everything.
fn wanted(part: Option<&Value>, base64: Option<&str>) -> Option<Option<Vec<u8>>> {
    match base64 {
        Some(base64) => Some(Some(BASE64.decode(base64).unwrap_or_else(|_| base64.as_bytes().to_vec()))),
        None => part.map(bytes),
    }
}

/// A scalar as the bytes of a key or value; `null` is none.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

/// How what came out differs from what was expected; empty when it fits.
pub(crate) fn differences(output: &str, expected: &[Record], found: Option<&Columns>) -> Vec<String> {
    let rows: Vec<Row<'_>> = found.map(|columns| columns.rows().collect()).unwrap_or_default();
    let place = |i: usize| if output.is_empty() { format!("output {i}") } else { format!("output `{output}` {i}") };
    let mut differences = Vec::new();
    for i in 0..expected.len().max(rows.len()) {
        match (expected.get(i), rows.get(i)) {
            (Some(expected), Some(row)) => {
                let of_row = compare(expected, row);
                differences.extend(of_row.into_iter().map(|difference| format!("{}: {difference}", place(i))));
            }
            (Some(_), None) => differences.push(format!("{}: expected a record, found none", place(i))),
            (None, Some(row)) => {
                let value = row.value.map_or("no value".into(), text);
                differences.push(format!("{}: unexpected record with value {value}", place(i)));
            }
            (None, None) => {}
        }
    }
    differences
}

fn compare(expected: &Record, row: &Row<'_>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, expected: String, found: String| {
        differences.push(format!("{what}\n    expected  {expected}\n    found     {found}"));
    };
    let shown = |part: Option<&[u8]>| match part.map(std::str::from_utf8) {
        None => "none".to_owned(),
        Some(Ok(text)) => text.to_owned(),
        Some(Err(_)) => format!("base64 {}", BASE64.encode(part.unwrap_or_default())),
    };
    if let Some(key) = expected.wanted_key()
        && key.as_deref() != row.key
    {
        differ("key", shown(key.as_deref()), shown(row.key));
    }
    if let Some(value) = expected.wanted_value()
        && value.as_deref() != row.value
    {
        differ("value", shown(value.as_deref()), shown(row.value));
    }
    if let Some(json) = &expected.json {
        let found = row.value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        if found.as_ref() != Some(json) {
            let found = found.map_or_else(|| shown(row.value), |found| found.to_string());
            differ("value", json.to_string(), found);
        }
    }
    if let Some(timestamp) = expected.timestamp
        && timestamp != row.timestamp
    {
        differ("timestamp", timestamp.to_string(), row.timestamp.to_string());
    }
    if let Some(headers) = &expected.headers {
        let mut wanted = headers.pairs();
        let mut found: Vec<(&[u8], Option<&[u8]>)> = row.headers.iter().collect();
        if matches!(headers, Headers::ByName(_)) {
            wanted.sort_unstable();
            found.sort_unstable();
        }
        if found != wanted {
            let list = |headers: Vec<(&[u8], Option<&[u8]>)>| {
                let shown: Vec<String> = headers
                    .into_iter()
                    .map(|(name, value)| format!("{}: {}", shown(Some(name)), shown(value)))
                    .collect();
                format!("{{{}}}", shown.join(", "))
            };
            differ("headers", list(wanted), list(found));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Fixture {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn named_fields_are_compared_and_others_are_not() {
        let check = |expected: &str, differing: &[&str]| {
            let fixture = parse(&format!("cases:\n  - name: x\n    output:\n      - {expected}\n"));
            let mut found = Columns::default();
            found.push(0, 7, Some(b"k"), Some(br#"{"b":1,"a":2}"#));
            found.push_header(b"h", Some(b"1"));
            let differences = differences("", &fixture.cases[0].output, Some(&found));
            assert_eq!(differences.len(), differing.len(), "{differences:?}");
            for (found, expected) in differences.iter().zip(differing) {
                assert!(found.contains(expected), "{found}");
            }
        };
        check("{ key: k, json: { a: 2, b: 1 }, timestamp: 7, headers: { h: '1' } }", &[]);
        check("{}", &[]);
        check("{ key: null }", &["output 0: key\n    expected  none\n    found     k"]);
        check("{ json: { a: 3 }, timestamp: 8 }", &["value", "timestamp"]);
        check("{ value: '{}', headers: {} }", &["value", "headers"]);
        check("{ headers: [{ name: h, value: '1' }], key_base64: aw== }", &[]);
        check(
            "{ headers: [{ name: h }, { name: h, value: '1' }], key_base64: /w== }",
            &["key\n    expected  base64 /w==", "headers"],
        );
    }

    #[test]
    fn missing_and_surplus_records_are_told() {
        let fixture = parse("cases:\n  - name: x\n    output: [{ value: a }]\n");
        let found = differences("refunds", &fixture.cases[0].output, None);
        assert_eq!(found, ["output `refunds` 0: expected a record, found none"]);
        let mut columns = Columns::default();
        columns.push(0, 0, None, Some(b"a"));
        columns.push(0, 0, None, Some(b"b"));
        let found = differences("", &fixture.cases[0].output, Some(&columns));
        assert_eq!(found, ["output 1: unexpected record with value b"]);
    }

    #[test]
    fn input_becomes_a_batch() {
        let fixture =
            parse("cases:\n  - name: x\n    input:\n      - { key: 7, json: { a: 1 } }\n      - { value: null }\n");
        let batch = fixture.cases[0].batch();
        let rows: Vec<Row<'_>> = batch.rows().collect();
        assert_eq!((rows[0].key, rows[0].value), (Some(&b"7"[..]), Some(&br#"{"a":1}"#[..])));
        assert_eq!((rows[1].key, rows[1].value, rows[1].offset), (None, None, 1));
    }
}
