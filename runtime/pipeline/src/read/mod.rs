//! From YAML to a checked [`Spec`]: this file reads the top level and the topics, `step` and `policy`
//! the steps, `wire` resolves who takes records from whom. All findings of a file are reported at once.

mod fields;
mod policy;
mod step;
mod wire;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::{Guarantee, InputSpec, Spec, Start};
use crate::units;
use crate::yaml::{self, At, Node};
use fields::{Object, Reader, Shape};
use step::RawStep;

const PIPELINE: Shape = Shape {
    what: "a pipeline file",
    keys: &["version", "pipeline", "guarantee", "inputs", "steps", "outputs"],
    takes: "version, pipeline, guarantee, inputs, steps, outputs",
};
const INPUT: Shape =
    Shape { what: "an input", keys: &["topic", "from", "partitions"], takes: "topic, from, partitions" };
const OUTPUT: Shape = Shape {
    what: "an output",
    keys: &["topic", "from", "key", "trace", "partitions"],
    takes: "topic, from, key, trace, partitions",
};

/// Steps, inputs and outputs of one pipeline, each.
pub const PARTS_MAX: usize = 100;
/// Bytes of one pipeline file.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// An output whose `from` is still text.
struct RawOutput {
    topic: At<String>,
    from: Option<Vec<At<String>>>,
    key: Option<std::sync::Arc<crate::expr::Expression>>,
    trace: bool,
    partitions: Option<u32>,
}

/// Everything read, nothing connected.
struct Raw {
    name: Option<At<String>>,
    guarantee: Guarantee,
    inputs: Vec<InputSpec>,
    steps: Vec<RawStep>,
    outputs: Vec<RawOutput>,
}

/// Reads and checks a pipeline file; `file` is its name in messages.
///
/// # Errors
/// All that is wrong with it, at least one error.
pub fn parse(text: &str, file: &str) -> Result<Spec, Diagnostics> {
    let diagnostics = Diagnostics::new(file, text);
    let mut reader = Reader { diagnostics, text: text.to_string() };
    let spec = read(&mut reader);
    let mut found = reader.diagnostics;
    found.sort();
    match spec {
        Some(mut spec) if !found.has_errors() => {
            spec.warnings = found;
            Ok(spec)
        }
        _ => Err(found),
    }
}

fn read(reader: &mut Reader) -> Option<Spec> {
    if reader.text.len() > FILE_BYTES_MAX {
        let message = format!("a pipeline file has at most {FILE_BYTES_MAX} bytes, this has {}", reader.text.len());
        reader.report(Diagnostic::error(message, 0..0));
        return None;
    }
    let root = match yaml::parse(&reader.text) {
        Ok(root) => root,
        Err(error) => {
            let message = format!("this is not YAML: {}", error.message);
            reader.report(Diagnostic::error(message, error.span));
            return None;
        }
    };
    if root.value == Node::Null {
        let diagnostic = Diagnostic::error("the file is empty", 0..0)
            .help("a pipeline needs at least: pipeline: NAME, inputs: [{ topic: IN }], outputs: [{ topic: OUT }]");
        reader.report(diagnostic);
        return None;
    }
    let raw = reader.pipeline(&root)?;
    wire::connect(reader, raw)
}

impl Reader {
    fn pipeline(&mut self, root: &At<Node>) -> Option<Raw> {
        let object = self.object(root, &PIPELINE)?;
        self.version(&object);
        let name = match object.get("pipeline") {
            Some(node) => self.pipeline_name(node),
            None => {
                self.missing(object.span.clone(), "a pipeline", "pipeline", "pipeline: NAME gives it its name");
                None
            }
        };
        let guarantee = object.get("guarantee").map_or_else(Guarantee::default, |node| self.guarantee(node));
        let inputs = self.parts(&object, "inputs", "topic: NAME", Reader::input);
        let steps = match object.get("steps") {
            None => Vec::new(),
            Some(node) if node.value == Node::Null => Vec::new(),
            Some(node) => {
                let items = self.list(node, "steps").unwrap_or(&[]);
                if items.len() > PARTS_MAX {
                    let message = format!("a pipeline has at most {PARTS_MAX} steps, this has {}", items.len());
                    self.report(Diagnostic::error(message, node.span.clone()));
                }
                items.iter().take(PARTS_MAX).map(|item| self.step(item)).collect()
            }
        };
        let outputs = self.parts(&object, "outputs", "topic: NAME", Reader::output);
        Some(Raw { name, guarantee, inputs, steps, outputs })
    }

