//! Bytes of commands and snapshots: JSON behind a format version, so that a newer broker's files are refused
//! instead of misread. The owner of the bytes keeps them safe; nothing is checksummed here.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command::Command;
use super::state::State;

/// Version of both forms. Raise it when an older broker must not read what this one writes.
/// 2: tokens. 3: tokens are altered. All older ones are read.
pub const FORMAT_VERSION: u32 = 3;

/// Why bytes are not a command or a snapshot.
#[derive(Debug, Error)]
pub enum Error {
    #[error("metadata has format version {found}, this broker reads up to {FORMAT_VERSION}: start a newer broker")]
    Newer { found: u32 },
    #[error("metadata is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Sealed<'a, T> {
    format: u32,
    content: &'a T,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

#[derive(Deserialize)]
struct Opened<T> {
    content: T,
}

/// The bytes of a command for a command log.
pub fn encode_command(command: &Command) -> Vec<u8> {
    encode(command)
}

/// # Errors
/// A newer format, or damage.
pub fn decode_command(bytes: &[u8]) -> Result<Command, Error> {
    decode(bytes)
}

/// The bytes of a whole state. Equal states give equal bytes.
pub fn encode_snapshot(state: &State) -> Vec<u8> {
    encode(state)
}

/// # Errors
/// A newer format, or damage.
pub fn decode_snapshot(bytes: &[u8]) -> Result<State, Error> {
    let mut state: State = decode(bytes)?;
    state.index();
    Ok(state)
}

fn encode<T: Serialize>(content: &T) -> Vec<u8> {
    serde_json::to_vec(&Sealed { format: FORMAT_VERSION, content }).expect("metadata has string keys only")
}

/// Looks at the version first: the content of a newer format may not even parse.
fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Error> {
    let Version { format } = serde_json::from_slice(bytes)?;
    if format > FORMAT_VERSION {
        return Err(Error::Newer { found: format });
    }
    Ok(serde_json::from_slice::<Opened<T>>(bytes)?.content)
}
