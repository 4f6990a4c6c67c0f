//! Reads one step: its kind, its expressions, its plugin reference.

use std::sync::Arc;

use super::fields::{Object, Reader, Shape};
use crate::config::Template;
use crate::diagnostic::Diagnostic;
use crate::expr::Expression;
use crate::spec::{OnError, PluginRef, StepKind, StepLimits};
use crate::yaml::{At, Node, Span};

const KINDS: [&str; 5] = ["plugin", "filter", "map", "key_by", "branch"];
const STEP: Shape = Shape {
    what: "a step",
    keys: &["name", "from", "plugin", "filter", "map", "key_by", "branch", "on_error", "limits"],
    takes: "name, from, plugin | filter | map | key_by | branch, on_error, limits",
};
const PLUGIN: Shape = Shape { what: "plugin", keys: &["use", "with"], takes: "use: NAME@VERSION, with: {settings}" };
const MAP: Shape = Shape {
    what: "map",
    keys: &["value", "key", "headers"],
    takes: "value: EXPRESSION, key: EXPRESSION, headers: {NAME: EXPRESSION}",
};

/// Outputs of one step, the main one included.
pub(crate) const STEP_OUTPUTS_MAX: usize = 16;

/// A step whose `from` is still text.
pub(super) struct RawStep {
    /// `None`: it gets a name from what it does.
    pub(super) name: Option<At<String>>,
    pub(super) from: Option<Vec<At<String>>>,
    /// `None`: what was written was reported; the step stands for its name only.
    pub(super) kind: Option<StepKind>,
    pub(super) outputs: Vec<String>,
    pub(super) on_error: OnError,
    pub(super) dead_letter: Option<At<String>>,
    pub(super) limits: StepLimits,
    pub(super) span: Span,
}

impl RawStep {
    fn unreadable(span: Span) -> Self {
        RawStep {
            name: None,
            from: None,
            kind: None,
            outputs: Vec::new(),
            on_error: OnError::default(),
            dead_letter: None,
            limits: StepLimits::default(),
            span,
        }
    }
}

impl Reader {
    pub(super) fn step(&mut self, node: &At<Node>) -> RawStep {
        let Some(object) = self.object(node, &STEP) else { return RawStep::unreadable(node.span.clone()) };
        let name = object.get("name").and_then(|value| self.step_name(value));
        let from = object.get("from").and_then(|value| self.sources(value));
        let kind = self.kind(&object);
        let is_plugin = matches!(kind, Some((StepKind::Plugin { .. }, _)));
        let (on_error, dead_letter) = match object.get("on_error") {
            Some(value) => self.on_error(value, is_plugin || kind.is_none()),
            None => (OnError::default(), None),
        };
        let mut limits = StepLimits::default();
        if let Some((key, value)) = object.entry("limits") {
            limits = self.limits(value);
            if kind.is_some() && !is_plugin {
                let message = "`limits` are for plugin steps: an expression runs within the broker's own";
                self.report(Diagnostic::error(message, key.span.clone()));
            }
        }
        let (kind, outputs) = kind.map_or((None, Vec::new()), |(kind, outputs)| (Some(kind), outputs));
        RawStep { name, from, kind, outputs, on_error, dead_letter, limits, span: object.span }
    }

