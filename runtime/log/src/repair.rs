//! Mends what can be mended without losing a record: files that are made from others are made again, and an unfinished
//! write after the synced part is cut off, as the next opening would. Damaged records are never touched: they are
//! for somebody to look at, or to restore from elsewhere.

use std::io;

use millstream_protocol::Offset;
use millstream_protocol::batch::BatchHeader;

use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::epochs::Epochs;
use crate::error::Error;
use crate::finding::FindingKind;
use crate::index::{Indexer, LiveIndex};
use crate::log::Log;
use crate::names::{self, CHECKPOINT, EPOCHS, Kind};
use crate::storage::{Storage, delete_if_there, read_file, replace_file};
use crate::verify::{Report, verify};
use crate::walk::{Step, Walk};

/// What was done, one line each, and what is left.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    pub done: Vec<String>,
    pub left: Report,
}

/// Only for a log that nobody writes.
///
/// # Errors
/// A file can't be read or written. What was done before stays done; trying again does no harm.
pub fn repair<S: Storage + Clone>(storage: S, config: &Config, now_ms: i64) -> Result<Repaired, Error> {
    let before = verify(&storage)?;
    let mut done = Vec::new();
    let mut files: Vec<&str> =
        before.findings.iter().filter(|f| f.kind == FindingKind::Derived).map(|f| f.file.as_str()).collect();
    files.dedup();
    for file in files {
        if let Some(what) = mend(&storage, file, config).map_err(|e| Error::io(file, e))? {
            done.push(what);
        }
    }
    if before.worst() != Some(FindingKind::Damage) && before.findings.iter().any(|f| f.kind == FindingKind::TornTail) {
        let (log, recovery) = Log::open(storage.clone(), config.clone(), now_ms)?;
        log.close()?;
        if let Some((file, position, _)) = recovery.truncated_at {
            done.push(format!(
                "{file}: cut at byte {position}: {} bytes of an unfinished write",
                recovery.truncated_bytes
            ));
        }
    }
    Ok(Repaired { done, left: verify(&storage)? })
}

/// Makes a derived file again. `None` when it can't be made while the log itself is damaged.
fn mend(storage: &dyn Storage, name: &str, config: &Config) -> io::Result<Option<String>> {
    match (name, names::parse(name)) {
        (CHECKPOINT, _) => {
            // Without a valid slot, the opening takes the log whole or not at all.
            let bytes = read_file(storage, CHECKPOINT)?.unwrap_or_default();
            let Some(state) = checkpoint::state_of(&bytes) else { return Ok(None) };
            Checkpoint::load(storage, &bytes, state)?;
            Ok(Some(format!("{name}: written anew, both slots as the valid one")))
        }
        (EPOCHS, _) => {
            let mut epochs = Epochs::default();
            for base in names::of_kind(&storage.list()?, Kind::Log) {
                let whole = each_batch(storage, base, |_, header| {
                    epochs.assign(header.leader_epoch, header.base_offset).is_ok()
                });
                if !whole? {
                    return Ok(None);
                }
            }
            epochs.save(storage)?;
            Ok(Some(format!("{name}: made again from the batches")))
        }
        (_, Some((base, Kind::Index | Kind::TimeIndex))) => {
            let Some(index) = index_of(storage, base, config.index_interval_bytes)? else { return Ok(None) };
            index.replace(storage)?;
            Ok(Some(format!("{name}: made again from {}", Kind::Log.name(base))))
        }
        (_, Some((_, Kind::Snapshot))) => {
            // What can't be read can't be relied on: an opening makes the state from the batches instead.
            delete_if_there(storage, name)?;
            storage.sync_dir()?;
            Ok(Some(format!("{name}: removed; the next opening makes producers' state from the log")))
        }
        _ => Ok(None),
    }
}

/// The indexes that a segment's batches make; `None` when it is damaged.
pub(crate) fn index_of(storage: &dyn Storage, base: Offset, interval: u64) -> io::Result<Option<LiveIndex>> {
    let (index, mut indexer) = (LiveIndex::new(base), Indexer::new(base, interval));
    let whole = each_batch(storage, base, |position, header| {
        indexer.note(&index, header, position);
        true
    })?;
    indexer.finish(&index);
    Ok(whole.then_some(index))
}

/// Whether all of a segment makes sense, headers and checksums, to the end of the file and to the caller.
fn each_batch(
    storage: &dyn Storage,
    base: Offset,
    mut note: impl FnMut(u64, &BatchHeader) -> bool,
) -> io::Result<bool> {
    let file = storage.open(&Kind::Log.name(base))?;
    let mut walk = Walk::checked(&*file, 0, file.size()?, Some(base));
    loop {
        match walk.step()? {
            Step::Batch { position, header } if note(position, &header) => {}
            Step::Batch { .. } | Step::Damage { .. } => return Ok(false),
            Step::End => return Ok(true),
        }
    }
}

impl LiveIndex {
    /// Puts both files in place, durably: whoever reads them sees the old ones or the new ones.
    pub(crate) fn replace(&self, storage: &dyn Storage) -> io::Result<()> {
        let (offsets, times) = self.encode();
        replace_file(storage, &Kind::Index.name(self.base()), &offsets)?;
        replace_file(storage, &Kind::TimeIndex.name(self.base()), &times)
    }
}
