//! What the failures of one batch decide: which input records become dead letters, and where the task
//! must stop. The earliest stop of a batch wins, and nothing at or behind it counts.

use std::collections::{BTreeMap, BTreeSet};

/// A record a step failed on, by the input record it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) offset: i64,
    pub(super) message: String,
    pub(super) attempts: u32,
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Step, and why, by the input record's offset. The first failure of a record is the one told.
    pub(super) dead: BTreeMap<i64, (usize, Failed)>,
    pub(super) stop: Option<(usize, Failed)>,
    dead_offsets: BTreeSet<i64>,
}

impl Verdict {
    pub(super) fn is_clean(&self) -> bool {
        self.dead.is_empty() && self.stop.is_none()
    }

    /// The offset nothing at or behind which counts.
    pub(super) fn limit(&self) -> Option<i64> {
        self.stop.as_ref().map(|(_, failed)| failed.offset)
    }

    pub(super) fn dead_offsets(&self) -> &BTreeSet<i64> {
        &self.dead_offsets
    }

    pub(super) fn bury(&mut self, step: usize, failed: Failed) {
        self.dead_offsets.insert(failed.offset);
        self.dead.entry(failed.offset).or_insert((step, failed));
    }

    pub(super) fn stop_at(&mut self, step: usize, failed: Failed) {
        if self.limit().is_none_or(|limit| failed.offset < limit) {
            self.stop = Some((step, failed));
        }
    }
}
