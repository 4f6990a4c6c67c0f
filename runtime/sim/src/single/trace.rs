//! What happened, as lines and as one number: two runs of a seed must give the same number, and a failed run shows
//! its last lines.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Lines that are kept when they are asked for.
const LINES_KEPT: usize = 1_000_000;

/// FNV-1a over every line; the lines themselves only when asked for.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    scratch: String,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(VecDeque::new), scratch: String::new() }
    }

    pub(crate) fn line(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        self.scratch.clear();
        let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
        // Writing to a string does not fail.
        let _ = write!(self.scratch, "{seconds:>4}.{micros:06} {what}");
        for byte in self.scratch.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(self.scratch.clone());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}
