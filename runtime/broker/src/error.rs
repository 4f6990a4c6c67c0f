//! Errors of the broker: why it does not start, and the translation of its parts' errors to the wire's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_protocol::{ErrorCode, Failure};
use thiserror::Error;

/// Why a broker does not start. Each says what to do next.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("data folder {} is in use by {owner}: stop it, or choose another folder with --data-dir", folder.display())]
    InUse { folder: PathBuf, owner: String },
    #[error("data folder {} has format version {found}, this broker knows up to {known}: start a newer broker", folder.display())]
    Newer { folder: PathBuf, found: u32, known: u32 },
    #[error("{} is damaged ({reason}): restore it from a backup", file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("can't use {}: {cause}; make it readable and writable, or choose another folder with --data-dir", path.display())]
    DataDir { path: PathBuf, cause: io::Error },
    #[error("metadata store {}: {reason}", file.display())]
    Metadata { file: PathBuf, reason: String },
    #[error("address {address} is taken by another process: stop it, or choose another address with --quic")]
    AddressTaken { address: SocketAddr },
    #[error("can't listen on {address}: {reason}; choose another address with --quic")]
    Listen { address: SocketAddr, reason: String },
    #[error(
        "address {address} is reachable from other machines: give it a certificate (`tls`) and a token (`token_file`), or listen on 127.0.0.1"
    )]
    Exposed { address: SocketAddr },
    #[error(
        "HTTP address {address} is reachable from other machines, and asks nobody who they are: listen on 127.0.0.1, or set `http_remote: true`"
    )]
    HttpExposed { address: SocketAddr },
    #[error(transparent)]
    Http(#[from] millstream_console::Error),
    #[error("{}: {reason}", file.display())]
    Credentials { file: PathBuf, reason: String },
    #[error("setting `{setting}`: {reason}")]
    Setting { setting: &'static str, reason: String },
    #[error("internal topic `{topic}` can't be opened: {reason}")]
    InternalTopic { topic: String, reason: String },
    #[error("{part} can't be started: {reason}")]
    Part { part: &'static str, reason: String },
}

impl StartError {
    pub(crate) fn data_dir(path: &Path, cause: io::Error) -> Self {
        StartError::DataDir { path: path.to_owned(), cause }
    }
}

/// A part of the broker that stopped while it was asked.
pub(crate) fn shutting_down() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "the broker is shutting down: retry later")
}

pub(crate) fn unknown_partition(topic: &str, partition: u32) -> Failure {
    Failure::new(ErrorCode::UnknownPartition, format!("partition {topic}/{partition} does not exist"))
}

pub(crate) fn unknown_topic(topic: &str) -> Failure {
    Failure::new(ErrorCode::UnknownTopic, format!("topic `{topic}` does not exist"))
}
