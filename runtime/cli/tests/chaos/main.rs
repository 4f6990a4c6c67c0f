//! The real binary under faults: killed, stopped, out of disk, descriptors and time, with a disk that fails or is
//! slow; and what it does when it is told to stop. Clients record what they sent, were told and read; a checker
//! goes over the record afterwards.
//!
//! - [`history`], [`checker`]: what a run saw, and whether that may be.
//! - [`drive`], [`pipeline`], [`raw`]: the clients.
//! - [`kills`], [`soak`]: runs of any length, short by default; CONTRIBUTING.md has the commands for long ones.
//! - [`disk`], [`limits`], [`pauses`], [`starts`], [`stops`]: one kind of trouble each; [`strace`] makes some of it.
//!
//! Where the machine lacks what a fault needs, its test says so on standard error and checks nothing.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod disk;
mod drive;
mod history;
mod kills;
mod limits;
mod pauses;
mod pipeline;
mod raw;
mod soak;
mod starts;
mod stops;
mod strace;

use std::io::Write;

/// A number from the environment, for longer runs.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
    }
}

/// Says something even when the test's output is captured.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Moments that differ from run to run.
struct Chance(u64);

impl Chance {
    fn seeded() -> Chance {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Chance(now.as_nanos() as u64 | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
