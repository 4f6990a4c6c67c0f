//! Memory of guests: each has its limit, and all of an engine have one together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::failure::Failure;
use crate::limits::TABLE_ELEMENTS_MAX;

/// What all guests of an engine share.
pub(crate) struct TotalMemory {
    max: usize,
    used: AtomicUsize,
}

impl TotalMemory {
    pub(crate) fn new(max: usize) -> TotalMemory {
        TotalMemory { max, used: AtomicUsize::new(0) }
    }

    /// Bytes that guests have now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed) as u64
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Counts one guest's linear memory and refuses what is over a limit. Gives back when it is dropped; the
/// memory itself never shrinks.
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    total: Arc<TotalMemory>,
    denied: Option<Failure>,
}

impl Limiter {
    pub(crate) fn new(limit: usize, total: Arc<TotalMemory>) -> Limiter {
        Limiter { limit, used: 0, total, denied: None }
    }

    /// Forgets earlier refusals: the guest lived with them.
    pub(crate) fn begin(&mut self) {
        self.denied = None;
    }

    /// The last refusal since [`Limiter::begin`].
    pub(crate) fn denied(&self) -> Option<Failure> {
        self.denied.clone()
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.total.used.fetch_sub(self.used, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let wanted_bytes = self.used.saturating_add(more);
        if wanted_bytes > self.limit {
            self.denied = Some(Failure::Memory { limit_bytes: self.limit, wanted_bytes });
            return Ok(false);
        }
        if !self.total.take(more) {
            let message = format!("no memory is left for it: all plugins together may use {} bytes", self.total.max);
            self.denied = Some(Failure::Trap { message });
            return Ok(false);
        }
        self.used = wanted_bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
