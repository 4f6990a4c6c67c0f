//! One pipeline over all its tasks, revisions, pauses and restarts: tasks count for themselves and from the start of
//! an attempt, these totals only rise.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use millstream_pipeline::guest::Failure;
use millstream_pipeline::runner::{Histogram, StepStats};
use millstream_plugin_host::{FAILURE_KINDS, failure_kind};

use super::{Count, Timer};

/// See the module's head. Shared by a pipeline's tasks and its successors.
#[derive(Debug, Default)]
pub(crate) struct PipelineStats {
    pub(crate) records_in: Count,
    pub(crate) records_out: Count,
    pub(crate) retries: Count,
    pub(crate) task_failures: Count,
    pub(crate) swaps: Count,
    pub(crate) swap_pause: Timer,
    guest_failures: [Count; FAILURE_KINDS.len()],
    steps: Mutex<BTreeMap<String, StepTotals>>,
}

/// One step of all tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepTotals {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) failed: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    pub(crate) restarts: u64,
    pub(crate) batch_time: Histogram,
}

impl PipelineStats {
    pub(crate) fn guest_failed(&self, failure: &Failure) {
        self.guest_failures[failure_kind(failure)].add(1);
    }

    pub(crate) fn guest_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FAILURE_KINDS.into_iter().zip(self.guest_failures.iter().map(Count::get))
    }

    /// Adds what a task's step counted since `before`; an attempt begins anew, so less than before is all new.
    pub(crate) fn progress(&self, step: &str, before: &StepStats, now: &StepStats) {
        if before == now {
            return;
        }
        let none = StepStats::default();
        let before = if now.records_in < before.records_in { &none } else { before };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let total = match steps.get_mut(step) {
            Some(total) => total,
            None => steps.entry(step.to_owned()).or_default(),
        };
        let more = |now: u64, before: u64| now.saturating_sub(before);
        total.records_in += more(now.records_in, before.records_in);
        total.records_out += more(now.records_out, before.records_out);
        total.failed += more(now.failed, before.failed);
        total.dead_letters += more(now.dead_letters, before.dead_letters);
        total.skipped += more(now.skipped, before.skipped);
        total.restarts += more(now.restarts, before.restarts);
        total.batch_time.add_since(&now.batch_time, &before.batch_time);
    }

    pub(crate) fn steps(&self) -> BTreeMap<String, StepTotals> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_only_rise() {
        let stats = PipelineStats::default();
        let at = |records_in, failed| {
            let mut step = StepStats { records_in, failed, ..StepStats::default() };
            (0..records_in).for_each(|_| step.batch_time.record(1_000));
            step
        };
        stats.progress("parse", &at(0, 0), &at(10, 1));
        stats.progress("parse", &at(10, 1), &at(25, 1));
        // The attempt failed and the next one began.
        stats.progress("parse", &at(25, 1), &at(5, 2));
        let total = stats.steps()["parse"].clone();
        assert_eq!((total.records_in, total.failed, total.batch_time.count()), (30, 3, 30));
        assert_eq!(total.batch_time.total_ns, 30_000);
    }

    #[test]
    fn failures_have_kinds() {
        let stats = PipelineStats::default();
        stats.guest_failed(&Failure::Deadline { limit_ms: 1 });
        stats.guest_failed(&Failure::Rejected { index: None, message: String::new() });
        let found: Vec<u64> = stats.guest_failures().map(|(_, count)| count).collect();
        assert_eq!(found, [0, 1, 0, 0, 1, 0]);
    }
}
