//! The writing half of recovery: makes the folder be what [`crate::inspect`] found in it. Every step may be
//! cut short by a crash and done again. At the end everything kept is on the disk and the mark says so.
//!
//! What can be read may never have reached the disk: after a failed fdatasync Linux takes the pages for clean, and
//! the next one says `Ok` without writing them. Whatever the mark does not vouch for is therefore written again
//! before it is synced, and so is the checkpoint before anything is deleted because of it.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use millstream_protocol::{Offset, mutant};

use crate::checkpoint::{self, Checkpoint, Mark, State};
use crate::config::Config;
use crate::error::Error;
use crate::finding::Finding;
use crate::index::LiveIndex;
use crate::inspect::{Found, Inspection, Torn, inspect};
use crate::log::{Active, Log, SyncState};
use crate::names::{CHECKPOINT, EPOCHS, Kind, parse};
use crate::reader::Shared;
use crate::segment::{Live, Segment};
use crate::storage::{Storage, delete_if_there, read_full_at, write_all_at};

/// What opening a log found and did; for the broker's log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The log had been closed in order; nothing was scanned.
    pub clean: bool,
    /// Bytes of a torn tail that were cut off. They had not been synced.
    pub truncated_bytes: u64,
    /// Where the tail was cut and why.
    pub truncated_at: Option<(String, u64, String)>,
    /// Indexes made anew.
    pub rebuilt_indexes: usize,
    pub scanned_bytes: u64,
    /// Damage in files that are made from others, or exist twice; they were made again or are not relied on.
    pub mended: Vec<Finding>,
}

pub(crate) fn open<S: Storage>(storage: Arc<S>, config: Config, now_ms: i64) -> Result<(Log<S>, Recovery), Error> {
    let mut found = inspect(&*storage, &config, now_ms)?;
    let secured = secure_checkpoint(&*storage, &found)?;
    let recovery = carry_out(&*storage, &mut found)?;
    let begins = found.segments.is_empty();
    let (segments, active) = build(&*storage, &config, &mut found.segments, (found.end, now_ms))?;
    let is_secured = secured.is_some();
    let checkpoint = match secured {
        Some(checkpoint) => checkpoint,
        None => load_checkpoint(&*storage, &found)?,
    };
    // One that is written anew brings the segment's name to the disk with its own.
    if begins && (is_secured || !checkpoint.replaced) {
        storage.sync_dir().map_err(|e| Error::io("the folder", e))?;
    }
    let mark = Mark { segment: active.segment.base, position: active.segment.size(), offset: found.end };
    if !found.clean {
        let state = State { start: found.state.start, mark, clean: false };
        let settled = checkpoint::open(&*storage).and_then(|file| checkpoint.settle(&*file, state));
        settled.map_err(|e| Error::io(CHECKPOINT, e))?;
    }
    let shared = Shared {
        storage: Arc::clone(&storage) as Arc<dyn Storage>,
        segments: ArcSwap::from_pointee(segments),
        start: AtomicI64::new(found.state.start.0),
        end: AtomicI64::new(found.end.0),
        epochs: ArcSwap::from_pointee(std::mem::take(&mut found.epochs)),
        verify_reads: AtomicBool::new(config.verify_reads),
        decompressed_bytes_max: AtomicUsize::new(config.decompressed_bytes_max),
        opened: ArcSwapOption::empty(),
        deleted_segments: AtomicU64::new(0),
        mended: Mutex::default(),
        index_interval_bytes: config.index_interval_bytes,
    };
    let sync = SyncState { durable: found.end, marked_ms: now_ms, says_clean: found.clean, ..SyncState::default() };
    let log = Log {
        storage,
        shared: Arc::new(shared),
        config,
        active,
        producers: found.producers,
        end: found.end,
        checkpoint: Arc::new(checkpoint),
        sync,
        fenced: None,
        headers: Vec::new(),
    };
    Ok((log, recovery))
}

fn load_checkpoint(storage: &dyn Storage, found: &Inspection) -> Result<Checkpoint, Error> {
    Checkpoint::load(storage, &found.checkpoint, found.state).map_err(|e| Error::io(CHECKPOINT, e))
}

/// Loads the checkpoint and makes it durable, where files are to be deleted because of it.
fn secure_checkpoint(storage: &dyn Storage, found: &Inspection) -> Result<Option<Checkpoint>, Error> {
    if found.clean || found.leftovers.is_empty() || mutant!("recovery-believes-the-cache") {
        return Ok(None);
    }
    let checkpoint = load_checkpoint(storage, found)?;
    let secured = checkpoint::open(storage).and_then(|file| checkpoint.secure(&*file));
    secured.map_err(|e| Error::io(CHECKPOINT, e))?;
    Ok(Some(checkpoint))
}

