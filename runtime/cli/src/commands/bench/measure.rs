//! What one run gave: time, CPU time on both sides, memory, latencies; and the medians over several runs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

/// `/proc/PID/stat` counts in these on every Linux that people run (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;
/// The quantiles that are shown.
pub(super) const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// One run.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) records: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// Of this process.
    pub(super) cpu: Duration,
    /// Of the broker, or of a reference's other end, if it is known.
    pub(super) far_cpu: Option<Duration>,
    /// Resident bytes of the same at the end.
    pub(super) far_memory: Option<u64>,
    pub(super) latency: Option<Latency>,
}

/// A run under way.
pub(super) struct Stopwatch {
    far: Option<u32>,
    far_cpu: Option<Duration>,
    cpu: Duration,
    start: Instant,
}

impl Stopwatch {
    /// `far`: the process at the other end.
    pub(super) fn start(far: Option<u32>) -> Self {
        let far_cpu = far.and_then(|pid| cpu_time(&pid.to_string()));
        Stopwatch { far, far_cpu, cpu: cpu_time("self").unwrap_or_default(), start: Instant::now() }
    }

    pub(super) fn stop(self, records: u64, bytes: u64) -> Sample {
        let took = self.start.elapsed();
        let cpu = cpu_time("self").unwrap_or_default().saturating_sub(self.cpu);
        let far_now = self.far.and_then(|pid| cpu_time(&pid.to_string()));
        let far_cpu = far_now.zip(self.far_cpu).map(|(now, before)| now.saturating_sub(before));
        let far_memory = self.far.and_then(resident_bytes);
        Sample { records, bytes, took, cpu, far_cpu, far_memory, latency: None }
    }
}

impl Sample {
    pub(super) fn with_latency(self, latency: Latency) -> Self {
        Sample { latency: Some(latency), ..self }
    }

    pub(super) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Millions of bytes, not MiB.
    pub(super) fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64().max(1e-9)
    }

    pub(super) fn ns_per_record(&self) -> f64 {
        self.took.as_nanos() as f64 / self.records.max(1) as f64
    }

    pub(super) fn cpu_ns_per_record(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records.max(1) as f64
    }

    pub(super) fn far_cpu_ns_per_record(&self) -> Option<f64> {
        Some(self.far_cpu?.as_nanos() as f64 / self.records.max(1) as f64)
    }

    /// Seconds per 10^9 bytes.
    pub(super) fn far_cpu_s_per_gb(&self) -> Option<f64> {
        Some(self.far_cpu?.as_secs_f64() * 1e9 / self.bytes.max(1) as f64)
    }

    /// Microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> Option<f64> {
        Some(self.latency.as_ref()?.us(quantile))
    }
}

/// Latencies, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Self {
        Latency(Histogram::new(3).expect("three digits are within the range"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(ns).expect("the histogram grows by itself");
    }

    pub(super) fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("both grow by themselves");
    }

    pub(super) fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// The middle one; of an even number, the mean of the two.
pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    Some(f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]))
}

/// What one of the system's clocks shows.
pub(super) fn clock(which: ClockId) -> Duration {
    let time = clock_gettime(which);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of all threads of a process so far.
pub(super) fn cpu_time(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
    let (_, after) = stat.rsplit_once(')')?;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |figures: &[f64], expected: Option<f64>| assert_eq!(median(figures.to_vec()), expected);
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 4.0], Some(4.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    #[test]
    fn latencies_have_three_digits() {
        let mut latency = Latency::new();
        (1..=1_000).for_each(|us| latency.record(Duration::from_micros(us)));
        let check = |quantile: f64, us: f64| {
            let found = latency.us(quantile);
            assert!((found - us).abs() <= us / 500.0, "{quantile}: {found}");
        };
        check(0.5, 500.0);
        check(0.99, 990.0);
        check(1.0, 1_000.0);
    }

    #[test]
    fn cpu_time_and_memory_of_a_process_are_found() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 1 << 20);
        let before = cpu_time("self").unwrap();
        let mut sum = 0_u64;
        while cpu_time(&own.to_string()).unwrap() == before {
            (0..1_000_000_u64).for_each(|i| sum = std::hint::black_box(sum.wrapping_add(i)));
        }
        assert_eq!(cpu_time("0"), None);
    }
}
