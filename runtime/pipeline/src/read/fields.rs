//! Reading mappings and scalars with complaints: the small vocabulary the other readers are written in.
//! Every function reports what is wrong and gives `None`, so that reading goes on behind it.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{At, Node, Span};

/// What a mapping of the file may hold.
pub(super) struct Shape {
    /// `a step`, for messages.
    pub(super) what: &'static str,
    pub(super) keys: &'static [&'static str],
    /// The keys as shown to people.
    pub(super) takes: &'static str,
}

/// What other systems' files call things, and their names here.
const ELSEWHERE: [(&str, &str); 30] = [
    ("name", "pipeline"),
    ("id", "pipeline"),
    ("apiversion", "version"),
    ("input", "inputs"),
    ("source", "inputs"),
    ("sources", "inputs"),
    ("topics", "inputs"),
    ("output", "outputs"),
    ("sink", "outputs"),
    ("sinks", "outputs"),
    ("transforms", "steps"),
    ("transform", "steps"),
    ("processors", "steps"),
    ("stages", "steps"),
    ("delivery", "guarantee"),
    ("wasm", "plugin"),
    ("where", "filter"),
    ("when", "filter"),
    ("condition", "filter"),
    ("select", "map"),
    ("mapping", "map"),
    ("partitionby", "key_by"),
    ("groupby", "key_by"),
    ("key", "key_by"),
    ("switch", "branch"),
    ("config", "with"),
    ("onfailure", "on_error"),
    ("dlq", "dead_letter"),
    ("deadletterqueue", "dead_letter"),
    ("inputfrom", "from"),
];

/// A key that this mapping may hold, for one that is written as others write it: `onError`, `on-error`, `sinks`.
fn elsewhere(name: &str, keys: &[&'static str]) -> Option<&'static str> {
    let plain = |name: &str| -> String {
        name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).collect::<String>().to_ascii_lowercase()
    };
    let name = plain(name);
    let spelt = keys.iter().copied().find(|key| plain(key) == name);
    let named =
        || ELSEWHERE.iter().filter(|(other, _)| *other == name).map(|(_, key)| *key).find(|key| keys.contains(key));
    spelt.or_else(named)
}

/// A mapping whose keys are known ones.
pub(super) struct Object<'n> {
    /// Its first key: where a complaint about the whole points.
    pub(super) span: Span,
    entries: &'n [(At<String>, At<Node>)],
}

impl<'n> Object<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n At<Node>> {
        self.entry(key).map(|(_, value)| value)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&'n (At<String>, At<Node>)> {
        self.entries.iter().find(|(name, _)| name.value == key)
    }
}

pub(super) struct Reader {
    pub(super) diagnostics: Diagnostics,
    pub(super) text: String,
}

impl Reader {
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(super) fn wrong_type(&mut self, node: &At<Node>, name: &str, expected: &str) {
        let message = format!("`{name}` must be {expected}, found {}", node.value.kind());
        let diagnostic = Diagnostic::error(message, node.span.clone()).label(format!("expected {expected}"));
        self.report(diagnostic);
    }

    /// A mapping with the shape's keys only.
    pub(super) fn object<'n>(&mut self, node: &'n At<Node>, shape: &Shape) -> Option<Object<'n>> {
        let Node::Map(entries) = &node.value else {
            let message = format!("expected {}, found {}", shape.what, node.value.kind());
            let help = format!("{} takes: {}", shape.what, shape.takes);
            self.report(Diagnostic::error(message, node.span.clone()).help(help));
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !shape.keys.contains(&key.value.as_str())) {
            let unknown = Diagnostic::error(format!("unknown field `{}`", key.value), key.span.clone());
            let unknown = match elsewhere(&key.value, shape.keys) {
                Some(known) => unknown.label(format!("did you mean `{known}`?")),
                None => unknown.did_you_mean(&key.value, shape.keys.iter().copied()),
            };
            let unknown = unknown.help(format!("{} takes: {}", shape.what, shape.takes));
            self.report(unknown);
        }
        let span = entries.first().map_or(node.span.clone(), |(key, _)| key.span.clone());
        Some(Object { span, entries })
    }

    pub(super) fn list<'n>(&mut self, node: &'n At<Node>, name: &str) -> Option<&'n [At<Node>]> {
        match &node.value {
            Node::List(items) => Some(items),
            _ => {
                self.wrong_type(node, name, "a list");
                None
            }
        }
    }

    pub(super) fn string(&mut self, node: &At<Node>, name: &str) -> Option<At<String>> {
        match &node.value {
            Node::Text(text) => Some(At::new(text.clone(), node.span.clone())),
            Node::Int(_) | Node::Float(_) | Node::Bool(_) => {
                let message = format!("`{name}` must be a string, found {}", node.value.kind());
                self.report(Diagnostic::error(message, node.span.clone()).label("put it in quotes"));
                None
            }
            _ => {
                self.wrong_type(node, name, "a string");
                None
            }
        }
    }

    /// Any scalar, as it is written: expressions, durations and sizes need no quotes.
    pub(super) fn scalar(&mut self, node: &At<Node>, name: &str, expected: &str) -> Option<At<String>> {
        match &node.value {
            Node::Text(text) => Some(At::new(text.clone(), node.span.clone())),
            Node::Int(_) | Node::Float(_) | Node::Bool(_) => {
                Some(At::new(self.text[node.span.clone()].to_string(), node.span.clone()))
            }
            _ => {
                self.wrong_type(node, name, expected);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &At<Node>, name: &str) -> Option<bool> {
        match node.value {
            Node::Bool(value) => Some(value),
            _ => {
                self.wrong_type(node, name, "true or false");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, node: &At<Node>, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        match node.value {
            Node::Int(value) if range.contains(&value) => Some(value),
            Node::Int(value) => {
                let message = format!("`{name}` is {value}, must be {} to {}", range.start(), range.end());
                self.report(Diagnostic::error(message, node.span.clone()));
                None
            }
            _ => {
                self.wrong_type(node, name, "a whole number");
                None
            }
        }
    }

    pub(super) fn missing(&mut self, object_span: Span, what: &str, key: &str, help: &str) {
        let diagnostic = Diagnostic::error(format!("{what} needs `{key}`"), object_span).help(help);
        self.report(diagnostic);
    }

    /// A topic's name.
    pub(super) fn topic(&mut self, node: &At<Node>, name: &str) -> Option<At<String>> {
        let topic = self.string(node, name)?;
        if let Err(rule) = millstream_protocol::ids::check_topic_name(&topic.value) {
            self.report(Diagnostic::error(rule, topic.span));
            return None;
        }
        if topic.value.starts_with("__") {
            let message =
                format!("topic `{}` is internal: names that begin with `__` are the broker's own", topic.value);
            self.report(Diagnostic::error(message, topic.span));
            return None;
        }
        Some(topic)
    }

    pub(super) fn partitions(&mut self, object: &Object<'_>) -> Option<u32> {
        const PARTITIONS_MAX: i64 = 1024;
        let node = object.get("partitions")?;
        self.number(node, "partitions", 1..=PARTITIONS_MAX).map(|count| count as u32)
    }
}
