//! What the operating system says about this process; nothing where it does not say it this way (not Linux).

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Open files and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) open: u64,
    pub(crate) max: u64,
}

/// Seconds on processors.
pub(super) fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

pub(crate) fn files() -> Option<Files> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The listing itself is one.
    Some(Files { open: open.saturating_sub(1), max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) })
}

/// Resident memory in bytes, and threads.
pub(super) fn memory_and_threads() -> Option<(u64, u64)> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_status(status: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((field("VmRSS")? * 1024, field("Threads")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_read() {
        let check = |status: &str, expected| assert_eq!(parse_status(status), expected, "{status}");
        check("Name:\tmillstream\nVmRSS:\t   2048 kB\nThreads:\t12\n", Some((2048 * 1024, 12)));
        check("Name:\tmillstream\n", None);
        check("VmRSS: much\nThreads: 1", None);
    }

    #[test]
    fn a_process_uses_something() {
        assert!(cpu_seconds() > 0.0);
        if let (Some(files), Some((memory, threads))) = (files(), memory_and_threads()) {
            assert!(files.open > 0 && files.open <= files.max && memory > 0 && threads > 0);
        }
    }
}
