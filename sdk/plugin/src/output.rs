//! Where a transform's records go: builders that write straight into the output's columns. Relies on
//! [`Columns`]; when they are handed to the host is decided by the batch loop in [`crate::transform`].
//!
//! Every record gets the input's timestamp unless given another, and no key unless given one: keeping
//! a key must be said ([`Output::like`], [`Output::forward`]), since a new value seldom belongs to it.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Serialize;

use crate::columns::{Columns, Mark};
use crate::{Context, Record, Result, number};

/// The outputs of a transform. Any number of records may be written per input record; when the transform
/// returns an error, those of that input record are taken back.
#[derive(Debug)]
pub struct Output {
    /// The main output first, named "".
    outputs: Vec<Named>,
    offset: i64,
    timestamp: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) rows: Columns,
    /// Where the current input record's outputs begin.
    begin: Mark,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { outputs: vec![Named::default()], offset: 0, timestamp: 0 }
    }

    /// Starts a record with this key on the main output.
    pub fn key(&mut self, key: impl Part) -> Emit<'_> {
        self.main().key(key)
    }

    /// Starts a record with this header on the main output.
    pub fn header(&mut self, name: &str, value: impl Part) -> Emit<'_> {
        self.main().header(name, value)
    }

    /// Starts a record with this timestamp (milliseconds since the epoch) on the main output.
    pub fn timestamp(&mut self, timestamp: i64) -> Emit<'_> {
        self.main().timestamp(timestamp)
    }

    /// Starts a record with the key, headers and timestamp of `record` on the main output.
    pub fn like(&mut self, record: &Record<'_>) -> Emit<'_> {
        self.main().like(record)
    }

    /// Starts a record on another output, which the plugin declares in its `Cargo.toml`:
    /// `[package.metadata.millstream] outputs = ["refunds"]`.
    pub fn to(&mut self, output: &str) -> Emit<'_> {
        let index = match self.outputs.iter().position(|named| named.name == output) {
            Some(index) => index,
            None => self.add(output),
        };
        Emit::new(&mut self.outputs[index].rows, self.offset, self.timestamp)
    }

    /// Writes a value without key or headers to the main output.
    pub fn value(&mut self, value: impl Part) {
        self.main().value(value);
    }

    /// Writes a value as JSON, without key or headers, to the main output.
    ///
    /// # Errors
    /// `value` has no JSON form (a map whose keys are not text, say). Nothing is written then.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.main().json(value)
    }

    /// Passes a record on to the main output as it is: key, value, headers, timestamp.
    pub fn forward(&mut self, record: &Record<'_>) {
        self.main().forward(record);
    }

    fn main(&mut self) -> Emit<'_> {
        Emit::new(&mut self.outputs[0].rows, self.offset, self.timestamp)
    }

    #[cold]
    fn add(&mut self, output: &str) -> usize {
        self.outputs.push(Named { name: output.to_owned(), ..Named::default() });
        self.outputs.len() - 1
    }

    pub(crate) fn begin_record(&mut self, record: &Record<'_>) {
        self.set_source(record.offset, record.timestamp);
        for named in &mut self.outputs {
            named.begin = named.rows.mark();
        }
    }

    /// The input record that the following outputs are made from.
    pub(crate) fn set_source(&mut self, offset: i64, timestamp: i64) {
        self.offset = offset;
        self.timestamp = timestamp;
    }

    /// Takes back what was written since [`Output::begin_record`].
    pub(crate) fn roll_back(&mut self) {
        for named in &mut self.outputs {
            named.rows.truncate(&named.begin);
        }
    }

    /// The outputs, in order of first use; the main one is always there.
    pub(crate) fn outputs_mut(&mut self) -> &mut [Named] {
        &mut self.outputs
    }
}

/// A record being built. It counts once its value is given ([`Emit::value`], [`Emit::json`],
/// [`Emit::tombstone`], [`Emit::forward`]); one that is dropped before leaves no trace.
#[derive(Debug)]
#[must_use = "the record is written when its value is given: `.value(..)`, `.json(..)`, `.tombstone()`"]
pub struct Emit<'o> {
    rows: &'o mut Columns,
    begin: Mark,
    offset: i64,
    timestamp: i64,
    key_len: i32,
    header_count: u32,
}

impl<'o> Emit<'o> {
    fn new(rows: &'o mut Columns, offset: i64, timestamp: i64) -> Self {
        let begin = rows.mark();
        Self { rows, begin, offset, timestamp, key_len: -1, header_count: 0 }
    }

