//! Pauses between attempts: exponential with jitter, so that many clients do not come back at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to pause before the next attempt: half of the step is fixed, half random.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts += 1;
        step / 2 + (step / 2).mul_f64(rand::random::<f64>())
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.next_pause()).collect();
        for (attempt, pause) in pauses.iter().enumerate() {
            let step = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
            assert!((step / 2..=step).contains(pause), "attempt {attempt}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= FIRST);
    }
}
