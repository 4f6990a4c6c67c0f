//! Batches that a program fills itself: records are encoded where they come up, without a lock, and handed
//! over together.

use millstream_protocol::batch::{BatchBuilder, HEADER_LEN};

use super::accumulator::{Parts, push_record, record_bytes_max};
use super::now_ms;
use crate::{Error, Record};

/// Records for one partition, handed over at once with [`crate::Producer::send_batch`]: one short lock and one
/// receipt for all of them. They are stored next to each other, in this order, all or none.
pub struct ReadyBatch {
    partition: u32,
    builder: BatchBuilder,
    timestamp: i64,
    bytes_max: usize,
}

impl ReadyBatch {
    pub(super) fn new(partition: u32, builder: BatchBuilder, bytes_max: usize) -> Self {
        ReadyBatch { partition, builder, timestamp: now_ms(), bytes_max }
    }

    /// The partition it goes to.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.builder.len()
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Bytes of the batch so far, before compression. Batches of 16 KiB to 256 KiB serve best.
    pub fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Adds a record. Its partition is the batch's, and its time, if it has none, that of the batch.
    ///
    /// # Errors
    /// The batch would be over the topic's limit; it stays as it was, to be sent before this record.
    pub fn push(&mut self, record: &Record) -> Result<(), Error> {
        self.push_parts(&Parts {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            timestamp: record.timestamp.unwrap_or(self.timestamp),
            partition: None,
        })
    }

    /// [`ReadyBatch::push`] for borrowed bytes without headers.
    ///
    /// # Errors
    /// As there.
    pub fn push_bytes(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error> {
        self.push_parts(&Parts { key, value: Some(value), timestamp: self.timestamp, ..Parts::default() })
    }

    fn push_parts(&mut self, parts: &Parts<'_>) -> Result<(), Error> {
        let bytes = self.builder.bytes() + record_bytes_max(parts);
        if bytes > self.bytes_max {
            let (max, records) = (self.bytes_max, self.len());
            let message = match records {
                0 => {
                    format!("record of {} bytes is over the topic's limit of {max} bytes per batch", bytes - HEADER_LEN)
                }
                _ => format!("the batch of {records} records is full: the topic's limit is {max} bytes per batch"),
            };
            return Err(Error::Invalid(message));
        }
        push_record(&mut self.builder, parts);
        Ok(())
    }

    pub(super) fn into_builder(self) -> BatchBuilder {
        self.builder
    }
}

impl std::fmt::Debug for ReadyBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyBatch")
            .field("partition", &self.partition)
            .field("records", &self.len())
            .finish_non_exhaustive()
    }
}
