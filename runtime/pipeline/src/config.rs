//! A plugin's `with` settings: JSON with `${env:NAME}` and `${secret:NAME}` in its strings. The values
//! are put in when a plan is made, and are shown nowhere.

use std::collections::BTreeMap;
use std::fmt;

use crate::yaml::{At, Node, Span};

/// Values for references, by `env:NAME` and `secret:NAME`.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Variables(entries.into_iter().collect())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Settings with their references still in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    json: serde_json::Value,
    /// `env:NAME` and `secret:NAME`, and where each is written.
    references: Vec<At<String>>,
}

/// Settings ready for a plugin, as JSON text. Never printed: it may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Config(String);

impl Config {
    pub fn json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config(..)")
    }
}

/// A reference that cannot be one.
pub(crate) struct BadReference {
    pub(crate) message: String,
    pub(crate) span: Span,
}

impl Template {
    /// No settings: `null`.
    pub(crate) fn empty() -> Self {
        Template { json: serde_json::Value::Null, references: Vec::new() }
    }

    /// Takes settings as they stand in the file; `text` is the file's.
    pub(crate) fn read(node: &At<Node>, text: &str) -> Result<Self, BadReference> {
        let mut references = Vec::new();
        let json = to_json(node, text, &mut references)?;
        Ok(Template { json, references })
    }

    /// The references in it: `env:NAME` or `secret:NAME`.
    pub fn references(&self) -> &[At<String>] {
        &self.references
    }

    /// Puts the values in; every reference must have one.
    pub(crate) fn resolve(&self, variables: &Variables) -> Config {
        let mut json = self.json.clone();
        fill(&mut json, variables);
        Config(json.to_string())
    }

    /// The references that have no value.
    pub(crate) fn missing<'t>(&'t self, variables: &'t Variables) -> impl Iterator<Item = &'t At<String>> {
        self.references.iter().filter(|reference| !variables.0.contains_key(&reference.value))
    }
}

fn to_json(node: &At<Node>, text: &str, references: &mut Vec<At<String>>) -> Result<serde_json::Value, BadReference> {
    Ok(match &node.value {
        Node::Null => serde_json::Value::Null,
        Node::Bool(value) => (*value).into(),
        Node::Int(value) => (*value).into(),
        Node::Float(value) => (*value).into(),
        Node::Text(value) => {
            for name in names(value).map_err(|message| BadReference { message, span: node.span.clone() })? {
                references.push(At::new(name.clone(), within(&node.span, text, &name)));
            }
            value.as_str().into()
        }
        Node::List(items) => {
            items.iter().map(|item| to_json(item, text, references)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Node::Map(entries) => {
            let mut object = serde_json::Map::new();
            for (key, value) in entries {
                object.insert(key.value.clone(), to_json(value, text, references)?);
            }
            object.into()
        }
    })
}

fn within(span: &Span, text: &str, name: &str) -> Span {
    let found = text.get(span.clone()).and_then(|slice| slice.find(name));
    found.map_or_else(|| span.clone(), |at| span.start + at..span.start + at + name.len())
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    pieces(text, |piece| {
        if let Piece::Reference(name) = piece {
            names.push(name.to_string());
        }
    })?;
    Ok(names)
}

fn fill(json: &mut serde_json::Value, variables: &Variables) {
    match json {
        serde_json::Value::String(text) => {
            let mut filled = String::with_capacity(text.len());
            let done = pieces(text, |piece| match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Reference(name) => filled.push_str(variables.0.get(name).map_or("", String::as_str)),
            });
            done.expect("references were checked when the file was read");
            *text = filled;
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| fill(item, variables)),
        serde_json::Value::Object(entries) => entries.values_mut().for_each(|value| fill(value, variables)),
        _ => {}
    }
}

enum Piece<'t> {
    Text(&'t str),
    Reference(&'t str),
}

/// Cuts a string at its references. `$${` stands for `${`.
fn pieces<'t>(text: &'t str, mut take: impl FnMut(Piece<'t>)) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            take(Piece::Text(&rest[..at]));
            take(Piece::Text("{"));
            rest = &rest[at + 2..];
            continue;
        }
        take(Piece::Text(&rest[..at]));
        let after = &rest[at + 2..];
        let end = after.find('}').ok_or_else(|| "`${` without `}`: write `$${` for a plain `${`".to_string())?;
        let name = &after[..end];
        let plain = name.strip_prefix("env:").or_else(|| name.strip_prefix("secret:")).unwrap_or("");
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("`${{{name}}}` is not `${{env:NAME}}` or `${{secret:NAME}}`"));
        }
        take(Piece::Reference(name));
        rest = &after[end + 1..];
    }
    take(Piece::Text(rest));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in_and_never_shown() {
        let text = "url: \"https://${env:HOST}/x?t=${secret:TOKEN}\"\nplain: $${env:HOST}\nn: [1, a]\n";
        let template = Template::read(&crate::yaml::parse(text).ok().unwrap(), text).ok().unwrap();
        let named: Vec<_> = template.references().iter().map(|at| (&*at.value, &text[at.span.clone()])).collect();
        assert_eq!(named, [("env:HOST", "env:HOST"), ("secret:TOKEN", "secret:TOKEN")]);
        let variables: Variables = [("env:HOST", "h"), ("secret:TOKEN", "s\"3")]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .into_iter()
            .collect();
        let config = template.resolve(&variables);
        assert_eq!(config.json(), r#"{"n":[1,"a"],"plain":"${env:HOST}","url":"https://h/x?t=s\"3"}"#);
        assert_eq!(format!("{config:?} {variables:?}"), r#"Config(..) {"env:HOST", "secret:TOKEN"}"#);
        assert_eq!(template.missing(&Variables::default()).count(), 2);
    }
}
