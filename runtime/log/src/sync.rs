//! Group commit: a sync job is taken from the log, run on another thread while appends go on, and handed
//! back. One is in flight at a time; whatever was appended meanwhile is the next one's.

use std::io;
use std::sync::Arc;

use millstream_protocol::{Offset, mutant};

use crate::checkpoint::{self, Checkpoint, Mark};
use crate::storage::{File, Storage};

/// What a sync that nobody waits for hands to the disk at a time. At once, 8 MiB keep a core in the kernel for a
/// millisecond, and nobody else runs there meanwhile. PostgreSQL's checkpoints go in such steps
/// (`checkpoint_flush_after`).
const STEP_BYTES: usize = 256 << 10;

/// The blocking half of a sync. Dropping it unrun leaves the log without another sync.
pub struct SyncJob {
    pub(crate) storage: Arc<dyn Storage>,
    /// Oldest first.
    pub(crate) files: Vec<Arc<dyn File>>,
    /// Appended since the sync before began, the last of it at the mark.
    pub(crate) unsynced_bytes: u64,
    /// Files were created since the last sync.
    pub(crate) folder: bool,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) mark: Mark,
    /// The mark is due to be synced itself.
    pub(crate) sync_mark: bool,
    /// Somebody is answered when it is done, as is assumed unless the caller says otherwise. Else it steps aside for
    /// others now and then.
    pub waited_for: bool,
}

/// How a sync went, for [`crate::Log::finish_sync`].
#[derive(Debug)]
pub struct SyncDone {
    pub(crate) outcome: io::Result<()>,
    pub(crate) mark: Mark,
    /// The file that was written last still has a name.
    pub(crate) linked: bool,
}

impl SyncDone {
    /// Whether what it covered is on the disk.
    pub fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }
}

impl SyncJob {
    /// Blocks until everything appended before the job was taken is on the disk, or is known not to be.
    pub fn run(self) -> SyncDone {
        if !self.waited_for {
            self.write_out();
        }
        let outcome = self.sync();
        // After the sync: what is deleted later than this was there when it was acknowledged.
        let linked = self.files.last().is_none_or(|active| active.is_linked().unwrap_or(true));
        SyncDone { outcome, mark: self.mark, linked }
    }

    /// Gives the disk most of the work in small steps; others have the core after each.
    fn write_out(&self) {
        let Some(active) = self.files.last() else { return };
        let end = self.mark.position;
        // What is in older files is left to their syncs.
        let start = end.saturating_sub(self.unsynced_bytes);
        for from in (start..end).step_by(STEP_BYTES) {
            active.write_out(from..(from + STEP_BYTES as u64).min(end));
        }
    }

    fn sync(&self) -> io::Result<()> {
        if mutant!("mark-before-sync") {
            self.checkpoint.advance(&*checkpoint::open(&*self.storage)?, self.mark, true)?;
        }
        for file in &self.files {
            match file.sync_data() {
                Err(_) if mutant!("retry-failed-sync") => file.sync_data()?,
                synced => synced?,
            }
        }
        if self.folder && !mutant!("skip-directory-sync") {
            self.storage.sync_dir()?;
        }
        // A mark that lags is allowed, so one that can't be opened is left to the next sync.
        let Ok(checkpoint) = checkpoint::open(&*self.storage) else { return Ok(()) };
        // Only after the data is safe may the mark say so.
        match self.checkpoint.advance(&*checkpoint, self.mark, self.sync_mark) {
            // As above.
            Err(e) if !self.sync_mark || e.kind() == io::ErrorKind::StorageFull => Ok(()),
            other => other,
        }
    }

    /// End of what will be durable.
    pub fn end(&self) -> Offset {
        self.mark.offset
    }
}

impl std::fmt::Debug for SyncJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncJob").field("end", &self.mark.offset).finish_non_exhaustive()
    }
}
