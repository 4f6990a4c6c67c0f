//! What a task counts: records and failures per step, and how long a step's batches took.

use std::collections::BTreeMap;

use millstream_plugin_host::Counter;

/// Counters of one plugin kept; further names are dropped.
pub const COUNTERS_MAX: usize = 64;

/// One step of one task, since the task started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepStats {
    pub records_in: u64,
    pub records_out: u64,
    /// Records the step failed on after all tries, whatever its policy did with them.
    pub failed: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    /// Instances replaced after a trap, a missed deadline or too much memory.
    pub restarts: u64,
    pub counters: BTreeMap<String, u64>,
    pub batch_time: Histogram,
}

impl StepStats {
    pub(super) fn count(&mut self, counters: &[Counter]) {
        for Counter { name, delta } in counters {
            if let Some(counter) = self.counters.get_mut(name) {
                *counter += delta;
            } else if self.counters.len() < COUNTERS_MAX {
                self.counters.insert(name.clone(), *delta);
            }
        }
    }

    /// Adds another task's statistics of the same step.
    pub fn add(&mut self, other: &StepStats) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.failed += other.failed;
        self.dead_letters += other.dead_letters;
        self.skipped += other.skipped;
        self.restarts += other.restarts;
        other.counters.iter().for_each(|(name, delta)| self.count(&[Counter { name: name.clone(), delta: *delta }]));
        self.batch_time.add(&other.batch_time);
    }
}

/// Times in buckets, four to each power of two: a percentile is at most 19 % off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u32>,
    /// Sum of all times, nanoseconds.
    pub total_ns: u64,
}

const BUCKETS: usize = 64 * 4;

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], total_ns: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.total_ns += ns;
    }

    pub fn add(&mut self, other: &Histogram) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| *own += other);
        self.total_ns += other.total_ns;
    }

    /// Adds what `now` has beyond `before`, an earlier state of the same.
    pub fn add_since(&mut self, now: &Histogram, before: &Histogram) {
        let more = now.buckets.iter().zip(&before.buckets).map(|(now, before)| now.saturating_sub(*before));
        self.buckets.iter_mut().zip(more).for_each(|(own, more)| *own += more);
        self.total_ns += now.total_ns.saturating_sub(before.total_ns);
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| u64::from(*count)).sum()
    }

    /// The upper bounds of the buckets that have times, and how many.
    pub fn buckets_ns(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper_bound(index), u64::from(*count)))
    }

    /// The upper bound of the bucket that `percent` of all times do not exceed; 0 when there are none.
    pub fn percentile_ns(&self, percent: u64) -> u64 {
        let count: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let wanted = (count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, times) in self.buckets.iter().enumerate() {
            seen += u64::from(*times);
            if seen >= wanted && count > 0 {
                return upper_bound(index);
            }
        }
        0
    }
}

fn bucket(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros() as usize;
    let quarter = (ns >> (power - 2)) as usize & 3;
    (power - 1) * 4 + quarter
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (power, quarter) = (bucket / 4 + 1, (bucket % 4) as u64);
    let next = u128::from(5 + quarter) << (power - 2);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close() {
        let mut times = Histogram::default();
        assert_eq!(times.percentile_ns(99), 0);
        (1..=1000).for_each(|ns| times.record(ns * 1000));
        for (percent, exact) in [(50, 500_000), (99, 990_000), (100, 1_000_000)] {
            let found = times.percentile_ns(percent);
            assert!(found >= exact && found <= exact * 125 / 100, "{percent} %: {found}");
        }
        times.record(u64::MAX / 2);
        assert!(times.percentile_ns(100) >= u64::MAX / 2);
        (0..63).for_each(|power| assert!(upper_bound(bucket(1 << power)) >= 1 << power));
    }
}
