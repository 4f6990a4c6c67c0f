//! Kafka's RecordBatch v2, byte for byte: the one format from producer to wire to segment file to
//! consumer. Everything but [`decode_batch`] and [`BatchBuilder`] treats the records as opaque bytes.
//!
//! ```text
//! base offset i64 | batch length i32 | leader epoch i32 | magic i8 = 2 | crc u32 | attributes i16 |
//! last offset delta i32 | base timestamp i64 | max timestamp i64 | producer id i64 | producer epoch i16 |
//! base sequence i32 | record count i32 | records, compressed as one block when attributes say so
//! ```
//!
//! Big-endian. `batch length` counts everything after itself; the CRC32C covers everything from the
//! attributes on, so base offset and leader epoch may be patched without touching it.

mod build;
mod compression;
mod decode;
mod header;
mod varint;

pub use build::BatchBuilder;
pub use compression::Compression;
pub use decode::{decode_batch, decode_batches};
pub use header::{BatchHeader, HEADER_LEN, check_batch, check_new_batch, patch_header, restamp, split_batches};

#[cfg(test)]
mod tests;

use thiserror::Error;

/// The ceiling on a batch's records after decompression where nothing else is configured: four times the
/// largest frame.
pub const DECOMPRESSED_BYTES_MAX: usize = 4 * crate::frame::FRAME_BYTES_MAX;

/// Why bytes are not a batch that can be used. None of them can be helped by a retry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("record batch needs {needed} bytes, {available} are there")]
    Truncated { needed: usize, available: usize },
    #[error("record batch of {length} bytes is followed by {extra} bytes that are not part of it")]
    Trailing { length: usize, extra: usize },
    #[error("record batch has the impossible length {0}")]
    Length(i32),
    #[error("record batch has the impossible base offset {0}")]
    Offset(i64),
    #[error("record batch has format version {0}, only 2 is supported; use a client of Kafka 0.11 or later")]
    Magic(i8),
    #[error("record batch checksum mismatch: stored {stored:08x}, computed {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("record batch claims {records} records with last offset delta {last_offset_delta} in {bytes} bytes")]
    Count { records: i32, last_offset_delta: i32, bytes: usize },
    #[error("record batch from a producer {0}")]
    NotNew(&'static str),
    #[error("record batch has the unknown compression type {0}")]
    UnknownCompression(i16),
    #[error("record batch is larger than {limit} bytes decompressed")]
    TooLarge { limit: usize },
    #[error("record batch can't be decompressed as {codec}: {reason}")]
    Decompress { codec: Compression, reason: String },
    #[error("record {index} of the batch: {reason}")]
    Record { index: i32, reason: &'static str },
}
