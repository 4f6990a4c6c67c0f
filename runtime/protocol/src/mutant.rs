//! Seeded mistakes: places in the real code where a build with the feature `mutants` can be told to do the wrong
//! thing, so that the tests can be tested. Without the feature, which no release has, each place is the constant
//! `false` and costs nothing.
//!
//! The environment variable `MILLSTREAM_MUTANT` chooses one for the whole process, or `choose` does.

/// Every mistake, as `(name, what it does)`. Each name stands in the code at least once.
pub const ALL: &[(&str, &str)] = &[
    // The log.
    ("skip-directory-sync", "names of new files are not made durable"),
    ("retry-failed-sync", "a failed fdatasync is tried again, and its second answer believed"),
    ("mark-before-sync", "the synced mark is written before the data is synced"),
    ("sync-active-segment-only", "closed segments are not part of a sync"),
    ("clean-flag-stays", "the mark of a clean end stays when writing begins again"),
    ("cut-below-the-mark", "damage below the synced mark is cut off as a torn tail"),
    ("damage-as-torn-tail", "a closed segment that does not meet the next one is accepted"),
    ("unfinished-append-stays", "what a failed append wrote is not taken back"),
    ("lose-producers-on-roll", "producers are forgotten when a segment is closed"),
    ("stale-producer-snapshot", "recovery does not add what came after the snapshot of producers"),
    ("dedup-window-of-4", "a batch fewer is remembered than may be on its way"),
    ("time-index-off-by-one", "a search by time begins behind records of that very time"),
    ("index-entry-wrong", "an index entry points one byte before its batch"),
    ("recovery-trusts-the-index", "recovery takes an index file for true without looking at the batches"),
    ("epoch-not-recorded", "a new leader epoch is not written down"),
    ("delete-records-not-durable", "a new start of the log is not synced"),
    ("retention-one-too-many", "retention by size leaves less than it shall"),
    ("reused-buffer", "patched headers of the append before are written again"),
    ("recovery-believes-the-cache", "recovery takes what is readable after a failed sync for durable"),
    // Replica and partition.
    ("ack-before-sync", "an append is acknowledged from the page cache"),
    ("replicated-never-synced", "what is acknowledged from the page cache stays there"),
    ("high-watermark-one-too-far", "one record more than is durable may be read"),
    ("serve-beyond-high-watermark", "reads go to the end of the log"),
    ("unchecked-batch", "a batch from a producer is not checked against its checksum"),
    // Topics that are deleted and made again.
    ("topic-id-again", "a topic that is made again gets the id of the one before"),
    ("old-folder-reused", "a topic that is made again gets the files of the one before"),
    ("offsets-outlive-their-topic", "what was committed on a deleted topic stays"),
    ("commit-for-a-deleted-topic", "offsets are committed on topics that are gone"),
    // Groups.
    ("commit-acked-before-persisted", "a commit is answered before its record is durable"),
    ("stale-generation-accepted", "a commit counts from whoever sends it"),
    ("partition-given-too-early", "a partition is given to its next reader before the last one let go"),
    ("snapshot-forgets-writes", "a snapshot of offsets leaves out the commits on their way"),
    ("cut-beyond-the-snapshot", "the offsets topic is cut behind its snapshot"),
    ("cut-before-the-snapshot-lasts", "the offsets topic is cut before the snapshot is durable"),
    ("producer-id-twice", "two producers get the same id"),
    // Pipelines.
    ("commit-before-outputs", "inputs are committed before their outputs are durable"),
    ("dead-letter-not-awaited", "inputs are committed before their dead letters are durable"),
    ("swap-inside-a-batch", "a swap is told one record later than it happens"),
    ("poison-neighbours-lost", "records behind a poison record in its batch are skipped"),
    ("poison-record-lost", "a record that fails is dropped without a dead letter"),
    ("dead-letter-without-origin", "a dead letter does not say where its record came from"),
    ("task-ends-uncommitted", "a task that is told to end does not wait for its last commit"),
    ("stop-goes-on", "a record that should stop its pipeline is skipped"),
    ("stop-forgets-what-was-before", "results of records before one that stops the pipeline are not written"),
    ("redrive-from-the-start", "a redrive begins with letters that were redriven before"),
    ("redrive-remembered-too-early", "letters count as redriven before what they became is durable"),
];

/// Whether this place is to go wrong. Use [`crate::mutant!`].
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn is_on(_name: &str) -> bool {
    false
}

/// Whether this place is to go wrong. Use [`crate::mutant!`].
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_on(name: &str) -> bool {
    chosen::get() == Some(name)
}

/// Chooses a mistake for the whole process, or none; what was chosen before is over.
///
/// # Panics
/// There is no mistake of this name.
#[cfg(feature = "mutants")]
pub fn choose(name: Option<&str>) {
    chosen::set(name);
}

/// `true` where the mistake of this name was chosen, in a build that can make mistakes.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutant::is_on($name)
    };
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::ALL;

    /// Place in [`ALL`]; beyond the end for none.
    static CHOSEN: AtomicUsize = AtomicUsize::new(usize::MAX);
    static FROM_ENVIRONMENT: Once = Once::new();

    pub(super) fn get() -> Option<&'static str> {
        FROM_ENVIRONMENT.call_once(|| {
            if let Ok(name) = std::env::var("MILLSTREAM_MUTANT") {
                store(Some(&name));
            }
        });
        ALL.get(CHOSEN.load(Ordering::Relaxed)).map(|(name, _)| *name)
    }

    pub(super) fn set(name: Option<&str>) {
        FROM_ENVIRONMENT.call_once(|| {});
        store(name);
    }

    fn store(name: Option<&str>) {
        let place = name.map_or(usize::MAX, |name| {
            ALL.iter().position(|(own, _)| *own == name).unwrap_or_else(|| panic!("there is no mutant `{name}`"))
        });
        CHOSEN.store(place, Ordering::Relaxed);
    }
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(!mutant!("ack-before-sync"), "a build without the feature makes no mistakes");
