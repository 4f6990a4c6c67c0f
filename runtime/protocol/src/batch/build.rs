//! Builds batches record by record into one buffer: the header's room first, then the records, so an
//! uncompressed batch is finished in place.

use bytes::Bytes;

use super::Compression;
use super::compression::Encoder;
use super::header::{BatchHeader, HEADER_LEN, stamp_crc};
use super::varint::{Scratch, put_varint, varint_len};
use crate::pool::{self, Buffer};
use crate::{LeaderEpoch, Offset, ProducerId};

/// Collects records and turns them into a batch with base offset 0 and leader epoch -1, as producers
/// send it. Reusable: [`BatchBuilder::build`] leaves it empty, with its settings.
pub struct BatchBuilder {
    encoder: Encoder,
    /// Room for the header, then the encoded records.
    buffer: Buffer,
    records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: Producer,
}

struct Producer {
    id: ProducerId,
    epoch: i16,
    base_sequence: i32,
}

/// What a batch without an idempotent producer carries.
const NO_PRODUCER: Producer = Producer { id: ProducerId::NONE, epoch: -1, base_sequence: -1 };

impl BatchBuilder {
    pub fn new(compression: Compression) -> Self {
        BatchBuilder {
            encoder: Encoder::new(compression),
            buffer: with_header_room(HEADER_LEN),
            records: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer: NO_PRODUCER,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the batch so far, before compression.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The most bytes one more record of these sizes (headers: sum of names and values) can add.
    pub fn record_bytes_max(key: usize, value: usize, headers: usize, header_bytes: usize) -> usize {
        // Length, deltas, two lengths and the header count, each at its widest; two lengths per header.
        5 + 1 + 10 + 5 + 5 + key + 5 + value + 5 + headers * 10 + header_bytes
    }

    /// The id and sequence number of the next batch built; one call is good for one batch.
    pub fn set_producer(&mut self, id: ProducerId, epoch: i16, base_sequence: i32) {
        self.producer = Producer { id, epoch, base_sequence };
    }

    /// Appends a record without headers.
    ///
    /// # Panics
    /// When the batch outgrows 2 GiB; callers keep to the topic's batch limit, which is far below.
    pub fn push_simple(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.put_head(timestamp, key, value, varint_len(0));
        put_varint(&mut self.buffer, 0);
    }

    /// Appends a record. `headers` is walked twice.
    ///
    /// # Panics
    /// As [`BatchBuilder::push_simple`].
    pub fn push<'h, I>(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: I)
    where
        I: Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    {
        let (mut count, mut len) = (0, 0);
        for (name, value) in headers.clone() {
            count += 1;
            len += nullable_len(Some(name)) + nullable_len(value);
        }
        self.put_head(timestamp, key, value, varint_len(count) + len);
        put_varint(&mut self.buffer, count);
        for (name, value) in headers {
            self.put_nullable(Some(name));
            self.put_nullable(value);
        }
    }

    /// Writes a record up to its headers, which will take `headers_len` bytes, count included.
    fn put_head(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers_len: usize) {
        if self.records == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        // Wrapping: decoding wraps back, and timestamps from outside may be anything.
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.records);
        let deltas_len = varint_len(timestamp_delta) + varint_len(offset_delta);
        let length = 1 + deltas_len + nullable_len(key) + nullable_len(value) + headers_len;
        assert!(self.buffer.len() + length <= i32::MAX as usize, "a batch stays below 2 GiB");

        self.buffer.reserve(length + 5);
        let mut head = Scratch::new();
        head.varint(length as i64);
        head.byte(0);
        head.varint(timestamp_delta);
        head.varint(offset_delta);
        self.buffer.extend_from_slice(head.as_slice());
        self.put_nullable(key);
        self.put_nullable(value);
        self.records += 1;
    }

    fn put_nullable(&mut self, part: Option<&[u8]>) {
        match part {
            Some(part) => {
                put_varint(&mut self.buffer, part.len() as i64);
                self.buffer.extend_from_slice(part);
            }
            None => put_varint(&mut self.buffer, -1),
        }
    }

    /// The finished batch. The builder is empty afterwards and may be used again.
    ///
    /// # Panics
    /// When there is no record.
    pub fn build(&mut self) -> Bytes {
        assert!(self.records > 0, "a batch holds at least one record");
        let mut batch = self.take_records();
        let producer = std::mem::replace(&mut self.producer, NO_PRODUCER);
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: i32::try_from(batch.len() - 12).expect("a batch stays below 2 GiB"),
            leader_epoch: LeaderEpoch(-1),
            crc: 0,
            attributes: self.encoder.codec().attributes(),
            last_offset_delta: self.records - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.records,
        };
        self.records = 0;
        header.encode(batch.first_chunk_mut().expect("room for the header was made first"));
        stamp_crc(&mut batch);
        batch.freeze()
    }

    /// Takes the buffer (compressed if asked for) and leaves one of the same size behind.
    fn take_records(&mut self) -> Buffer {
        if self.encoder.codec() == Compression::None {
            let next = with_header_room(self.buffer.len());
            return std::mem::replace(&mut self.buffer, next);
        }
        let mut batch = with_header_room(HEADER_LEN);
        self.encoder.encode(&self.buffer[HEADER_LEN..], &mut batch);
        self.buffer.truncate(HEADER_LEN);
        batch
    }
}

/// A buffer for `bytes` in which the header's room is taken.
fn with_header_room(bytes: usize) -> Buffer {
    let mut buffer = pool::take(bytes);
    buffer.resize(HEADER_LEN, 0);
    buffer
}

fn nullable_len(part: Option<&[u8]>) -> usize {
    part.map_or(varint_len(-1), |part| varint_len(part.len() as i64) + part.len())
}
