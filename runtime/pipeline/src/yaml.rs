//! YAML text as a tree in which every key and value knows its bytes in the text. The only file that
//! names the YAML crate. What the keys mean is decided in `read`.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};

use crate::diagnostic::Diagnostic;

/// Lists and mappings, one in the other. Reading one takes some 30 KiB of stack where nothing is optimised.
const DEPTH_MAX: usize = 32;
/// Values of one document; each takes some hundred bytes as a tree.
const NODES_MAX: usize = 50_000;
/// Values that are given a name, and uses of such names. A few bytes of text can stand for any number of values.
const ALIASES_MAX: usize = 32;
/// Values that all uses of names stand for together.
const REPEATED_MAX: usize = 10_000;

/// So many names that would be right are listed where none is alike.
const LISTED_MAX: usize = 8;

/// Byte positions in the source text.
pub type Span = Range<usize>;

/// A value and the bytes it was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T> At<T> {
    pub fn new(value: T, span: Span) -> Self {
        At { value, span }
    }
}

/// One YAML value. Scalars keep their YAML type; [`Node::scalar_text`] gives them back as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<At<Node>>),
    Map(Vec<(At<String>, At<Node>)>),
}

impl Node {
    /// What this is, for "expected a string, found a list".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Bool(_) => "a boolean",
            Node::Int(_) | Node::Float(_) => "a number",
            Node::Text(_) => "a string",
            Node::List(_) => "a list",
            Node::Map(_) => "a mapping",
        }
    }
}

/// Why the text is not YAML, and where.
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Span,
}

/// Reads one YAML document. An empty text is [`Node::Null`].
pub(crate) fn parse(text: &str) -> Result<At<Node>, SyntaxError> {
    let options = serde_yaml::options! {
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_recorded_anchor_events: REPEATED_MAX,
            max_recorded_anchor_bytes: 1 << 20,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: REPEATED_MAX },
    };
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(text, options).map_err(|error| syntax(text, &error))?;
    Ok(place(raw, text))
}

