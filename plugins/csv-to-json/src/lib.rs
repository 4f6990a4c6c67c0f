//! Parses CSV (RFC 4180), one line per record, into JSON objects named by a header, or into arrays without one. This file
//! writes the JSON, [`config`] names the columns, [`first`] learns their names, [`mod@line`] takes lines apart.

pub mod config;
pub mod first;
pub mod line;

use std::borrow::Cow;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use config::{Config, Header, Names, without_mark};
use line::Field;

/// Writes one JSON object (or array) per line, with the key, headers and timestamp of the record. A line of comment is left
/// out, and so is the header.
///
/// # Errors
/// A quote where none belongs, another number of columns than the header's, or a header that is not known.
#[transform]
pub fn csv_to_json(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let bytes = record.bytes()?;
    ensure!(
        !bytes.starts_with(b"\xff\xfe") && !bytes.starts_with(b"\xfe\xff"),
        "the text is UTF-16: convert it to UTF-8"
    );
    let text = record.str()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = without_mark(text.strip_suffix('\r').unwrap_or(text));
    if config.comment.as_ref().is_some_and(|comment| text.starts_with(comment)) {
        if let Names::First(first) = &config.names {
            first.comment(record.offset());
        }
        count("comments", 1);
        return Ok(());
    }
    let is_header = match &config.names {
        Names::None => {
            out.like(&record).value_with(|json| write_array(json, text, config))?;
            false
        }
        Names::Given(header) => convert(&record, text, header, config, out)?,
        Names::First(first) => {
            let mut repeated = false;
            let begun = first.record(record.offset(), text, config.dialect, |header| {
                repeated = convert(&record, text, header, config, out)?;
                Ok(())
            })?;
            begun || repeated
        }
    };
    if is_header {
        count("header lines", 1);
    }
    Ok(())
}

/// Writes the line, unless it repeats the header: then it says so.
fn convert(record: &Record<'_>, text: &str, header: &Header, config: &Config, out: &mut Output) -> Result<bool> {
    if is_header(text, header, config) {
        return Ok(true);
    }
    out.like(record).value_with(|json| write_object(json, text, header, config))?;
    Ok(false)
}

fn is_header(text: &str, header: &Header, config: &Config) -> bool {
    let mut names = header.columns.iter();
    line::fields(text, config.dialect)
        .all(|field| field.is_ok_and(|field| names.next().is_some_and(|column| column.name == field.text.trim())))
        && names.next().is_none()
}

fn write_array(json: &mut Vec<u8>, text: &str, config: &Config) -> Result<()> {
    for (index, field) in line::fields(text, config.dialect).enumerate() {
        json.push(if index == 0 { b'[' } else { b',' });
        write_field(json, field?, config)?;
    }
    json.push(b']');
    Ok(())
}

