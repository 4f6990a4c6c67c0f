//! One input record, borrowed from its batch: reading costs nothing until a part is parsed.

use serde::Deserialize;

use crate::columns::take;
use crate::{Context, Error, Result, field};

/// An input record. Copying it copies references only.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) header_lens: &'a [i32],
    pub(crate) header_bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The key, if the record has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The key as text; `None` without a key or when it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        self.key.and_then(|key| str::from_utf8(key).ok())
    }

    /// The value; `None` is a tombstone, which deletes its key from a compacted topic.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The value's bytes.
    ///
    /// # Errors
    /// The record is a tombstone.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        self.value.ok_or_else(|| Error::msg("the record has no value (a tombstone)"))
    }

    /// The value as text.
    ///
    /// # Errors
    /// The value is not UTF-8, or the record is a tombstone.
    pub fn str(&self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).context("the value is not UTF-8 text")
    }

    /// The value, parsed as JSON. Fields may borrow from the record (`&'a str`, `Cow<'a, str>`).
    ///
    /// # Errors
    /// The value is not JSON of this type, or the record is a tombstone.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()?).context("the value is not the JSON expected")
    }

    /// One field of a JSON value, by a path of names such as `user.address.city`; the rest is checked and
    /// skipped, not built. `None` when there is no such field.
    ///
    /// # Errors
    /// The value is not JSON, or the record is a tombstone.
    pub fn json_field(&self, path: &str) -> Result<Option<serde_json::Value>> {
        field::find(self.bytes()?, path).context("the value is not the JSON expected")
    }

    /// Event time in milliseconds since the epoch.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The record's place in its input partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The headers in order; names may repeat.
    pub fn headers(&self) -> Headers<'a> {
        Headers { lens: self.header_lens.chunks_exact(2), bytes: self.header_bytes }
    }

    /// The value of the last header of this name. `None` also when that header's value is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(found, _)| *found == name).last().and_then(|(_, value)| value)
    }
}

/// The headers of a record: name, and value unless it is null. A name that is not UTF-8 reads as "\u{fffd}".
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    lens: std::slice::ChunksExact<'a, i32>,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.lens.next()?;
        let name = take(&mut self.bytes, pair[0]).unwrap_or_default();
        Some((str::from_utf8(name).unwrap_or("\u{fffd}"), take(&mut self.bytes, pair[1])))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lens.size_hint()
    }
}

impl ExactSizeIterator for Headers<'_> {}
