//! Reads `on_error` and `limits`.

use super::fields::{Reader, Shape};
use crate::diagnostic::Diagnostic;
use crate::spec::{OnError, Retry, StepLimits, Then};
use crate::units;
use crate::yaml::{At, Node};

const ON_ERROR: Shape = Shape {
    what: "on_error",
    keys: &["retry", "dead_letter", "skip", "stop"],
    takes: "retry, and one of dead_letter: TOPIC | skip: true | stop: true",
};
const RETRY: Shape = Shape { what: "retry", keys: &["attempts", "backoff"], takes: "attempts, backoff" };
const LIMITS: Shape = Shape {
    what: "limits",
    keys: &["memory", "time", "output"],
    takes: "memory (64MiB), time (1s, for one batch), output (bytes of one batch)",
};
const ATTEMPTS_MAX: i64 = 100;
const BACKOFF_MS_MAX: u64 = 60_000;
const MEMORY_BYTES: (u64, u64) = (1 << 20, 4 << 30);
const TIME_MS: (u64, u64) = (10, 600_000);
const OUTPUT_BYTES: (u64, u64) = (1 << 10, 1 << 30);

impl Reader {
    /// `on_error` of a step; `dead_letter` comes back with its place, for checks against other topics.
    pub(super) fn on_error(&mut self, node: &At<Node>, is_plugin: bool) -> (OnError, Option<At<String>>) {
        if let Node::Text(word) = &node.value {
            return (OnError { then: self.policy_word(node, word), ..OnError::default() }, None);
        }
        let Some(object) = self.object(node, &ON_ERROR) else { return (OnError::default(), None) };
        let mut on_error = OnError::default();
        if let Some((key, retry)) = object.entry("retry") {
            if is_plugin {
                on_error.retry = self.retry(retry);
            } else {
                let message = "`retry` is for plugin steps: an expression gives the same result every time";
                self.report(Diagnostic::error(message, key.span.clone()));
            }
        }
        let chosen: Vec<_> = ["dead_letter", "skip", "stop"].iter().filter_map(|key| object.entry(key)).collect();
        if let [(first, _), (second, _), ..] = chosen[..] {
            let message = format!("a record takes one way: `{}` or `{}`, not both", first.value, second.value);
            self.report(Diagnostic::error(message, second.span.clone()).related(first.span.clone(), "the other way"));
        }
        let mut dead_letter = None;
        if let Some((key, value)) = chosen.first() {
            match key.value.as_str() {
                "dead_letter" => dead_letter = self.topic(value, "dead_letter"),
                policy => {
                    if self.must_be_true(value, policy) && policy == "skip" {
                        on_error.then = Then::Skip;
                    }
                }
            }
        }
        if let Some(topic) = &dead_letter {
            on_error.then = Then::DeadLetter(topic.value.clone());
        }
        (on_error, dead_letter)
    }

    fn policy_word(&mut self, node: &At<Node>, word: &str) -> Then {
        match word {
            "stop" => Then::Stop,
            "skip" => Then::Skip,
            _ => {
                let message = format!("unknown policy `{word}`");
                let diagnostic = Diagnostic::error(message, node.span.clone())
                    .did_you_mean(word, ["skip", "stop"])
                    .help("on_error takes: skip, stop, or { retry: {...}, dead_letter: TOPIC }");
                self.report(diagnostic);
                Then::Stop
            }
        }
    }

    fn must_be_true(&mut self, node: &At<Node>, key: &str) -> bool {
        match self.boolean(node, key) {
            Some(false) => {
                let message = format!("`{key}: false` says nothing: leave it out");
                self.report(Diagnostic::error(message, node.span.clone()));
                false
            }
            answer => answer == Some(true),
        }
    }

    fn retry(&mut self, node: &At<Node>) -> Retry {
        let mut retry = Retry { attempts: 3, ..Retry::default() };
        if let Node::Int(_) = node.value {
            retry.attempts = self.number(node, "retry", 1..=ATTEMPTS_MAX).map_or(1, |attempts| attempts as u32);
            return retry;
        }
        let Some(object) = self.object(node, &RETRY) else { return retry };
        if let Some(value) = object.get("attempts") {
            retry.attempts = self.number(value, "attempts", 1..=ATTEMPTS_MAX).map_or(1, |attempts| attempts as u32);
        }
        if let Some(value) = object.get("backoff") {
            retry.backoff_ms = self.duration(value, "backoff", (0, BACKOFF_MS_MAX)).unwrap_or(retry.backoff_ms);
        }
        retry
    }

    pub(super) fn limits(&mut self, node: &At<Node>) -> StepLimits {
        let Some(object) = self.object(node, &LIMITS) else { return StepLimits::default() };
        StepLimits {
            memory_bytes: object.get("memory").and_then(|value| self.size(value, "memory", MEMORY_BYTES)),
            batch_ms: object.get("time").and_then(|value| self.duration(value, "time", TIME_MS)),
            output_bytes: object.get("output").and_then(|value| self.size(value, "output", OUTPUT_BYTES)),
        }
    }

    fn duration(&mut self, node: &At<Node>, name: &str, (min, max): (u64, u64)) -> Option<u64> {
        let text = self.scalar(node, name, "a duration like 250ms")?;
        match units::duration_ms(&text.value) {
            Ok(ms) if (min..=max).contains(&ms) => return Some(ms),
            Ok(_) => {
                let message = format!("`{name}: {}` is outside {min}ms to {max}ms", text.value);
                self.report(Diagnostic::error(message, text.span));
            }
            Err(help) => {
                let message = format!("`{}` is not a duration", text.value);
                self.report(Diagnostic::error(message, text.span).help(help));
            }
        }
        None
    }

    fn size(&mut self, node: &At<Node>, name: &str, (min, max): (u64, u64)) -> Option<u64> {
        let text = self.scalar(node, name, "a size like 64MiB")?;
        match units::size_bytes(&text.value) {
            Ok(bytes) if (min..=max).contains(&bytes) => return Some(bytes),
            Ok(_) => {
                let message = format!("`{name}: {}` is outside {} to {}", text.value, shown(min), shown(max));
                self.report(Diagnostic::error(message, text.span));
            }
            Err(help) => {
                let message = format!("`{}` is not a size", text.value);
                self.report(Diagnostic::error(message, text.span).help(help));
            }
        }
        None
    }
}

fn shown(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}
