//! What can go wrong between two ends, grouped by what the caller does next. Reasons are texts, so that
//! one loss can be told to every request that waited.

use millstream_protocol::message::InvalidBody;
use millstream_protocol::{ErrorCode, Failure, frame};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The stream or connection is gone: connect again, then retry. Whether a request in flight was
    /// carried out is unknown.
    #[error("disconnected: {0}")]
    Disconnected(String),
    /// The other end answered with a failure; its code says whether to retry.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The other end sent something this version does not understand. The stream can't go on.
    #[error("the other end broke the protocol: {0}")]
    Protocol(String),
    /// A certificate, key or trust problem that a person must solve.
    #[error("{0}")]
    Tls(String),
    /// The address can't be used.
    #[error("cannot use UDP address {address}: {reason}")]
    Address { address: String, reason: String },
}

impl Error {
    /// Whether the same request may succeed later, unchanged, on a new connection at most.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Disconnected(_) => true,
            Error::Failure(failure) => failure.code.is_retriable(),
            Error::Protocol(_) | Error::Tls(_) | Error::Address { .. } => false,
        }
    }

    /// The nearest wire code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Disconnected(_) => ErrorCode::Disconnected,
            Error::Failure(failure) => failure.code,
            Error::Protocol(_) => ErrorCode::InvalidRequest,
            Error::Tls(_) => ErrorCode::Unauthenticated,
            Error::Address { .. } => ErrorCode::Internal,
        }
    }

    pub(crate) fn disconnected(reason: impl ToString) -> Self {
        Error::Disconnected(reason.to_string())
    }
}

impl From<frame::Error> for Error {
    fn from(error: frame::Error) -> Self {
        Error::Protocol(error.to_string())
    }
}

impl From<InvalidBody> for Error {
    fn from(error: InvalidBody) -> Self {
        Error::Protocol(error.to_string())
    }
}

impl From<quinn::ConnectionError> for Error {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Error::Disconnected(match std::str::from_utf8(&close.reason) {
                    Ok(reason) if !reason.is_empty() => reason.to_owned(),
                    _ => format!("closed by the other end with code {}", close.error_code),
                })
            }
            // 0x100 to 0x1ff are TLS alerts.
            quinn::ConnectionError::TransportError(error) if (0x100..0x200).contains(&u64::from(error.code)) => {
                Error::Tls(format!(
                    "TLS handshake failed: {}; check that the CA file belongs to this server",
                    error.reason
                ))
            }
            quinn::ConnectionError::TimedOut => Error::disconnected("no answer within the time limit"),
            quinn::ConnectionError::LocallyClosed => Error::disconnected("closed by this end"),
            other => Error::disconnected(other),
        }
    }
}

impl From<quinn::ReadError> for Error {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::ConnectionLost(lost) => lost.into(),
            other => Error::disconnected(other),
        }
    }
}

impl From<quinn::WriteError> for Error {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(lost) => lost.into(),
            other => Error::disconnected(other),
        }
    }
}
