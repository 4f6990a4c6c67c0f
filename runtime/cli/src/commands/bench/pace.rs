//! Sending at a fixed rate, open loop: every record has an intended time that does not move when something
//! is late, and latencies count from it. So a stall shows in all records that it kept waiting.

use std::time::{Duration, Instant};

/// The shortest sleep, a twentieth of that in Kafka's `producer-perf-test`. A sender that wakes up more often takes from a
/// small machine what nobody has to spare: with half of this the client takes a tenth more CPU at 335,000/s on two cores, and
/// the median end to end is a third longer. What is due meanwhile is late by half of it on average, the reference's as well.
const SLEEP_MIN: Duration = Duration::from_micros(100);

/// Records of so much time are sent first and not counted: connections begin with small packets and windows, and
/// buffers are not there yet.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);

/// When each record is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Instant,
    interval: f64,
    /// Those that warm up among them.
    pub(super) total: u64,
}

impl Pace {
    /// For `time` after [`WARM_UP`]. Begins a little later, so that everybody is in place.
    pub(super) fn new(rate: u64, time: Duration) -> Self {
        let total = (rate as f64 * (WARM_UP + time).as_secs_f64()).max(1.0) as u64;
        Pace { start: Instant::now() + Duration::from_millis(50), interval: 1e9 / rate.max(1) as f64, total }
    }

    /// The intended time of record `i`.
    pub(super) fn due(&self, i: u64) -> Instant {
        self.start + Duration::from_nanos((self.interval * i as f64) as u64)
    }

    /// How late `now` is for record `i`; nothing for one that warms up.
    pub(super) fn latency(&self, i: u64, now: Instant) -> Option<Duration> {
        let due = self.due(i);
        (due >= self.start + WARM_UP).then(|| now.saturating_duration_since(due))
    }

    /// Calls `send` for every record at its time, on this thread; what is late is made up for at once.
    ///
    /// # Errors
    /// The first of `send`.
    pub(super) fn run<E>(&self, mut send: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        // The kernel otherwise adds up to 50 µs to every sleep. Where it refuses, it does.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut next = 0;
        while next < self.total {
            let now = Instant::now();
            while next < self.total && self.due(next) <= now {
                send(next)?;
                next += 1;
            }
            std::thread::sleep(self.due(next).saturating_duration_since(Instant::now()).max(SLEEP_MIN));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_even_times_and_never_early() {
        let pace = Pace::new(1_000, Duration::from_millis(20));
        assert_eq!(pace.total, 520);
        assert_eq!(pace.due(10) - pace.due(0), Duration::from_millis(10));
        assert_eq!(pace.latency(510, pace.due(512)), Some(Duration::from_millis(2)));
        assert_eq!(pace.latency(510, pace.due(508)), Some(Duration::ZERO));
        assert_eq!((pace.latency(499, pace.due(600)), pace.latency(500, pace.due(500))), (None, Some(Duration::ZERO)));
        let mut sent = Vec::new();
        let done: Result<(), ()> = pace.run(|i| {
            assert!(Instant::now() >= pace.due(i));
            sent.push(i);
            Ok(())
        });
        assert_eq!((done, sent), (Ok(()), (0..520).collect()));
        assert_eq!(pace.run(|i| if i == 3 { Err(i) } else { Ok(()) }), Err(3));
    }
}
