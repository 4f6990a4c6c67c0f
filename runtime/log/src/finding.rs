//! Something in a file that isn't what was written, and what can be done about it.

use std::fmt;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    /// Byte of the file at which it begins.
    pub position: u64,
    pub reason: String,
    pub kind: FindingKind,
}

/// What it means for the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A file that is made again from the others: nothing is lost.
    Derived,
    /// An unfinished write that was never synced; the next opening cuts it off.
    TornTail,
    /// Records that had been synced are not what they were.
    Damage,
}

impl Finding {
    pub(crate) fn derived(file: impl Into<String>, position: u64, reason: impl Into<String>) -> Self {
        Finding { file: file.into(), position, reason: reason.into(), kind: FindingKind::Derived }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.position, self.reason)
    }
}
