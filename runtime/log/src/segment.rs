//! One segment as appender and readers share it: which file, how much of it counts, how to find an
//! offset in it. Closed segments hold no file open.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use millstream_protocol::Offset;
use millstream_protocol::batch::BatchHeader;

use crate::error::Error;
use crate::index::{FileIndex, LiveIndex, OffsetEntry, TimeEntry};
use crate::names::Kind;
use crate::storage::{File, Storage};
use crate::walk::{Step, Walk};

/// See the module's head. Immutable but for growth; closing a segment puts another one in its place.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Bytes of whole batches; readers never look beyond.
    size: AtomicU64,
    /// Largest timestamp of a record, `NO_TIMESTAMP` without records.
    largest_timestamp: AtomicI64,
    /// That is what the batches say. What a time index says may be less: its last entries may be missing.
    confirmed: AtomicBool,
    /// Broker's clock at the last append; when that isn't known, at the opening of the log.
    pub(crate) appended_ms: i64,
    /// Of the segment that is being written.
    pub(crate) live: Option<Live>,
    /// An index file did not fit and was not mended yet.
    suspect: AtomicBool,
}

#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) file: Arc<dyn File>,
    pub(crate) index: Arc<LiveIndex>,
}

impl Segment {
    pub(crate) fn new(base: Offset, size: u64, largest_timestamp: i64, appended_ms: i64, live: Option<Live>) -> Self {
        let (size, largest_timestamp) = (AtomicU64::new(size), AtomicI64::new(largest_timestamp));
        let (confirmed, suspect) = (AtomicBool::new(true), AtomicBool::new(false));
        Segment { base, size, largest_timestamp, confirmed, appended_ms, live, suspect }
    }

    /// Its largest timestamp is only what its index says.
    pub(crate) fn doubt(&self) {
        self.confirmed.store(false, Ordering::Release);
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// The batches say that this is the largest timestamp, unless one was published since.
    pub(crate) fn confirm(&self, largest_timestamp: i64) {
        self.largest_timestamp.fetch_max(largest_timestamp, Ordering::AcqRel);
        self.confirmed.store(true, Ordering::Release);
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn largest_timestamp(&self) -> i64 {
        self.largest_timestamp.load(Ordering::Acquire)
    }

    /// Lets readers see what was written up to `size`.
    pub(crate) fn publish(&self, size: u64, largest_timestamp: i64) {
        self.largest_timestamp.fetch_max(largest_timestamp, Ordering::AcqRel);
        self.size.store(size, Ordering::Release);
    }

    /// This segment, not written any more. `index` is kept when its files could not be written.
    pub(crate) fn closed(&self, appended_ms: i64, live: Option<Live>) -> Self {
        let closed = Segment::new(self.base, self.size(), self.largest_timestamp(), appended_ms, live);
        closed.confirmed.store(self.is_confirmed(), Ordering::Release);
        closed
    }

    pub(crate) fn open(&self, storage: &dyn Storage) -> io::Result<Arc<dyn File>> {
        match &self.live {
            Some(live) => Ok(Arc::clone(&live.file)),
            None => storage.open(&self.file_name()),
        }
    }

    pub(crate) fn file_name(&self) -> String {
        Kind::Log.name(self.base)
    }

    pub(crate) fn corrupt(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.file_name(), position, reason: reason.into() }
    }

    pub(crate) fn io(&self, source: io::Error) -> Error {
        Error::io(self.file_name(), source)
    }

    /// Position and header of the batch that contains `offset`, or of the first one after it; `None`
    /// beyond the last batch.
    pub(crate) fn locate(
        &self,
        storage: &dyn Storage,
        file: &dyn File,
        offset: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, Error> {
        if let Some(entry) = self.hint(storage, offset) {
            if let Some(found) = self.locate_from(file, entry, offset).map_err(|e| self.io(e))? {
                return Ok(found);
            }
            self.suspect();
        }
        let mut walk = Walk::headers(file, 0, self.size(), Some(self.base));
        loop {
            match walk.step().map_err(|e| self.io(e))? {
                Step::Batch { position, header } if header.last_offset() >= offset => {
                    return Ok(Some((position, header)));
                }
                Step::Batch { .. } => {}
                Step::End => return Ok(None),
                Step::Damage { position, reason } => return Err(self.corrupt(position, reason)),
            }
        }
    }

    /// [`Segment::locate`] by an index entry; the outer `None` when entry and file disagree.
    #[expect(clippy::option_option, reason = "a wrong hint and an offset beyond the end are different answers")]
    fn locate_from(
        &self,
        file: &dyn File,
        entry: OffsetEntry,
        offset: Offset,
    ) -> io::Result<Option<Option<(u64, BatchHeader)>>> {
        let mut walk = Walk::headers(file, entry.position, self.size(), None);
        let mut first = true;
        loop {
            match walk.step()? {
                Step::Batch { header, .. } if first && header.last_offset() != entry.last_offset => return Ok(None),
                Step::Batch { position, header } if header.last_offset() >= offset => {
                    return Ok(Some(Some((position, header))));
                }
                Step::Batch { .. } => first = false,
                Step::End if first => return Ok(None),
                Step::End => return Ok(Some(None)),
                Step::Damage { .. } => return Ok(None),
            }
        }
    }

    /// The last index entry at or before `offset`. A file that can't be read gives none.
    fn hint(&self, storage: &dyn Storage, offset: Offset) -> Option<OffsetEntry> {
        match &self.live {
            Some(live) => live.index.lookup(offset),
            None => {
                let found = FileIndex::open(storage, Kind::Index, self.base).and_then(|index| index.lookup(offset));
                found.unwrap_or_else(|_| {
                    self.suspect();
                    None
                })
            }
        }
    }

    /// Takes note that an index file is not what it should be: whoever can makes it again.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Whether that is to be done.
    pub(crate) fn is_suspect(&self) -> bool {
        self.live.is_none() && self.suspect.load(Ordering::Relaxed)
    }

    /// Whether that is to be done now, by the caller alone.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.is_suspect() && self.suspect.swap(false, Ordering::Relaxed)
    }

    /// The last time entry before `timestamp`.
    pub(crate) fn time_hint(&self, storage: &dyn Storage, timestamp: i64) -> Option<TimeEntry> {
        match &self.live {
            Some(live) => live.index.lookup_time(timestamp),
            None => {
                let index = FileIndex::open(storage, Kind::TimeIndex, self.base);
                index.and_then(|index| index.lookup_time(timestamp)).unwrap_or_else(|_| {
                    self.suspect();
                    None
                })
            }
        }
    }
}
