//! Uploads in progress: chunks put together in memory until a component is whole. Bounded in number and
//! size; one that its client left is dropped when room is needed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millstream_protocol::message::UploadPlugin;
use millstream_protocol::{ErrorCode, Failure};

/// Uploads at a time.
pub(super) const UPLOADS_MAX: usize = 16;
/// Bytes of all of them together, as announced; a single larger one is taken alone.
const UPLOAD_BYTES_MAX: u64 = 128 << 20;

/// An upload without a chunk for so long makes room for another one.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// By session and digest: two clients that upload the same contents don't meet, so that neither is in the other's
/// way, nor gets what it does not have itself.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    partial: HashMap<Key, Partial>,
}

/// The uploader's session, and what it uploads.
type Key = (u64, [u8; 32]);

#[derive(Debug)]
struct Partial {
    size: u64,
    bytes: Vec<u8>,
    /// Uploads that began with these bytes and have not got all of them yet. They send the same, and need not know of
    /// one another: under two names, say.
    begun: usize,
    touched: Instant,
}

/// What a chunk brought about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes are here.
    Received(u64),
    /// All of them; not checked against the digest yet.
    Whole(Vec<u8>),
}

impl Uploads {
    /// Takes a chunk. A chunk that came before is no error, nor is starting again.
    ///
    /// # Errors
    /// `LimitExceeded` for a size over `bytes_max`, `Busy` when too many uploads are under way,
    /// `InvalidRequest` for a gap or bytes beyond the size.
    pub(super) fn take(
        &mut self,
        session: u64,
        (request, chunk): (&UploadPlugin, &[u8]),
        bytes_max: u64,
        now: Instant,
    ) -> Result<Progress, Failure> {
        let &UploadPlugin { digest, size, position, .. } = request;
        let key = (session, digest);
        if size > bytes_max {
            let message = format!("the plugin has {size} bytes, more than the {bytes_max} that are allowed");
            return Err(Failure::new(ErrorCode::LimitExceeded, message));
        }
        let end = position.checked_add(chunk.len() as u64).filter(|end| *end <= size);
        let end = end.ok_or_else(|| invalid("a chunk goes beyond the plugin's size"))?;
        self.make_room(&key, size, now)?;
        let fresh = || Partial { size, bytes: Vec::new(), begun: 0, touched: now };
        let partial = self.partial.entry(key).or_insert_with(fresh);
        // What is whole waits for the end of another upload; a new one brings its own bytes, for these may be wrong.
        if partial.size != size || (position == 0 && partial.bytes.len() as u64 == size) {
            *partial = fresh();
        }
        partial.begun += usize::from(position == 0);
        partial.touched = now;
        let received = partial.bytes.len() as u64;
        if position > received {
            return Err(invalid(&format!("chunk at {position} follows {received} bytes: start again")));
        }
        if end > received {
            // Fits: it is less than the chunk.
            partial.bytes.extend_from_slice(&chunk[(received - position) as usize..]);
        }
        let received = partial.bytes.len() as u64;
        if received < size {
            return Ok(Progress::Received(received));
        }
        partial.begun = partial.begun.saturating_sub(1);
        if partial.begun > 0 {
            return Ok(Progress::Whole(partial.bytes.clone()));
        }
        Ok(Progress::Whole(self.partial.remove(&key).map(|partial| partial.bytes).unwrap_or_default()))
    }

