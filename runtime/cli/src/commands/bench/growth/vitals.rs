//! What a process is made of at a moment: CPU time to the nanosecond, memory, threads, open files.

use std::time::Duration;

/// CPU time of all living threads of a process so far, finer than the ticks of `/proc/PID/stat`.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let ns = threads.filter_map(|thread| {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(ns.sum()))
}

/// Open files.
pub(super) fn files(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vitals_of_a_process_are_found() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        (0..1_000_000_u64).for_each(|i| assert!(std::hint::black_box(i) < 1_000_000));
        assert!(cpu(own).unwrap() > before);
        assert!(files(own).unwrap() > 2);
        assert_eq!((cpu(0), files(0)), (None, None));
    }
}
