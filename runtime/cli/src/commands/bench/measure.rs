//! Figures of one measurement: wall clock, CPU time of this process, latencies.

use std::time::{Duration, Instant};

/// `/proc/self/stat` counts in these on every Linux that people run (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// What was measured.
pub(super) struct Figures {
    pub(super) what: String,
    pub(super) records: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
    pub(super) took: Duration,
    cpu: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

/// A measurement under way.
pub(super) struct Stopwatch {
    start: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Stopwatch { start: Instant::now(), cpu: cpu_time() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn stop(self, what: impl Into<String>, records: u64, bytes: u64) -> Figures {
        let cpu = cpu_time().saturating_sub(self.cpu);
        Figures { what: what.into(), records, bytes, took: self.start.elapsed(), cpu, latencies: Vec::new() }
    }
}

impl Figures {
    pub(super) fn with_latencies(mut self, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        self.latencies = latencies;
        self
    }

    pub(super) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Millions of bytes, not MiB.
    pub(super) fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64().max(1e-9)
    }

    pub(super) fn cpu_ns_per_record(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records.max(1) as f64
    }

    /// The latency that this share of records did not exceed.
    pub(super) fn latency_us(&self, quantile: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        Some(self.latencies[(last as f64 * quantile).round() as usize].as_nanos() as f64 / 1e3)
    }
}

/// CPU time of all threads of this process so far; zero where there is no `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let figures = Stopwatch::start().stop("x", 100, 1_000);
        assert_eq!(figures.latency_us(0.5), None);
        let figures = figures.with_latencies((1..=101).rev().map(Duration::from_micros).collect());
        let check = |quantile: f64, us: f64| assert_eq!(figures.latency_us(quantile), Some(us));
        check(0.0, 1.0);
        check(0.5, 51.0);
        check(0.99, 100.0);
        check(1.0, 101.0);
    }
}
