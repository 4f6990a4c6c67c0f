//! Reading, from any thread and beside the appender: a reader takes a snapshot of the segment list and
//! reads files by position. It never takes a lock that an append waits for.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use millstream_protocol::batch::{BatchHeader, check_batch, decode_batch};
use millstream_protocol::{Columns, Offset, mutant, pool};

use crate::epochs::Epochs;
use crate::error::Error;
use crate::finding::Finding;
use crate::index::TimeEntry;
use crate::names::Kind;
use crate::repair::index_of;
use crate::segment::Segment;
use crate::storage::{File, Storage, read_full_at};
use crate::walk::{Step, Walk};

/// What the log's owner and its readers share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    /// Ascending, never empty; the last one is being written.
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    /// First offset that may be read.
    pub(crate) start: AtomicI64,
    /// End of what was appended.
    pub(crate) end: AtomicI64,
    pub(crate) epochs: ArcSwap<Epochs>,
    pub(crate) verify_reads: AtomicBool,
    pub(crate) decompressed_bytes_max: AtomicUsize,
    /// The closed segment read last, kept open for the next read.
    pub(crate) opened: ArcSwapOption<(Offset, Arc<dyn File>)>,
    /// What readers found wrong with indexes and made again, until the log's owner asks.
    pub(crate) mended: Mutex<Vec<Finding>>,
    pub(crate) index_interval_bytes: u64,
    /// Segments deleted since the log was opened.
    pub(crate) deleted_segments: AtomicU64,
}

/// How large a log is, and what went from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub bytes: u64,
    pub segments: usize,
    /// Since the log was opened.
    pub deleted_segments: u64,
}

/// Findings kept for the owner.
const MENDED_MAX: usize = 64;

