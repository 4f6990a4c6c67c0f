//! Reads a log's segment files as they are, for people: no lock, no recovery, nothing is changed. It may
//! run beside a broker that writes; the last batch may then look unfinished.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Offset;
use millstream_protocol::batch::{BatchHeader, check_batch};

use crate::error::Error;
use crate::names::{self, Kind};
use crate::storage::{File, Storage, read_full_at};
use crate::walk::{Step, Walk};

/// One thing found in a segment file.
#[derive(Clone, Debug)]
pub enum Dumped {
    /// The batches that follow are of this segment.
    Segment { base: Offset, file: String, bytes: u64 },
    /// A batch whose header makes sense. `invalid` says what is wrong with the rest of it.
    Batch { position: u64, header: BatchHeader, bytes: Bytes, invalid: Option<String> },
    /// From `position` on, the segment holds no batch.
    Damage { position: u64, bytes: u64, reason: String },
}

/// Iterates over segments and batches; see [`dump`].
pub struct Dump<'a> {
    storage: &'a dyn Storage,
    /// Still to come, last first.
    bases: Vec<Offset>,
    current: Option<Current>,
}

struct Current {
    base: Offset,
    file: Arc<dyn File>,
    size: u64,
    position: u64,
    expected: Offset,
}

/// Everything in the segment files of a folder, in order. After damage it goes on with the next segment.
///
/// # Errors
/// The folder can't be listed.
pub fn dump(storage: &dyn Storage) -> Result<Dump<'_>, Error> {
    let names = storage.list().map_err(|e| Error::io("the folder", e))?;
    let logs = names.iter().filter_map(|name| names::parse(name)).filter(|(_, kind)| *kind == Kind::Log);
    let mut bases: Vec<Offset> = logs.map(|(base, _)| base).collect();
    bases.sort_unstable();
    bases.reverse();
    Ok(Dump { storage, bases, current: None })
}

impl Dump<'_> {
    fn open(&mut self, base: Offset) -> Result<Dumped, Error> {
        let name = Kind::Log.name(base);
        let io = |e| Error::io(name.clone(), e);
        let file = self.storage.open(&name).map_err(io)?;
        let size = file.size().map_err(io)?;
        self.current = Some(Current { base, file, size, position: 0, expected: base });
        Ok(Dumped::Segment { base, file: name, bytes: size })
    }
}

impl Current {
    /// `None` at the end of the segment.
    fn step(&mut self) -> Result<Option<Dumped>, Error> {
        let io = |e| Error::io(Kind::Log.name(self.base), e);
        let mut walk = Walk::headers(&*self.file, self.position, self.size, Some(self.expected));
        match walk.step().map_err(io)? {
            Step::Batch { position, header } => {
                let mut bytes = Vec::new();
                read_full_at(&*self.file, position, header.total_len(), &mut bytes).map_err(io)?;
                let invalid = check_batch(&bytes).err().map(|e| e.to_string());
                (self.position, self.expected) = (position + header.total_len() as u64, header.next_offset());
                Ok(Some(Dumped::Batch { position, header, bytes: bytes.into(), invalid }))
            }
            Step::End => Ok(None),
            Step::Damage { position, reason } => {
                self.position = self.size;
                Ok(Some(Dumped::Damage { position, bytes: self.size - position, reason }))
            }
        }
    }
}

impl Iterator for Dump<'_> {
    type Item = Result<Dumped, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(current) = &mut self.current {
            match current.step() {
                Ok(None) => self.current = None,
                Ok(Some(found)) => return Some(Ok(found)),
                Err(e) => {
                    self.current = None;
                    return Some(Err(e));
                }
            }
        }
        let base = self.bases.pop()?;
        Some(self.open(base))
    }
}
