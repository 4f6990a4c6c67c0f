//! Budgets of bytes: whoever has taken its share keeps others of the same budget waiting until it is given back.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::shutting_down;

/// Bytes one permit stands for.
const UNIT: usize = 1024;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Budget {
    units: usize,
    free: Arc<Semaphore>,
}

/// A share of a budget; given back when dropped.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit);

/// Bytes that hold a share for as long as anybody has them.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Budget { units, free: Arc::new(Semaphore::new(units)) }
    }

    /// Waits until `bytes` (all there are, if it is more) are free.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Share, Failure> {
        let wanted = bytes.div_ceil(UNIT).clamp(1, self.units);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        Ok(Share(Arc::clone(&self.free).acquire_many_owned(wanted).await.map_err(|_| shutting_down())?))
    }
}

impl Share {
    /// Ties the share to the bytes; nothing is copied.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Held { bytes, _share: self }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_are_given_back_with_the_bytes() {
        let budget = Budget::new(10 * UNIT);
        let held = budget.take(4 * UNIT).await.unwrap().hold(Bytes::from_static(b"four"));
        assert_eq!((&held[..], budget.free.available_permits()), (&b"four"[..], 6));
        let part = held.slice(1..2);
        drop(held);
        assert_eq!(budget.free.available_permits(), 6, "a slice keeps it");
        drop(part);
        assert_eq!(budget.free.available_permits(), 10);
        let all = budget.take(usize::MAX).await.unwrap();
        assert_eq!(budget.free.available_permits(), 0, "more than there is takes all");
        drop(all.hold(Bytes::new()));
        assert_eq!(budget.free.available_permits(), 10);
    }
}
