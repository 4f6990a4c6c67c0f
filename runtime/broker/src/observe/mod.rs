//! The broker seen from outside: what the console's pages and `cluster status` say. It looks at what exists (topics,
//! groups, tasks) and reads what was counted ([`crate::stats`]) when somebody asks, and it waits for no shard, so that
//! a hanging disk can still be seen.
//!
//! - [`findings`]: what is not as it should be, and whether that makes the node unready.
//! - [`collect`]: the samples of a metrics page; [`labels`]: whose series are on it.
//! - [`process`]: memory, processors, files.

mod collect;
mod findings;
mod labels;
pub(crate) mod process;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use millstream_console::{Collecting, Page, Source};
use millstream_protocol::message::Finding;

use crate::clock::now_ms;
use crate::door::Core;
use crate::stats::Stats;
use labels::Rosters;

/// The wall clock may be so far from where it should be before it counts as set.
const CLOCK_DRIFT_MS: i64 = 5_000;

/// Where the broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Recovering,
    Serving,
    Draining,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Observer {
    stats: Arc<Stats>,
    folder: PathBuf,
    labels_max: usize,
    phase: AtomicU8,
    /// Not there before the broker is, and after.
    core: OnceLock<Weak<Core>>,
    rosters: Mutex<Rosters>,
    started: Instant,
    started_at_ms: i64,
    clock: Mutex<Clock>,
}

/// The two clocks when they were last compared.
#[derive(Debug)]
struct Clock {
    wall_ms: i64,
    steady: Instant,
    /// When the wall clock was last set, and by how much.
    jumped: Option<(Instant, i64)>,
}

impl Observer {
    pub(crate) fn new(stats: Arc<Stats>, folder: PathBuf, labels_max: usize) -> Self {
        let (started, started_at_ms) = (Instant::now(), now_ms());
        Observer {
            stats,
            folder,
            labels_max,
            phase: AtomicU8::new(Phase::Recovering as u8),
            core: OnceLock::new(),
            rosters: Mutex::default(),
            started,
            started_at_ms,
            clock: Mutex::new(Clock { wall_ms: started_at_ms, steady: started, jumped: None }),
        }
    }

    /// The broker serves from now on.
    pub(crate) fn serves(&self, core: &Arc<Core>) {
        self.core.set(Arc::downgrade(core)).expect("a broker begins to serve once");
        self.phase.store(Phase::Serving as u8, Ordering::Release);
    }

    /// The broker stops.
    pub(crate) fn drains(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Recovering,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.core.get()?.upgrade()
    }

    /// Compares the clocks; called now and then.
    pub(crate) fn tick(&self, wall_ms: i64, steady: Instant) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = i64::try_from((steady - clock.steady).as_millis()).unwrap_or(i64::MAX);
        let jump_ms = wall_ms.saturating_sub(clock.wall_ms).saturating_sub(passed);
        if jump_ms.abs() > CLOCK_DRIFT_MS {
            tracing::warn!(jump_ms, "the wall clock was set: timestamps of records and retention by age follow it");
            self.stats.clock_jumps.add(1);
            clock.jumped = Some((steady, jump_ms));
        }
        (clock.wall_ms, clock.steady) = (wall_ms, steady);
    }

    /// By how much the wall clock was set within the last `time`, ms.
    fn clock_jump(&self, time: Duration) -> Option<i64> {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.jumped.filter(|(at, _)| at.elapsed() < time).map(|(_, jump_ms)| jump_ms)
    }
}

impl Source for Observer {
    fn collect<'a>(&'a self, page: &'a mut Page) -> Collecting<'a> {
        Box::pin(self.fill(page))
    }

    fn findings(&self) -> Vec<Finding> {
        Observer::findings(self)
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::message::Cause;

    use super::*;

    #[test]
    fn the_clock_is_watched() {
        let check = |passed_ms: u64, wall_ms: i64, expected: u64| {
            let observer = Observer::new(Arc::default(), PathBuf::from("/"), 1);
            let (wall, steady) = (observer.started_at_ms, observer.started);
            observer.tick(wall + wall_ms, steady + Duration::from_millis(passed_ms));
            assert_eq!(observer.stats.clock_jumps.get(), expected, "{passed_ms} {wall_ms}");
            let found = observer.findings().iter().any(|finding| finding.cause == Cause::ClockJumped);
            assert_eq!(found, expected > 0);
        };
        check(5_000, 5_000, 0);
        check(5_000, 5_400, 0);
        check(5_000, -3_600_000, 1);
        check(5_000, 3_600_000, 1);
        check(100_000, 95_001, 0);
    }

    #[test]
    fn a_broker_that_starts_or_stops_is_not_ready() {
        let observer = Observer::new(Arc::default(), PathBuf::from("/"), 1);
        let unready = |observer: &Observer| -> Vec<Cause> {
            let causes = observer.findings().into_iter().map(|finding| finding.cause);
            causes.filter(|cause| cause.makes_unready()).collect()
        };
        assert_eq!(unready(&observer), [Cause::Recovering]);
        observer.drains();
        assert_eq!(unready(&observer), [Cause::Draining]);
    }
}
