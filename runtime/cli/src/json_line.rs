//! A record as a line of JSON, both ways: what `consume --output json` prints, `produce --json` takes, byte for byte.
//!
//! Text is a string, bytes that are no UTF-8 are base64 under a name of their own (`value_base64`), nothing is `null`.
//! Headers are a list, since names repeat and their order counts; `jq`'s `from_entries` makes an object of them. Lines
//! that people write may be shorter: a value that is no string stands for its own JSON text, as it is written, and
//! headers may be an object.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_client::Record;
use millstream_protocol::{Columns, Row};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::problem::Problem;
use crate::records::Place;

/// Appends a record as one JSON object, without a line end.
pub(crate) fn encode(place: Place<'_>, row: &Row<'_>, out: &mut Vec<u8>) {
    let line = Shown { place, row };
    serde_json::to_writer(out, &line).expect("writing to memory can't fail");
}

struct Shown<'a> {
    place: Place<'a>,
    row: &'a Row<'a>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown { place, row } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", place.topic)?;
        map.serialize_entry("partition", &place.partition)?;
        map.serialize_entry("offset", &row.offset)?;
        map.serialize_entry("timestamp", &row.timestamp)?;
        bytes(&mut map, ["key", "key_base64"], row.key)?;
        bytes(&mut map, ["value", "value_base64"], row.value)?;
        let headers: Vec<ShownHeader<'_>> =
            row.headers.iter().map(|(name, value)| ShownHeader { name, value }).collect();
        map.serialize_entry("headers", &headers)?;
        map.end()
    }
}

struct ShownHeader<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl Serialize for ShownHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes(&mut map, ["name", "name_base64"], Some(self.name))?;
        bytes(&mut map, ["value", "value_base64"], self.value)?;
        map.end()
    }
}

/// Under the first name as text, under the second what is none.
fn bytes<M: SerializeMap>(map: &mut M, [text, base64]: [&str; 2], part: Option<&[u8]>) -> Result<(), M::Error> {
    match part.map(std::str::from_utf8) {
        None => map.serialize_entry(text, &()),
        Some(Ok(part)) => map.serialize_entry(text, part),
        Some(Err(_)) => map.serialize_entry(base64, &BASE64.encode(part.unwrap_or_default())),
    }
}

/// What a line says; where it came from (`topic`, `offset`) counts for nothing when it is produced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    key: Part,
    #[serde(default)]
    key_base64: Option<Base64>,
    #[serde(default)]
    value: Part,
    #[serde(default)]
    value_base64: Option<Base64>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    topic: Option<serde_json::Value>,
    #[serde(default)]
    offset: Option<serde_json::Value>,
}

/// The record that a line says; with `keep_partition` for the partition that it names.
///
/// # Errors
/// It is no JSON object, or has a field that a record has not.
pub(crate) fn decode(line: &[u8], keep_partition: bool) -> Result<Record, Problem> {
    let line = read(line)?;
    let mut record = match join("value", line.value, line.value_base64)? {
        Some(value) => Record::new(value),
        None => Record::default(),
    };
    if let Some(key) = join("key", line.key, line.key_base64)? {
        record = record.key(key);
    }
    for (name, value) in line.headers.0 {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    if let Some(timestamp) = line.timestamp {
        record = record.timestamp(timestamp);
    }
    if let Some(partition) = line.partition.filter(|_| keep_partition) {
        record = record.partition(partition);
    }
    Ok(record)
}

/// Adds the record that a line says to `columns`; its topic and partition, and the offset where it names one.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_into(line: &[u8], columns: &mut Columns) -> Result<(String, u32), Problem> {
    let line = read(line)?;
    let value = join("value", line.value, line.value_base64)?;
    let key = join("key", line.key, line.key_base64)?;
    let offset = line.offset.as_ref().and_then(serde_json::Value::as_i64).unwrap_or(0);
    columns.push(offset, line.timestamp.unwrap_or(0), key.as_deref(), value.as_deref());
    line.headers.0.iter().for_each(|(name, value)| columns.push_header(name, value.as_deref()));
    let topic = line.topic.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok((topic, line.partition.unwrap_or(0)))
}

fn read(line: &[u8]) -> Result<Line, Problem> {
    if !line.trim_ascii_start().starts_with(b"{") {
        let cause = match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
            Ok(_) => "not a JSON object".to_owned(),
            Err(error) => format!("not JSON: {error}"),
        };
        return Err(Problem::refused(cause).help("for plain values leave --json out"));
    }
    serde_json::from_slice(line).map_err(|error| {
        let problem = Problem::refused(words(&error));
        if error.is_data() {
            problem.help(
                "a line has key, value, headers, timestamp and partition (key_base64, value_base64 for bytes); for plain \
                 values leave --json out",
            )
        } else {
            problem
        }
    })
}

/// The parser's words, which count lines, where there is one.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.replace(" at line 1 column ", " at column ");
    if error.is_data() { text } else { format!("not JSON: {text}") }
}

fn join(name: &str, part: Part, base64: Option<Base64>) -> Result<Option<Vec<u8>>, Problem> {
    match (part.0, base64) {
        (Some(_), Some(_)) => Err(Problem::refused(format!("both `{name}` and `{name}_base64` are given"))),
        (part, base64) => Ok(base64.map(|base64| base64.0).or(part)),
    }
}

/// A string's text, `null`, or the JSON text of anything else, as it is written.
#[derive(Default)]
struct Part(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let bytes = match raw.as_bytes().first() {
            Some(b'"') => Some(serde_json::from_str::<String>(raw).map_err(D::Error::custom)?.into_bytes()),
            _ if raw == "null" => None,
            _ => Some(raw.as_bytes().to_vec()),
        };
        Ok(Part(bytes))
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes());
        bytes.map(Base64).map_err(|error| D::Error::custom(format_args!("not base64: {error}")))
    }
}

