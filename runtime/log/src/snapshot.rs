//! Producers' state as a file, `<offset>.snapshot`: what they had sent before that offset. Written when a
//! segment is closed (then the offset is the next one's base) and when the log is; only ever a shortcut,
//! since the batches themselves tell the same.
//!
//! ```text
//! "MSPS" | u16 version = 1 | i64 offset | i64 broker's clock at the last append before it |
//! u32 crc32c of all before | u32 producers | per producer: i64 id | i16 epoch | i64 last seen | u8 batches |
//!     per batch: i32 base sequence | i32 last sequence | i64 base offset | i64 last offset |
//! u32 crc32c of all before
//! ```
//!
//! Big-endian. Not Kafka's own format of that name.

use std::collections::VecDeque;

use millstream_protocol::Offset;

use crate::names::Kind;
use crate::producers::{BATCHES_KEPT, Producer, Producers, Sent};
use crate::storage::{Storage, read_file};

const MAGIC: [u8; 4] = *b"MSPS";
const VERSION: u16 = 1;
/// Magic to the first checksum.
pub(crate) const HEAD_LEN: usize = 26;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) offset: Offset,
    /// Broker's clock at the last append before `offset`.
    pub(crate) appended_ms: i64,
    pub(crate) producers: Producers,
}

pub(crate) fn encode(offset: Offset, appended_ms: i64, producers: &Producers) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&offset.0.to_be_bytes());
    out.extend_from_slice(&appended_ms.to_be_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    let count = u32::try_from(producers.known.len()).expect("producers are limited far below");
    out.extend_from_slice(&count.to_be_bytes());
    for (id, producer) in &producers.known {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&producer.epoch.to_be_bytes());
        out.extend_from_slice(&producer.seen_ms.to_be_bytes());
        out.push(producer.sent.len() as u8);
        for sent in &producer.sent {
            out.extend_from_slice(&sent.base_sequence.to_be_bytes());
            out.extend_from_slice(&sent.last_sequence.to_be_bytes());
            out.extend_from_slice(&sent.base_offset.0.to_be_bytes());
            out.extend_from_slice(&sent.last_offset.0.to_be_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Whether the file for an offset is there and undamaged.
pub(crate) fn is_whole(storage: &dyn Storage, offset: Offset) -> bool {
    let bytes = read_file(storage, &Kind::Snapshot.name(offset)).ok().flatten();
    bytes.and_then(|bytes| decode(&bytes)).is_some_and(|found| found.offset == offset)
}

/// `None` for anything that is not a whole, undamaged snapshot.
pub(crate) fn decode(file: &[u8]) -> Option<Snapshot> {
    let (body, crc) = file.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (offset, appended_ms) = decode_head(body)?;
    let mut rest = &body[HEAD_LEN..];
    let count = u32::from_be_bytes(take(&mut rest)?);
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = i64::from_be_bytes(take(&mut rest)?);
        producers.known.insert(id, decode_producer(&mut rest)?);
    }
    rest.is_empty().then_some(Snapshot { offset, appended_ms, producers })
}

/// Offset and clock of a snapshot, by its first [`HEAD_LEN`] bytes.
pub(crate) fn decode_head(file: &[u8]) -> Option<(Offset, i64)> {
    let mut rest: &[u8] = file.first_chunk::<HEAD_LEN>()?;
    let computed = crc32c::crc32c(&rest[..HEAD_LEN - 4]);
    if take::<4>(&mut rest)? != MAGIC || u16::from_be_bytes(take(&mut rest)?) != VERSION {
        return None;
    }
    let offset = Offset(i64::from_be_bytes(take(&mut rest)?));
    let appended_ms = i64::from_be_bytes(take(&mut rest)?);
    (u32::from_be_bytes(take(&mut rest)?) == computed).then_some((offset, appended_ms))
}

fn decode_producer(rest: &mut &[u8]) -> Option<Producer> {
    let epoch = i16::from_be_bytes(take(rest)?);
    let seen_ms = i64::from_be_bytes(take(rest)?);
    let [batches] = take(rest)?;
    if !(1..=BATCHES_KEPT).contains(&usize::from(batches)) {
        return None;
    }
    let mut sent = VecDeque::with_capacity(usize::from(batches));
    for _ in 0..batches {
        sent.push_back(Sent {
            base_sequence: i32::from_be_bytes(take(rest)?),
            last_sequence: i32::from_be_bytes(take(rest)?),
            base_offset: Offset(i64::from_be_bytes(take(rest)?)),
            last_offset: Offset(i64::from_be_bytes(take(rest)?)),
        });
    }
    Some(Producer { epoch, seen_ms, sent })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}
