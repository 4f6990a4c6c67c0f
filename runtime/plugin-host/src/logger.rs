//! A guest's log lines: passed on within a budget that refills with time, and the rest counted.

use std::time::Instant;

use crate::instance::LogSink;
use crate::limits::LOG_BYTES_PER_SECOND;
use crate::world::Level;

pub(crate) struct Logger {
    sink: LogSink,
    left: usize,
    refilled: Instant,
    dropped: u64,
    last_panic: Option<String>,
}

impl Logger {
    pub(crate) fn new(sink: LogSink) -> Logger {
        Logger { sink, left: LOG_BYTES_PER_SECOND, refilled: Instant::now(), dropped: 0, last_panic: None }
    }

    /// Starts a call.
    pub(crate) fn begin(&mut self) {
        self.last_panic = None;
    }

    /// What the guest's panic hook wrote in this call, on one line.
    pub(crate) fn last_panic(&self) -> Option<String> {
        self.last_panic.as_ref().map(|panic| panic.replace('\n', " "))
    }

    pub(crate) fn line(&mut self, level: Level, line: &str) {
        if level == Level::Error && line.starts_with("panicked at") {
            self.last_panic = Some(line.to_owned());
        }
        let waited = self.refilled.elapsed();
        if waited.as_millis() >= 100 {
            let more = (waited.as_secs_f64().min(1.0) * LOG_BYTES_PER_SECOND as f64) as usize;
            self.left = (self.left + more).min(LOG_BYTES_PER_SECOND);
            self.refilled = Instant::now();
        }
        // A line costs at least what showing it does, so that empty lines are bounded too.
        match self.left.checked_sub(line.len().max(16)) {
            Some(left) => {
                self.left = left;
                (self.sink)(level, line);
            }
            None => self.dropped += 1,
        }
    }

    /// Reports dropped lines, at the end of a call.
    pub(crate) fn flush(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            (self.sink)(Level::Warn, &format!("{dropped} log lines dropped: more than 64 KiB per second"));
        }
    }
}
