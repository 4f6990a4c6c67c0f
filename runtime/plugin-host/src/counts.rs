//! What an engine did since it was made, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::failure::Failure;

/// Kinds of [`Failure`], as metrics name them.
pub const FAILURE_KINDS: [&str; 6] = ["trap", "deadline", "memory", "output", "rejected", "init"];

/// Atomics of one engine, read by [`Counts::get`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) from_memory: AtomicU64,
    pub(crate) from_cache: AtomicU64,
    pub(crate) compiled: AtomicU64,
    pub(crate) refused: AtomicU64,
    compile_us: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
    failures: [AtomicU64; FAILURE_KINDS.len()],
}

/// [`Counts`] at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Components that were in memory already.
    pub from_memory: u64,
    /// Components whose compiled code was on disk.
    pub from_cache: u64,
    pub compiled: u64,
    /// Components that were not accepted.
    pub refused: u64,
    pub compile_time: Duration,
    /// Instances started since the engine was made, and those that live.
    pub instances_started: u64,
    pub instances: u64,
    /// Linear memory of all instances now.
    pub memory_bytes: u64,
    /// Failed calls and starts, by [`FAILURE_KINDS`].
    pub failures: [u64; FAILURE_KINDS.len()],
}

impl Counts {
    pub(crate) fn compiled_in(&self, time: Duration) {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        self.compile_us.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        self.failures[failure_kind(failure)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> EngineCounts {
        let at = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Ended first: an instance that ends in between is counted as living, not as one too few.
        let (ended, started) = (at(&self.ended), at(&self.started));
        EngineCounts {
            from_memory: at(&self.from_memory),
            from_cache: at(&self.from_cache),
            compiled: at(&self.compiled),
            refused: at(&self.refused),
            compile_time: Duration::from_micros(at(&self.compile_us)),
            instances_started: started,
            instances: started.saturating_sub(ended),
            memory_bytes: 0,
            failures: self.failures.each_ref().map(at),
        }
    }
}

/// Index into [`FAILURE_KINDS`].
pub fn failure_kind(failure: &Failure) -> usize {
    match failure {
        Failure::Trap { .. } => 0,
        Failure::Deadline { .. } => 1,
        Failure::Memory { .. } => 2,
        Failure::Output { .. } => 3,
        Failure::Rejected { .. } => 4,
        Failure::Init { .. } => 5,
    }
}
