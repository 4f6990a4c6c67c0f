//! What can go wrong for a user of the SDK. [`Error::is_retriable`] says whether the same call may succeed
//! later; the text says what to do.

use millstream_protocol::{ErrorCode, Failure, batch};
use thiserror::Error;

/// Cheap to clone: one failure may be told to every record of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No broker could be reached.
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    /// The connection was lost while a request was under way; whether it was carried out is unknown.
    #[error("lost the connection to the broker: {0}")]
    Disconnected(String),
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] Failure),
    /// There is no such topic.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    /// It took too long.
    #[error("{what} took longer than {limit_ms} ms")]
    Timeout { what: String, limit_ms: u64 },
    /// Credentials are missing, unreadable or refused.
    #[error("{0}")]
    Credentials(String),
    /// The call itself can't work.
    #[error("{0}")]
    Invalid(String),
    /// Bytes came in that can't be what the broker stored.
    #[error("{topic}/{partition} at offset {offset}: {reason}")]
    Corrupt { topic: String, partition: u32, offset: i64, reason: String },
    /// The producer or consumer was closed.
    #[error("the {0} is closed")]
    Closed(&'static str),
}

impl Error {
    /// Whether the same call may succeed later, unchanged.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Disconnected(_) | Error::Timeout { .. } => true,
            Error::Broker(failure) => failure.code.is_retriable(),
            Error::UnknownTopic(_)
            | Error::Credentials(_)
            | Error::Invalid(_)
            | Error::Corrupt { .. }
            | Error::Closed(_) => false,
        }
    }

    /// The nearest code of the protocol, for programs that decide by it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Connect { .. } | Error::Disconnected(_) => ErrorCode::Disconnected,
            Error::Broker(failure) => failure.code,
            Error::UnknownTopic(_) => ErrorCode::UnknownTopic,
            Error::Timeout { .. } => ErrorCode::Timeout,
            Error::Credentials(_) => ErrorCode::Unauthenticated,
            Error::Invalid(_) | Error::Closed(_) => ErrorCode::InvalidRequest,
            Error::Corrupt { .. } => ErrorCode::CorruptData,
        }
    }

    pub(crate) fn corrupt(topic: &str, partition: u32, offset: i64, error: &batch::Error) -> Self {
        Error::Corrupt { topic: topic.to_owned(), partition, offset, reason: error.to_string() }
    }
}

impl From<millstream_transport::Error> for Error {
    fn from(error: millstream_transport::Error) -> Self {
        use millstream_transport::Error as T;
        match error {
            T::Disconnected(reason) => Error::Disconnected(reason),
            T::Failure(failure) if failure.code == ErrorCode::Unauthenticated => Error::Credentials(failure.message),
            T::Failure(failure) => Error::Broker(failure),
            T::Tls(reason) => Error::Credentials(reason),
            T::Protocol(_) | T::Address { .. } => Error::Invalid(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_whether_to_retry() {
        let check = |error: Error, retriable: bool, code: ErrorCode| {
            assert_eq!((error.is_retriable(), error.code()), (retriable, code), "{error}");
        };
        let broker = |code| Error::Broker(Failure::new(code, "no"));
        check(Error::Disconnected("x".into()), true, ErrorCode::Disconnected);
        check(broker(ErrorCode::Busy), true, ErrorCode::Busy);
        check(broker(ErrorCode::InvalidTopic), false, ErrorCode::InvalidTopic);
        check(Error::UnknownTopic("t".into()), false, ErrorCode::UnknownTopic);
        check(Error::Closed("producer"), false, ErrorCode::InvalidRequest);
        let refused = millstream_transport::Error::Failure(Failure::new(ErrorCode::Unauthenticated, "wrong token"));
        check(refused.into(), false, ErrorCode::Unauthenticated);
    }
}
