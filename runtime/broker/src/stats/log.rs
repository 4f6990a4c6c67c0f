//! Appends, syncs and recoveries of all partitions, and whether the disk takes writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_log::Recovery;
use millstream_protocol::{ErrorCode, Failure};

use super::{Count, Failures, Timer};

/// A refusal for want of space counts so long, unless a write succeeds before.
const REFUSAL: Duration = Duration::from_secs(10);

/// A sync that takes longer is worth a word.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// For so long after it.
const SLOW_SYNC_SHOWN: Duration = Duration::from_secs(60);

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct LogStats {
    pub(crate) appends: Count,
    pub(crate) appended_batches: Count,
    pub(crate) appended_bytes: Count,
    pub(crate) appended_records: Count,
    pub(crate) refused: Failures,
    pub(crate) sync_took: Timer,
    pub(crate) sync_failures: Count,
    syncing: Mutex<BTreeMap<u64, Instant>>,
    sync_number: AtomicU64,
    slow: Mutex<Option<(Instant, Duration)>>,
    pub(crate) recovered_clean: Count,
    pub(crate) recovered_checked: Count,
    pub(crate) recovered_cut: Count,
    pub(crate) recovery_refused: Count,
    pub(crate) recovery_cut_bytes: Count,
    pub(crate) recovery_scanned_bytes: Count,
    full: Mutex<Option<Full>>,
}

/// The disk had no room.
#[derive(Clone, Debug)]
struct Full {
    at: Instant,
    bytes: u64,
    message: String,
}

/// A sync on its way, until it is dropped.
pub(crate) struct Syncing<'a> {
    stats: &'a LogStats,
    number: u64,
    started: Instant,
}

impl LogStats {
    /// An append of so many batches and bytes is over.
    pub(crate) fn appended(&self, (batches, bytes): (u64, u64), outcome: Result<(), &Failure>) {
        match outcome {
            Ok(()) => {
                self.appends.add(1);
                self.appended_batches.add(batches);
                self.appended_bytes.add(bytes);
                let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
                // A small write that fits does not mean that the large one would.
                full.take_if(|full| bytes >= full.bytes || full.at.elapsed() > REFUSAL);
            }
            Err(failure) => {
                self.refused.add(failure.code);
                if failure.code == ErrorCode::DiskFull {
                    self.disk_full(bytes, &failure.message);
                }
            }
        }
    }

    pub(crate) fn disk_full(&self, bytes: u64, message: &str) {
        let full = Full { at: Instant::now(), bytes, message: message.to_owned() };
        let before = self.full.lock().unwrap_or_else(PoisonError::into_inner).replace(full);
        if before.is_none() {
            tracing::warn!(reason = message, "the disk is full: writes are refused until there is room");
        }
    }

    /// Why the disk takes no writes, as far as is known; `free` is what it says that it has.
    pub(crate) fn refusing(&self, free: u64) -> Option<String> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.take_if(|full| full.at.elapsed() > REFUSAL && free > full.bytes);
        full.as_ref().map(|full| full.message.clone())
    }

    /// A sync begins.
    pub(crate) fn sync(&self) -> Syncing<'_> {
        let (number, started) = (self.sync_number.fetch_add(1, Ordering::Relaxed), Instant::now());
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner).insert(number, started);
        Syncing { stats: self, number, started }
    }

    /// How many syncs are on their way, and how long the oldest of them has been.
    pub(crate) fn syncing(&self) -> (usize, Duration) {
        let syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        (syncing.len(), syncing.values().map(Instant::elapsed).max().unwrap_or_default())
    }

    /// A sync that took or takes too long, now or a moment ago.
    pub(crate) fn slow_sync(&self) -> Option<Duration> {
        let hanging = Some(self.syncing().1).filter(|age| *age >= SLOW_SYNC);
        let slow = *self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        hanging.or(slow.filter(|(at, _)| at.elapsed() < SLOW_SYNC_SHOWN).map(|(_, took)| took))
    }

    /// A log was opened.
    pub(crate) fn recovered(&self, recovery: &Recovery) {
        let outcome = match recovery {
            Recovery { truncated_bytes: 1.., .. } => &self.recovered_cut,
            Recovery { clean: true, .. } => &self.recovered_clean,
            Recovery { .. } => &self.recovered_checked,
        };
        outcome.add(1);
        self.recovery_cut_bytes.add(recovery.truncated_bytes);
        self.recovery_scanned_bytes.add(recovery.scanned_bytes);
    }
}

impl Syncing<'_> {
    pub(crate) fn done(self, well: bool) {
        let took = self.started.elapsed();
        self.stats.sync_took.record(took);
        if took >= SLOW_SYNC {
            *self.stats.slow.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), took));
        }
        self.stats.sync_failures.add(u64::from(!well));
    }
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        self.stats.syncing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_full_until_as_much_fits() {
        let stats = LogStats::default();
        assert_eq!(stats.refusing(0), None);
        let failure = Failure::new(ErrorCode::DiskFull, "orders/0: disk full");
        stats.appended((1, 1_000), Err(&failure));
        assert_eq!(stats.refusing(0).as_deref(), Some("orders/0: disk full"));
        stats.appended((1, 10), Ok(()));
        assert!(stats.refusing(5_000).is_some(), "a smaller write tells nothing");
        stats.appended((1, 1_000), Ok(()));
        assert_eq!(stats.refusing(5_000), None);
        assert_eq!((stats.appends.get(), stats.appended_bytes.get()), (2, 1_010));
        assert_eq!(stats.refused.get(), [("disk_full".to_owned(), 1)]);
    }

    #[test]
    fn syncs_are_seen_while_they_last() {
        let stats = LogStats::default();
        let (one, two) = (stats.sync(), stats.sync());
        assert_eq!(stats.syncing().0, 2);
        one.done(true);
        two.done(false);
        assert_eq!((stats.syncing().0, stats.sync_took.count(), stats.sync_failures.get()), (0, 2, 1));
    }

    #[test]
    fn recoveries_have_outcomes() {
        let stats = LogStats::default();
        stats.recovered(&Recovery { clean: true, ..Recovery::default() });
        stats.recovered(&Recovery { scanned_bytes: 100, ..Recovery::default() });
        stats.recovered(&Recovery { scanned_bytes: 100, truncated_bytes: 7, ..Recovery::default() });
        let counts = [&stats.recovered_clean, &stats.recovered_checked, &stats.recovered_cut];
        assert_eq!(counts.map(Count::get), [1, 1, 1]);
        assert_eq!((stats.recovery_cut_bytes.get(), stats.recovery_scanned_bytes.get()), (7, 200));
    }
}
