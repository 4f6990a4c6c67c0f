//! What a log answers when it can't do what was asked, grouped by what the caller does next.

use std::io;

use millstream_protocol::{Offset, ProducerId, batch};
use thiserror::Error;

/// Messages don't name the partition: its owner knows it.
#[derive(Debug, Error)]
pub enum Error {
    // Ask for something else.
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },

    // Fix the request.
    #[error("{bytes} bytes are more than the {max} that one append may have")]
    TooLarge { bytes: usize, max: usize },
    #[error("not a batch: {0}")]
    Batch(#[from] batch::Error),
    #[error("producer {producer} sent sequence {got}, expected {expected}", producer = producer.0)]
    OutOfOrderSequence { producer: ProducerId, expected: i32, got: i32 },
    #[error("producer {producer} repeated sequence {got}, which is none of its last batches", producer = producer.0)]
    DuplicateSequence { producer: ProducerId, got: i32 },
    #[error("producer {producer} has epoch {epoch}, a newer one has {current}", producer = producer.0)]
    FencedProducer { producer: ProducerId, epoch: i16, current: i16 },
    #[error("leader epoch {epoch} is older than the log's {current}")]
    StaleEpoch { epoch: i32, current: i32 },

    // Retry when there is room.
    #[error("disk full")]
    DiskFull,

    // Stop: the log must not be used before somebody looked at it.
    #[error("{file}: damaged at byte {position}: {reason}")]
    Corrupt { file: String, position: u64, reason: String },
    #[error("the log takes no more writes: {reason}")]
    Fenced { reason: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Error {
    /// An IO error on a file, or [`Error::DiskFull`] if it is that.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
            _ => Error::Io { what: what.into(), source },
        }
    }
}

/// Whether a file could not be opened or begun, for want of descriptors: nothing was changed.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    /// `ENFILE` and `EMFILE` on every Linux.
    const CODES: [i32; 2] = [23, 24];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}
