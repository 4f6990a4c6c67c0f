//! Memory that a burst of records leaves behind goes back to the system once the broker is quiet. What the
//! allocator keeps meanwhile is what makes the next batch cheap, so nothing is given back under load.

use std::time::{Duration, Instant};

/// Bytes in and out between two looks that do not count as load: heartbeats, metrics, a slow trickle of records.
const QUIET_BYTES: u64 = 1 << 20;
/// So long nothing but that, and the burst is over.
const QUIET: Duration = Duration::from_secs(10);
/// A burst has to move as much before it is worth looking through all free memory, which takes milliseconds.
const BURST_BYTES: u64 = 64 << 20;

/// Decides when memory is given back.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Bytes moved when it looked last.
    seen: u64,
    /// Bytes moved when memory was given back last.
    given_back: u64,
    quiet_since: Instant,
}

impl Keeper {
    pub(crate) fn new(now: Instant) -> Self {
        Keeper { seen: 0, given_back: 0, quiet_since: now }
    }

    /// Looks at how many bytes have come and gone so far; true when it is time to give memory back.
    pub(crate) fn look(&mut self, moved: u64, now: Instant) -> bool {
        if moved.saturating_sub(self.seen) > QUIET_BYTES {
            self.quiet_since = now;
        }
        self.seen = moved;
        let due = moved.saturating_sub(self.given_back) >= BURST_BYTES
            && now.saturating_duration_since(self.quiet_since) >= QUIET;
        if due {
            self.given_back = moved;
        }
        due
    }
}

/// Gives free memory back, wherever in the heap it lies. Blocks for milliseconds. Does nothing with another C library
/// than glibc, whose allocator is the one that keeps it.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library's only way to say so")]
    // SAFETY: malloc_trim(3) takes a number, may be called at any time from any thread, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_quiet() {
        let start = Instant::now();
        let mut keeper = Keeper::new(start);
        let mut look = |seconds: u64, moved: u64| keeper.look(moved, start + Duration::from_secs(seconds));
        assert!(!look(20, 0), "nothing was moved yet");
        assert!(!look(25, BURST_BYTES), "the burst goes on");
        assert!(!look(34, BURST_BYTES + QUIET_BYTES), "not quiet for long enough");
        assert!(look(35, BURST_BYTES + QUIET_BYTES + 1));
        assert!(!look(50, BURST_BYTES + QUIET_BYTES + 2), "once is enough");
        // A trickle counts as quiet, and is a burst's worth in the end.
        let trickled: Vec<u64> =
            (1..=100).filter(|step| look(50 + step * 5, BURST_BYTES + step * QUIET_BYTES)).collect();
        assert_eq!(trickled, [66]);
    }
}