fn carry_out(storage: &dyn Storage, found: &mut Inspection) -> Result<Recovery, Error> {
    // From the last to the first, so that a crash never leaves a gap before a segment.
    found.leftovers.sort_unstable();
    for name in found.leftovers.iter().rev() {
        delete_if_there(storage, name).map_err(|e| Error::io(name.clone(), e))?;
    }
    let mended = std::mem::take(&mut found.mended);
    for finding in &mended {
        // Nobody can use it any more, and it would be told again at each start.
        if let Some((_, Kind::Snapshot)) = parse(&finding.file) {
            delete_if_there(storage, &finding.file).map_err(|e| Error::io(finding.file.clone(), e))?;
        }
    }
    let mut recovery =
        Recovery { clean: found.clean, scanned_bytes: found.scanned_bytes, mended, ..Recovery::default() };
    if let (Some(Torn { position, bytes, reason }), Some(last)) = (&found.torn, found.segments.last()) {
        let name = Kind::Log.name(last.base);
        last.file.truncate(*position).map_err(|e| Error::io(name.clone(), e))?;
        recovery.truncated_bytes = *bytes;
        recovery.truncated_at = Some((name, *position, reason.clone()));
    }
    let last = found.segments.len().saturating_sub(1);
    for (at, segment) in found.segments.iter_mut().enumerate().filter(|(_, segment)| segment.rebuilt.is_some()) {
        // A clean closing synced every byte of it.
        if !found.clean {
            let written = write_again(segment, found.state.mark).and_then(|()| segment.file.sync_data());
            written.map_err(|e| Error::io(Kind::Log.name(segment.base), e))?;
        }
        let Some((index, indexer)) = segment.rebuilt.as_mut().filter(|_| at != last) else { continue };
        indexer.finish(index);
        // Derived: searching without them is slow, not wrong. Synced, since the mark passes them now.
        let written = index.write(storage).and_then(|files| files.iter().try_for_each(|file| file.sync_data()));
        recovery.rebuilt_indexes += usize::from(written.is_ok());
    }
    let kept = |base: Offset| found.segments.iter().any(|segment| segment.base == base);
    for (offset, bytes) in found.snapshots.iter().filter(|(base, _)| kept(*base)) {
        let name = Kind::Snapshot.name(*offset);
        // The mark passes these segments now, so it is to be durable like everything before it.
        let written = match bytes {
            None => storage.open(&name).and_then(|file| file.sync_data()),
            Some(bytes) => storage.create(&name).and_then(|file| {
                write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
                file.sync_data()
            }),
        };
        match written.map_err(|e| Error::io(name.clone(), e)) {
            // Only a shortcut: a full disk must not keep the log closed.
            Err(Error::DiskFull) => delete_if_there(storage, &name).map_err(|e| Error::io(name, e))?,
            other => other?,
        }
    }
    // An empty folder has no names to keep.
    let empty = found.segments.is_empty() && found.leftovers.is_empty();
    if !found.clean && !empty {
        storage.sync_dir().map_err(|e| Error::io("the folder", e))?;
    }
    if found.epochs_rebuilt {
        found.epochs.save(storage).map_err(|e| Error::io(EPOCHS, e))?;
    }
    Ok(recovery)
}

/// Writes the bytes of a segment that the mark does not vouch for over themselves.
fn write_again(segment: &Found, mark: Mark) -> io::Result<()> {
    const STEP: usize = 256 << 10;
    let mut at = match segment.base.cmp(&mark.segment) {
        std::cmp::Ordering::Less => return Ok(()),
        std::cmp::Ordering::Equal => mark.position,
        std::cmp::Ordering::Greater => 0,
    };
    let mut bytes = Vec::new();
    while at < segment.size && !mutant!("recovery-believes-the-cache") {
        let left = usize::try_from(segment.size - at).unwrap_or(usize::MAX);
        bytes.clear();
        let read = read_full_at(&*segment.file, at, left.min(STEP), &mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(&*segment.file, &mut [IoSlice::new(&bytes)], at)?;
        at += read as u64;
    }
    Ok(())
}

/// The segment list and the segment to write, which is created, its name not yet durable, when there is none.
fn build(
    storage: &dyn Storage,
    config: &Config,
    found: &mut Vec<Found>,
    (end, now_ms): (Offset, i64),
) -> Result<(Vec<Arc<Segment>>, Active), Error> {
    let interval = config.index_interval_bytes;
    let Some(last) = found.pop() else {
        let name = Kind::Log.name(end);
        let file = storage.create(&name).map_err(|e| Error::io(name, e))?;
        let live = Live { file, index: Arc::new(LiveIndex::new(end)) };
        let active = Active::empty(end, live, (interval, now_ms));
        return Ok((vec![Arc::clone(&active.segment)], active));
    };
    let closed = found
        .iter()
        .map(|segment| Segment::new(segment.base, segment.size, segment.largest_timestamp, segment.appended_ms, None));
    let mut segments: Vec<_> = closed.map(Arc::new).collect();
    segments.iter().for_each(|segment| segment.doubt());
    let (index, indexer) = last.rebuilt.expect("the last segment is always read");
    let live = Live { file: last.file, index: Arc::new(index) };
    let mut active = Active::empty(last.base, live, (interval, now_ms));
    active.segment.publish(last.size, last.largest_timestamp);
    active.segment.doubt();
    active.indexer = indexer;
    active.first_ms = (last.size > 0).then_some(now_ms);
    segments.push(Arc::clone(&active.segment));
    Ok((segments, active))
}
