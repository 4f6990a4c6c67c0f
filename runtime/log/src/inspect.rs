//! The reading half of recovery: looks at every file and decides what is there, without changing a byte.
//! Damage below the synced mark is found here and ends it; a torn tail above is only noted.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_protocol::{Offset, mutant};

use crate::checkpoint::{self, State};
use crate::config::Config;
use crate::epochs::Epochs;
use crate::error::Error;
use crate::finding::Finding;
use crate::index::{FileIndex, Indexer, LiveIndex, NO_TIMESTAMP, TimeEntry};
use crate::names::{self, CHECKPOINT, EPOCHS, Kind, TEMPORARY};
use crate::producers::Producers;
use crate::snapshot::{self, Snapshot};
use crate::storage::{File, Storage, read_file, read_full_at};
use crate::walk::{Step, Walk};

/// What a folder holds.
pub(crate) struct Inspection {
    pub(crate) state: State,
    /// The segments to keep, ascending.
    pub(crate) segments: Vec<Found>,
    pub(crate) end: Offset,
    pub(crate) producers: Producers,
    pub(crate) epochs: Epochs,
    /// The file of epochs was of no use; these are the batches'.
    pub(crate) epochs_rebuilt: bool,
    pub(crate) clean: bool,
    /// Where the valid part of the last segment to keep ends, when there is more in the file.
    pub(crate) torn: Option<Torn>,
    /// Files that do not belong to what is kept.
    pub(crate) leftovers: Vec<String>,
    /// The file's bytes; none when there is no file.
    pub(crate) checkpoint: Vec<u8>,
    pub(crate) scanned_bytes: u64,
    /// Damage that is not in the records.
    pub(crate) mended: Vec<Finding>,
    /// Producers' state before segments that nobody vouches for; `None` where the file is right and may not be durable.
    pub(crate) snapshots: Vec<(Offset, Option<Vec<u8>>)>,
}

pub(crate) struct Torn {
    pub(crate) position: u64,
    /// In this segment and in later ones.
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// A segment as it is in the folder.
pub(crate) struct Found {
    pub(crate) base: Offset,
    pub(crate) file: Arc<dyn File>,
    pub(crate) size: u64,
    /// Offset after its last batch.
    pub(crate) end: Offset,
    pub(crate) largest_timestamp: i64,
    pub(crate) appended_ms: i64,
    /// Indexes made from the batches: for the last segment, and where the files were of no use.
    pub(crate) rebuilt: Option<(LiveIndex, Indexer)>,
}

struct Inspector<'a> {
    storage: &'a dyn Storage,
    config: &'a Config,
    state: State,
    /// No checkpoint tells how much to expect, so all of it is.
    strict: bool,
    snapshot: Snapshot,
    epochs: Option<Epochs>,
    scanned_bytes: u64,
    mended: Vec<Finding>,
    snapshots: Vec<(Offset, Option<Vec<u8>>)>,
}

/// # Errors
/// `Corrupt`, or the storage's.
pub(crate) fn inspect(storage: &dyn Storage, config: &Config, now_ms: i64) -> Result<Inspection, Error> {
    let names = storage.list().map_err(|e| Error::io("the folder", e))?;
    let checkpoint = read_file(storage, CHECKPOINT).map_err(|e| Error::io(CHECKPOINT, e))?;
    let saved = checkpoint.as_deref().and_then(checkpoint::state_of);
    let bases = names::of_kind(&names, Kind::Log);
    let first = bases.first().copied().unwrap_or_default();
    let strict = saved.is_none();
    let state = saved.unwrap_or(State { start: first, ..State::default() });
    let epochs = Epochs::load(storage).map_err(|e| Error::io(EPOCHS, e))?;
    let snapshot = Snapshot::default();
    let mut mended = Vec::new();
    if let Some(bytes) = &checkpoint {
        let faults = checkpoint::faults(bytes).into_iter();
        mended.extend(faults.map(|(position, reason)| Finding::derived(CHECKPOINT, position, reason)));
    }
    if epochs.is_none() && names.iter().any(|name| name == EPOCHS) {
        mended.push(Finding::derived(EPOCHS, 0, "checksum mismatch; made again from the batches"));
    }
    let inspector =
        Inspector { storage, config, state, strict, snapshot, epochs, scanned_bytes: 0, mended, snapshots: Vec::new() };
    let mut inspection = inspector.run(&bases, now_ms, &names)?;
    let unfinished = [CHECKPOINT, EPOCHS].map(|name| format!("{name}{TEMPORARY}"));
    inspection.leftovers.extend(unfinished.into_iter().filter(|name| names.contains(name)));
    let kept = |base: Offset| inspection.segments.iter().any(|segment| segment.base == base);
    let stray = names.iter().filter(|name| match names::parse(name) {
        // At the end it may be what is left of a segment that was begun and lost.
        Some((base, Kind::Snapshot)) => !(kept(base) || base == inspection.end && snapshot::is_whole(storage, base)),
        Some((base, _)) => !kept(base),
        None => false,
    });
    let stray: Vec<String> = stray.cloned().collect();
    inspection.leftovers.extend(stray);
    inspection.checkpoint = checkpoint.unwrap_or_default();
    Ok(inspection)
}