/// Reads one log. Clones are cheap and all see the log as it is now.
#[derive(Clone)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// First offset that can be read.
    pub fn start_offset(&self) -> Offset {
        Offset(self.shared.start.load(Ordering::Acquire))
    }

    /// How large the log is; without asking its owner, who may be waiting for a disk.
    pub fn extent(&self) -> Extent {
        let segments = self.shared.segments.load();
        Extent {
            bytes: segments.iter().map(|segment| segment.size()).sum(),
            segments: segments.len(),
            deleted_segments: self.shared.deleted_segments.load(Ordering::Relaxed),
        }
    }

    /// Whole batches: the first one contains `offset`, none has records at or after `end`, all together are
    /// at most `bytes_max` long unless the first alone is longer. Empty at the end. One call reads from one
    /// segment only, so it may return less than there is.
    ///
    /// # Errors
    /// `OutOfRange` for an offset before the start or after `end`; `Corrupt` for a batch that isn't what was
    /// written.
    pub fn read(&self, offset: Offset, bytes_max: usize, end: Offset) -> Result<Bytes, Error> {
        self.read_if(offset, (bytes_max, end), false)
    }

    /// [`Reader::read`] by someone who must not wait for the disk: `None` when it would. Looking a closed segment up may
    /// wait all the same when its index has left the page cache.
    ///
    /// # Errors
    /// As there.
    pub fn read_cached(&self, offset: Offset, bytes_max: usize, end: Offset) -> Result<Option<Bytes>, Error> {
        match self.read_if(offset, (bytes_max, end), true) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }

    /// The error says `WouldBlock` where `cached` must not wait.
    fn read_if(&self, offset: Offset, (bytes_max, end): (usize, Offset), cached: bool) -> Result<Bytes, Error> {
        let start = self.start_offset();
        if offset < start || offset > end {
            return Err(Error::OutOfRange { offset, start, end });
        }
        // Loaded before the segments, which therefore hold everything before it.
        let end = end.min(Offset(self.shared.end.load(Ordering::Acquire)));
        if offset >= end {
            return Ok(Bytes::new());
        }
        let segments = self.shared.segments.load();
        let holder = segments.partition_point(|segment| segment.base <= offset).checked_sub(1);
        let Some(segment) = holder.map(|holder| &segments[holder]) else {
            // Deleted between the two looks.
            return Err(Error::OutOfRange { offset, start: self.start_offset(), end });
        };
        let waits = || segment.io(io::ErrorKind::WouldBlock.into());
        if cached && !self.is_open(segment) {
            return Err(waits());
        }
        let Some(file) = self.open(segment, offset, end)? else {
            return Err(segment.corrupt(0, format!("offset {offset} belongs here and is missing")));
        };
        let file: &dyn File = if cached { &Cached(&*file) } else { &*file };
        let located = segment.locate(&*self.shared.storage, file, offset);
        if cached && segment.is_suspect() {
            return Err(waits());
        }
        self.mend(segment);
        match located? {
            Some(found) if found.1.base_offset <= offset => self.read_from(segment, file, found, (bytes_max, end)),
            found => {
                let at = found.map_or(segment.size(), |found| found.0);
                Err(segment.corrupt(at, format!("offset {offset} belongs before here and is missing")))
            }
        }
    }

    /// Damage in indexes that any reader of this log came upon and mended since this was asked last.
    pub fn take_mended(&self) -> Vec<Finding> {
        std::mem::take(&mut *self.shared.mended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the indexes of a closed segment again if one was found not to fit: it never misled anyone, but every read
    /// would walk through the whole segment.
    fn mend(&self, segment: &Segment) {
        if !segment.take_suspicion() {
            return;
        }
        let storage = &*self.shared.storage;
        let made = index_of(storage, segment.base, self.shared.index_interval_bytes);
        let reason = match made.map(|index| index.map(|index| index.replace(storage))) {
            Ok(Some(Ok(()))) => "it did not fit the log; made again from it",
            // A damaged segment is reported by whoever reads it.
            Ok(None) => return,
            Ok(Some(Err(_))) | Err(_) => "it does not fit the log and can't be made again now",
        };
        let mut mended = self.shared.mended.lock().unwrap_or_else(PoisonError::into_inner);
        if mended.len() < MENDED_MAX {
            mended.push(Finding::derived(Kind::Index.name(segment.base), 0, reason));
        }
    }

    /// Whether [`Reader::open`] need not look for the file.
    fn is_open(&self, segment: &Segment) -> bool {
        let opened = || self.shared.opened.load().as_ref().is_some_and(|opened| opened.0 == segment.base);
        segment.live.is_some() || opened()
    }

    /// The file of a segment; `OutOfRange` when the segment was deleted meanwhile.
    fn open(&self, segment: &Segment, offset: Offset, end: Offset) -> Result<Option<Arc<dyn File>>, Error> {
        if segment.size() == 0 {
            return Ok(None);
        }
        if segment.live.is_none()
            && let Some(opened) = &*self.shared.opened.load()
            && opened.0 == segment.base
        {
            return Ok(Some(Arc::clone(&opened.1)));
        }
        match segment.open(&*self.shared.storage) {
            Ok(file) => {
                if segment.live.is_none() {
                    self.shared.opened.store(Some(Arc::new((segment.base, Arc::clone(&file)))));
                }
                Ok(Some(file))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let start = self.start_offset();
                if offset < start {
                    return Err(Error::OutOfRange { offset, start, end });
                }
                Err(segment.corrupt(0, "the file is gone"))
            }
            Err(e) => Err(segment.io(e)),
        }
    }

    fn read_from(
        &self,
        segment: &Segment,
        file: &dyn File,
        (position, first): (u64, BatchHeader),
        (bytes_max, end): (usize, Offset),
    ) -> Result<Bytes, Error> {
        let left = usize::try_from(segment.size() - position).unwrap_or(usize::MAX);
        let want = bytes_max.max(first.total_len()).min(left);
        let mut bytes = pool::take(want);
        read_full_at(file, position, want, &mut bytes).map_err(|e| segment.io(e))?;
        let verify = self.shared.verify_reads.load(Ordering::Relaxed);
        let epochs = self.shared.epochs.load();
        let mut taken = 0;
        let mut expected = first.base_offset;
        while let Ok(header) = BatchHeader::decode(&bytes[taken..]) {
            let Some(batch) = bytes.get(taken..taken + header.total_len()) else { break };
            // The first one is checked all the same: it may not be what it says.
            if taken > 0 && header.next_offset() > end {
                break;
            }
            let epochs = verify.then_some(&**epochs);
            if let Err(reason) = check_one(&header, batch, expected, epochs) {
                // What comes before the damage is sound; whoever asks for the damaged batch itself learns of it.
                if taken > 0 {
                    bytes.truncate(taken);
                    return Ok(bytes.freeze());
                }
                return Err(segment.corrupt(position, reason));
            }
            if header.next_offset() > end {
                return Ok(Bytes::new());
            }
            taken += header.total_len();
            expected = header.next_offset();
        }
        if taken == 0 {
            self.check_stop(segment, &bytes, position)?;
        }
        bytes.truncate(taken);
        Ok(bytes.freeze())
    }

    /// Tells a batch that is not there from one that can't be.
    fn check_stop(&self, segment: &Segment, bytes: &[u8], at: u64) -> Result<(), Error> {
        match BatchHeader::decode(bytes) {
            Err(e) => Err(segment.corrupt(at, e.to_string())),
            Ok(header) if at + header.total_len() as u64 > segment.size() => {
                Err(segment.corrupt(at, format!("a batch of {} bytes goes beyond the segment", header.total_len())))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Offset of the first record, before `end`, whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// `Corrupt` for a batch that isn't what was written.
    pub fn offset_for_timestamp(&self, timestamp: i64, end: Offset) -> Result<Option<Offset>, Error> {
        let start = self.start_offset();
        let segments = self.shared.segments.load();
        let first = segments.partition_point(|segment| segment.base <= start).saturating_sub(1);
        for segment in &segments[first..] {
            if segment.base >= end {
                break;
            }
            if segment.largest_timestamp() < timestamp && self.confirm_timestamp(segment, start)? < timestamp {
                continue;
            }
            if let Some(found) = self.find_timestamp(segment, timestamp, start)? {
                return Ok(Some(found).filter(|found| *found < end));
            }
        }
        Ok(None)
    }

    /// The segment's largest timestamp, as its batches have it. A time index is believed up to its last entry, and no
    /// further: entries may be missing after it.
    fn confirm_timestamp(&self, segment: &Segment, start: Offset) -> Result<i64, Error> {
        let said = segment.largest_timestamp();
        if segment.is_confirmed() {
            return Ok(said);
        }
        let Some(file) = self.open(segment, start, start)? else { return Ok(said) };
        let mut largest = said;
        if let Some((position, _)) = self.follow_time(segment, &*file, (i64::MAX, start))? {
            let mut walk = self.walk(segment, &*file, position);
            loop {
                match walk.step().map_err(|e| segment.io(e))? {
                    Step::Batch { header, .. } => largest = largest.max(header.max_timestamp),
                    Step::End => break,
                    Step::Damage { position, reason } => return Err(segment.corrupt(position, reason)),
                }
            }
        }
        segment.confirm(largest);
        if largest > said {
            segment.suspect();
            self.mend(segment);
        }
        Ok(segment.largest_timestamp())
    }

    /// The batch to begin at when a record of at least `timestamp` is looked for: all before it are older.
    fn follow_time(
        &self,
        segment: &Segment,
        file: &dyn File,
        (timestamp, start): (i64, Offset),
    ) -> Result<Option<(u64, BatchHeader)>, Error> {
        let storage = &*self.shared.storage;
        // All records up to the entry are older; so is every batch before the one it names.
        let hint = segment.time_hint(storage, timestamp);
        let after = hint.map_or(segment.base, |entry| entry.last_offset);
        let found = segment.locate(storage, file, after.max(start))?;
        let fits = |hint: TimeEntry| found.as_ref().is_some_and(|(_, header)| hint.names(header));
        if hint.is_some_and(|hint| hint.last_offset >= start && !fits(hint)) {
            // An index that doesn't fit is not believed, nor one that names what the segment does not have.
            segment.suspect();
            self.mend(segment);
            return segment.locate(storage, file, segment.base.max(start));
        }
        Ok(found)
    }

    /// Batches from `position` on. One is passed over because of what its header says: that must be right.
    fn walk<'f>(&self, segment: &Segment, file: &'f dyn File, position: u64) -> Walk<'f> {
        match self.shared.verify_reads.load(Ordering::Relaxed) {
            true => Walk::checked(file, position, segment.size(), None),
            false => Walk::headers(file, position, segment.size(), None),
        }
    }

    fn find_timestamp(&self, segment: &Segment, timestamp: i64, start: Offset) -> Result<Option<Offset>, Error> {
        let Some(file) = self.open(segment, start, start)? else { return Ok(None) };
        let found = self.follow_time(segment, &*file, (timestamp, start))?;
        let Some((position, _)) = found else { return Ok(None) };
        let wanted = timestamp.saturating_add(i64::from(mutant!("time-index-off-by-one")));
        let mut walk = self.walk(segment, &*file, position);
        loop {
            match walk.step().map_err(|e| segment.io(e))? {
                Step::Batch { position, header } if header.max_timestamp >= wanted => {
                    if let Some(found) = self.find_in_batch(segment, &*file, (position, &header), (timestamp, start))? {
                        return Ok(Some(found));
                    }
                }
                Step::Batch { .. } => {}
                Step::End => return Ok(None),
                Step::Damage { position, reason } => return Err(segment.corrupt(position, reason)),
            }
        }
    }

    fn find_in_batch(
        &self,
        segment: &Segment,
        file: &dyn File,
        (position, header): (u64, &BatchHeader),
        (timestamp, start): (i64, Offset),
    ) -> Result<Option<Offset>, Error> {
        let from = header.base_offset.max(start);
        if header.log_append_time() {
            return Ok(Some(from));
        }
        let mut batch = Vec::new();
        read_full_at(file, position, header.total_len(), &mut batch).map_err(|e| segment.io(e))?;
        let corrupt = |e: millstream_protocol::batch::Error| segment.corrupt(position, e.to_string());
        check_batch(&batch).map_err(corrupt)?;
        let mut rows = Columns::default();
        let limit = self.shared.decompressed_bytes_max.load(Ordering::Relaxed);
        decode_batch(&batch, from, limit, &mut rows).map_err(corrupt)?;
        let found = rows.timestamps.iter().position(|at| *at >= timestamp);
        Ok(found.map(|row| Offset(rows.offsets[row])))
    }
}

/// A file that is read as far as the page cache has it.
#[derive(Debug)]
struct Cached<'f>(&'f dyn File);

impl File for Cached<'_> {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_cached_at(at, len, into)
    }

    fn write_at(&self, _parts: &[IoSlice<'_>], _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _from: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What is wrong with a batch; its checksum and epoch only count where `epochs` are given.
fn check_one(header: &BatchHeader, batch: &[u8], expected: Offset, epochs: Option<&Epochs>) -> Result<(), String> {
    if header.base_offset != expected {
        return Err(format!("a batch at offset {} where {expected} belongs", header.base_offset));
    }
    let Some(epochs) = epochs else { return Ok(()) };
    check_batch(batch).map_err(|e| e.to_string())?;
    if epochs.at(header.base_offset) != Some(header.leader_epoch) {
        return Err(format!("a batch with leader epoch {}, which did not write it", header.leader_epoch.0));
    }
    Ok(())
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("start", &self.start_offset()).finish_non_exhaustive()
    }
}
