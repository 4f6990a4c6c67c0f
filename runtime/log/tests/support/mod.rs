//! What the log's tests share: batches, logs over any storage, and reading everything back.

#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::Bytes;
use millstream_log::{Config, Log, Storage};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(7);

/// A batch of records with these timestamps; values tell `tag` and their place.
pub(crate) fn batch(tag: u64, timestamps: &[i64]) -> (BatchHeader, Bytes) {
    build(tag, timestamps, None)
}

/// A batch of `records` of an idempotent producer.
pub(crate) fn sequenced(producer: i64, epoch: i16, sequence: i32, records: usize) -> (BatchHeader, Bytes) {
    build(u64::from(sequence.cast_unsigned()), &vec![1_000; records], Some((ProducerId(producer), epoch, sequence)))
}

fn build(tag: u64, timestamps: &[i64], producer: Option<(ProducerId, i16, i32)>) -> (BatchHeader, Bytes) {
    let mut builder = BatchBuilder::new(Compression::None);
    for (place, timestamp) in timestamps.iter().enumerate() {
        let value = format!("record {tag}/{place}");
        builder.push_simple(*timestamp, Some(format!("key {tag}").as_bytes()), Some(value.as_bytes()));
    }
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(id, epoch, sequence);
    }
    split_batches(&builder.build()).next().unwrap().unwrap()
}

/// Small segments, an index entry per batch or two.
pub(crate) fn small() -> Config {
    Config {
        segment_bytes: 1_000,
        index_interval_bytes: 100,
        retention_ms: None,
        preallocate_bytes: 256,
        ..Config::default()
    }
}

pub(crate) fn open<S: Storage>(storage: S) -> Log<S> {
    Log::open(storage, small(), 0).unwrap().0
}

pub(crate) fn append<S: Storage>(log: &mut Log<S>, batches: &[(BatchHeader, Bytes)]) -> Offset {
    log.append(batches, EPOCH, 0).unwrap().base_offset
}

/// Appends one batch of `records` for each tag.
pub(crate) fn fill<S: Storage>(log: &mut Log<S>, tags: std::ops::Range<u64>, records: usize) {
    for tag in tags {
        append(log, &[batch(tag, &vec![1_000 + tag as i64; records])]);
    }
}

pub(crate) fn sync<S: Storage>(log: &mut Log<S>) -> Offset {
    match log.begin_sync() {
        Some(job) => log.finish_sync(job.run()).unwrap(),
        None => log.durable_end(),
    }
}

/// Every batch from the start to the end, read with a limit that makes several reads of it.
pub(crate) fn read_all<S: Storage>(log: &Log<S>) -> Vec<(BatchHeader, Bytes)> {
    let reader = log.reader();
    let mut all = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let bytes = reader.read(next, 300, log.end_offset()).unwrap();
        assert!(!bytes.is_empty(), "nothing at {next}, the end is {}", log.end_offset());
        for found in split_batches(&bytes) {
            let (header, batch) = found.unwrap();
            next = header.next_offset();
            all.push((header, batch));
        }
    }
    all
}
