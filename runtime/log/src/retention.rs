//! The ways a log gets shorter at its front, and how it is closed. The new start is durable before any
//! file goes, so a crash in between only leaves files that the next opening removes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_protocol::{Offset, mutant};

use crate::checkpoint;
use crate::error::Error;
use crate::log::Log;
use crate::names::{CHECKPOINT, EPOCHS, Kind, parse};
use crate::segment::Segment;
use crate::storage::{Storage, delete_if_there};

impl<S: Storage> Log<S> {
    /// Makes records before `before` unreadable, for ever, and deletes the segments that hold no others.
    ///
    /// # Errors
    /// `OutOfRange` beyond the end; otherwise as for an append.
    pub fn delete_records(&mut self, before: Offset) -> Result<(), Error> {
        self.check_writable()?;
        let start = self.start_offset();
        if before > self.end {
            return Err(Error::OutOfRange { offset: before, start, end: self.end });
        }
        if before <= start {
            return Ok(());
        }
        if before == self.end && self.active.segment.size() > 0 {
            // The last segment makes room only when another one follows it.
            match self.roll() {
                Err(Error::DiskFull) => {}
                rolled => rolled?,
            }
        }
        self.raise_start(before)?;
        self.delete_obsolete().map(drop)
    }

    /// Closes an aged segment and deletes old ones by age and size. Returns how many were deleted.
    ///
    /// # Errors
    /// As for an append.
    pub fn apply_retention(&mut self, now_ms: i64) -> Result<u32, Error> {
        self.check_writable()?;
        self.producers.expire(now_ms.saturating_sub(self.config.producer_expiry_ms));
        let retention_ms = self.config.retention_ms;
        let expired = |appended_ms: i64| retention_ms.is_some_and(|age| now_ms.saturating_sub(appended_ms) >= age);
        let active_expired = expired(self.active.last_ms);
        if self.active.segment.size() > 0 && (self.is_aged(now_ms) || active_expired) {
            // A full disk must not keep old segments from being deleted.
            match self.roll() {
                Err(Error::DiskFull) => {}
                rolled => rolled?,
            }
        }
        let segments = self.shared.segments.load_full();
        let closed = &segments[..segments.len() - 1];
        let by_age = closed.iter().take_while(|segment| expired(segment.appended_ms)).count();
        let by_size = self.config.retention_bytes.map_or(0, |limit| {
            let mut bytes: u64 = segments.iter().map(|segment| segment.size()).sum();
            let over = closed.iter().take_while(|segment| {
                bytes -= segment.size();
                bytes >= limit || (mutant!("retention-one-too-many") && bytes + segment.size() >= limit)
            });
            over.count()
        });
        match by_age.max(by_size) {
            // A segment that was the last one when its records were deleted: what producers sent in it is kept first.
            0 if segments.get(1).is_some_and(|next| next.base <= self.start_offset()) => {
                self.raise_start(self.start_offset())?;
                self.delete_obsolete()
            }
            0 => Ok(0),
            deleted => {
                self.raise_start(segments[deleted].base.max(self.start_offset()))?;
                self.delete_obsolete()
            }
        }
    }

    /// Makes a new start durable, and then visible.
    fn raise_start(&mut self, start: Offset) -> Result<(), Error> {
        let segments = self.shared.segments.load_full();
        if let Some(first @ 1..) = segments.partition_point(|segment| segment.base <= start).checked_sub(1) {
            // From the moment that the new start is durable, recovery doesn't read the batches before it.
            self.keep_producers(&segments[first])?;
        }
        let file = checkpoint::open(&*self.storage).map_err(|e| Error::io(CHECKPOINT, e))?;
        // Into both slots: losing one must not bring records back.
        for _ in 0..2 {
            let sync = !mutant!("delete-records-not-durable");
            match self.checkpoint.update(&*file, sync, |state| state.start = start) {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => return Err(Error::DiskFull),
                saved => self.or_fence(CHECKPOINT, saved)?,
            }
        }
        self.shared.start.store(start.0, Ordering::Release);
        Ok(())
    }

