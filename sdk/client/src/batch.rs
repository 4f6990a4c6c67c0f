//! What consumers and readers hand out: records of one partition, decoded together, borrowed one by one.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{check_batch, decode_batch, split_batches};
use millstream_protocol::columns::Headers;
use millstream_protocol::{Columns, Offset, Row};

use crate::Error;

/// Ceiling of one record batch's records after decompression, bytes.
const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Records of one partition in order of their offsets; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    topic: Arc<str>,
    partition: u32,
    columns: Columns,
    next: i64,
    high_watermark: i64,
}

/// One record of a [`Batch`], borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    topic: &'a str,
    partition: u32,
    row: Row<'a>,
}

impl Batch {
    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The offset to go on from after this batch.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// The end of what could be read when this batch was sent.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        let (topic, partition) = (&*self.topic, self.partition);
        self.columns.rows().map(move |row| Received { topic, partition, row })
    }

    /// Without the records at `end` and after it.
    pub(crate) fn cut(self, end: i64) -> Option<Batch> {
        if self.columns.offsets.last().is_some_and(|last| *last < end) {
            return Some(self);
        }
        let mut columns = Columns::default();
        self.columns.rows().filter(|row| row.offset < end).for_each(|row| columns.push_row(&row));
        (!columns.is_empty()).then_some(Batch { columns, next: end, ..self })
    }

    /// The records as columns, for bulk work.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Received<'a>;
    type IntoIter = Box<dyn Iterator<Item = Received<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<'a> Received<'a> {
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    pub fn offset(&self) -> i64 {
        self.row.offset
    }

    /// Milliseconds since the epoch.
    pub fn timestamp(&self) -> i64 {
        self.row.timestamp
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        self.row.key
    }

    /// The value's bytes; none for a tombstone, see [`Received::is_tombstone`].
    pub fn value(&self) -> &'a [u8] {
        self.row.value.unwrap_or_default()
    }

    /// Whether the record has no value at all, which differs from an empty one.
    pub fn is_tombstone(&self) -> bool {
        self.row.value.is_none()
    }

    /// Name and value of each header, in order.
    pub fn headers(&self) -> Headers<'a> {
        self.row.headers
    }

    /// The first header with this name that has a value.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.row.headers.iter().find(|(found, _)| *found == name.as_bytes()).and_then(|(_, value)| value)
    }

    /// The value read as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not JSON of that form; names topic, partition and offset.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::Deserialize<'a>>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.value()).map_err(|error| {
            let (topic, partition, offset) = (self.topic, self.partition, self.offset());
            Error::Invalid(format!("{topic}/{partition} at offset {offset} is not the JSON expected: {error}"))
        })
    }
}

/// Decodes what the broker sent of one partition, checking every checksum; records before `from` are left
/// out. `None` when no record is left; the second value is the offset to go on from.
pub(crate) fn decode(
    topic: &Arc<str>,
    partition: u32,
    payload: &Bytes,
    from: i64,
    high_watermark: Offset,
) -> Result<(Option<Batch>, i64), Error> {
    let corrupt = |at: i64| move |error| Error::corrupt(topic, partition, at, &error);
    let (mut columns, mut next) = (Columns::default(), from);
    for batch in split_batches(payload) {
        let (header, bytes) = batch.map_err(corrupt(next))?;
        check_batch(&bytes).map_err(corrupt(next))?;
        decode_batch(&bytes, Offset(next), DECOMPRESSED_BYTES_MAX, &mut columns).map_err(corrupt(next))?;
        next = next.max(header.next_offset().0);
    }
    if columns.is_empty() {
        return Ok((None, next));
    }
    let high_watermark = high_watermark.0;
    Ok((Some(Batch { topic: Arc::clone(topic), partition, columns, next, high_watermark }), next))
}

#[cfg(test)]
mod tests {
    use millstream_protocol::LeaderEpoch;
    use millstream_protocol::batch::{BatchBuilder, Compression, patch_header};

    use super::*;

    fn two_batches() -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        let mut all = Vec::new();
        for (base, count) in [(10, 3), (13, 2)] {
            (0..count).for_each(|i| builder.push_simple(base + i, None, Some(b"{\"n\":1}")));
            let mut bytes = builder.build().to_vec();
            patch_header(&mut bytes, Offset(base), LeaderEpoch(0));
            all.extend_from_slice(&bytes);
        }
        all.into()
    }

    #[test]
    fn records_before_the_position_are_left_out() {
        let topic: Arc<str> = Arc::from("t");
        let check = |from: i64, expected: &[i64], next: i64| {
            let (batch, found) = decode(&topic, 0, &two_batches(), from, Offset(15)).unwrap();
            let offsets: Vec<i64> = batch.iter().flat_map(Batch::iter).map(|record| record.offset()).collect();
            assert_eq!((offsets.as_slice(), found), (expected, next));
        };
        check(0, &[10, 11, 12, 13, 14], 15);
        check(12, &[12, 13, 14], 15);
        check(14, &[14], 15);
        check(15, &[], 15);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bytes = two_batches().to_vec();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        let error = decode(&Arc::from("t"), 4, &bytes.into(), 10, Offset(15)).unwrap_err();
        assert!(error.to_string().starts_with("t/4 at offset 13: record batch checksum mismatch"), "{error}");
    }
}
