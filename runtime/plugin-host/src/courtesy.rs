//! Leaving a core to the others. A guest that computes for long without a pause, or crashes again and again, is in the way
//! of whatever the scheduler has put behind it: some kernels let a thread that wakes up wait for the end of a turn,
//! milliseconds. So the thread of a call that crashed or took longer than [`QUICK_TICKS`] keeps off one of the cores, the
//! first that it may use, until a call was quick and went well. Guests that are slow by nature lose one core of those the
//! machine has; where there is only one, nothing changes.

use std::cell::Cell;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Ticks of the engine's clock, of 10 ms each, that a quick call may take.
pub(crate) const QUICK_TICKS: u64 = 2;

thread_local! {
    /// The cores this thread may use when it is not confined; `None` while that is all of them.
    static FREE: Cell<Option<CpuSet>> = const { Cell::new(None) };
}

/// Keeps this thread off the first core that it may use. Where the system refuses, it stays where it is.
pub(crate) fn confine() {
    if FREE.get().is_some() {
        return;
    }
    let Ok(free) = sched_getaffinity(None) else { return };
    let Some(first) = (0..CpuSet::MAX_CPU).find(|core| free.is_set(*core)).filter(|_| free.count() > 1) else { return };
    let mut left = free;
    left.unset(first);
    match sched_setaffinity(None, &left) {
        Ok(()) => FREE.set(Some(free)),
        Err(error) => tracing::debug!(%error, "a slow guest keeps to no core"),
    }
}

/// Ends what slow and crashing guests did to this thread: for one that goes on to other work. A thread that only ever
/// runs guests need not call it.
pub fn release() {
    if let Some(free) = FREE.take() {
        // The process may have been given fewer meanwhile: then it stays where it may be.
        let _ = sched_setaffinity(None, &free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_leaves_a_core() {
        let cores = || sched_getaffinity(None).unwrap().count();
        let all = cores();
        confine();
        confine();
        assert_eq!(cores(), if all > 1 { all - 1 } else { 1 });
        release();
        assert_eq!(cores(), all);
        release();
        assert_eq!(cores(), all);
    }
}