    fn make_room(&mut self, key: &Key, size: u64, now: Instant) -> Result<(), Failure> {
        if self.partial.contains_key(key) || self.has_room(size) {
            return Ok(());
        }
        self.partial.retain(|_, partial| now.duration_since(partial.touched) < IDLE_MAX);
        if self.has_room(size) {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::Busy, "too many uploads at a time: retry in a moment"))
    }

    fn has_room(&self, size: u64) -> bool {
        let bytes: u64 = self.partial.values().map(|partial| partial.size).sum();
        self.partial.is_empty() || (self.partial.len() < UPLOADS_MAX && bytes + size <= UPLOAD_BYTES_MAX)
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(digest: u8, size: u64, position: u64) -> UploadPlugin {
        let digest = [digest; 32];
        UploadPlugin { name: String::new(), version: String::new(), digest, size, position, replace: false }
    }

    #[test]
    fn chunks_add_up() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut check = |position, bytes: &[u8], expected: Result<Progress, ErrorCode>| {
            let got = uploads.take(7, (&chunk(1, 6, position), bytes), 100, now);
            assert_eq!(got.map_err(|failure| failure.code), expected);
        };
        check(0, b"ab", Ok(Progress::Received(2)));
        check(3, b"d", Err(ErrorCode::InvalidRequest));
        check(2, b"cd", Ok(Progress::Received(4)));
        check(0, b"ab", Ok(Progress::Received(4)));
        check(5, b"fgh", Err(ErrorCode::InvalidRequest));
        check(u64::MAX, b"f", Err(ErrorCode::InvalidRequest));
        check(2, b"cdef", Ok(Progress::Whole(b"abcdef".to_vec())));
        check(0, b"ab", Ok(Progress::Received(2)));
    }

    #[test]
    fn uploads_are_bounded_in_size_and_number() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut check = |digest, size, at, expected: Result<Progress, ErrorCode>| {
            let got = uploads.take(7, (&chunk(digest, size, 0), b"x"), 100, now + Duration::from_secs(at));
            assert_eq!(got.map_err(|failure| failure.code), expected);
        };
        check(0, 101, 0, Err(ErrorCode::LimitExceeded));
        (0..UPLOADS_MAX as u8).for_each(|digest| check(digest, 9, 0, Ok(Progress::Received(1))));
        check(99, 9, 29, Err(ErrorCode::Busy));
        check(0, 9, 29, Ok(Progress::Received(1)));
        check(99, 9, 31, Ok(Progress::Received(1)));
        check(0, 9, 31, Ok(Progress::Received(1)));
    }

    /// Each sends all of it, whoever else is sending the same.
    #[test]
    fn two_uploads_of_the_same_contents_do_not_meet() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut check = |session, position, bytes: &[u8], expected: Result<Progress, ErrorCode>| {
            let got = uploads.take(session, (&chunk(1, 4, position), bytes), 100, now);
            assert_eq!(got.map_err(|failure| failure.code), expected);
        };
        check(1, 0, b"ab", Ok(Progress::Received(2)));
        check(2, 2, b"cd", Err(ErrorCode::InvalidRequest));
        check(2, 0, b"ab", Ok(Progress::Received(2)));
        check(1, 2, b"cd", Ok(Progress::Whole(b"abcd".to_vec())));
        check(2, 2, b"cd", Ok(Progress::Whole(b"abcd".to_vec())));
    }

    /// One client pushes the same contents under two names at a time: each ends as it would alone.
    #[test]
    fn two_uploads_of_one_session_do_not_disturb_each_other() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut check = |position, bytes: &[u8], expected: Result<Progress, ErrorCode>| {
            let got = uploads.take(7, (&chunk(1, 4, position), bytes), 100, now);
            assert_eq!(got.map_err(|failure| failure.code), expected);
        };
        let whole = || Ok(Progress::Whole(b"abcd".to_vec()));
        check(0, b"ab", Ok(Progress::Received(2)));
        check(0, b"ab", Ok(Progress::Received(2)));
        check(2, b"cd", whole());
        check(2, b"cd", whole());
        check(2, b"cd", Err(ErrorCode::InvalidRequest));
        // The second begins late, and the first is repeated as a whole.
        check(0, b"ab", Ok(Progress::Received(2)));
        check(2, b"c", Ok(Progress::Received(3)));
        check(0, b"ab", Ok(Progress::Received(3)));
        check(2, b"cd", whole());
        check(2, b"c", whole());
        // One that was given up leaves bytes that nobody is made to take: they may be wrong.
        check(0, b"xy", Ok(Progress::Received(2)));
        check(0, b"ab", Ok(Progress::Received(2)));
        check(2, b"cd", Ok(Progress::Whole(b"xycd".to_vec())));
        check(0, b"ab", Ok(Progress::Received(2)));
        check(2, b"cd", whole());
    }

    #[test]
    fn large_uploads_wait_for_one_another() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut check = |session, size, expected: Result<Progress, ErrorCode>| {
            let got = uploads.take(session, (&chunk(1, size, 0), b"x"), u64::MAX, now);
            assert_eq!(got.map_err(|failure| failure.code), expected);
        };
        check(1, UPLOAD_BYTES_MAX + 1, Ok(Progress::Received(1)));
        check(2, 9, Err(ErrorCode::Busy));
        check(1, UPLOAD_BYTES_MAX + 1, Ok(Progress::Received(1)));
    }
}
