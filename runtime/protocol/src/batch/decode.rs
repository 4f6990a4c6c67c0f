//! Decodes the records of a batch into columns: one pass, no allocation per record. Every length is
//! checked against the bytes that remain before it is used.

use std::borrow::Cow;

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_LEN, RECORD_BYTES_MIN};
use super::varint::Cursor;
use super::{Compression, Error, compression, split_batches};
use crate::{Columns, Offset};

/// Appends the records of one batch with an offset of at least `from` to `into`. Control batches hold
/// no records for users, so nothing is appended for them. The checksum is not looked at
/// ([`super::check_batch`] does that). On an error `into` is as it was before.
///
/// # Errors
/// When the records contradict the header or themselves, or exceed `decompressed_max` bytes.
pub fn decode_batch(batch: &[u8], from: Offset, decompressed_max: usize, into: &mut Columns) -> Result<(), Error> {
    let header = BatchHeader::decode(batch)?;
    let length = header.total_len();
    let Some(records) = batch.get(HEADER_LEN..length) else {
        return Err(Error::Truncated { needed: length, available: batch.len() });
    };
    if header.is_control() || header.last_offset() < from {
        return Ok(());
    }
    let records = match header.compression()? {
        Compression::None => Cow::Borrowed(records),
        codec => Cow::Owned(compression::decompress(codec, records, decompressed_max)?),
    };
    let mark = Mark::of(into);
    let decoded = decode_records(&header, &records, from, into);
    if decoded.is_err() {
        mark.restore(into);
    }
    decoded
}

/// [`decode_batch`] for every batch of a run, in order. Batches decoded before an error stay in `into`.
///
/// # Errors
/// That of the first batch that can't be decoded.
pub fn decode_batches(batches: &Bytes, from: Offset, decompressed_max: usize, into: &mut Columns) -> Result<(), Error> {
    split_batches(batches).try_for_each(|batch| decode_batch(&batch?.1, from, decompressed_max, into))
}

fn decode_records(header: &BatchHeader, records: &[u8], from: Offset, into: &mut Columns) -> Result<(), Error> {
    let count = header.record_count;
    let fail = |index, reason| Err(Error::Record { index, reason });
    if (count as usize) > records.len() / RECORD_BYTES_MIN {
        return Err(Error::Count { records: count, last_offset_delta: header.last_offset_delta, bytes: records.len() });
    }
    reserve(into, count as usize, records.len());
    // Offsets are i64 counted from the base; `from` as a delta saves an addition per record.
    let skip_below = from - header.base_offset;
    let mut cursor = Cursor::new(records);
    let mut last_delta = -1;
    for index in 0..count {
        let length = cursor.varint32().and_then(|length| usize::try_from(length).ok());
        let Some(record) = length.and_then(|length| cursor.take(length)) else {
            return fail(index, "its length is over the bytes that remain");
        };
        let mut record = Cursor::new(record);
        let Some(head) = Head::read(&mut record) else {
            return fail(index, "a field is over the bytes that remain");
        };
        if head.offset_delta <= last_delta || head.offset_delta > header.last_offset_delta {
            return fail(index, "its offset is out of order");
        }
        last_delta = head.offset_delta;
        if i64::from(head.offset_delta) < skip_below {
            continue;
        }
        let timestamp = match header.log_append_time() {
            true => header.max_timestamp,
            false => header.base_timestamp.wrapping_add(head.timestamp_delta),
        };
        into.push(header.base_offset.0 + i64::from(head.offset_delta), timestamp, head.key, head.value);
        if push_headers(&mut record, head.headers, into).is_none() {
            return fail(index, "a header is over the bytes that remain");
        }
        if record.remaining() != 0 {
            return fail(index, "bytes follow its headers");
        }
    }
    if cursor.remaining() == 0 { Ok(()) } else { fail(count, "bytes follow the last record") }
}

/// The fixed part of a record.
struct Head<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: usize,
}

impl<'a> Head<'a> {
    #[inline]
    fn read(record: &mut Cursor<'a>) -> Option<Self> {
        record.byte()?; // Attributes of a record: unused by the format.
        Some(Head {
            timestamp_delta: record.varint()?,
            offset_delta: record.varint32()?,
            key: record.nullable_bytes()?,
            value: record.nullable_bytes()?,
            headers: usize::try_from(record.varint32()?).ok()?,
        })
    }
}

fn push_headers(record: &mut Cursor<'_>, count: usize, into: &mut Columns) -> Option<()> {
    for _ in 0..count {
        let name = record.nullable_bytes()??;
        let value = record.nullable_bytes()?;
        into.push_header(name, value);
    }
    Some(())
}

/// Room for `records` records that are `bytes` long together; both were checked against what is there.
fn reserve(into: &mut Columns, records: usize, bytes: usize) {
    into.offsets.reserve(records);
    into.timestamps.reserve(records);
    into.key_lens.reserve(records);
    into.value_lens.reserve(records);
    into.header_counts.reserve(records);
    into.values.reserve(bytes.saturating_sub(records * RECORD_BYTES_MIN));
}

/// The ends of all columns, to go back to.
struct Mark {
    records: usize,
    keys: usize,
    values: usize,
    header_lens: usize,
    headers: usize,
}

impl Mark {
    fn of(columns: &Columns) -> Self {
        Mark {
            records: columns.len(),
            keys: columns.keys.len(),
            values: columns.values.len(),
            header_lens: columns.header_lens.len(),
            headers: columns.headers.len(),
        }
    }

    fn restore(&self, columns: &mut Columns) {
        columns.offsets.truncate(self.records);
        columns.timestamps.truncate(self.records);
        columns.key_lens.truncate(self.records);
        columns.keys.truncate(self.keys);
        columns.value_lens.truncate(self.records);
        columns.values.truncate(self.values);
        columns.header_counts.truncate(self.records);
        columns.header_lens.truncate(self.header_lens);
        columns.headers.truncate(self.headers);
    }
}
