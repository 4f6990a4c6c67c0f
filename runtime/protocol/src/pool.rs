//! Buffers of batches and frames, used again. The system's allocator gives memory of this size back, and fresh
//! memory costs a page fault per 4 KiB, which is more than the copy into it. As the allocator's, the pool is the
//! process's; what it keeps is bounded.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes that the pool keeps while nobody uses them.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Smaller buffers are the allocator's: it has their like at hand.
const BUFFER_BYTES_MIN: usize = 32 << 10;
/// Larger ones are rare.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Powers of two from the least to the largest.
const CLASSES: usize = (BUFFER_BYTES_MAX / BUFFER_BYTES_MIN).ilog2() as usize + 1;

static POOL: Pool = Pool::new();

struct Pool(Mutex<Kept>);

/// Buffers that nobody uses, the one used last on top: it is the likeliest to be in the processor's cache.
struct Kept {
    bytes: usize,
    /// Class `i` has a capacity of [`BUFFER_BYTES_MIN`] << i at least, and below twice that.
    classes: [Vec<Vec<u8>>; CLASSES],
}

/// A `Vec` that goes back to the pool.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: &'static Pool,
}

/// An empty buffer with room for `bytes`.
pub fn take(bytes: usize) -> Buffer {
    POOL.take(bytes)
}

impl Pool {
    const fn new() -> Self {
        Pool(Mutex::new(Kept { bytes: 0, classes: [const { Vec::new() }; CLASSES] }))
    }

    fn take(&'static self, bytes: usize) -> Buffer {
        if !(BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&bytes) {
            return Buffer { bytes: Vec::with_capacity(bytes), pool: self };
        }
        let capacity = bytes.next_power_of_two();
        let mut kept = self.kept();
        let found = kept.classes[class_of(capacity)].pop();
        kept.bytes -= found.as_ref().map_or(0, Vec::capacity);
        drop(kept);
        Buffer { bytes: found.unwrap_or_else(|| Vec::with_capacity(capacity)), pool: self }
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        if !(BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&capacity) {
            return;
        }
        bytes.clear();
        let mut kept = self.kept();
        if kept.bytes + capacity <= KEPT_BYTES_MAX {
            kept.bytes += capacity;
            kept.classes[class_of(capacity)].push(bytes);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between the changes of the count and the lists.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Buffer {
    /// As shared bytes; the buffer goes back when the last of them is gone.
    pub fn freeze(mut self) -> Bytes {
        if self.bytes.capacity() < BUFFER_BYTES_MIN {
            return Bytes::from(std::mem::take(&mut self.bytes));
        }
        Bytes::from_owner(self)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        take(0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

fn class_of(capacity: usize) -> usize {
    (capacity / BUFFER_BYTES_MIN).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool of this test's own.
    fn new() -> &'static Pool {
        Box::leak(Box::new(Pool::new()))
    }

    #[test]
    fn classes_hold_what_is_asked_for() {
        let pool = new();
        let check = |bytes: usize, capacity: usize| {
            // Twice: a new one and one that was given back.
            for _ in 0..2 {
                let buffer = pool.take(bytes);
                assert!(buffer.is_empty());
                assert!(buffer.capacity() >= capacity, "{bytes}: {}", buffer.capacity());
            }
        };
        check(0, 0);
        check(1_000, 1_000);
        check(BUFFER_BYTES_MIN, BUFFER_BYTES_MIN);
        check(BUFFER_BYTES_MIN + 1, 2 * BUFFER_BYTES_MIN);
        check(BUFFER_BYTES_MAX, BUFFER_BYTES_MAX);
        check(BUFFER_BYTES_MAX + 1, BUFFER_BYTES_MAX + 1);
        assert_eq!(class_of(BUFFER_BYTES_MIN), 0);
        assert_eq!(class_of(2 * BUFFER_BYTES_MIN - 1), 0);
        assert_eq!(class_of(BUFFER_BYTES_MAX), CLASSES - 1);
    }

    #[test]
    fn buffers_come_back_when_the_last_of_their_bytes_is_gone() {
        let pool = new();
        let mut buffer = pool.take(100_000);
        buffer.extend_from_slice(b"first");
        let at = buffer.as_ptr();
        let frozen = buffer.freeze();
        let part = frozen.slice(1..3);
        drop(frozen);
        assert_ne!(pool.take(100_000).as_ptr(), at, "it is still in use");
        assert_eq!(&part[..], b"ir");
        drop(part);
        let again = pool.take(100_000);
        assert_eq!(again.as_ptr(), at);
        assert!(again.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = new();
        let many: Vec<Buffer> = (0..64).map(|_| pool.take(1 << 20)).collect();
        drop(many);
        assert_eq!(pool.kept().bytes, KEPT_BYTES_MAX);
        let taken = pool.take(1 << 20);
        assert_eq!(pool.kept().bytes, KEPT_BYTES_MAX - taken.capacity());
        assert!(pool.take(10).freeze().is_empty());
    }
}