    fn step_name(&mut self, node: &At<Node>) -> Option<At<String>> {
        const NAME_BYTES_MAX: usize = 64;
        let name = self.string(node, "name")?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain) {
            let message =
                format!("step name `{}` must have 1 to {NAME_BYTES_MAX} letters, digits, `-` or `_`", name.value);
            self.report(Diagnostic::error(message, name.span));
            return None;
        }
        Some(name)
    }

    /// `from`: one name or a list of names.
    pub(super) fn sources(&mut self, node: &At<Node>) -> Option<Vec<At<String>>> {
        match &node.value {
            Node::List(items) if items.is_empty() => {
                self.wrong_type(node, "from", "a name or a list of names");
                None
            }
            Node::List(items) => Some(items.iter().filter_map(|item| self.string(item, "from")).collect()),
            Node::Text(name) => Some(vec![At::new(name.clone(), node.span.clone())]),
            _ => {
                self.wrong_type(node, "from", "a name or a list of names");
                None
            }
        }
    }

    fn kind(&mut self, object: &Object<'_>) -> Option<(StepKind, Vec<String>)> {
        let found: Vec<_> = KINDS.iter().filter_map(|kind| object.entry(kind)).collect();
        let [(key, value), rest @ ..] = &found[..] else {
            let diagnostic = Diagnostic::error("this step does nothing", object.span.clone())
                .help("a step needs one of: plugin, filter, map, key_by, branch");
            self.report(diagnostic);
            return None;
        };
        if let Some((second, _)) = rest.first() {
            let message = format!("a step does one thing: this has `{}` and `{}`", key.value, second.value);
            let diagnostic = Diagnostic::error(message, second.span.clone())
                .related(key.span.clone(), "the first")
                .help("make two steps of it");
            self.report(diagnostic);
        }
        let main = vec![String::new()];
        match key.value.as_str() {
            "plugin" => self.plugin(value).map(|kind| (kind, main)),
            "filter" => self.expression(value, "filter").map(|test| (StepKind::Filter(test), main)),
            "key_by" => self.expression(value, "key_by").map(|by| (StepKind::KeyBy(by), main)),
            "map" => self.map(value).map(|kind| (kind, main)),
            _ => self.branch(value),
        }
    }

    fn plugin(&mut self, node: &At<Node>) -> Option<StepKind> {
        if let Node::Text(_) = node.value {
            let reference = self.reference(node)?;
            return Some(StepKind::Plugin { reference, with: Template::empty() });
        }
        let object = self.object(node, &PLUGIN)?;
        let with = object.get("with").and_then(|value| self.with(value));
        let Some(used) = object.get("use") else {
            self.missing(object.span, "a plugin step", "use", "use: NAME@VERSION names the plugin");
            return None;
        };
        let reference = self.reference(used)?;
        Some(StepKind::Plugin { reference, with: with.unwrap_or_else(Template::empty) })
    }

    fn with(&mut self, node: &At<Node>) -> Option<Template> {
        if !matches!(node.value, Node::Map(_)) {
            self.wrong_type(node, "with", "a mapping of settings");
            return None;
        }
        match Template::read(node, &self.text) {
            Ok(template) => Some(template),
            Err(bad) => {
                self.report(Diagnostic::error(bad.message, bad.span));
                None
            }
        }
    }

    fn reference(&mut self, node: &At<Node>) -> Option<At<PluginRef>> {
        let text = self.string(node, "use")?;
        match parse_reference(&text.value) {
            Ok(reference) => Some(At::new(reference, text.span)),
            Err(message) => {
                let help = "a plugin is named NAME@VERSION or NAME@VERSION/sha256:DIGEST: `redact@0.1.0`";
                self.report(Diagnostic::error(message, text.span).help(help));
                None
            }
        }
    }

    fn map(&mut self, node: &At<Node>) -> Option<StepKind> {
        let object = self.object(node, &MAP)?;
        if ["value", "key", "headers"].iter().all(|key| object.get(key).is_none()) {
            self.report(
                Diagnostic::error("this map changes nothing", node.span.clone())
                    .help(format!("map takes: {}", MAP.takes)),
            );
            return None;
        }
        let value = object.get("value").map(|value| self.expression(value, "value"));
        let key = object.get("key").map(|value| self.expression(value, "key"));
        let mut headers = Vec::new();
        match object.get("headers").map(|node| (node, &node.value)) {
            None => {}
            Some((_, Node::Map(entries))) => {
                for (name, value) in entries {
                    headers.push((name.value.clone(), self.expression(value, &name.value)?));
                }
            }
            Some((node, _)) => self.wrong_type(node, "headers", "a mapping of names to expressions"),
        }
        // A part that is there but wrong was reported: the step as a whole is not usable then.
        Some(StepKind::Map {
            value: value.map_or(Some(None), |v| v.map(Some))?,
            key: key.map_or(Some(None), |k| k.map(Some))?,
            headers,
        })
    }

    fn branch(&mut self, node: &At<Node>) -> Option<(StepKind, Vec<String>)> {
        let Node::Map(entries) = &node.value else {
            self.wrong_type(node, "branch", "a mapping of output names to expressions");
            return None;
        };
        if entries.is_empty() || entries.len() > STEP_OUTPUTS_MAX {
            let message = format!("a branch has 1 to {STEP_OUTPUTS_MAX} outputs, this has {}", entries.len());
            self.report(Diagnostic::error(message, node.span.clone()));
            return None;
        }
        let (mut arms, mut names) = (Vec::new(), Vec::new());
        for (i, (name, value)) in entries.iter().enumerate() {
            let is_default = matches!(&value.value, Node::Text(text) if text == "default");
            if is_default && i + 1 < entries.len() {
                let message = "`default` takes everything: the outputs after it get nothing";
                self.report(Diagnostic::error(message, value.span.clone()).label("move it to the end"));
            }
            let arm = if is_default { None } else { Some(self.expression(value, &name.value)?) };
            arms.push(arm);
            names.push(name.value.clone());
        }
        Some((StepKind::Branch(arms), names))
    }

    pub(super) fn expression(&mut self, node: &At<Node>, name: &str) -> Option<Arc<Expression>> {
        let source = self.scalar(node, name, "an expression")?;
        match Expression::compile(&source.value) {
            Ok(expression) => Some(Arc::new(expression)),
            Err(error) => {
                let span = self.inside(&source, error.at, error.length);
                let message = format!("in the expression of `{name}`: {}", error.message);
                self.report(error.diagnostic(message, span));
                None
            }
        }
    }

    /// Where byte `at` of a scalar's value stands in the file: the value may be quoted, or a block of
    /// lines with their indentation taken off, so the line it is on is looked for. All of the scalar when the file has no
    /// such line: it was folded, or has escapes.
    fn inside(&self, scalar: &At<String>, at: usize, length: usize) -> Span {
        let line_start = scalar.value[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = scalar.value[line_start..].lines().next().unwrap_or("");
        let Some(found) = self.text.get(scalar.span.clone()).and_then(|slice| slice.find(line)) else {
            return scalar.span.clone();
        };
        let start = (scalar.span.start + found + (at - line_start)).min(self.text.len());
        start..(start + length).min(scalar.span.end.max(start))
    }
}

fn parse_reference(text: &str) -> Result<PluginRef, String> {
    let (named, digest) = match text.split_once('/') {
        Some((named, pin)) => (named, Some(pin)),
        None => (text, None),
    };
    let (name, version) = named.split_once('@').ok_or_else(|| format!("`{text}` has no version"))?;
    // As the broker stores them.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("`{name}` is not a plugin's name"));
    }
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (numbers, _pre) = version.split_once('-').unwrap_or((version, ""));
    if numbers.split('.').count() > 3 || !numbers.split('.').all(numeric) {
        return Err(format!("`{version}` is not a version: write 1.2.0, or 1.2 for the newest that begins so"));
    }
    let digest = match digest {
        None => None,
        Some(pin) => {
            let hex =
                pin.strip_prefix("sha256:").ok_or_else(|| format!("`{pin}` is not a digest: write sha256:HEX"))?;
            let is_hex = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !is_hex || !(8..=64).contains(&hex.len()) {
                return Err(format!("`sha256:{hex}` must have 8 to 64 lower-case hex digits"));
            }
            Some(hex.to_string())
        }
    };
    Ok(PluginRef { name: name.to_string(), version: version.to_string(), digest })
}
