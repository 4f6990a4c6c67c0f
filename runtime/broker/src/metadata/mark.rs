//! How many commands had been committed, outside the database: what it holds may be more, never less.
//!
//! ```text
//! metadata.mark, two slots, at 0 and 4096, the larger valid count counts:
//! "MSMM" | u16 version = 1 | u16 zero | u64 commands | u32 crc32c of all before
//! ```
//!
//! Big-endian. Written and synced after each commit, before anybody is told of it: after a power loss it may lag by a commit
//! that was not acknowledged, never lead. A slot fits one disk sector, so a torn write leaves the other one.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_log::{File, Storage, read_file, replace_file, write_all_at};

pub(super) const FILE: &str = "metadata.mark";
const MAGIC: [u8; 4] = *b"MSMM";
const VERSION: u16 = 1;
const SLOT_LEN: usize = 20;
const SLOT_DISTANCE: usize = 4096;

/// The file, for writing; absent on a disk that was full at the start.
#[derive(Debug)]
pub(super) struct Mark(Option<Arc<dyn File>>);

impl Mark {
    /// The count; `None` when there is no file. One that holds no count any more is reported and taken for none: it
    /// only guards.
    pub(super) fn load(storage: &dyn Storage) -> io::Result<Option<u64>> {
        let Some(bytes) = read_file(storage, FILE)? else { return Ok(None) };
        let slots = [0, SLOT_DISTANCE].map(|at| bytes.get(at..).and_then(decode).ok_or(at));
        for at in slots.iter().filter_map(|slot| slot.err()) {
            tracing::warn!(file = FILE, position = at, "a damaged mark is made again");
        }
        Ok(slots.into_iter().filter_map(Result::ok).max())
    }

    /// Takes the file, or puts a fresh one in place of one that doesn't say `commands` twice or nearly so.
    pub(super) fn open(storage: &dyn Storage, commands: u64) -> io::Result<Self> {
        let bytes = read_file(storage, FILE)?.unwrap_or_default();
        let slots = [0, SLOT_DISTANCE].map(|at| bytes.get(at..).and_then(decode));
        if slots.iter().all(Option::is_some) && slots.contains(&Some(commands)) {
            return Ok(Mark(Some(storage.open(FILE)?)));
        }
        let mut both = encode(commands).to_vec();
        both.resize(SLOT_DISTANCE, 0);
        both.extend_from_slice(&encode(commands));
        match replace_file(storage, FILE, &both) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => Ok(Mark(None)),
            replaced => replaced.and_then(|()| Ok(Mark(Some(storage.open(FILE)?)))),
        }
    }

    /// Takes note of a commit. A mark that lags guards a little less, so a failure is only logged.
    pub(super) fn advance(&self, commands: u64) {
        let at = if commands.is_multiple_of(2) { 0 } else { SLOT_DISTANCE as u64 };
        let Some(file) = &self.0 else { return };
        let written = write_all_at(&**file, &mut [IoSlice::new(&encode(commands))], at);
        if let Err(error) = written.and_then(|()| file.sync_data()) {
            tracing::debug!(file = FILE, %error, "the mark lags");
        }
    }
}

fn encode(commands: u64) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    slot[0..4].copy_from_slice(&MAGIC);
    slot[4..6].copy_from_slice(&VERSION.to_be_bytes());
    slot[8..16].copy_from_slice(&commands.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..16]);
    slot[16..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<u64> {
    let slot: &[u8; SLOT_LEN] = slot.first_chunk()?;
    let commands = u64::from_be_bytes(*slot[8..].first_chunk()?);
    (*slot == encode(commands)).then_some(commands)
}
