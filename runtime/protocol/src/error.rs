//! Error codes of the native protocol, grouped by what the caller does next. A code's number is its
//! wire form and never changes; the message beside it is for people.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// What went wrong, as sent on the wire (the number is stable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[repr(u16)]
pub enum ErrorCode {
    // Retry after a pause.
    Timeout = 1,
    Busy = 2,
    ShuttingDown = 3,
    Disconnected = 4,
    StorageUnavailable = 5,
    // Refresh metadata or rejoin, then retry.
    UnknownTopic = 20,
    UnknownPartition = 21,
    NotLeader = 22,
    UnknownMember = 23,
    StaleGeneration = 24,
    UnknownGroup = 25,
    UnknownPlugin = 26,
    UnknownPipeline = 27,
    UnknownToken = 28,
    // Fix the request.
    InvalidRequest = 40,
    InvalidTopic = 41,
    TopicExists = 42,
    InvalidBatch = 43,
    BatchTooLarge = 44,
    OffsetOutOfRange = 45,
    OutOfOrderSequence = 46,
    FencedProducer = 47,
    PluginExists = 48,
    InvalidPlugin = 49,
    InvalidPipeline = 50,
    GroupNotEmpty = 51,
    InUse = 52,
    UnsupportedVersion = 53,
    LimitExceeded = 54,
    TokenExists = 55,
    /// This batch was stored so long ago that the partition no longer knows where.
    DuplicateSequence = 56,
    Unauthenticated = 60,
    Forbidden = 61,
    // Stop: data or the broker needs a person.
    DiskFull = 80,
    CorruptData = 81,
    Internal = 99,
}

impl ErrorCode {
    /// Whether the same request may succeed later, unchanged (after a metadata refresh at most).
    pub fn is_retriable(self) -> bool {
        matches!(
            self,
            ErrorCode::Timeout
                | ErrorCode::Busy
                | ErrorCode::ShuttingDown
                | ErrorCode::Disconnected
                | ErrorCode::StorageUnavailable
                | ErrorCode::NotLeader
                | ErrorCode::DiskFull
        )
    }
}

/// An error with a message for people: names the object, says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
