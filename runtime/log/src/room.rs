//! Room for an append: whether the active segment takes it, and is large enough as it is.

use std::io;

use millstream_protocol::{LeaderEpoch, Offset};

use crate::config::SEGMENT_BYTES_MAX;
use crate::log::Log;
use crate::storage::Storage;

impl<S: Storage> Log<S> {
    /// Whether an append of so many bytes only writes them: no segment begins, no room is reserved, nothing is said in
    /// other files.
    pub fn has_room(&self, bytes: u64, epoch: LeaderEpoch, now_ms: i64) -> bool {
        self.is_reserved(self.active.segment.size() + bytes)
            && !self.sync.says_clean
            && self.shared.epochs.load().current() == Some(epoch)
            && !self.must_roll(bytes, self.end, now_ms)
    }

    /// Whether an append of so many bytes, up to `end`, belongs into the next segment.
    pub(crate) fn must_roll(&self, bytes: u64, end: Offset, now_ms: i64) -> bool {
        let segment = &self.active.segment;
        if segment.size() == 0 {
            return false;
        }
        let limit = self.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        segment.size() + bytes > limit || end - segment.base > i64::from(i32::MAX) || self.is_aged(now_ms)
    }

    /// Whether the active segment has been written to for long enough.
    pub(crate) fn is_aged(&self, now_ms: i64) -> bool {
        self.active.first_ms.is_some_and(|first| now_ms.saturating_sub(first) >= self.config.segment_ms)
    }

    /// Whether the active segment may grow to `end` as it is.
    fn is_reserved(&self, end: u64) -> bool {
        let step = self.config.preallocate_bytes;
        step == 0 || end < step || end <= self.active.allocated
    }

    /// Reserves room for the next steps of a segment that has outgrown the first one. The size of the file
    /// stays that of its batches, so recovery and Kafka's tools never see the reserve.
    pub(crate) fn reserve(&mut self, end: u64) -> io::Result<()> {
        if self.is_reserved(end) {
            return Ok(());
        }
        let step = self.config.preallocate_bytes;
        let limit = self.config.segment_bytes.min(SEGMENT_BYTES_MAX).max(end);
        let until = (end + step).min(limit);
        let from = self.active.segment.size();
        match self.active.file.allocate(from, until - from) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => self.active.allocated = u64::MAX,
            // There may still be room for the append itself.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => self.active.allocated = end,
            other => {
                other?;
                self.active.allocated = until;
            }
        }
        Ok(())
    }
}