/// Names and values in order.
#[derive(Default)]
struct Headers(Vec<(Vec<u8>, Option<Vec<u8>>)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(default)]
    name: Part,
    #[serde(default)]
    name_base64: Option<Base64>,
    #[serde(default)]
    value: Part,
    #[serde(default)]
    value_base64: Option<Base64>,
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Found;
        impl<'de> Visitor<'de> for Found {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as a list of names and values, or as an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Headers::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut headers = Headers::default();
                while let Some(header) = list.next_element::<Header>()? {
                    let name = join("name", header.name, header.name_base64).map_err(A::Error::custom)?;
                    let name = name.ok_or_else(|| A::Error::custom("a header has no name"))?;
                    headers.0.push((name, join("value", header.value, header.value_base64).map_err(A::Error::custom)?));
                }
                Ok(headers)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, value)) = map.next_entry::<String, Part>()? {
                    headers.0.push((name.into_bytes(), value.0));
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_any(Found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line_of(columns: &Columns) -> String {
        let mut out = Vec::new();
        encode(Place { topic: "orders", partition: 2 }, &columns.rows().next().unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_line_looks_like() {
        let mut columns = Columns::default();
        columns.push(17, 1_431_864_000_250, Some(b"k"), Some(b"\xff\x00"));
        columns.push_header(b"a", Some(b"1"));
        columns.push_header(b"a", None);
        columns.push_header(b"\xfe", Some(b"\xfd"));
        let expected = r#"{"topic":"orders","partition":2,"offset":17,"timestamp":1431864000250,"key":"k","value_base64":"/wA=","headers":[{"name":"a","value":"1"},{"name":"a","value":null},{"name_base64":"/g==","value_base64":"/Q=="}]}"#;
        assert_eq!(line_of(&columns), expected);
    }

    #[test]
    fn lines_that_people_write() {
        let check =
            |line: &str, expected: Record| assert_eq!(decode(line.as_bytes(), false).unwrap(), expected, "{line}");
        check(
            r#"{"key":"k","value":{"a": 1},"headers":{"h":"1"},"timestamp":7,"topic":"x"}"#,
            Record::new(r#"{"a": 1}"#).key("k").header("h", "1").timestamp(7),
        );
        // As they are written: no digit, name or blank is touched.
        for value in ["1e400", "0.1000", "123456789012345678901234567890", r#"{"b":1,"a":2,"b":3}"#, r#"[ "\ud800" ]"#]
        {
            check(&format!(r#"{{"value":{value}}}"#), Record::new(value));
        }
        check(r#"{"key":"k","value":null}"#, Record::tombstone("k"));
        check(r#"{"value":"null"}"#, Record::new("null"));
        check(r#"{"key":16,"value":""}"#, Record::new("").key("16"));
        check(r#" { "value_base64" : "/wA=", "headers": null } "#, Record::new(&b"\xff\0"[..]));
    }

    #[test]
    fn lines_that_are_refused() {
        let check = |line: &str, expected: &str| {
            let problem = decode(line.as_bytes(), false).unwrap_err();
            assert!(problem.to_string().starts_with(expected), "{line}: {problem}");
        };
        check("[1]", "not a JSON object");
        check("{", "not JSON: EOF while parsing an object at column 1");
        check("plain", "not JSON: expected value at line 1 column 1");
        check(r#"{"id":1}"#, "unknown field `id`, expected one of `key`, `key_base64`, `value`");
        check(r#"{"value":"a","value_base64":"YQ=="}"#, "both `value` and `value_base64` are given");
        check(r#"{"value_base64":"*"}"#, "not base64: Invalid symbol 42, offset 0.");
        check(r#"{"value":"\ud800"}"#, "unexpected end of hex escape");
        check(r#"{"timestamp":"now"}"#, "invalid type: string \"now\", expected i64");
        check(r#"{"headers":[{"value":"x"}]}"#, "a header has no name");
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}".prop_map(String::into_bytes),
            "[\u{0}-\u{1f}\u{7f}\u{2028}\u{2029}\u{feff}\"\\\\]{0,8}".prop_map(String::into_bytes),
            Just(br#"{"a":1e400,"a":"\ud800"}"#.to_vec()),
            Just(b"null".to_vec()),
        ]
    }

    type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn fields() -> impl Strategy<Value = Fields> {
        let headers = proptest::collection::vec((part(), proptest::option::of(part())), 0..5);
        (proptest::option::of(part()), proptest::option::of(part()), any::<i64>(), headers)
    }

    proptest! {
        /// Any record comes back as it was, on a line of its own.
        #[test]
        fn nothing_is_lost((key, value, timestamp, headers) in fields()) {
            let mut columns = Columns::default();
            columns.push(0, timestamp, key.as_deref(), value.as_deref());
            headers.iter().for_each(|(name, value)| columns.push_header(name, value.as_deref()));
            let line = line_of(&columns);
            prop_assert!(!line.contains('\n'));
            let mut expected = value.map_or_else(Record::default, Record::new).timestamp(timestamp).partition(2);
            if let Some(key) = key {
                expected = expected.key(key);
            }
            for (name, value) in headers {
                expected = match value {
                    Some(value) => expected.header(name, value),
                    None => expected.null_header(name),
                };
            }
            prop_assert_eq!(decode(line.as_bytes(), true).unwrap(), expected);
        }
    }
}
