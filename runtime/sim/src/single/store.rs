//! The metadata of a simulated broker: the same commands and state as the real one's, in a plain file of checked
//! frames instead of a database.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_cluster::metadata::codec::{decode_command, encode_command};
use millstream_cluster::metadata::{Applied, Command, State};
use millstream_log::{Storage, Volume, read_file, replace_file, write_all_at};
use millstream_protocol::{ErrorCode, Failure};

use crate::disk::SimDisk;

const FOLDER: &str = "metadata";
const FILE: &str = "log";

pub(crate) struct Store {
    storage: Arc<dyn Storage>,
    state: State,
    /// Bytes of the file that count.
    end: u64,
    /// A write failed: what is on the disk is not known before the next start.
    failed: bool,
}

impl Store {
    /// Reads what is there; makes all of it durable before it is relied upon.
    pub(crate) fn open(disk: &SimDisk) -> io::Result<Store> {
        disk.create(FOLDER)?;
        disk.sync("")?;
        let storage = Volume::open(disk, FOLDER)?;
        let bytes = read_file(&*storage, FILE)?.unwrap_or_default();
        let (mut state, mut end) = (State::default(), 0);
        while let Some(frame) = frame(&bytes[end..]) {
            let command = decode_command(frame).map_err(io::Error::other)?;
            // A refusal was a refusal the first time, too.
            let _ = state.apply(&command);
            end += frame.len() + 8;
        }
        replace_file(&*storage, FILE, &bytes[..end])?;
        Ok(Store { storage, state, end: end as u64, failed: false })
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Applies a command, durably.
    pub(crate) fn submit(&mut self, command: &Command) -> Result<Applied, Failure> {
        if self.failed {
            return Err(Failure::new(ErrorCode::StorageUnavailable, "metadata can't be written"));
        }
        let mut after = self.state.clone();
        let applied = after.apply(command).map_err(Failure::from)?;
        let body = encode_command(command);
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        self.write(&bytes).map_err(|e| {
            self.failed = true;
            Failure::new(ErrorCode::StorageUnavailable, format!("metadata: {e}"))
        })?;
        self.state = after;
        Ok(applied)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.storage.open(FILE)?;
        write_all_at(&*file, &mut [IoSlice::new(bytes)], self.end)?;
        file.sync_data()?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// The first whole frame's contents.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..u32::from_be_bytes(*len) as usize)?;
    (!body.is_empty() && crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then_some(body)
}
