//! How many records a guest is given at once: as many as there are, unless its calls take a large part of the time that
//! they may take. A guest that is only slow is so kept far from its limit, instead of being stopped and halved there.

use crate::guest::{Failure, Guest};

/// The part of its time that a call should take, of a guest that needs pacing ...
const AIM: f64 = 0.1;
/// ... and from where on it does.
const SLOW: f64 = 0.2;
/// Below this, a call may have more records next time.
const QUICK: f64 = 0.05;
/// A call that ran out of time says only that it was far too many.
const AFTER_DEADLINE: usize = 8;

/// A step's guest with what is known of its pace.
pub(super) struct Paced {
    pub(super) guest: Box<dyn Guest>,
    /// Records of one call, at most.
    rows_max: usize,
}

impl Paced {
    pub(super) fn new(guest: Box<dyn Guest>) -> Self {
        Paced { guest, rows_max: usize::MAX }
    }

    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Learns from a call with so many records that has just ended.
    pub(super) fn learn(&mut self, rows: usize, failed: Option<&Failure>) {
        let used = self.guest.time_used();
        self.rows_max = match failed {
            Some(Failure::Deadline { .. }) => (rows / AFTER_DEADLINE).clamp(1, self.rows_max),
            // What it did before it failed says nothing of its pace.
            Some(_) => self.rows_max,
            None if used > SLOW => ((rows as f64 * AIM / used) as usize).max(1),
            None if used < QUICK && rows >= self.rows_max => self.rows_max.saturating_mul(2),
            None => self.rows_max,
        };
    }
}
