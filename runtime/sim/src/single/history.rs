//! What one run has seen so far, and what is wrong about it.

use std::collections::BTreeMap;

use millstream_protocol::TopicPartition;

use super::checks::{Commits, Coverage, Offsets, Owners, Sent, Violation, show};

/// Violations that are told; one mistake makes many.
const VIOLATIONS_MAX: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) offsets: Offsets,
    pub(crate) sent: BTreeMap<TopicPartition, Sent>,
    pub(crate) commits: Commits,
    pub(crate) owners: Owners,
    pub(crate) coverage: Coverage,
    /// Where logs begin, durably.
    starts: BTreeMap<TopicPartition, i64>,
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
}