    /// Gives the key. `None` is no key.
    pub fn key(self, key: impl Part) -> Self {
        let mut emit = self;
        emit.rows.keys.truncate(emit.begin.keys);
        emit.key_len = append(&mut emit.rows.keys, key);
        emit
    }

    /// Adds a header. A value of `None` is a null value.
    pub fn header(self, name: &str, value: impl Part) -> Self {
        let mut emit = self;
        let name_len = append(&mut emit.rows.headers, name);
        let value_len = append(&mut emit.rows.headers, value);
        emit.rows.header_lens.extend([name_len, value_len]);
        emit.header_count += 1;
        emit
    }

    /// Gives the event time, in milliseconds since the epoch.
    pub fn timestamp(self, timestamp: i64) -> Self {
        let mut emit = self;
        emit.timestamp = timestamp;
        emit
    }

    /// Takes over key, headers and timestamp of a record; headers given before stay.
    pub fn like(self, record: &Record<'_>) -> Self {
        let mut emit = self.key(record.key);
        emit.timestamp = record.timestamp;
        if !record.header_lens.is_empty() {
            emit.rows.header_lens.extend_from_slice(record.header_lens);
            emit.rows.headers.extend_from_slice(record.header_bytes);
            emit.header_count += (record.header_lens.len() / 2) as u32;
        }
        emit
    }

    /// Writes the record with this value. `None` is a tombstone.
    pub fn value(self, value: impl Part) {
        let mut emit = self;
        let value_len = append(&mut emit.rows.values, value);
        emit.finish(value_len);
    }

    /// Writes the record with a value in JSON, serialised in place.
    ///
    /// # Errors
    /// `value` has no JSON form (a map whose keys are not text, say). Nothing is written then.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        self.value_with(|bytes| serde_json::to_writer(bytes, value).context("the output has no JSON form"))
    }

    /// Writes the record with the value that `write` appends to the bytes given; it must not shorten them.
    ///
    /// # Errors
    /// Those of `write`. Nothing is written then.
    pub fn value_with(self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let mut emit = self;
        write(&mut emit.rows.values)?;
        let value_len = emit.rows.values.len().checked_sub(emit.begin.values);
        emit.finish(length(value_len.expect("a value's writer only appends")));
        Ok(())
    }

    /// Writes the record without a value: its key is deleted from a compacted topic.
    pub fn tombstone(self) {
        let mut emit = self;
        emit.finish(-1);
    }

    /// Passes a record on as it is: key, value, headers, timestamp.
    pub fn forward(self, record: &Record<'_>) {
        self.like(record).value(record.value);
    }

    fn finish(&mut self, value_len: i32) {
        self.rows.offsets.push(self.offset);
        self.rows.timestamps.push(self.timestamp);
        self.rows.key_lens.push(self.key_len);
        self.rows.value_lens.push(value_len);
        self.rows.header_counts.push(self.header_count);
    }
}

impl Drop for Emit<'_> {
    fn drop(&mut self) {
        if self.rows.offsets.len() == self.begin.rows {
            self.rows.truncate(&self.begin);
        }
    }
}

/// What can be a key, a value or a header's value: text, bytes, a number (as decimal text: `16.0` is `16`), or an
/// `Option` of these, where `None` is null.
pub trait Part {
    /// Appends the bytes; false (and nothing appended) stands for null.
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool;
}

fn append(bytes: &mut Vec<u8>, part: impl Part) -> i32 {
    let before = bytes.len();
    if part.append_to(bytes) { length(bytes.len() - before) } else { -1 }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a plugin's memory is smaller than 2 GiB")
}

impl Part for [u8] {
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.extend_from_slice(self);
        true
    }
}

impl<T: Part + ?Sized> Part for &T {
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        (**self).append_to(bytes)
    }
}

impl<T: Part> Part for Option<T> {
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|part| part.append_to(bytes))
    }
}

macro_rules! parts_as_bytes {
    ($($type:ty as $by:ident),*) => { $(
        impl Part for $type {
            fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
                self.$by().append_to(bytes)
            }
        }
    )* };
}
parts_as_bytes!(str as as_bytes, String as as_bytes, Vec<u8> as as_slice, Cow<'_, str> as as_bytes, Cow<'_, [u8]> as as_ref);

impl<const N: usize> Part for [u8; N] {
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        self.as_slice().append_to(bytes)
    }
}

macro_rules! parts_as_decimal {
    ($($type:ty),*) => { $(
        impl Part for $type {
            fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
                write!(bytes, "{self}").is_ok()
            }
        }
    )* };
}
impl Part for f64 {
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        number::append(bytes, *self);
        true
    }
}

parts_as_decimal!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);
