//! Durations in buckets of fixed bounds, so that those of all brokers can be added up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_console::Histogram;

/// Upper bounds, microseconds: from a page cache's to a dying disk's.
const BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// The last one is for what is above all bounds.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Timer {
    pub(crate) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn get(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Histogram { buckets: bounds().zip(counts).collect(), sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

/// Upper bounds in seconds; the last is infinite.
pub(crate) fn bounds() -> impl Iterator<Item = f64> {
    BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let check = |us: u64, bound: f64| {
            let timer = Timer::default();
            timer.record(Duration::from_micros(us));
            let histogram = timer.get();
            let found = histogram.buckets.iter().find(|(_, count)| *count > 0).unwrap().0;
            assert_eq!((found, histogram.sum, timer.count()), (bound, us as f64 / 1e6, 1), "{us}");
        };
        check(0, 0.0001);
        check(100, 0.0001);
        check(101, 0.00025);
        check(1_000_000, 1.0);
        check(30_000_001, f64::INFINITY);
    }
}
