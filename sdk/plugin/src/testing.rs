//! Runs a transform natively, as a component would run it: `cargo test` needs no broker and no WebAssembly.
//!
//! ```
//! use millstream_plugin::prelude::*;
//! use millstream_plugin::testing::{record, run};
//!
//! #[transform]
//! fn shout(record: Record, out: &mut Output) -> Result<()> {
//!     out.like(&record).value(record.str()?.to_uppercase());
//!     Ok(())
//! }
//!
//! let got = run(shout, &(), [record("hello").key("k"), record([0xff])]);
//! assert_eq!(got.values(), ["HELLO"]);
//! assert_eq!(got.outputs[0].key_str(), Some("k"));
//! assert!(got.rejected[0].message.contains("UTF-8"));
//! ```

use std::fmt;

use serde::de::DeserializeOwned;

use crate::columns::Columns;
use crate::output::Named;
use crate::transform::run_batch;
use crate::{Level, Output, Part, Transform, config, report};

/// An input record for [`run`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: i64,
}

/// An input record with this value, without key or headers, at timestamp 0.
pub fn record(value: impl Part) -> Input {
    Input { value: bytes(value), ..Input::default() }
}

impl Input {
    pub fn key(mut self, key: impl Part) -> Self {
        self.key = bytes(key);
        self
    }

    pub fn header(mut self, name: &str, value: impl Part) -> Self {
        self.headers.push((name.to_owned(), bytes(value)));
        self
    }

    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records of the main output in order, then those of each other output.
    pub outputs: Vec<Emitted>,
    pub rejected: Vec<Rejected>,
    pub logs: Vec<(Level, String)>,
    pub counters: Vec<(String, u64)>,
}

/// A record that the transform wrote.
#[derive(Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The output's name; "" is the main one.
    pub to: String,
    /// Index of the input record it was made from.
    pub from: usize,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

/// A record that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the input record.
    pub index: usize,
    pub message: String,
}

/// Runs a transform over one batch. A transform without configuration takes `&()`.
pub fn run<T: Transform<Shape>, Shape>(
    transform: T,
    config: &T::Config,
    input: impl IntoIterator<Item = Input>,
) -> Outcome {
    let input = columns(input);
    let mut out = Output::new();
    let mut outcome = Outcome::default();
    // What an earlier call outside of `run` logged or counted is not this batch's.
    report::take_counters();
    report::take_logs();
    run_batch((&transform, config), &input, &mut out, |index, message| {
        outcome.rejected.push(Rejected { index: index as usize, message: message.to_owned() });
    });
    outcome.outputs = out.outputs_mut().iter().flat_map(emitted).collect();
    outcome.counters = report::take_counters();
    outcome.logs = report::take_logs();
    outcome
}

/// Parses a configuration as a starting component does.
///
/// # Errors
/// The message that the pipeline's author would see.
pub fn config<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    config::parse(json)
}

impl Outcome {
    /// Values of the main output, as text. A tombstone is `"<tombstone>"`.
    pub fn values(&self) -> Vec<String> {
        self.values_of("")
    }

    /// Values of a named output, as text. A tombstone is `"<tombstone>"`.
    pub fn values_of(&self, output: &str) -> Vec<String> {
        self.outputs.iter().filter(|emitted| emitted.to == output).map(Emitted::text).collect()
    }

    /// The counter's sum; 0 when it was never counted.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(found, _)| found == name).map_or(0, |(_, sum)| *sum)
    }
}

/// Bytes as text, for the eyes of whoever reads a failed assertion.
impl fmt::Debug for Emitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name, text(value))).collect();
        f.debug_struct("Emitted")
            .field("to", &self.to)
            .field("from", &self.from)
            .field("key", &text(&self.key))
            .field("value", &text(&self.value))
            .field("headers", &headers)
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

impl Emitted {
    /// The key as text; `None` without a key or when it is not UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        self.key.as_deref().and_then(|key| str::from_utf8(key).ok())
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// The value is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text())
            .unwrap_or_else(|error| panic!("`{}` is not the JSON expected: {error}", self.text()))
    }

    fn text(&self) -> String {
        self.value.as_ref().map_or("<tombstone>".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
    }
}

fn bytes(part: impl Part) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    part.append_to(&mut bytes).then_some(bytes)
}

/// Builds the batch as the host would, by the SDK's own builder; an input's offset is its index.
fn columns(input: impl IntoIterator<Item = Input>) -> Columns {
    let mut out = Output::new();
    for (index, input) in input.into_iter().enumerate() {
        out.set_source(index as i64, input.timestamp);
        let emit = out.key(input.key);
        let emit = input.headers.iter().fold(emit, |emit, (name, value)| emit.header(name, value.as_ref()));
        emit.value(input.value);
    }
    std::mem::take(&mut out.outputs_mut()[0].rows)
}

fn emitted(named: &Named) -> Vec<Emitted> {
    let records = named.rows.records();
    let emitted = records.map(|record| Emitted {
        to: named.name.clone(),
        from: record.offset() as usize,
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
        timestamp: record.timestamp(),
    });
    emitted.collect()
}
