//! A step's `with`: checked when the plugin starts, column names turned to JSON once.

use std::fmt;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use crate::first::First;
use crate::line::{self, Dialect, Quotes};

/// A step's `with`, checked.
#[derive(Debug, Deserialize)]
#[serde(try_from = "With")]
pub struct Config {
    pub names: Names,
    pub dialect: Dialect,
    /// What a line begins with that is left out.
    pub comment: Option<String>,
    /// Whether fields that look like numbers, `true`, `false`, `null` or nothing are written as such.
    pub infer_types: bool,
}

/// Where the columns' names are.
#[derive(Debug)]
pub enum Names {
    /// Lines become arrays.
    None,
    Given(Header),
    /// In the record at offset 0 of the partition.
    First(First),
}

/// The columns' names; at least one, all different, none empty.
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
    header: Option<Written>,
    columns: Option<Vec<String>>,
    delimiter: Option<String>,
    quotes: Quotes,
    comment: Option<String>,
    infer_types: bool,
    trim: bool,
}

/// `[id, name]`, or the file's own first line: `id,name`; or the word `first`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
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
        let dialect = Dialect { delimiter, quotes: with.quotes, trim: with.trim };
        let comment = with.comment.map(|text| comment(text, delimiter)).transpose()?;
        let first = matches!(&with.header, Some(Written::Line(text)) if text == "first");
        if with.columns.is_some() && !first {
            return Err(
                "columns: it is for `header: first`, to check the header that is found; `header` alone gives names"
                    .to_owned(),
            );
        }
        let names = match with.header {
            None => Names::None,
            Some(Written::Line(_)) if first => Names::First(First::new(with.columns.map(Header::new).transpose()?)),
            Some(Written::List(names)) => Names::Given(Header::new(names)?),
            Some(Written::Line(text)) => Names::Given(Header::read(without_mark(text.trim_end()), dialect)?),
        };
        Ok(Self { names, dialect, comment, infer_types: with.infer_types })
    }
}

fn comment(text: String, delimiter: u8) -> Result<String, String> {
    let unfit = text.is_empty() || text.starts_with(['"', char::from(delimiter)]) || text.contains(['\r', '\n']);
    if unfit {
        Err(format!("comment `{text}`: expected what lines of comment begin with, such as `#`"))
    } else {
        Ok(text)
    }
}

/// Without the byte order mark that files, and what was made of several files, may have before their text.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl Header {
    /// # Errors
    /// The line is no CSV, or has not one name for each column.
    pub fn read(line: &str, dialect: Dialect) -> Result<Self, String> {
        let names: Result<Vec<String>> =
            line::fields(line, dialect).map(|field| field.map(|field| field.text.trim().to_owned())).collect();
        Self::new(names.map_err(|error| format!("header: {error}"))?)
    }

    /// # Errors
    /// There is no name, an empty one, or one twice.
    fn new(names: Vec<String>) -> Result<Self, String> {
        if names.is_empty() {
            return Err("header: expected at least one name".to_owned());
        }
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("header: column {} has no name", index + 1));
            }
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
                let header = match config.names {
                    Names::None => "none".to_owned(),
                    Names::Given(header) => header.to_string(),
                    Names::First(_) => "the first".to_owned(),
                };
                format!("{header} by {:?}", char::from(config.dialect.delimiter))
            });
            assert_eq!(shown.unwrap_or_else(|error| error), expected, "{json}");
        };
        check("null", "none by ','");
        check(r#"{"header":["a","b"],"delimiter":"tab"}"#, "a, b by '\\t'");
        check(r#"{"header":"a;\"b\"","delimiter":";"}"#, "a, b by ';'");
        check(r#"{"header":"\"b"}"#, "config: header: column 1: no closing quote");
        check(r#"{"header":[]}"#, "config: header: expected at least one name");
        check(r#"{"header":"a,,b"}"#, "config: header: column 2 has no name");
        check(r#"{"header":"\ufeffa,b"}"#, "a, b by ','");
        check(r#"{"header":"first"}"#, "the first by ','");
        check(r#"{"header":["first"]}"#, "first by ','");
        check(r##"{"header":"first","columns":["a"],"quotes":"lax","comment":"#"}"##, "the first by ','");
        check(
            r#"{"header":"a","columns":["a"]}"#,
            "config: columns: it is for `header: first`, to check the header that is found; `header` alone gives names",
        );
        check(r#"{"quotes":"none"}"#, "config: unknown variant `none`, expected `strict` or `lax`");
        let comment = "expected what lines of comment begin with, such as `#`";
        check(r#"{"comment":""}"#, &format!("config: comment ``: {comment}"));
        check(r#"{"comment":";","delimiter":";"}"#, &format!("config: comment `;`: {comment}"));
        check(r#"{"header":"a,b,a"}"#, "config: header: the name `a` is there twice");
        check(r#"{"delimiter":"||"}"#, "config: delimiter `||`: expected one ASCII character, not a quote, or `tab`");
        check(
            r#"{"headers":"a"}"#,
            "config: unknown field `headers`, expected one of `header`, `columns`, `delimiter`, `quotes`, `comment`, \
             `infer_types`, `trim`",
        );
    }
}
