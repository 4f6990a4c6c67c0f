//! The 61 bytes before the records: decode, check, split a run of batches, patch. Nothing here looks
//! inside the records.

use bytes::Bytes;

use super::{Compression, Error};
use crate::{LeaderEpoch, Offset, ProducerId};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Base offset and batch length, which the length does not count.
const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the bytes covered by the CRC begin.
const CRC_FROM: usize = 21;
/// The only format version there is.
pub(super) const MAGIC: i8 = 2;
/// Fewest bytes of a record: its length, attributes, two deltas, two lengths and the header count.
pub(super) const RECORD_BYTES_MIN: usize = 7;
/// Above this a partition's offsets could overflow; no real log gets there.
const BASE_OFFSET_MAX: i64 = i64::MAX >> 2;

const COMPRESSION_BITS: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A decoded header. Invariant of a decoded one: the length is that of a header at least, the base
/// offset is not negative, and `0 <= record_count <= last_offset_delta + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: i16,
    /// Offset of the last record, counted from `base_offset`; kept when compaction removes that record.
    pub last_offset_delta: i32,
    /// Milliseconds since the epoch; the records' timestamps are counted from it.
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the first [`HEADER_LEN`] bytes. Does not need the records to be there.
    ///
    /// # Errors
    /// When the bytes are too few or the header contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Some(fixed) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(Error::Truncated { needed: HEADER_LEN, available: bytes.len() });
        };
        let magic = fixed[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let header = BatchHeader {
            base_offset: Offset(i64::from_be_bytes(at(fixed, 0))),
            batch_length: i32::from_be_bytes(at(fixed, 8)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(at(fixed, LENGTH_END))),
            crc: u32::from_be_bytes(at(fixed, CRC_AT)),
            attributes: i16::from_be_bytes(at(fixed, CRC_FROM)),
            last_offset_delta: i32::from_be_bytes(at(fixed, 23)),
            base_timestamp: i64::from_be_bytes(at(fixed, 27)),
            max_timestamp: i64::from_be_bytes(at(fixed, 35)),
            producer_id: ProducerId(i64::from_be_bytes(at(fixed, 43))),
            producer_epoch: i16::from_be_bytes(at(fixed, 51)),
            base_sequence: i32::from_be_bytes(at(fixed, 53)),
            record_count: i32::from_be_bytes(at(fixed, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        if self.batch_length < (HEADER_LEN - LENGTH_END) as i32 {
            return Err(Error::Length(self.batch_length));
        }
        if !(0..=BASE_OFFSET_MAX).contains(&self.base_offset.0) {
            return Err(Error::Offset(self.base_offset.0));
        }
        // Uncompressed records have a fewest size, so a count from outside can't ask for more than was sent.
        let room = match self.attributes & COMPRESSION_BITS {
            0 => self.records_len() / RECORD_BYTES_MIN,
            _ => usize::MAX,
        };
        let fits = usize::try_from(self.record_count).is_ok_and(|records| records <= room);
        if !fits || self.last_offset_delta < 0 || self.record_count - 1 > self.last_offset_delta {
            return Err(Error::Count {
                records: self.record_count,
                last_offset_delta: self.last_offset_delta,
                bytes: self.records_len(),
            });
        }
        Ok(())
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes of `out`.
    pub(super) fn encode(&self, out: &mut [u8; HEADER_LEN]) {
        out[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        out[8..LENGTH_END].copy_from_slice(&self.batch_length.to_be_bytes());
        out[LENGTH_END..MAGIC_AT].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        out[MAGIC_AT] = MAGIC as u8;
        out[CRC_AT..CRC_FROM].copy_from_slice(&self.crc.to_be_bytes());
        out[CRC_FROM..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        LENGTH_END + self.batch_length as usize
    }

    fn records_len(&self) -> usize {
        self.total_len() - HEADER_LEN
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// # Errors
    /// [`Error::UnknownCompression`] for a number without a codec.
    pub fn compression(&self) -> Result<Compression, Error> {
        Compression::from_attributes(self.attributes & COMPRESSION_BITS)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Control batches hold transaction markers, not records of a user.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Every record has `max_timestamp` as its timestamp: the time of the append.
    pub fn log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }
}

fn at<const N: usize>(bytes: &[u8; HEADER_LEN], from: usize) -> [u8; N] {
    *bytes[from..].first_chunk().expect("the fields lie within the header")
}

/// The CRC32C that belongs into the header of `batch`.
pub(super) fn compute_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

/// Writes it there.
pub(super) fn stamp_crc(batch: &mut [u8]) {
    let crc = compute_crc(batch);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// Checks that `bytes` are exactly one batch with a right checksum and believable counts.
///
/// # Errors
/// The first thing found wrong.
pub fn check_batch(bytes: &[u8]) -> Result<BatchHeader, Error> {
    let header = BatchHeader::decode(bytes)?;
    let length = header.total_len();
    if bytes.len() < length {
        return Err(Error::Truncated { needed: length, available: bytes.len() });
    }
    if bytes.len() > length {
        return Err(Error::Trailing { length, extra: bytes.len() - length });
    }
    header.compression()?;
    let computed = compute_crc(bytes);
    if computed != header.crc {
        return Err(Error::Checksum { stored: header.crc, computed });
    }
    Ok(header)
}

/// [`check_batch`], and the rules for batches that come from a producer: at least one record, one
/// offset per record, no control batch, and a sequence number with every producer id.
///
/// # Errors
/// The first thing found wrong.
pub fn check_new_batch(bytes: &[u8]) -> Result<BatchHeader, Error> {
    let header = check_batch(bytes)?;
    if header.record_count == 0 {
        return Err(Error::NotNew("holds no record"));
    }
    if header.record_count - 1 != header.last_offset_delta {
        return Err(Error::NotNew("must have one offset per record"));
    }
    if header.is_control() {
        return Err(Error::NotNew("must not be a control batch"));
    }
    if header.producer_id != ProducerId::NONE && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(Error::NotNew("with an id needs an epoch and a sequence number"));
    }
    Ok(header)
}

/// Splits a run of whole batches into slices, by their headers alone (no checksum is computed). Ends
/// after the first error.
pub fn split_batches(bytes: &Bytes) -> impl Iterator<Item = Result<(BatchHeader, Bytes), Error>> + use<> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let split = BatchHeader::decode(&rest).and_then(|header| match header.total_len() {
            needed if needed > rest.len() => Err(Error::Truncated { needed, available: rest.len() }),
            length => Ok((header, rest.split_to(length))),
        });
        if split.is_err() {
            rest.clear();
        }
        Some(split)
    })
}

/// Gives a batch its place in a log. Both fields lie outside the checksum.
///
/// # Panics
/// When `header` is shorter than a batch header.
pub fn patch_header(header: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    assert!(header.len() >= HEADER_LEN, "a batch header has {HEADER_LEN} bytes, got {}", header.len());
    header[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    header[LENGTH_END..MAGIC_AT].copy_from_slice(&epoch.0.to_be_bytes());
}

/// A copy of a whole batch under another producer id and sequence number, with its new checksum.
///
/// # Panics
/// When `batch` is shorter than a batch header.
pub fn restamp(batch: &[u8], id: ProducerId, epoch: i16, base_sequence: i32) -> Bytes {
    assert!(batch.len() >= HEADER_LEN, "a batch header has {HEADER_LEN} bytes, got {}", batch.len());
    let mut copy = batch.to_vec();
    copy[43..51].copy_from_slice(&id.0.to_be_bytes());
    copy[51..53].copy_from_slice(&epoch.to_be_bytes());
    copy[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    stamp_crc(&mut copy);
    Bytes::from(copy)
}
