//! Batches, and what a partition is to hold.

use bytes::Bytes;
use millstream_log::{Log, Storage};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, patch_header, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId};

use crate::chance::Chance;

/// A batch in its place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) header: BatchHeader,
    /// As it lies in the file.
    pub(super) bytes: Bytes,
    pub(super) timestamps: Vec<i64>,
}

/// One partition: what was appended, and how much of that must be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    pub(super) batches: Vec<Placed>,
    pub(super) start: Offset,
    /// A deletion up to here was under way.
    pub(super) start_wanted: Offset,
    pub(super) durable: Offset,
    pub(super) epoch: i32,
    /// Of the one producer.
    pub(super) sequence: i32,
}

/// An idempotent producer's next batch.
pub(super) fn batch(partition: &Partition, now_ms: i64, chance: &mut Chance) -> (BatchHeader, Bytes, Vec<i64>) {
    let records = 1 + chance.index(4);
    let mut builder = BatchBuilder::new(Compression::None);
    let mut timestamps = Vec::with_capacity(records);
    for place in 0..records {
        let timestamp = now_ms - chance.below(30) as i64;
        let value = format!("record {}/{place}", partition.sequence);
        builder.push_simple(timestamp, Some(b"key"), Some(value.as_bytes()));
        timestamps.push(timestamp);
    }
    builder.set_producer(ProducerId(7), 0, partition.sequence);
    let (header, bytes) = one(&builder.build());
    (header, bytes, timestamps)
}

/// A batch with one value, of no producer.
pub(super) fn note(value: &str, now_ms: i64) -> (BatchHeader, Bytes, Vec<i64>) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push_simple(now_ms, None, Some(value.as_bytes()));
    let (header, bytes) = one(&builder.build());
    (header, bytes, vec![now_ms])
}

fn one(built: &Bytes) -> (BatchHeader, Bytes) {
    split_batches(built).next().expect("something was built").expect("it was built well")
}

impl Partition {
    pub(super) fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |placed| placed.header.next_offset())
    }

    /// Puts a batch behind the others; it may or may not be there from now on.
    pub(super) fn push(&mut self, (header, bytes, timestamps): (BatchHeader, Bytes, Vec<i64>)) {
        let (base_offset, leader_epoch) = (self.end(), LeaderEpoch(self.epoch));
        let mut patched = bytes.to_vec();
        patch_header(&mut patched, base_offset, leader_epoch);
        let header = BatchHeader { base_offset, leader_epoch, ..header };
        self.sequence += header.record_count;
        self.batches.push(Placed { header, bytes: patched.into(), timestamps });
    }

    /// Forgets what can't be read any more, and what was lost.
    pub(super) fn settle(&mut self, start: Offset, end: Offset) {
        self.batches.retain(|placed| placed.header.last_offset() >= start && placed.header.last_offset() < end);
        (self.start, self.start_wanted, self.durable) = (start, start, self.durable.max(start));
    }

    /// Compares with a log that was opened.
    ///
    /// # Errors
    /// What is not as it must be.
    pub(super) fn check<S: Storage>(&self, log: &Log<S>, chance: &mut Chance) -> Result<(), String> {
        let (start, end) = (log.start_offset(), log.end_offset());
        if end < self.durable || log.durable_end() != end {
            return Err(format!("the log ends at {end}, {} was acknowledged", self.durable));
        }
        if start < self.start || start > self.start_wanted.max(self.start) {
            return Err(format!("the log starts at {start}, not at {} to {}", self.start, self.start_wanted));
        }
        let expected: Vec<&Placed> =
            self.batches.iter().filter(|placed| placed.header.last_offset() >= start).collect();
        let whole = expected.iter().take_while(|placed| placed.header.next_offset() <= end).count();
        let expected = &expected[..whole];
        let last = expected.last().map_or(start, |placed| placed.header.next_offset());
        if last != end {
            return Err(format!("the log ends at {end}, within a batch or beyond what was appended"));
        }
        let reader = log.reader();
        let read = |at, bytes, end| reader.read(at, bytes, end).map_err(|e| e.to_string());
        let mut next = start;
        let mut left = expected.iter();
        while next < end {
            let bytes = read(next, 4_096, end)?;
            let mut found = &bytes[..];
            if found.is_empty() {
                return Err(format!("nothing is read at {next}, the end is {end}"));
            }
            while !found.is_empty() {
                let placed = left.next().ok_or_else(|| format!("more than was appended at {next}"))?;
                found = found.strip_prefix(&placed.bytes[..]).ok_or_else(|| format!("other bytes at {next}"))?;
                next = placed.header.next_offset();
            }
        }
        if let Some(placed) = (!expected.is_empty()).then(|| *chance.pick(expected)) {
            let offset = placed.header.base_offset + chance.below(placed.timestamps.len() as u64) as i64;
            let found = read(offset.max(start), 1, end)?;
            if found != placed.bytes {
                return Err(format!("offset {offset} is not found"));
            }
            let timestamp = *chance.pick(&placed.timestamps) + i64::from(chance.one_in(2));
            let found = reader.offset_for_timestamp(timestamp, end).map_err(|e| e.to_string())?;
            let wanted = first_at(expected, timestamp, start);
            if found != wanted {
                return Err(format!("timestamp {timestamp} is found at {found:?}, not at {wanted:?}"));
            }
        }
        Ok(())
    }

    /// The last batch is recognised when it is sent again.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check_producer<S: Storage>(&self, log: &mut Log<S>) -> Result<(), String> {
        let end = log.end_offset();
        let last = self.batches.iter().find(|placed| placed.header.next_offset() == end);
        let Some(last) = last.filter(|last| last.header.producer_id != ProducerId::NONE) else { return Ok(()) };
        let again = log.append(&[(last.header, last.bytes.clone())], LeaderEpoch(self.epoch), 0);
        let again = again.map_err(|e| format!("the last batch is refused when it is sent again: {e}"))?;
        match again.duplicate_of {
            Some(base) if base == last.header.base_offset => Ok(()),
            other => Err(format!("the last batch, sent again, was taken for {other:?}")),
        }
    }
}

fn first_at(batches: &[&Placed], timestamp: i64, start: Offset) -> Option<Offset> {
    let rows = batches
        .iter()
        .flat_map(|placed| (0..).map(|row| placed.header.base_offset + row).zip(placed.timestamps.iter().copied()));
    rows.filter(|(offset, _)| *offset >= start).find(|(_, at)| *at >= timestamp).map(|(offset, _)| offset)
}
