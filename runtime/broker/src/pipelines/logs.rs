//! The newest log lines of one pipeline, in memory, for `pipeline logs`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use millstream_pipeline::runner;
use millstream_plugin_host as host;
use millstream_protocol::message::LogLine;

use crate::clock::now_ms;

/// Lines kept of one pipeline.
const LINES_MAX: usize = 2_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    last: u64,
}

/// Where a line comes from.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) step: String,
    pub(super) topic: String,
    pub(super) partition: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

impl From<host::Level> for Level {
    fn from(level: host::Level) -> Self {
        match level {
            host::Level::Trace | host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        }
    }
}

impl From<runner::Level> for Level {
    fn from(level: runner::Level) -> Self {
        match level {
            runner::Level::Info => Level::Info,
            runner::Level::Warn => Level::Warn,
            runner::Level::Error => Level::Error,
        }
    }
}

impl Logs {
    pub(super) fn push(&self, level: Level, place: &Place, message: impl Into<String>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        let line = LogLine {
            sequence: ring.last,
            at_ms: now_ms(),
            level: level.name().into(),
            step: place.step.clone(),
            topic: place.topic.clone(),
            partition: place.partition,
            message: message.into(),
        };
        if ring.lines.len() >= LINES_MAX {
            ring.lines.pop_front();
        }
        ring.lines.push_back(line);
    }

    /// Lines with a higher sequence number, oldest first; the newest `max` of them.
    pub(super) fn after(&self, sequence: u64, max: usize) -> Vec<LogLine> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = ring.lines.iter().filter(|line| line.sequence > sequence);
        let mut newest: Vec<LogLine> = newer.rev().take(max).cloned().collect();
        newest.reverse();
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay() {
        let logs = Logs::default();
        let place = Place { step: "s".into(), topic: "t".into(), partition: 0 };
        (1..=LINES_MAX + 10).for_each(|n| logs.push(Level::Info, &place, n.to_string()));
        let all = logs.after(0, usize::MAX);
        assert_eq!((all.len(), all[0].sequence), (LINES_MAX, 11));
        let last: Vec<_> = logs.after(LINES_MAX as u64 + 5, 3).iter().map(|line| line.message.clone()).collect();
        assert_eq!(last, ["2008", "2009", "2010"]);
    }
}