fn write_object(json: &mut Vec<u8>, text: &str, header: &Header, config: &Config) -> Result<()> {
    let mut columns = header.columns.iter();
    let mut found = 0;
    let mut excess = None;
    for field in line::fields(text, config.dialect) {
        let field = field?;
        if let Some(column) = columns.next() {
            json.push(if found == 0 { b'{' } else { b',' });
            json.extend_from_slice(&column.json);
            write_field(json, field, config)?;
        } else {
            excess.get_or_insert(field.text);
        }
        found += 1;
    }
    let expected = header.columns.len();
    if let Some(missing) = columns.next() {
        bail!("expected {expected} columns ({header}), found {found}: `{}` is missing", missing.name);
    }
    if let Some(excess) = excess {
        bail!("expected {expected} columns ({header}), found {found}: `{}` is one too many", shortened(&excess));
    }
    json.push(b'}');
    Ok(())
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

fn write_field(json: &mut Vec<u8>, field: Field<'_>, config: &Config) -> Result<()> {
    let text: Cow<'_, str> = field.text;
    // Quotes say that it is text.
    let literal = (config.infer_types && !field.quoted).then(|| literal(&text)).flatten();
    match literal {
        Some(literal) => json.extend_from_slice(literal.as_bytes()),
        None => serde_json::to_writer(json, text.as_ref())?,
    }
    Ok(())
}

/// The JSON literal that a field is, if it is one: a number keeps its digits, nothing is `null`. What JSON does not
/// take for a number (`007`, `1.`, `+1`) stays text.
fn literal(text: &str) -> Option<&str> {
    match text {
        "" => Some("null"),
        "true" | "false" | "null" => Some(text),
        _ if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && is_number(text) => Some(text),
        _ => None,
    }
}

/// RFC 8259: `-`, an integer without leading zeros, a fraction, an exponent.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (integer, fraction) = match mantissa.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(integer)
        && (integer == "0" || !integer.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{config, record, run};

    fn convert(json: &str, line: &str) -> String {
        let got = run(csv_to_json, &config(json).unwrap(), [record(line).key("k").timestamp(9)]);
        assert!(got.outputs.iter().all(|output| (output.key_str(), output.timestamp) == (Some("k"), 9)));
        let rejected = got.rejected.into_iter().map(|rejected| format!("rejected: {}", rejected.message));
        got.outputs
            .iter()
            .map(|output| String::from_utf8_lossy(output.value.as_ref().unwrap()).into_owned())
            .chain(rejected)
            .collect()
    }

    #[test]
    fn lines_become_objects() {
        let check = |config: &str, line: &str, expected: &str| assert_eq!(convert(config, line), expected, "{line}");
        let text = r#"{"header":["id","na\"me"]}"#;
        check(text, "1,Ann", r#"{"id":"1","na\"me":"Ann"}"#);
        check(text, "1,\"Cole, \"\"Ann\"\"\nB\"\r\n", r#"{"id":"1","na\"me":"Cole, \"Ann\"\nB"}"#);
        check(text, " 1 ,", r#"{"id":" 1 ","na\"me":""}"#);
        check(text, "1", r#"rejected: expected 2 columns (id, na"me), found 1: `na"me` is missing"#);
        check(text, "1,2,3", r#"rejected: expected 2 columns (id, na"me), found 3: `3` is one too many"#);
        check(text, "1,\"x", "rejected: column 2: no closing quote");
        check(text, "id,\"na\"\"me\"", "");
        let infer = r#"{"header":"a;b;c","delimiter":";","infer_types":true,"trim":true}"#;
        check(infer, "1; -2.50e+3 ;007", r#"{"a":1,"b":-2.50e+3,"c":"007"}"#);
        check(infer, "true;;\"5\"", r#"{"a":true,"b":null,"c":"5"}"#);
        check(infer, "1,5;-;0", r#"{"a":"1,5","b":"-","c":0}"#);
        check(infer, "12345678901234567890123;1.;NaN", r#"{"a":12345678901234567890123,"b":"1.","c":"NaN"}"#);
        check(r#"{"delimiter":"\t"}"#, "a\tb,c", r#"["a","b,c"]"#);
        check("null", "", r#"[""]"#);
    }

    #[test]
    fn header_lines_are_counted() {
        let config = config(r#"{"header":["id","name"]}"#).unwrap();
        let got = run(csv_to_json, &config, [record("id,name"), record("id,x"), record("id, name ")]);
        assert_eq!((got.outputs.len(), got.counter("header lines")), (1, 2));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let check = |config: &str, line: &str, expected: &str| assert_eq!(convert(config, line), expected, "{line}");
        let given = r#"{"header":["id","name"]}"#;
        check(given, "\u{feff}id,name", "");
        check(given, "\u{feff}\"id\",name\r\n", "");
        check(given, "\u{feff}1,Ann", r#"{"id":"1","name":"Ann"}"#);
        check(given, "1,\u{feff}Ann", "{\"id\":\"1\",\"name\":\"\u{feff}Ann\"}");
        check("null", "\u{feff}\"a,b\",c", r#"["a,b","c"]"#);
        let got = run(csv_to_json, &config(given).unwrap(), [record([0xff, 0xfe, b'i', 0])]);
        assert_eq!(got.rejected[0].message, "the text is UTF-16: convert it to UTF-8");
    }

    #[test]
    fn comments_are_counted() {
        let config = config(r##"{"header":["id","name"],"comment":"#"}"##).unwrap();
        let lines = ["# made on Monday", "\u{feff}#", "\"#1\",x", "1,#2", " #,y"];
        let got = run(csv_to_json, &config, lines.map(record));
        assert_eq!(
            got.values(),
            [r##"{"id":"#1","name":"x"}"##, r##"{"id":"1","name":"#2"}"##, r##"{"id":" #","name":"y"}"##]
        );
        assert_eq!(got.counter("comments"), 2);
    }

    #[test]
    fn the_first_record_names_the_columns() {
        let start = || config(r##"{"header":"first","comment":"#","trim":true}"##).unwrap();
        let lines = ["# x", "\u{feff}id , name", "1,Ann", "id,name", "2", "3,Bob"];
        let got = run(csv_to_json, &start(), lines.map(record));
        assert_eq!(got.values(), [r#"{"id":"1","name":"Ann"}"#, r#"{"id":"3","name":"Bob"}"#]);
        assert_eq!((got.counter("header lines"), got.counter("comments")), (2, 1));
        assert_eq!(got.rejected[0].message, "expected 2 columns (id, name), found 1: `name` is missing");
        // The instance keeps it from batch to batch.
        let config = start();
        run(csv_to_json, &config, ["id"].map(record));
        assert_eq!(run(csv_to_json, &config, ["x"].map(record)).values(), [r#"{"id":"x"}"#]);
        // Another partition begins with data.
        let got = run(csv_to_json, &start(), ["17,Ann", "18,Bob"].map(record));
        assert_eq!((got.outputs.len(), got.rejected.len()), (0, 2));
        assert!(got.rejected[1].message.contains("`17` is no column's name"), "{:?}", got.rejected);
    }
}
