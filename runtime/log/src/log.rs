//! The log's owner: the one place that appends, rolls segments and hands out syncs. Readers see what it
//! publishes through [`Shared`].

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use millstream_protocol::batch::{BatchHeader, HEADER_LEN, patch_header};
use millstream_protocol::{LeaderEpoch, Offset, mutant};

use crate::checkpoint::{self, Checkpoint, Mark};
use crate::config::{APPEND_BYTES_MAX, Config};
use crate::epochs::Epochs;
use crate::error::{Error, is_out_of_files};
use crate::index::{Indexer, LiveIndex, NO_TIMESTAMP};
use crate::names::{CHECKPOINT, EPOCHS, Kind};
use crate::producers::{Producers, Verdict};
use crate::reader::{Reader, Shared};
use crate::recovery::{self, Recovery};
use crate::segment::{Live, Segment};
use crate::snapshot;
use crate::storage::{File, Storage, delete_if_there, write_all_at};
use crate::sync::{SyncDone, SyncJob};

/// Closed segments that may wait for a sync before a roll syncs the oldest itself.
const UNSYNCED_SEGMENTS_MAX: usize = 4;

/// One replica's log. Not shared: its owner appends, everybody else has a [`Reader`].
pub struct Log<S: Storage> {
    pub(crate) storage: Arc<S>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Config,
    pub(crate) active: Active,
    pub(crate) producers: Producers,
    pub(crate) end: Offset,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) sync: SyncState,
    /// Why nothing may be written any more.
    pub(crate) fenced: Option<String>,
    /// Patched headers of the append at hand.
    pub(crate) headers: Vec<u8>,
}

/// The segment that is being written, with what only the writer needs.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) index: Arc<LiveIndex>,
    pub(crate) indexer: Indexer,
    /// Broker's clock at the first and the last append.
    pub(crate) first_ms: Option<i64>,
    pub(crate) last_ms: i64,
    /// Bytes of the file that room is reserved for.
    pub(crate) allocated: u64,
}

/// What a sync has to cover.
#[derive(Default)]
pub(crate) struct SyncState {
    pub(crate) durable: Offset,
    /// Files of closed segments: batches, indexes, producers' state.
    pub(crate) closed: Vec<Arc<dyn File>>,
    pub(crate) folder: bool,
    pub(crate) in_flight: bool,
    /// Bytes that were appended since the last sync began.
    pub(crate) unsynced_bytes: u64,
    /// Since the mark was last synced.
    pub(crate) unmarked_bytes: u64,
    pub(crate) marked_ms: i64,
    /// Broker's clock at the last append.
    pub(crate) now_ms: i64,
    /// The checkpoint on disk says that the log was closed cleanly.
    pub(crate) says_clean: bool,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; of the first time for a duplicate.
    pub base_offset: Offset,
    /// After the last record.
    pub end_offset: Offset,
    /// Nothing was written: all of it had been appended before, from here on.
    pub duplicate_of: Option<Offset>,
}

/// Sizes and ages, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub bytes: u64,
    pub segments: usize,
    /// Largest timestamp in the oldest segment that has records.
    pub oldest_timestamp: Option<i64>,
    pub producers: usize,
}

impl<S: Storage> Log<S> {
    /// Opens the log in a folder, or begins an empty one. What is returned as the end is durable.
    ///
    /// # Errors
    /// `Corrupt` when bytes that were synced are not what they were; then nothing was changed.
    pub fn open(storage: S, config: Config, now_ms: i64) -> Result<(Self, Recovery), Error> {
        recovery::open(Arc::new(storage), config, now_ms)
    }