    /// Deletes segments that end at or before the start.
    fn delete_obsolete(&mut self) -> Result<u32, Error> {
        let start = self.start_offset();
        let segments = self.shared.segments.load_full();
        let obsolete = segments.windows(2).take_while(|pair| pair[1].base <= start).count();
        if obsolete == 0 {
            return Ok(0);
        }
        if self.sync.folder {
            // The names of later segments are on the disk before those of earlier ones are taken off it.
            let synced = self.storage.sync_dir();
            self.or_fence("the folder", synced)?;
        }
        self.shared.segments.store(Arc::new(segments[obsolete..].to_vec()));
        self.shared.opened.store(None);
        if segments.len() - obsolete == 1 {
            // What waits for a sync belongs to deleted segments, whose room would stay taken while it is open.
            self.sync.closed.clear();
        }
        for segment in &segments[..obsolete] {
            self.delete_segment(segment)?;
            self.shared.deleted_segments.fetch_add(1, Ordering::Relaxed);
        }
        let synced = self.storage.sync_dir();
        self.or_fence("the folder", synced)?;
        Ok(u32::try_from(obsolete).unwrap_or(u32::MAX))
    }

    /// What producers sent can be told from the batches only as long as they are there: makes the snapshot
    /// durable that tells it for those before `first`.
    fn keep_producers(&mut self, first: &Segment) -> Result<(), Error> {
        let name = Kind::Snapshot.name(first.base);
        let snapshot = match self.storage.open(&name) {
            Ok(snapshot) => snapshot,
            // It could not be written, on a full disk: producers that sent nothing since may be forgotten.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(name, e)),
        };
        let synced = snapshot.sync_data().and_then(|()| self.storage.sync_dir());
        self.or_fence("a snapshot", synced)
    }

    fn delete_segment(&self, segment: &Segment) -> Result<(), Error> {
        for kind in [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::Snapshot] {
            let name = kind.name(segment.base);
            delete_if_there(&*self.storage, &name).map_err(|e| Error::io(name, e))?;
        }
        Ok(())
    }

    /// Syncs everything and leaves the mark of a clean end, so that the next opening need not scan. No
    /// sync may be in flight. Dropping a log instead is a crash as far as recovery is concerned.
    ///
    /// # Errors
    /// The storage's; the log is then recovered at the next opening.
    pub fn close(mut self) -> Result<(), Error> {
        self.check_writable()?;
        assert!(!self.sync.in_flight, "finish the sync before closing");
        if self.sync.says_clean && self.checkpoint.state().mark == self.mark() {
            // Nothing was written since it was opened: what the last closing left is still right, and a crash in the
            // middle of writing it again would spoil it.
            return Ok(());
        }
        if let Some(job) = self.begin_sync() {
            self.finish_sync(job.run())?;
        }
        self.active.indexer.finish(&self.active.index);
        let io = |e| Error::io("closing", e);
        let mut files = self.active.index.write(&*self.storage).map_err(io)?.to_vec();
        files.push(self.write_snapshot().map_err(io)?);
        for file in files {
            file.sync_data().map_err(io)?;
        }
        if self.active.allocated != 0 {
            self.active.file.truncate(self.active.segment.size()).map_err(io)?;
        }
        self.delete_stray_snapshots().map_err(io)?;
        self.storage.sync_dir().map_err(io)?;
        let mark = self.mark();
        let file = checkpoint::open(&*self.storage).map_err(io)?;
        let closed = self.checkpoint.update(&*file, true, |state| {
            state.mark = mark;
            state.clean = true;
        });
        closed.map_err(io)
    }

    /// Snapshots of earlier closings.
    fn delete_stray_snapshots(&self) -> io::Result<()> {
        let segments = self.shared.segments.load();
        for name in self.storage.list()? {
            let Some((offset, Kind::Snapshot)) = parse(&name) else { continue };
            if offset != self.end && !segments.iter().any(|segment| segment.base == offset) {
                delete_if_there(&*self.storage, &name)?;
            }
        }
        Ok(())
    }

    /// Deletes every file of the log.
    ///
    /// # Errors
    /// The storage's.
    pub fn delete(self) -> Result<(), Error> {
        for name in self.storage.list().map_err(|e| Error::io("the folder", e))? {
            let ours = parse(&name).is_some() || name == CHECKPOINT || name == EPOCHS;
            if ours {
                delete_if_there(&*self.storage, &name).map_err(|e| Error::io(name, e))?;
            }
        }
        self.storage.sync_dir().map_err(|e| Error::io("the folder", e))
    }
}