fn syntax(text: &str, error: &serde_yaml::Error) -> SyntaxError {
    let message = match error {
        serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` appears twice here"),
        serde_yaml::Error::MultipleDocuments { .. } => "one file holds one pipeline: found a second document".into(),
        other => {
            let shown = other.to_string();
            let first = shown.lines().next().unwrap_or("not valid YAML");
            let end = first.find(" at line ").unwrap_or(first.len());
            over_budget(first).unwrap_or_else(|| first[..end].trim_start_matches("error: ").to_string())
        }
    };
    let span = error.location().map_or(0..0, |location| span_of(&location, text));
    match tab_near(text, span.start) {
        Some(at) => {
            SyntaxError { message: "a tab can't indent a line of YAML: use blanks".to_owned(), span: at..at + 1 }
        }
        None => SyntaxError { message, span },
    }
}

/// A tab among the blanks that begin the line of a mistake, or the line after it: the parser may notice one only when
/// it has gone back to what stands before.
fn tab_near(text: &str, at: usize) -> Option<usize> {
    let at = text.floor_char_boundary(at.min(text.len()));
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut line_start = start;
    for line in text[start..].split_inclusive('\n').take(2) {
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..blanks].find('\t') {
            return Some(line_start + tab);
        }
        line_start += line.len();
    }
    None
}

/// A mistake that the reader of another file found: the place of a name that is unknown, with the nearest one.
pub(crate) fn mistake(text: &str, error: &serde_yaml::Error) -> Diagnostic {
    let (what, name, expected) = match error.without_snippet() {
        serde_yaml::Error::SerdeUnknownField { field, expected, .. } => ("field", field, expected),
        serde_yaml::Error::SerdeUnknownVariant { variant, expected, .. } => ("value", variant, expected),
        serde_yaml::Error::MultipleDocuments { .. } => {
            let SyntaxError { span, .. } = syntax(text, error);
            return Diagnostic::error("one file holds one document: found a second", span);
        }
        other => {
            let SyntaxError { message, span } = syntax(text, other);
            return Diagnostic::error(message, span);
        }
    };
    let start = error.location().map_or(0, |location| span_of(&location, text).start);
    // The place may be that of what holds the name.
    let start = text.get(start..).and_then(|rest| rest.find(name.as_str())).map_or(start, |at| start + at);
    let mut diagnostic = Diagnostic::error(format!("unknown {what} `{name}`"), start..start + name.len());
    if expected.len() <= LISTED_MAX {
        diagnostic = diagnostic.label(format!("expected one of: {}", expected.join(", ")));
    }
    diagnostic.did_you_mean(name, expected.iter().copied())
}

/// The parser's words for its limits, in ours.
fn over_budget(message: &str) -> Option<String> {
    if message.contains("recursion limit exceeded") {
        return Some(format!("lists and mappings go deeper than {DEPTH_MAX} levels"));
    }
    let (_, what) = message.split_once("budget breached: ")?;
    Some(match what {
        what if what.starts_with("Depth") => format!("lists and mappings go deeper than {DEPTH_MAX} levels"),
        what if what.starts_with("Nodes") => format!("it holds more than {NODES_MAX} values"),
        what if what.contains("Anchor") || what.contains("Alias") => {
            format!(
                "names for values (`&a`) and their uses (`*a`) are at most {ALIASES_MAX}, and stand for at most {REPEATED_MAX} values"
            )
        }
        _ => "it is too large for a pipeline file".into(),
    })
}

/// The tree as the deserializer builds it, still with the crate's own positions.
enum Raw {
    Scalar(Node),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(i64::try_from(value).map_or(Node::Float(value as f64), Node::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Text(value.to_string())))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Text(value)))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Node::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((key, entries.next_value::<Spanned<Raw>>()?));
        }
        Ok(Raw::Map(map))
    }
}

fn place(raw: Spanned<Raw>, text: &str) -> At<Node> {
    let span = span_of(&raw.referenced, text);
    match raw.value {
        Raw::Scalar(node) => At::new(node, trimmed(span, text)),
        Raw::List(items) => At::new(Node::List(items.into_iter().map(|item| place(item, text)).collect()), span),
        Raw::Map(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| {
                    let key_span = trimmed(span_of(&key.referenced, text), text);
                    (At::new(key.value, key_span), place(value, text))
                })
                .collect();
            At::new(Node::Map(entries), span)
        }
    }
}

/// A scalar's span may run into the white space after it.
fn trimmed(span: Span, text: &str) -> Span {
    let slice = text.get(span.clone()).unwrap_or("");
    span.start..span.start + slice.trim_end().len()
}

fn span_of(location: &Location, text: &str) -> Span {
    let start = match location.span().byte_offset() {
        Some(start) => start as usize,
        None => offset_of(text, location.line() as usize, location.column() as usize),
    };
    let start = start.min(text.len());
    let end = (start + location.span().byte_len().unwrap_or(0) as usize).min(text.len());
    start..end
}

/// The byte offset of a line and column, both from 1, the column in characters.
pub(crate) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let line_text = text[line_start..].lines().next().unwrap_or("");
    let within = line_text.char_indices().nth(column.saturating_sub(1)).map_or(line_text.len(), |(at, _)| at);
    line_start + within
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &At<Node>, text: &str, depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        match &node.value {
            Node::List(items) => items.iter().for_each(|item| {
                out.push_str(&format!("{pad}-\n"));
                show(item, text, depth + 1, out);
            }),
            Node::Map(entries) => entries.iter().for_each(|(key, value)| {
                out.push_str(&format!("{pad}{} [{}]\n", key.value, &text[key.span.clone()]));
                show(value, text, depth + 1, out);
            }),
            scalar => out.push_str(&format!("{pad}{scalar:?} [{}]\n", &text[node.span.clone()])),
        }
    }

    #[test]
    fn every_key_and_value_knows_its_text() {
        let text = "a: 1   # one\n\"b\": [x, 'y z', 2.5]\nc: { d: value.x >= 5, e: true, f: }\ng: |\n  two\n  lines\nh: 0.1.0\ni: é\n";
        let mut out = String::new();
        show(&parse(text).ok().unwrap(), text, 0, &mut out);
        expect_test::expect![[r#"
            a [a]
              Int(1) [1]
            b ["b"]
              -
                Text("x") [x]
              -
                Text("y z") ['y z']
              -
                Float(2.5) [2.5]
            c [c]
              d [d]
                Text("value.x >= 5") [value.x >= 5]
              e [e]
                Bool(true) [true]
              f [f]
                Null []
            g [g]
              Text("two\nlines\n") [two
              lines]
            h [h]
              Text("0.1.0") [0.1.0]
            i [i]
              Text("é") [é]
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn broken_yaml_says_where() {
        let check = |text: &str, expect: expect_test::Expect| {
            let error = parse(text).err().unwrap();
            expect.assert_eq(&format!("{} [{}..{}]", error.message, error.span.start, error.span.end));
        };
        check("a: [1, 2\nb: 3\n", expect_test::expect!["illegal placement of ':' indicator [10..10]"]);
        check("a: 1\na: 2\n", expect_test::expect!["the key `a` appears twice here [5..6]"]);
        check("a: 1\n\tb: 2\n", expect_test::expect!["a tab can't indent a line of YAML: use blanks [5..6]"]);
        check("a: 1\n---\nb: 1\n", expect_test::expect!["one file holds one pipeline: found a second document [9..9]"]);
        check("a: \"open\n", expect_test::expect!["unclosed quote [3..3]"]);
        check("a: 1\n  b: 2\n", expect_test::expect!["mapping values are not allowed in this context [8..8]"]);
    }
}