    fn version(&mut self, object: &Object<'_>) {
        let Some(node) = object.get("version") else { return };
        if node.value != Node::Int(1) {
            let message = format!("version {} is not known", &self.text[node.span.clone()]);
            self.report(Diagnostic::error(message, node.span.clone()).label("this release reads version 1"));
        }
    }

    fn pipeline_name(&mut self, node: &At<Node>) -> Option<At<String>> {
        const NAME_BYTES_MAX: usize = 100;
        let name = self.string(node, "pipeline")?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain) {
            let message = format!(
                "pipeline name `{}` must have 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`",
                name.value
            );
            self.report(Diagnostic::error(message, name.span));
            return None;
        }
        Some(name)
    }

    fn guarantee(&mut self, node: &At<Node>) -> Guarantee {
        let Some(text) = self.string(node, "guarantee") else { return Guarantee::default() };
        let diagnostic = match text.value.as_str() {
            "at_least_once" => return Guarantee::AtLeastOnce,
            "exactly_once" => Diagnostic::error("`exactly_once` is not supported yet", text.span)
                .label("use `at_least_once`")
                .help("with at_least_once nothing is lost; after a crash some results may be written twice"),
            other => Diagnostic::error(format!("unknown guarantee `{other}`"), text.span)
                .did_you_mean(other, ["at_least_once"])
                .help("guarantee takes: at_least_once"),
        };
        self.report(diagnostic);
        Guarantee::default()
    }

    /// `inputs` and `outputs`: lists with at least one item.
    fn parts<T>(
        &mut self,
        object: &Object<'_>,
        key: &'static str,
        example: &str,
        read: impl Fn(&mut Reader, &At<Node>) -> Option<T>,
    ) -> Vec<T> {
        let help = format!("{key}:\n  - {example}");
        let Some((name, node)) = object.entry(key) else {
            self.missing(object.span.clone(), "a pipeline", key, &help);
            return Vec::new();
        };
        match &node.value {
            Node::List(items) if (1..=PARTS_MAX).contains(&items.len()) => {
                items.iter().filter_map(|item| read(self, item)).collect()
            }
            Node::List(items) if items.len() > PARTS_MAX => {
                let message = format!("a pipeline has at most {PARTS_MAX} {key}, this has {}", items.len());
                self.report(Diagnostic::error(message, name.span.clone()));
                Vec::new()
            }
            Node::Null | Node::List(_) => {
                self.report(Diagnostic::error(format!("`{key}` is empty"), name.span.clone()).help(help));
                Vec::new()
            }
            _ => {
                self.wrong_type(node, key, "a list");
                Vec::new()
            }
        }
    }

    fn input(&mut self, node: &At<Node>) -> Option<InputSpec> {
        let object = self.object(node, &INPUT)?;
        let from = object.get("from").and_then(|value| self.start(value)).unwrap_or_default();
        let partitions = self.partitions(&object);
        let Some(topic) = object.get("topic") else {
            self.missing(object.span, "an input", "topic", "topic: NAME says what to read");
            return None;
        };
        Some(InputSpec { topic: self.topic(topic, "topic")?, from, partitions })
    }

    fn start(&mut self, node: &At<Node>) -> Option<Start> {
        let text = self.scalar(node, "from", "earliest, latest or a time")?;
        match text.value.as_str() {
            "earliest" => return Some(Start::Earliest),
            "latest" => return Some(Start::Latest),
            _ => {}
        }
        if let Some(ms) = units::timestamp_ms(&text.value) {
            return Some(Start::Timestamp(ms));
        }
        let diagnostic = Diagnostic::error(format!("`{}` is not a place to start", text.value), text.span)
            .did_you_mean(&text.value, ["earliest", "latest"])
            .help("from takes: earliest, latest, or a time like 2015-05-17T12:00:00Z");
        self.report(diagnostic);
        None
    }

    fn output(&mut self, node: &At<Node>) -> Option<RawOutput> {
        let object = self.object(node, &OUTPUT)?;
        let from = object.get("from").and_then(|value| self.sources(value));
        let key = object.get("key").and_then(|value| self.expression(value, "key"));
        let trace = object.get("trace").and_then(|value| self.boolean(value, "trace")).unwrap_or(false);
        let partitions = self.partitions(&object);
        let Some(topic) = object.get("topic") else {
            self.missing(object.span, "an output", "topic", "topic: NAME says what to write");
            return None;
        };
        Some(RawOutput { topic: self.topic(topic, "topic")?, from, key, trace, partitions })
    }
}
