//! Parses CSV (RFC 4180), one line per record, into JSON objects named by the configured header, or into arrays
//! without one. This file writes the JSON, [`config`] names the columns, [`mod@line`] takes lines apart.

pub mod config;
pub mod line;

use std::borrow::Cow;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use config::{Config, Header};
use line::Field;

/// Writes one JSON object (or array) per line, with the key, headers and timestamp of the record. A line that
/// repeats the header is left out.
///
/// # Errors
/// A quote that is not closed, or another number of columns than the header's.
#[transform]
pub fn csv_to_json(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = record.str()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let Some(header) = &config.header else {
        return out.like(&record).value_with(|json| write_array(json, text, config));
    };
    if is_header(text, header, config) {
        count("header lines", 1);
        return Ok(());
    }
    out.like(&record).value_with(|json| write_object(json, text, header, config))
}

fn is_header(text: &str, header: &Header, config: &Config) -> bool {
    let mut names = header.columns.iter();
    line::fields(text, config.delimiter)
        .all(|field| field.is_ok_and(|field| names.next().is_some_and(|column| column.name == field.text.trim())))
        && names.next().is_none()
}

fn write_array(json: &mut Vec<u8>, text: &str, config: &Config) -> Result<()> {
    for (index, field) in line::fields(text, config.delimiter).enumerate() {
        json.push(if index == 0 { b'[' } else { b',' });
        write_field(json, field?, config)?;
    }
    json.push(b']');
    Ok(())
}

fn write_object(json: &mut Vec<u8>, text: &str, header: &Header, config: &Config) -> Result<()> {
    let mut columns = header.columns.iter();
    let mut found = 0;
    for field in line::fields(text, config.delimiter) {
        let field = field?;
        if let Some(column) = columns.next() {
            json.push(if found == 0 { b'{' } else { b',' });
            json.extend_from_slice(&column.json);
            write_field(json, field, config)?;
        }
        found += 1;
    }
    ensure!(found == header.columns.len(), "expected {} columns ({header}), found {found}", header.columns.len());
    json.push(b'}');
    Ok(())
}

fn write_field(json: &mut Vec<u8>, field: Field<'_>, config: &Config) -> Result<()> {
    let text = match field.text {
        Cow::Borrowed(text) if config.trim && !field.quoted => Cow::Borrowed(text.trim()),
        text => text,
    };
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
        check(text, "1", r#"rejected: expected 2 columns (id, na"me), found 1"#);
        check(text, "1,2,3", r#"rejected: expected 2 columns (id, na"me), found 3"#);
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
}
