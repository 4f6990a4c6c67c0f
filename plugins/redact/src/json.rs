//! Rewrites JSON in place of parsing it: numbers keep their digits, objects the order of their fields, and white space
//! stays. The bytes were checked to be JSON before, which is what makes this small.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use millstream_plugin::serde_json;

use crate::config::{Action, Config};
use crate::scan::{self, Kind};

const MASK: &str = "***";

/// The document without what the configuration names. `json` must be one valid JSON document.
pub(crate) fn redact<'a>(json: &'a [u8], config: &Config) -> Cow<'a, [u8]> {
    let mut walk = Walk { json, at: 0, path: String::new(), out: Vec::with_capacity(json.len() + 16), config };
    walk.value();
    walk.space();
    debug_assert_eq!(walk.at, json.len(), "the document was checked to be JSON");
    Cow::Owned(walk.out)
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
    /// Names of the fields around, joined by dots.
    path: String,
    out: Vec<u8>,
    config: &'a Config,
}

impl Walk<'_> {
    /// Copies a value, with the white space before it. Recurses as deep as serde_json allows: 128.
    fn value(&mut self) {
        self.space();
        match self.json[self.at] {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => {
                let from = self.at;
                self.at = end_of_string(self.json, from);
                let raw = &self.json[from..self.at];
                match self.config.redact_text(&decode(raw)) {
                    Cow::Borrowed(_) => self.out.extend_from_slice(raw),
                    Cow::Owned(redacted) => self.string(&String::from_utf8_lossy(&redacted)),
                }
            }
            _ => {
                let from = self.at;
                self.at = end_of_literal(self.json, from);
                self.literal(from);
            }
        }
    }

    fn array(&mut self) {
        self.copy();
        self.space();
        while self.json[self.at] != b']' {
            self.value();
            self.space();
            if self.json[self.at] == b',' {
                self.copy();
            }
        }
        self.copy();
    }

    fn object(&mut self) {
        self.copy();
        self.space();
        let mut is_first = true;
        while self.json[self.at] != b'}' {
            let before = self.out.len();
            if !is_first {
                self.out.push(b',');
                self.space();
            }
            let depth = self.path.len();
            let action = self.name();
            let kept = match action {
                None => {
                    self.value();
                    true
                }
                Some(action) => self.field(action),
            };
            self.path.truncate(depth);
            if kept {
                is_first = false;
                self.space();
            } else {
                self.out.truncate(before);
                self.skip_space();
            }
            if self.json[self.at] == b',' {
                self.at += 1;
                if is_first {
                    self.skip_space();
                }
            }
        }
        self.copy();
    }

    /// Copies a field's name and colon, enters its path, and tells what to do with its value.
    fn name(&mut self) -> Option<Action> {
        let from = self.at;
        self.at = end_of_string(self.json, from);
        let raw = &self.json[from..self.at];
        self.out.extend_from_slice(raw);
        self.space();
        self.copy();
        if !self.config.has_fields() {
            return None;
        }
        let name = decode(raw);
        let name = String::from_utf8_lossy(&name);
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&name);
        self.config.field(&self.path, &name)
    }

    /// Writes what takes the place of a field's value; false when the field goes.
    fn field(&mut self, action: Action) -> bool {
        self.space();
        let from = self.at;
        self.at = end_of_value(self.json, from);
        let raw = &self.json[from..self.at];
        match action {
            Action::Mask => self.string(MASK),
            Action::Hash => {
                let hash = if raw[0] == b'"' { self.config.hash(&decode(raw)) } else { self.config.hash(raw) };
                self.string(&hash);
            }
            Action::Drop => return false,
        }
        true
    }

    /// A card's number may be written as a number.
    fn literal(&mut self, from: usize) {
        let raw = &self.json[from..self.at];
        let found = scan::find(raw, |kind| kind == Kind::Card && self.config.action(kind).is_some());
        if found.first().is_none_or(|(range, _)| range.len() < raw.len()) {
            self.out.extend_from_slice(raw);
        } else {
            let redacted = self.config.redact_text(raw).into_owned();
            self.string(&String::from_utf8_lossy(&redacted));
        }
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.out, text).expect("text has a JSON form, and memory takes it");
    }

    /// Copies one byte.
    fn copy(&mut self) {
        self.out.push(self.json[self.at]);
        self.at += 1;
    }

    /// Copies white space.
    fn space(&mut self) {
        let from = self.at;
        self.skip_space();
        self.out.extend_from_slice(&self.json[from..self.at]);
    }

    fn skip_space(&mut self) {
        while self.json.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// The text of a string in quotes.
fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let inner = &raw[1..raw.len() - 1];
    // Half a surrogate pair is JSON, but no text; it is left as it is written.
    let decoded = memchr(b'\\', inner).and_then(|_| serde_json::from_slice::<String>(raw).ok());
    decoded.map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_bytes()))
}

fn end_of_string(json: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    loop {
        at += memchr2(b'"', b'\\', &json[at..]).expect("a string's end was checked to be there");
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
}

fn end_of_literal(json: &[u8], from: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
    json[from..].iter().position(ends).map_or(json.len(), |len| from + len)
}

fn end_of_value(json: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    loop {
        match json[at] {
            b'"' => at = end_of_string(json, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            _ => at = end_of_literal(json, at),
        }
        if depth == 0 {
            return at;
        }
    }
}
