//! A step's `with`: checked when the plugin starts, column names turned to JSON once.

use std::fmt;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use crate::line;

/// A step's `with`, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "With")]
pub struct Config {
    /// Lines become arrays without one.
    pub header: Option<Header>,
    pub delimiter: u8,
    /// Whether fields that look like numbers, `true`, `false`, `null` or nothing are written as such.
    pub infer_types: bool,
    /// Whether spaces around fields without quotes are left out.
    pub trim: bool,
}

/// The columns' names; at least one, all different.
#[derive(Clone, Debug)]
pub struct Header {
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// The name as it stands in an object, with its colon.
    pub json: Vec<u8>,
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct With {
    header: Option<Names>,
    delimiter: Option<String>,
    infer_types: bool,
    trim: bool,
}

/// `[id, name]`, or the file's own first line: `id,name`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Line(String),
}

impl TryFrom<With> for Config {
    type Error = String;

    fn try_from(with: With) -> Result<Self, String> {
        let delimiter = match with.delimiter.as_deref() {
            None => b',',
            Some("tab") => b'\t',
            Some(text) => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => *byte,
                _ => return Err(format!("delimiter `{text}`: expected one ASCII character, not a quote, or `tab`")),
            },
        };
        let names = match with.header {
            None => None,
            Some(Names::List(names)) => Some(names),
            Some(Names::Line(text)) => Some(
                line::fields(text.trim_end(), delimiter)
                    .map(|field| field.map(|field| field.text.trim().to_owned()))
                    .collect::<Result<_>>()
                    .map_err(|error| format!("header: {error}"))?,
            ),
        };
        let header = names.map(Header::new).transpose()?;
        Ok(Self { header, delimiter, infer_types: with.infer_types, trim: with.trim })
    }
}

impl Header {
    fn new(names: Vec<String>) -> Result<Self, String> {
        if names.is_empty() {
            return Err("header: expected at least one name".to_owned());
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!("header: the name `{name}` is there twice"));
            }
        }
        let columns = names.into_iter().map(|name| {
            let mut json = serde_json::to_vec(&name).expect("text has a JSON form");
            json.push(b':');
            Column { name, json }
        });
        Ok(Self { columns: columns.collect() })
    }
}

/// The names, for messages.
impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.columns.iter().enumerate().try_for_each(|(index, column)| {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", column.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::config;

    #[test]
    fn configurations_are_checked() {
        let check = |json: &str, expected: &str| {
            let parsed = config::<Config>(json);
            let shown = parsed.map(|config| {
                let header = config.header.map_or("none".to_owned(), |header| header.to_string());
                format!("{header} by {:?}", char::from(config.delimiter))
            });
            assert_eq!(shown.unwrap_or_else(|error| error), expected, "{json}");
        };
        check("null", "none by ','");
        check(r#"{"header":["a","b"],"delimiter":"tab"}"#, "a, b by '\\t'");
        check(r#"{"header":"a;\"b\"","delimiter":";"}"#, "a, b by ';'");
        check(r#"{"header":"\"b"}"#, "config: header: column 1: no closing quote");
        check(r#"{"header":[]}"#, "config: header: expected at least one name");
        check(r#"{"header":"a,b,a"}"#, "config: header: the name `a` is there twice");
        check(r#"{"delimiter":"||"}"#, "config: delimiter `||`: expected one ASCII character, not a quote, or `tab`");
        check(
            r#"{"headers":"a"}"#,
            "config: unknown field `headers`, expected one of `header`, `delimiter`, `infer_types`, `trim`",
        );
    }
}
