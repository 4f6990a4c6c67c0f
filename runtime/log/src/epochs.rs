//! Which leader epoch wrote which offsets. A batch's own epoch field lies outside its checksum, so this is
//! also what tells that it is still the right one.
//!
//! The file `leader-epochs`, replaced whole, durably, before the first batch of an epoch is appended:
//!
//! ```text
//! "MSEP" | u16 version = 1 | u32 entries | per entry: i32 epoch | i64 first offset | u32 crc32c of all before
//! ```

use std::io;

use millstream_protocol::{LeaderEpoch, Offset};

use crate::error::Error;
use crate::names::EPOCHS;
use crate::storage::{Storage, read_file, replace_file};

const MAGIC: [u8; 4] = *b"MSEP";
const VERSION: u16 = 1;
const ENTRY_LEN: usize = 12;

/// Invariant: epochs and first offsets both rise strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// `None` when there is no file or it is damaged.
    pub(crate) fn load(storage: &dyn Storage) -> io::Result<Option<Self>> {
        Ok(read_file(storage, EPOCHS)?.and_then(|file| Epochs::decode(&file)))
    }

    /// `None` when it is damaged.
    pub(crate) fn decode(file: &[u8]) -> Option<Epochs> {
        let (body, crc) = file.split_last_chunk::<4>()?;
        let (head, entries) = body.split_first_chunk::<10>()?;
        let mut version_and_count = MAGIC.to_vec();
        version_and_count.extend_from_slice(&VERSION.to_be_bytes());
        version_and_count.extend_from_slice(&u32::try_from(entries.len() / ENTRY_LEN).ok()?.to_be_bytes());
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc)
            || head[..] != version_and_count
            || !entries.len().is_multiple_of(ENTRY_LEN)
        {
            return None;
        }
        let entry = |entry: &[u8]| {
            let epoch = LeaderEpoch(i32::from_be_bytes(*entry.first_chunk().expect("an entry has 12 bytes")));
            (epoch, Offset(i64::from_be_bytes(*entry[4..].first_chunk().expect("an entry has 12 bytes"))))
        };
        Some(Epochs { entries: entries.chunks_exact(ENTRY_LEN).map(entry).collect() })
    }

    pub(crate) fn save(&self, storage: &dyn Storage) -> io::Result<()> {
        replace_file(storage, EPOCHS, &self.encode())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&VERSION.to_be_bytes());
        let count = u32::try_from(self.entries.len()).expect("leaders change far less often");
        file.extend_from_slice(&count.to_be_bytes());
        for (epoch, start) in &self.entries {
            file.extend_from_slice(&epoch.0.to_be_bytes());
            file.extend_from_slice(&start.0.to_be_bytes());
        }
        let crc = crc32c::crc32c(&file);
        file.extend_from_slice(&crc.to_be_bytes());
        file
    }

    /// The epoch that wrote `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        Some(self.entries[after.checked_sub(1)?].0)
    }

    /// The epoch that writes now.
    pub(crate) fn current(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(current, _)| *current)
    }

    /// Says that `epoch` writes from `start`, the end of the log, on. Returns whether that is news.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> Result<bool, Error> {
        // An epoch that began here wrote nothing.
        let kept = self.entries.partition_point(|(_, began)| *began < start);
        match self.current() {
            Some(current) if epoch < current => Err(Error::StaleEpoch { epoch: epoch.0, current: current.0 }),
            Some(current) if epoch == current => Ok(false),
            _ => {
                self.entries.truncate(kept);
                self.entries.push((epoch, start));
                Ok(true)
            }
        }
    }

    /// Forgets epochs that began at or after `end`: the log was cut there.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }
}