impl Inspector<'_> {
    fn run(mut self, bases: &[Offset], now_ms: i64, names: &[String]) -> Result<Inspection, Error> {
        // Segments that end at or before the log's start were about to be deleted.
        let obsolete = bases.windows(2).take_while(|pair| pair[1] <= self.state.start).count();
        let bases = &bases[obsolete..];
        self.check_marked_segment(bases)?;
        let mut segments = Vec::with_capacity(bases.len());
        for base in bases {
            segments.push(self.find(*base, now_ms)?);
        }
        let marked = match self.mark_counts() {
            true => bases.iter().position(|base| *base == self.state.mark.segment).expect("checked above"),
            false => 0,
        };
        let clean = self.is_clean(&segments, marked);
        let closed = if clean { segments.len().saturating_sub(1) } else { marked };
        for at in 0..closed {
            let next = segments[at + 1].base;
            self.check_closed(&mut segments[at], next)?;
        }
        let replay_from = segments.get(closed).map_or(self.state.start, |segment| segment.base);
        let newest = if clean { self.state.mark.offset } else { replay_from };
        let oldest = segments.first().map_or(newest, |segment| segment.base);
        self.load_producers(names, oldest..=newest)?;
        self.replay_headers(&segments[..closed])?;
        let intact = clean && self.load_last(&mut segments[closed])?;
        let torn = if intact { None } else { self.scan(&mut segments, closed)? };
        let end = segments.last().map_or(self.state.start, |segment| segment.end);
        if end < self.state.start {
            return Err(self.missing(end, "the log ends before its start"));
        }
        let epochs_rebuilt = self.epochs.is_none() && end > self.state.start;
        let mut epochs = match self.epochs.take() {
            Some(epochs) => epochs,
            None => rebuild_epochs(&segments)?,
        };
        epochs.cut(end);
        Ok(Inspection {
            state: self.state,
            end,
            epochs,
            epochs_rebuilt,
            producers: self.snapshot.producers,
            // What the closing left must be there, too: else it is a start like any other.
            clean: intact,
            torn,
            leftovers: Vec::new(),
            checkpoint: Vec::new(),
            scanned_bytes: self.scanned_bytes,
            mended: self.mended,
            snapshots: self.snapshots,
            segments,
        })
    }

    /// Whether the mark says anything about segments that are still to be there.
    fn mark_counts(&self) -> bool {
        !self.strict && self.state.mark.offset > self.state.start
    }

    fn check_marked_segment(&self, bases: &[Offset]) -> Result<(), Error> {
        if let Some(first) = bases.first().filter(|first| **first > self.state.start) {
            return Err(self.missing(*first, "segments before this one are gone"));
        }
        if self.mark_counts() && !bases.contains(&self.state.mark.segment) {
            return Err(self.missing(self.state.mark.segment, "the segment is gone"));
        }
        Ok(())
    }

    fn missing(&self, base: Offset, reason: &str) -> Error {
        Error::Corrupt { file: Kind::Log.name(base), position: 0, reason: reason.to_owned() }
    }

    fn find(&self, base: Offset, now_ms: i64) -> Result<Found, Error> {
        let name = Kind::Log.name(base);
        let io = |e| Error::io(name.clone(), e);
        let file = self.storage.open(&name).map_err(io)?;
        let size = file.size().map_err(io)?;
        Ok(Found { base, file, size, end: base, largest_timestamp: NO_TIMESTAMP, appended_ms: now_ms, rebuilt: None })
    }

    fn is_clean(&self, segments: &[Found], marked: usize) -> bool {
        let Some(last) = segments.last() else { return false };
        let mark = self.state.mark;
        self.state.clean
            && !self.strict
            && marked == segments.len() - 1
            && (last.base, last.size) == (mark.segment, mark.position)
    }

    /// A closed segment below the mark: its end must meet the next one. Looks at the last index entries and
    /// the batches after them, or at everything when the index is of no use.
    fn check_closed(&mut self, segment: &mut Found, next: Offset) -> Result<(), Error> {
        if let Ok(Some((end, largest))) = self.end_by_index(segment)
            && (end == next || mutant!("recovery-trusts-the-index"))
        {
            (segment.end, segment.largest_timestamp) = (end, largest);
        } else {
            if self.storage.open(&Kind::Index.name(segment.base)).is_ok() {
                let reason = "it does not fit the log; made again from it";
                self.mended.push(Finding::derived(Kind::TimeIndex.name(segment.base), 0, reason));
            }
            if let Some((position, reason)) = self.scan_one(segment)? {
                return Err(pinpoint(segment, position, reason));
            }
        }
        if segment.end != next && !mutant!("damage-as-torn-tail") {
            let reason = format!("the segment ends at offset {}, the next one begins at {next}", segment.end);
            return Err(pinpoint(segment, segment.size, reason));
        }
        let mut head = Vec::with_capacity(snapshot::HEAD_LEN);
        let following = self.storage.open(&Kind::Snapshot.name(next));
        if following.is_ok_and(|file| read_full_at(&*file, 0, snapshot::HEAD_LEN, &mut head).is_ok())
            && let Some((_, appended_ms)) = snapshot::decode_head(&head)
        {
            segment.appended_ms = appended_ms;
        }
        Ok(())
    }

    /// End and largest timestamp of a closed segment by its index files; `None` when they don't fit it.
    fn end_by_index(&self, segment: &Found) -> io::Result<Option<(Offset, i64)>> {
        let times = FileIndex::open(self.storage, Kind::TimeIndex, segment.base)?;
        let Some(last_time) = times.len().checked_sub(1) else { return Ok(None) };
        let largest = times.time_entry(last_time)?;
        let offsets = FileIndex::open(self.storage, Kind::Index, segment.base)?;
        let before = offsets.lookup(largest.last_offset)?;
        if !time_fits(segment, before.map_or(0, |entry| entry.position), largest)? {
            return Ok(None);
        }
        let from = match offsets.len().checked_sub(1) {
            Some(last) => Some(offsets.offset_entry(last)?),
            None => None,
        };
        let position = from.map_or(0, |entry| entry.position);
        let expected = if from.is_none() { Some(segment.base) } else { None };
        let mut walk = Walk::headers(&*segment.file, position, segment.size, expected);
        let mut first = true;
        let mut end = segment.base;
        loop {
            match walk.step()? {
                Step::Batch { header, .. } => {
                    let wrong = from.filter(|entry| first && entry.last_offset != header.last_offset());
                    if wrong.is_some() || header.max_timestamp > largest.timestamp {
                        return Ok(None);
                    }
                    first = false;
                    end = header.next_offset();
                }
                Step::End => return Ok(Some((end, largest.timestamp))),
                Step::Damage { .. } => return Ok(None),
            }
        }
    }

    /// The newest usable snapshot within the batches that are there; without one, producers are those of all
    /// batches. An older one would lack what was sent between.
    fn load_producers(&mut self, names: &[String], within: RangeInclusive<Offset>) -> Result<(), Error> {
        let mut candidates = names::of_kind(names, Kind::Snapshot);
        candidates.retain(|at| within.contains(at));
        for offset in candidates.into_iter().rev() {
            let name = Kind::Snapshot.name(offset);
            let bytes = read_file(self.storage, &name).map_err(|e| Error::io(name, e))?;
            let snapshot = bytes.and_then(|bytes| snapshot::decode(&bytes));
            if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.offset == offset) {
                self.snapshot = snapshot;
                return Ok(());
            }
            let reason = "checksum mismatch; producers' state is made from the batches";
            self.mended.push(Finding::derived(Kind::Snapshot.name(offset), 0, reason));
        }
        Ok(())
    }

    /// Feeds producers with the batches after the snapshot that lie in closed segments.
    fn replay_headers(&mut self, closed: &[Found]) -> Result<(), Error> {
        let from = self.snapshot.offset;
        for segment in closed.iter().filter(|segment| segment.end > from) {
            let mut walk = Walk::headers(&*segment.file, 0, segment.size, Some(segment.base));
            loop {
                match walk.step().map_err(|e| Error::io(Kind::Log.name(segment.base), e))? {
                    Step::Batch { header, .. } => self.note_producer(&header, segment.appended_ms),
                    Step::End => break,
                    Step::Damage { position, reason } => return Err(pinpoint(segment, position, reason)),
                }
            }
        }
        Ok(())
    }

    fn note_producer(&mut self, header: &millstream_protocol::batch::BatchHeader, now_ms: i64) {
        if header.base_offset >= self.snapshot.offset
            && !(mutant!("stale-producer-snapshot") && self.snapshot.offset > Offset::ZERO)
        {
            self.snapshot.producers.note(header, now_ms);
            self.snapshot.producers.limit(self.config.producers_max);
        }
    }

    /// The last segment of a cleanly closed log, by its index files and the batches after their last
    /// entries. `false` when they don't fit it.
    fn load_last(&mut self, segment: &mut Found) -> Result<bool, Error> {
        let name = Kind::Log.name(segment.base);
        let io = |e| Error::io(name.clone(), e);
        let Some(index) = LiveIndex::load(self.storage, segment.base).map_err(io)? else { return Ok(false) };
        let (offset, time) = index.last();
        let expected = if offset.is_none() { Some(segment.base) } else { None };
        let from = offset.map_or(0, |entry| entry.position);
        let mut indexer = Indexer::resume(segment.base, self.config.index_interval_bytes, time);
        let file = Arc::clone(&segment.file);
        let mut walk = Walk::headers(&*file, from, segment.size, expected);
        let mut end = segment.base;
        // The entry's own batch is indexed already.
        let mut indexed = offset.map(|entry| entry.last_offset);
        loop {
            match walk.step().map_err(io)? {
                Step::Batch { header, .. } if indexed.is_some_and(|last| last != header.last_offset()) => {
                    return Ok(false);
                }
                Step::Batch { position, header } => {
                    // A closed log's last time entry is its largest timestamp.
                    if header.max_timestamp > time.map_or(NO_TIMESTAMP, |time| time.timestamp) {
                        return Ok(false);
                    }
                    if indexed.take().is_none() {
                        indexer.note(&index, &header, position);
                    }
                    end = header.next_offset();
                }
                Step::End => break,
                Step::Damage { .. } => return Ok(false),
            }
        }
        if end != self.state.mark.offset {
            return Ok(false);
        }
        if let Some(time) = time {
            let from = index.lookup(time.last_offset).map_or(0, |entry| entry.position);
            if !time_fits(segment, from, time).map_err(io)? {
                return Ok(false);
            }
        }
        (segment.end, segment.largest_timestamp) = (end, indexer.largest.timestamp);
        segment.rebuilt = Some((index, indexer));
        // The producers are those of the snapshot made when the log was closed; else all of it is read.
        Ok(self.snapshot.offset == end)
    }

    /// Checks every byte of the segments from `from` on, which nobody vouches for beyond the mark. Keeps
    /// the valid part in `segments`.
    fn scan(&mut self, segments: &mut Vec<Found>, from: usize) -> Result<Option<Torn>, Error> {
        let total: u64 = segments[from..].iter().map(|segment| segment.size).sum();
        let mut valid = 0;
        for at in from..segments.len() {
            let expected = at.checked_sub(1).filter(|before| *before >= from).map(|before| segments[before].end);
            let stop = match expected.filter(|expected| *expected != segments[at].base) {
                Some(expected) => Some((0, format!("the segment begins where offset {expected} belongs"))),
                None => self.scan_one(&mut segments[at])?,
            };
            let segment = &mut segments[at];
            let Some((position, reason)) = stop else {
                valid += segment.size;
                self.check_mark(segment, segment.size)?;
                self.keep_snapshot(&segments[at..]);
                continue;
            };
            if !mutant!("cut-below-the-mark") && (self.strict || self.vouched(segment) > position) {
                return Err(corrupt(segment, position, reason));
            }
            self.check_mark(segment, position)?;
            valid += position;
            segment.size = position;
            // A segment that can't even begin is one of the later ones.
            let keep = if expected.is_some_and(|expected| expected != segment.base) { at } else { at + 1 };
            segments.truncate(keep);
            let position = segments.last().map_or(0, |last| last.size);
            return Ok(Some(Torn { position, bytes: total - valid, reason }));
        }
        Ok(None)
    }

    /// After the first of these segments was scanned: whether the snapshot before the next one is as it should be, or
    /// has to be made again. Retention relies on it.
    fn keep_snapshot(&mut self, segments: &[Found]) {
        let [scanned, next, ..] = segments else { return };
        let make = || snapshot::encode(next.base, scanned.appended_ms, &self.snapshot.producers);
        let made = (!snapshot::is_whole(self.storage, next.base)).then(make);
        self.snapshots.push((next.base, made));
    }

    /// Bytes of a segment that the mark vouches for.
    fn vouched(&self, segment: &Found) -> u64 {
        if self.mark_counts() && segment.base == self.state.mark.segment { self.state.mark.position } else { 0 }
    }

    fn check_mark(&self, segment: &Found, valid: u64) -> Result<(), Error> {
        let vouched = self.vouched(segment);
        if valid >= vouched || mutant!("cut-below-the-mark") {
            return Ok(());
        }
        Err(corrupt(segment, valid, format!("the file ends here, but {vouched} bytes had been synced")))
    }

    /// Walks a segment from its beginning and makes its indexes. Returns where it stops making sense. Checksums count: a
    /// header that rotted would otherwise make its own index, and nothing would contradict it.
    fn scan_one(&mut self, segment: &mut Found) -> Result<Option<(u64, String)>, Error> {
        let file = Arc::clone(&segment.file);
        let (index, mut indexer) =
            (LiveIndex::new(segment.base), Indexer::new(segment.base, self.config.index_interval_bytes));
        let epochs = self.epochs.clone();
        let walk = Walk::checked(&*file, 0, segment.size, Some(segment.base));
        let mut walk = walk.with_epochs(epochs.as_ref());
        segment.end = segment.base;
        let stop = loop {
            match walk.step().map_err(|e| Error::io(Kind::Log.name(segment.base), e))? {
                Step::Batch { position, header } => {
                    indexer.note(&index, &header, position);
                    self.note_producer(&header, segment.appended_ms);
                    segment.end = header.next_offset();
                }
                Step::End => break None,
                Step::Damage { position, reason } => break Some((position, reason)),
            }
        };
        self.scanned_bytes += walk.position();
        segment.largest_timestamp = indexer.largest.timestamp;
        segment.rebuilt = Some((index, indexer));
        Ok(stop)
    }
}

