//! What the broker counts while it works: atomics that the edges touch once per request, batch or sync, and that
//! are read when somebody asks. Nothing here decides anything.
//!
//! - [`door`], [`log`]: connections and requests; appends, syncs, recoveries.
//! - [`pipeline`]: one pipeline over all its tasks, revisions and restarts.
//! - [`timer`]: durations in buckets.
//!
//! What exists (topics, groups, tasks) is not counted but looked at: [`crate::observe`].

mod door;
mod log;
mod pipeline;
mod timer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use millstream_protocol::ErrorCode;

pub(crate) use door::{DoorStats, Refused};
pub(crate) use log::LogStats;
pub(crate) use pipeline::PipelineStats;
pub(crate) use timer::{Timer, bounds};

/// All of a broker, shared as `Arc<Stats>`.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) door: DoorStats,
    pub(crate) log: LogStats,
    pub(crate) commits: Outcomes,
    pub(crate) metadata_failures: Count,
    pub(crate) clock_jumps: Count,
}

impl Stats {
    /// Bytes that came in, went out or were written to logs so far.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.door.received_bytes.get() + self.door.sent_bytes.get() + self.log.appended_bytes.get()
    }
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that live.
#[derive(Debug, Default)]
pub(crate) struct Alive(AtomicU64);

/// One of them, until it is dropped.
pub(crate) struct Living<'a>(&'a AtomicU64);

impl Alive {
    pub(crate) fn one(&self) -> Living<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Living(&self.0)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often something failed, by code. Failures are rare enough for a lock.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<u16, (ErrorCode, u64)>>);

impl Failures {
    pub(crate) fn add(&self, code: ErrorCode) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(code as u16).or_insert((code, 0)).1 += 1;
    }

    /// The codes' names and counts.
    pub(crate) fn get(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().map(|(code, count)| (name_of(*code), *count)).collect()
    }
}

/// How often something went well, and how often not.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    ok: Count,
    failures: Failures,
}

impl Outcomes {
    pub(crate) fn add(&self, outcome: Result<(), ErrorCode>) {
        match outcome {
            Ok(()) => self.ok.add(1),
            Err(code) => self.failures.add(code),
        }
    }

    /// Names and counts; `ok` is always there.
    pub(crate) fn get(&self) -> Vec<(String, u64)> {
        let mut all = vec![("ok".to_owned(), self.ok.get())];
        all.extend(self.failures.get());
        all
    }
}

/// `DiskFull` as `disk_full`.
pub(crate) fn name_of(code: ErrorCode) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_names() {
        let outcomes = Outcomes::default();
        outcomes.add(Ok(()));
        outcomes.add(Err(ErrorCode::DiskFull));
        outcomes.add(Err(ErrorCode::DiskFull));
        outcomes.add(Err(ErrorCode::Busy));
        let expected = [("ok", 1), ("busy", 1), ("disk_full", 2)];
        assert_eq!(outcomes.get(), expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn the_living_are_counted() {
        let alive = Alive::default();
        let one = alive.one();
        assert_eq!(
            (alive.get(), {
                drop(one);
                alive.get()
            }),
            (1, 0)
        );
    }
}
