//! The wall clock, read at the broker's edge and handed on as a number.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch. May jump; nothing's safety depends on it.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
