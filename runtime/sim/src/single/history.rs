//! What one run has seen so far, and what is wrong about it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{TopicId, TopicPartition};

use super::checks::{Commits, Coverage, Lives, Offsets, Owners, Sent, Violation, show};

/// Violations that are told; one mistake makes many.
const VIOLATIONS_MAX: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) offsets: Offsets,
    pub(crate) sent: BTreeMap<TopicPartition, Sent>,
    pub(crate) commits: Commits,
    pub(crate) owners: Owners,
    pub(crate) coverage: Coverage,
    pub(crate) lives: Lives,
    /// How often the power went.
    pub(crate) power: u64,
    /// Where logs begin, durably.
    starts: BTreeMap<TopicPartition, i64>,
    /// Logs that may lose what was not synced: how far they were synced, and after how many power losses.
    synced: BTreeMap<TopicPartition, (i64, u64)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl History {
    /// One more of the things that are to happen.
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn wrong(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    pub(crate) fn check(&mut self, outcome: Result<(), Violation>) {
        if let Err(violation) = outcome {
            self.wrong(violation);
        }
    }

    /// Records before `start` are gone for ever.
    pub(crate) fn starts_at(&mut self, at: TopicPartition, start: i64) {
        let known = self.starts.entry(at).or_default();
        *known = (*known).max(start);
    }

    pub(crate) fn start_of(&self, at: TopicPartition) -> i64 {
        self.starts.get(&at).copied().unwrap_or(0)
    }

    /// A log was opened again, and holds these offsets.
    pub(crate) fn reopened(&mut self, at: TopicPartition, (start, end): (i64, i64)) {
        let known = self.start_of(at);
        if start < known {
            self.wrong(format!("{} begins at {start} after a restart, although it began at {known}", show(at)));
        }
        let outcome = self.offsets.reopened(at, end);
        self.check(outcome);
    }

    /// A log that acknowledges from the page cache is on the disk up to `end`.
    pub(crate) fn synced_to(&mut self, at: TopicPartition, end: i64) {
        let power = self.power;
        let known = self.synced.entry(at).or_default();
        *known = (known.0.max(end), power);
    }

    /// Such a log was opened again: only a loss of power may have shortened it, and only by what was not synced.
    pub(crate) fn reopened_fast(&mut self, at: TopicPartition, (start, end): (i64, i64)) {
        let (synced, power) = self.synced.get(&at).copied().unwrap_or_default();
        if power < self.power {
            if end < synced {
                self.wrong(format!("{} ends at {end} after a power loss, and was synced to {synced}", show(at)));
            }
            if self.offsets.cut(at, end) {
                self.note("unsynced tail lost");
            }
            self.sent.entry(at).or_default().cut(end);
        }
        self.reopened(at, (start, end));
        // Whatever is found is made durable before it is shown.
        self.synced.insert(at, (end, self.power));
    }

    /// The broker is up again and has these topics.
    pub(crate) fn topics_are(&mut self, there: &BTreeSet<TopicId>) {
        let outcome = self.lives.restarted(there);
        self.check(outcome);
    }
}