/// Whether the batch that a time entry names, at `position` or after it, has its timestamp.
fn time_fits(segment: &Found, position: u64, entry: TimeEntry) -> io::Result<bool> {
    let mut walk = Walk::headers(&*segment.file, position, segment.size, None);
    loop {
        match walk.step()? {
            Step::Batch { header, .. } if header.last_offset() < entry.last_offset => {}
            Step::Batch { header, .. } => return Ok(entry.names(&header)),
            Step::End | Step::Damage { .. } => return Ok(false),
        }
    }
}

fn corrupt(segment: &Found, position: u64, reason: String) -> Error {
    Error::Corrupt { file: Kind::Log.name(segment.base), position, reason }
}

/// A walk by headers stumbles over the batch behind the damaged one, where that says it has more records than it has:
/// the checksums tell the place.
fn pinpoint(segment: &Found, position: u64, reason: String) -> Error {
    let mut walk = Walk::checked(&*segment.file, 0, segment.size, Some(segment.base));
    loop {
        match walk.step() {
            Ok(Step::Batch { .. }) => {}
            Ok(Step::Damage { position, reason }) => return corrupt(segment, position, reason),
            Ok(Step::End) | Err(_) => return corrupt(segment, position, reason),
        }
    }
}

/// The epochs that the batches themselves name.
fn rebuild_epochs(segments: &[Found]) -> Result<Epochs, Error> {
    let mut epochs = Epochs::default();
    for segment in segments {
        let mut walk = Walk::headers(&*segment.file, 0, segment.size, Some(segment.base));
        loop {
            match walk.step().map_err(|e| Error::io(Kind::Log.name(segment.base), e))? {
                Step::Batch { position, header } => {
                    let assigned = epochs.assign(header.leader_epoch, header.base_offset);
                    assigned.map_err(|e| corrupt(segment, position, e.to_string()))?;
                }
                Step::End => break,
                Step::Damage { position, reason } => return Err(pinpoint(segment, position, reason)),
            }
        }
    }
    Ok(epochs)
}
