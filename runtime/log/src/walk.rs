//! Walks over the batches of a segment file from a given position and says where it stops making sense.
//! Headers are always checked against each other; checksums when asked. Memory is bounded by the
//! window, whatever lengths the bytes claim.

use std::io;

use millstream_protocol::Offset;
use millstream_protocol::batch::{BatchHeader, HEADER_LEN};

use crate::epochs::Epochs;
use crate::storage::{File, read_full_at};

/// Where the bytes that a batch's CRC covers begin (from the attributes on).
const CRC_FROM: u64 = 21;

/// Bytes read at once when only headers are wanted: about two index intervals.
const WINDOW_HEADERS: usize = 8 << 10;
/// Bytes read at once when every byte is.
const WINDOW_CHECKED: usize = 256 << 10;

pub(crate) enum Step {
    Batch {
        position: u64,
        header: BatchHeader,
    },
    /// The end that the walk was given.
    End,
    /// From `position` on there is no batch that continues the log.
    Damage {
        position: u64,
        reason: String,
    },
}

pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    at: u64,
    end: u64,
    /// The offset the next batch must have; not known at first when starting in the middle.
    expected: Option<Offset>,
    checked: bool,
    epochs: Option<&'a Epochs>,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    /// Walks headers from `at`, which must begin a batch, to `end`, which must end one.
    pub(crate) fn headers(file: &'a dyn File, at: u64, end: u64, expected: Option<Offset>) -> Self {
        Walk { file, at, end, expected, checked: false, epochs: None, window: Vec::new(), window_at: at }
    }

    /// The same, with checksums.
    pub(crate) fn checked(file: &'a dyn File, at: u64, end: u64, expected: Option<Offset>) -> Self {
        Walk { checked: true, ..Walk::headers(file, at, end, expected) }
    }

    /// Also checks that every batch has the leader epoch that its offset was written under.
    pub(crate) fn with_epochs(self, epochs: Option<&'a Epochs>) -> Self {
        Walk { epochs, ..self }
    }

    /// Where the next step begins.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next batch. After `End` or `Damage` the walk is over.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let position = self.at;
        if position >= self.end {
            return Ok(Step::End);
        }
        let damage = |reason: String| Ok(Step::Damage { position, reason });
        let head = self.window(position, HEADER_LEN)?;
        let header = match BatchHeader::decode(head) {
            Ok(header) => header,
            Err(e) => return damage(e.to_string()),
        };
        let after = position + header.total_len() as u64;
        if after > self.end {
            return damage(format!("a batch of {} bytes goes beyond the end at {}", header.total_len(), self.end));
        }
        if let Some(expected) = self.expected.filter(|expected| *expected != header.base_offset) {
            return damage(format!("a batch at offset {} where {expected} belongs", header.base_offset));
        }
        if let Some(epochs) = self.epochs
            && epochs.at(header.base_offset) != Some(header.leader_epoch)
        {
            return damage(format!("a batch with leader epoch {}, which did not write it", header.leader_epoch.0));
        }
        if self.checked {
            let computed = self.checksum(position + CRC_FROM, after)?;
            if computed != header.crc {
                return damage(format!("checksum mismatch: stored {:08x}, computed {computed:08x}", header.crc));
            }
        }
        self.at = after;
        self.expected = Some(header.next_offset());
        Ok(Step::Batch { position, header })
    }

    fn checksum(&mut self, from: u64, to: u64) -> io::Result<u32> {
        let mut crc = 0;
        let mut at = from;
        while at < to {
            let left = usize::try_from(to - at).unwrap_or(usize::MAX);
            let bytes = self.window(at, 1)?;
            if bytes.is_empty() {
                // The file became shorter than it said; the checksum can't match by accident of this.
                return Ok(!crc);
            }
            let now = &bytes[..bytes.len().min(left)];
            crc = crc32c::crc32c_append(crc, now);
            at += now.len() as u64;
        }
        Ok(crc)
    }

    /// Bytes from `at` on: at least `need`, fewer only at the end.
    fn window(&mut self, at: u64, need: usize) -> io::Result<&[u8]> {
        let have = self.window_at + self.window.len() as u64;
        let inside = at >= self.window_at && at + need as u64 <= have;
        if !inside {
            let size = if self.checked { WINDOW_CHECKED } else { WINDOW_HEADERS };
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.window.clear();
            self.window_at = at;
            read_full_at(self.file, at, size.min(left), &mut self.window)?;
        }
        let from = usize::try_from(at - self.window_at).expect("the window begins at or before what is asked for");
        Ok(&self.window[from..])
    }
}