    pub fn start_offset(&self) -> Offset {
        Offset(self.shared.start.load(Ordering::Acquire))
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// Records before this are on the disk.
    pub fn durable_end(&self) -> Offset {
        self.sync.durable
    }

    /// Whether so much is in the page cache only that a sync is due, whoever waits for it.
    pub fn is_sync_due(&self) -> bool {
        self.sync.unsynced_bytes >= self.config.unsynced_bytes_max && !mutant!("replicated-never-synced")
    }

    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Appends batches whose checksums the caller has checked, all or none. They are in the page cache
    /// afterwards, readable at once and durable after a sync. Batches that an idempotent producer sent
    /// before are not written again.
    ///
    /// # Errors
    /// `TooLarge` and the sequence errors are the batch's fault; after `DiskFull` the log is as before, and so it is
    /// after `Io` unless [`Log::is_fenced`]; a fenced log is not written any more.
    pub fn append(
        &mut self,
        batches: &[(BatchHeader, Bytes)],
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, Error> {
        self.check_writable()?;
        let (mut placed, appended) = self.place(batches, epoch)?;
        if placed.is_empty() {
            return Ok(appended);
        }
        let bytes: usize = placed.iter().map(|(_, batch)| batch.len()).sum();
        if bytes > APPEND_BYTES_MAX {
            return Err(Error::TooLarge { bytes, max: APPEND_BYTES_MAX });
        }
        if self.sync.says_clean && !mutant!("clean-flag-stays") {
            let file = checkpoint::open(&*self.storage).map_err(|e| Error::io(CHECKPOINT, e))?;
            let cleared = self.checkpoint.update(&*file, true, |state| state.clean = false);
            self.or_fence("the checkpoint", cleared)?;
            self.sync.says_clean = false;
        }
        self.begin_epoch(epoch)?;
        if self.must_roll(bytes as u64, appended.end_offset, now_ms) {
            self.roll()?;
        }
        self.write(&placed)?;
        let mut position = self.active.segment.size();
        for (header, batch) in &mut placed {
            self.active.indexer.note(&self.active.index, header, position);
            self.producers.note(header, now_ms);
            position += batch.len() as u64;
        }
        self.producers.limit(self.config.producers_max);
        self.active.segment.publish(position, self.active.indexer.largest.timestamp);
        self.active.first_ms.get_or_insert(now_ms);
        self.active.last_ms = now_ms;
        self.sync.now_ms = now_ms;
        self.sync.unsynced_bytes += bytes as u64;
        self.sync.unmarked_bytes += bytes as u64;
        self.end = placed.last().expect("something was placed").0.next_offset();
        self.shared.end.store(self.end.0, Ordering::Release);
        Ok(appended)
    }

    /// Takes note, durably, of a leader epoch that writes for the first time.
    fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), Error> {
        if self.shared.epochs.load().current() == Some(epoch) {
            return Ok(());
        }
        let mut epochs = Epochs::clone(&self.shared.epochs.load());
        if epochs.assign(epoch, self.end)? {
            let saved = if mutant!("epoch-not-recorded") { Ok(()) } else { epochs.save(&*self.storage) };
            match saved.map_err(|e| Error::io(EPOCHS, e)) {
                Err(Error::Io { what, source }) if !is_out_of_files(&source) => self.or_fence(&what, Err(source))?,
                saved => saved?,
            }
            self.shared.epochs.store(Arc::new(epochs));
        }
        Ok(())
    }

    /// Gives fresh batches their offsets and finds the duplicates. Changes nothing but the scratch headers.
    fn place<'a>(&mut self, batches: &'a [(BatchHeader, Bytes)], epoch: LeaderEpoch) -> Result<Placement<'a>, Error> {
        let mut placed: Vec<(BatchHeader, &Bytes)> = Vec::with_capacity(batches.len());
        if !mutant!("reused-buffer") {
            self.headers.clear();
        }
        let mut next = self.end;
        let mut first = None;
        let mut duplicate_of = None;
        let mut end_offset = next;
        for (header, batch) in batches {
            let max = self.config.batch_bytes_max;
            if batch.len() > max {
                return Err(Error::TooLarge { bytes: batch.len(), max });
            }
            assert_eq!(batch.len(), header.total_len(), "a header goes with its own batch");
            match self.producers.judge(header, placed.iter().map(|(header, _)| header))? {
                Verdict::Duplicate(sent) => {
                    duplicate_of.get_or_insert(sent.base_offset);
                    first.get_or_insert(sent.base_offset);
                    end_offset = sent.last_offset.next();
                }
                Verdict::Fresh => {
                    let header = BatchHeader { base_offset: next, leader_epoch: epoch, ..*header };
                    let at = self.headers.len();
                    self.headers.extend_from_slice(&batch[..HEADER_LEN]);
                    patch_header(&mut self.headers[at..], next, epoch);
                    first.get_or_insert(next);
                    next = header.next_offset();
                    end_offset = next;
                    placed.push((header, batch));
                }
            }
        }
        let duplicate_of = duplicate_of.filter(|_| placed.is_empty());
        Ok((placed, Appended { base_offset: first.unwrap_or(self.end), end_offset, duplicate_of }))
    }

    /// Writes patched headers and untouched bodies behind the active segment's last batch.
    fn write(&mut self, placed: &[(BatchHeader, &Bytes)]) -> Result<(), Error> {
        let at = self.active.segment.size();
        let headers = std::mem::take(&mut self.headers);
        let mut parts = Vec::with_capacity(2 * placed.len());
        for (header, (_, batch)) in headers.chunks_exact(HEADER_LEN).zip(placed) {
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(&batch[HEADER_LEN..]));
        }
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let written = self.reserve(at + bytes as u64).and_then(|()| write_all_at(&*self.active.file, &mut parts, at));
        drop(parts);
        self.headers = headers;
        let Err(error) = written else { return Ok(()) };
        // Some of it may be in the file. It must not be there when a shorter append comes next.
        let trimmed = if mutant!("unfinished-append-stays") { Ok(()) } else { self.active.file.truncate(at) };
        self.active.allocated = at;
        self.or_fence("an unfinished append", trimmed)?;
        match Error::io(self.active.segment.file_name(), error) {
            Error::DiskFull => Err(Error::DiskFull),
            other => {
                self.fence(other.to_string());
                Err(other)
            }
        }
    }

    /// Closes the active segment and begins the next one at the end of the log.
    pub(crate) fn roll(&mut self) -> Result<(), Error> {
        let base = self.end;
        let name = Kind::Log.name(base);
        let file = self.storage.create(&name).map_err(|e| Error::io(name, e))?;
        let live = Live { file: Arc::clone(&file), index: Arc::new(LiveIndex::new(base)) };
        let last_ms = self.active.last_ms;
        let next = Active::empty(base, live, (self.config.index_interval_bytes, last_ms));
        let closed = self.close_active();
        let mut segments = Vec::clone(&self.shared.segments.load());
        segments.pop();
        segments.push(Arc::new(closed));
        segments.push(Arc::clone(&next.segment));
        self.shared.segments.store(Arc::new(segments));
        self.active = next;
        if mutant!("lose-producers-on-roll") {
            self.producers = Producers::default();
        }
        self.sync.folder = true;
        self.bound_unsynced()
    }

    /// The active segment as a closed one. What is written here can be made again from the batches, so a
    /// failure only costs memory now or time at the next start.
    fn close_active(&mut self) -> Segment {
        let active = &mut self.active;
        active.indexer.finish(&active.index);
        let mut keep = None;
        self.sync.closed.push(Arc::clone(&active.file));
        match active.index.write(&*self.storage) {
            Ok(files) => self.sync.closed.extend(files),
            Err(_) => keep = active.segment.live.clone(),
        }
        if active.allocated != 0 {
            // Gives the reserve back. The size is already right, so a failure is only a waste.
            let _ = active.file.truncate(active.segment.size());
        }
        let closed = active.segment.closed(active.last_ms, keep);
        // The mark that passes this segment says that producers' state before it can be relied on, too.
        if let Ok(snapshot) = self.write_snapshot() {
            self.sync.closed.push(snapshot);
        }
        closed
    }

    /// Writes the producers' state as of the end of the log; not synced.
    pub(crate) fn write_snapshot(&self) -> io::Result<Arc<dyn File>> {
        let name = Kind::Snapshot.name(self.end);
        if snapshot::is_whole(&*self.storage, self.end) {
            // Written before, at the same end. It may be all that tells of batches which are deleted: never torn.
            return self.storage.open(&name);
        }
        let bytes = snapshot::encode(self.end, self.active.last_ms, &self.producers);
        let written = self.storage.create(&name).and_then(|file| {
            write_all_at(&*file, &mut [IoSlice::new(&bytes)], 0)?;
            Ok(file)
        });
        if written.is_err() {
            let _ = delete_if_there(&*self.storage, &name);
        }
        written
    }

    /// Where nobody asks for syncs, or the disk is slower than the appends, files would pile up: sync the oldest here.
    fn bound_unsynced(&mut self) -> Result<(), Error> {
        // A closed segment has up to four files.
        while self.sync.closed.len() > 4 * UNSYNCED_SEGMENTS_MAX {
            let oldest = self.sync.closed.remove(0);
            let synced = oldest.sync_data();
            self.or_fence("a closed segment", synced)?;
        }
        Ok(())
    }

    /// Takes a job that makes everything appended so far durable. `None` when there is nothing to do or
    /// one is in flight already.
    pub fn begin_sync(&mut self) -> Option<SyncJob> {
        // Files of a segment that was closed since wait for a sync even when all records are durable.
        let nothing = self.sync.durable == self.end && self.sync.closed.is_empty();
        if self.fenced.is_some() || self.sync.in_flight || nothing {
            return None;
        }
        self.sync.in_flight = true;
        let unsynced_bytes = std::mem::take(&mut self.sync.unsynced_bytes);
        let mut files = std::mem::take(&mut self.sync.closed);
        if mutant!("sync-active-segment-only") {
            files.clear();
        }
        files.push(Arc::clone(&self.active.file));
        let due = self.sync.unmarked_bytes >= self.config.mark_bytes
            || self.sync.now_ms.saturating_sub(self.sync.marked_ms) >= self.config.mark_ms;
        if due {
            self.sync.unmarked_bytes = 0;
            self.sync.marked_ms = self.sync.now_ms;
        }
        Some(SyncJob {
            storage: Arc::clone(&self.storage) as Arc<dyn Storage>,
            files,
            unsynced_bytes,
            folder: std::mem::take(&mut self.sync.folder),
            checkpoint: Arc::clone(&self.checkpoint),
            mark: self.mark(),
            sync_mark: due,
            waited_for: true,
        })
    }

    /// The end of the log as a mark.
    pub(crate) fn mark(&self) -> Mark {
        Mark { segment: self.active.segment.base, position: self.active.segment.size(), offset: self.end }
    }

    /// Takes a job's outcome and returns the durable end.
    ///
    /// # Errors
    /// The sync failed. Which of the writes reached the disk can't be known, so the log is fenced for ever.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<Offset, Error> {
        self.sync.in_flight = false;
        self.or_fence("a sync", done.outcome)?;
        let kept = |base| self.shared.segments.load().iter().any(|segment| segment.base == base);
        // Retention may have been faster than the sync; nobody else deletes segments.
        if !done.linked && kept(done.mark.segment) {
            let deleted = Err(io::Error::new(io::ErrorKind::NotFound, "deleted by somebody else"));
            self.or_fence(&Kind::Log.name(done.mark.segment), deleted)?;
        }
        self.sync.durable = self.sync.durable.max(done.mark.offset);
        Ok(self.sync.durable)
    }

    pub fn set_config(&mut self, config: Config) {
        self.shared.verify_reads.store(config.verify_reads, Ordering::Relaxed);
        self.shared.decompressed_bytes_max.store(config.decompressed_bytes_max, Ordering::Relaxed);
        self.config = config;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn describe(&self) -> Description {
        let segments = self.shared.segments.load();
        let oldest = segments.iter().map(|segment| segment.largest_timestamp()).find(|at| *at != NO_TIMESTAMP);
        Description {
            bytes: segments.iter().map(|segment| segment.size()).sum(),
            segments: segments.len(),
            oldest_timestamp: oldest,
            producers: self.producers.known.len(),
        }
    }

    /// Whether a failure left the files in a state that nobody knows; an append that failed otherwise left them as they
    /// were, and may be tried again.
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match &self.fenced {
            Some(reason) => Err(Error::Fenced { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn fence(&mut self, reason: String) {
        self.fenced.get_or_insert(reason);
    }

    /// A failure here leaves the files in an unknown state.
    pub(crate) fn or_fence<T>(&mut self, what: &str, outcome: io::Result<T>) -> Result<T, Error> {
        outcome.map_err(|source| {
            self.fence(format!("{what} failed: {source}"));
            Error::Io { what: what.to_owned(), source }
        })
    }
}

/// Batches with their places, and the answer to the caller.
type Placement<'a> = (Vec<(BatchHeader, &'a Bytes)>, Appended);

impl Active {
    pub(crate) fn empty(base: Offset, live: Live, (interval, now_ms): (u64, i64)) -> Self {
        let segment = Arc::new(Segment::new(base, 0, NO_TIMESTAMP, now_ms, Some(live.clone())));
        let indexer = Indexer::new(base, interval);
        Active { segment, file: live.file, index: live.index, indexer, first_ms: None, last_ms: now_ms, allocated: 0 }
    }
}

impl<S: Storage> std::fmt::Debug for Log<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Log");
        out.field("start", &self.start_offset()).field("end", &self.end).field("fenced", &self.fenced);
        out.finish_non_exhaustive()
    }
}
