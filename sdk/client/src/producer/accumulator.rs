//! Where records wait to be sent: one open batch per partition, full ones in order behind it. Locked for a
//! moment per record by whoever sends, and for a moment per round by the driver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, HEADER_LEN};
use millstream_protocol::partitioner::partition_for_key;

use super::Settings;
use super::ready::ReadyBatch;
use super::receipt::{Completion, Receipt};
use crate::Error;
use crate::link::Topic;

/// So many requests may be unanswered while batches that are not full are sent at once. With more, records are gathered:
/// who sends them one by one as fast as the machine answers would otherwise fill it with small batches, each of which
/// costs as much as a large one …
const SMALL_IN_FLIGHT: usize = 2;
/// … for so long at most, the shortest that a timer can measure. It is little beside the round trip on a network where
/// answers take longer.
const GATHER: Duration = Duration::from_millis(1);
/// Records without a key go to one partition for so many bytes at first, and for twice as many after each round of all
/// partitions, up to a batch: little input is spread evenly, much of it in full batches.
const RUN_BYTES_MIN: usize = 1 << 10;
/// Builders kept for reuse.
const BUILDERS_MAX: usize = 64;

/// A record, borrowed from wherever it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(Bytes, Option<Bytes>)],
    pub(super) timestamp: i64,
    pub(super) partition: Option<u32>,
}

/// A batch with its records, not yet encoded.
pub(super) struct Filled {
    /// Batches are numbered as they are opened; per partition that is their order.
    pub(super) number: u64,
    pub(super) partition: u32,
    pub(super) builder: BatchBuilder,
    pub(super) completion: Arc<Completion>,
    pub(super) opened_at: Instant,
}

/// How long records without a key stay with a partition.
struct Run {
    /// Bytes of each run, in this round of the partitions.
    bytes: usize,
    /// Of the current one.
    left: usize,
    /// Runs of this round that have ended.
    ended: usize,
}

impl Run {
    const FIRST: Run = Run { bytes: RUN_BYTES_MIN, left: RUN_BYTES_MIN, ended: 0 };
}

/// What became of a record that was offered.
pub(super) enum Pushed {
    Taken {
        receipt: Receipt,
        /// The driver has something new to look at.
        wake: bool,
    },
    /// The buffer memory is used up.
    Full,
}

pub(super) struct Accumulator {
    settings: Settings,
    topic: Option<Topic>,
    open: Vec<Option<Filled>>,
    ready: VecDeque<Filled>,
    builders: Vec<BatchBuilder>,
    /// Bytes of all records that are not acknowledged.
    buffered: usize,
    /// Bytes of each batch that is not acknowledged; open ones stand with 0.
    outstanding: BTreeMap<u64, usize>,
    next_number: u64,
    /// Where records without a key go until their batch is full, or their run has ended.
    sticky: u32,
    run: Run,
    /// Batches with a lower number go without lingering.
    flush_before: u64,
    closed: Option<Error>,
    /// The first failure since the last flush.
    failed: Option<Error>,
}

impl Accumulator {
    pub(super) fn new(settings: Settings) -> Self {
        Accumulator {
            settings,
            topic: None,
            open: Vec::new(),
            ready: VecDeque::new(),
            builders: Vec::new(),
            buffered: 0,
            outstanding: BTreeMap::new(),
            next_number: 0,
            sticky: rand::random(),
            run: Run::FIRST,
            flush_before: 0,
            closed: None,
            failed: None,
        }
    }

    pub(super) fn topic(&self) -> Option<&Topic> {
        self.topic.as_ref()
    }

    /// Sets the topic, or what changed about it; the number of partitions never falls.
    pub(super) fn set_topic(&mut self, topic: Topic) {
        let partitions = self.open.len().max(topic.partitions as usize);
        self.open.resize_with(partitions, || None);
        self.topic = Some(topic);
    }

    /// Puts a record into the open batch of its partition.
    ///
    /// # Errors
    /// The producer is closed, or the record can never be taken.
    pub(super) fn push(&mut self, parts: &Parts<'_>) -> Result<Pushed, Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.buffered >= self.settings.buffer_bytes {
            return Ok(Pushed::Full);
        }
        if self.buffered == 0 {
            // After a pause what comes may be little again.
            self.run = Run::FIRST;
        }
        let partition = self.partition_of(parts)?;
        let bytes = self.check_size(parts)?;
        let slot = partition as usize;
        let target = self.target_bytes();
        let over = |filled: &Filled| filled.builder.bytes() + bytes > target;
        let mut wake = self.open[slot].as_ref().is_some_and(over);
        if wake {
            self.fill(slot);
        }
        let partition = if wake && parts.key.is_none() { self.partition_of(parts)? } else { partition };
        let slot = partition as usize;
        if self.open[slot].is_none() {
            let opened = self.open_batch(partition);
            self.open[slot] = Some(opened);
            wake = true;
        }
        let filled = self.open[slot].as_mut().expect("it was opened just now");
        let before = filled.builder.bytes();
        push_record(&mut filled.builder, parts);
        let after = filled.builder.bytes();
        let receipt = filled.completion.receipt(filled.builder.len() - 1);
        self.buffered += after - before;
        if after >= target {
            self.fill(slot);
            wake = true;
        } else if parts.key.is_none() && parts.partition.is_none() {
            self.run.left = self.run.left.saturating_sub(after - before);
            if self.run.left == 0 {
                self.next_run();
            }
        }
        Ok(Pushed::Taken { receipt, wake })
    }

    fn partition_of(&self, parts: &Parts<'_>) -> Result<u32, Error> {
        let partitions = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        match (parts.partition, parts.key) {
            (Some(partition), _) if partition < partitions => Ok(partition),
            (Some(partition), _) => {
                let name = self.topic.as_ref().map_or("", |topic| &*topic.name);
                let message = format!("topic `{name}` has {partitions} partitions, there is no partition {partition}");
                Err(Error::Invalid(message))
            }
            (None, Some(key)) => Ok(partition_for_key(key, partitions).0),
            (None, None) => Ok(self.sticky % partitions.max(1)),
        }
    }

    fn check_size(&self, parts: &Parts<'_>) -> Result<usize, Error> {
        let bytes = record_bytes_max(parts);
        let limit = self.limit_bytes();
        if bytes + HEADER_LEN > limit {
            let message = format!("record of {bytes} bytes is over the topic's limit of {limit} bytes per batch");
            return Err(Error::Invalid(message));
        }
        Ok(bytes)
    }

    /// Batches are full at this size.
    fn target_bytes(&self) -> usize {
        self.settings.batch_bytes.min(self.limit_bytes())
    }

    /// The topic's own limit of a batch.
    fn limit_bytes(&self) -> usize {
        self.topic.as_ref().map_or(usize::MAX, |topic| topic.batch_bytes_max)
    }

    /// An empty batch for a program to fill.
    ///
    /// # Errors
    /// The producer is closed, or there is no such partition.
    pub(super) fn ready_batch(&mut self, partition: u32) -> Result<ReadyBatch, Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let partition = self.partition_of(&Parts { partition: Some(partition), ..Parts::default() })?;
        let limit = self.limit_bytes();
        Ok(ReadyBatch::new(partition, self.builder(), limit))
    }

    /// Puts a batch behind the records that its partition has already. Takes it out of `batch` unless the buffer
    /// is full.
    ///
    /// # Errors
    /// The producer is closed.
    pub(super) fn push_batch(&mut self, batch: &mut Option<ReadyBatch>) -> Result<Pushed, Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.buffered >= self.settings.buffer_bytes {
            return Ok(Pushed::Full);
        }
        let Some(batch) = batch.take() else { return Ok(Pushed::Full) };
        // It may be another producer's.
        self.partition_of(&Parts { partition: Some(batch.partition()), ..Parts::default() })?;
        self.fill(batch.partition() as usize);
        let filled = self.number(batch.partition(), batch.into_builder());
        let receipt = filled.completion.receipt(0);
        self.buffered += filled.builder.bytes() - HEADER_LEN;
        self.put_ready(filled);
        Ok(Pushed::Taken { receipt, wake: true })
    }

    fn open_batch(&mut self, partition: u32) -> Filled {
        let builder = self.builder();
        self.number(partition, builder)
    }

    fn builder(&mut self) -> BatchBuilder {
        self.builders.pop().unwrap_or_else(|| BatchBuilder::new(self.settings.compression))
    }

    /// The next batch, open for now.
    fn number(&mut self, partition: u32, builder: BatchBuilder) -> Filled {
        let number = self.next_number;
        self.next_number += 1;
        self.outstanding.insert(number, 0);
        let completion = Arc::new(Completion::new(partition));
        Filled { number, partition, builder, completion, opened_at: Instant::now() }
    }

    /// Moves an open batch behind the ready ones.
    fn fill(&mut self, slot: usize) {
        let Some(filled) = self.open[slot].take() else { return };
        if self.sticky as usize % self.open.len() == slot {
            self.next_run();
        }
        self.put_ready(filled);
    }

    /// Records without a key go on to the next partition.
    fn next_run(&mut self) {
        let partitions = self.open.len();
        self.sticky = ((self.sticky as usize % partitions + 1) % partitions) as u32;
        self.run.ended += 1;
        if self.run.ended >= partitions {
            self.run.ended = 0;
            self.run.bytes = (self.run.bytes * 2).min(self.target_bytes());
        }
        self.run.left = self.run.bytes;
    }

    fn put_ready(&mut self, filled: Filled) {
        self.outstanding.insert(filled.number, filled.builder.bytes() - HEADER_LEN);
        self.ready.push_back(filled);
    }

    /// Everything that is to be sent now, in order per partition: full batches, and open ones that waited
    /// their time, of partitions that are `free`; `unanswered` requests are on their way. Also when the next one will have.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        unanswered: usize,
        free: impl Fn(u32) -> bool,
    ) -> (Vec<Filled>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let linger = self.settings.linger;
        let linger = if unanswered < SMALL_IN_FLIGHT { linger } else { linger.max(GATHER) };
        for slot in 0..self.open.len() {
            let Some(filled) = &self.open[slot] else { continue };
            let due = filled.opened_at + linger;
            let urgent = filled.number < self.flush_before || self.closed.is_some();
            if !free(slot as u32) {
                // An acknowledgement makes it free and wakes the driver.
            } else if urgent || due <= now {
                self.fill(slot);
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        (self.ready.drain(..).collect(), next)
    }

    /// A builder that was built from, for the next batch.
    pub(super) fn give_back(&mut self, builder: BatchBuilder) {
        if self.builders.len() < BUILDERS_MAX {
            self.builders.push(builder);
        }
    }

    /// The batch is no longer on its way.
    pub(super) fn finish(&mut self, number: u64, failed: Option<&Error>) {
        self.buffered = self.buffered.saturating_sub(self.outstanding.remove(&number).unwrap_or(0));
        if let Some(error) = failed {
            self.failed.get_or_insert_with(|| error.clone());
        }
    }

    /// Makes everything buffered go now; the number that [`Accumulator::is_flushed`] asks for.
    pub(super) fn flush(&mut self) -> u64 {
        self.flush_before = self.next_number;
        self.next_number
    }

    pub(super) fn is_flushed(&self, before: u64) -> bool {
        self.outstanding.first_key_value().is_none_or(|(first, _)| *first >= before)
    }

    pub(super) fn take_failed(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Takes no more records. What is buffered is still sent.
    pub(super) fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Batches that are not acknowledged.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Gives up on everything that the driver has not taken.
    pub(super) fn abandon(&mut self, error: &Error) -> Vec<Filled> {
        self.close(error.clone());
        (0..self.open.len()).for_each(|slot| self.fill(slot));
        self.ready.drain(..).collect()
    }
}

/// The most bytes that the record can add to a batch.
pub(super) fn record_bytes_max(parts: &Parts<'_>) -> usize {
    let (key, value) = (parts.key.map_or(0, <[u8]>::len), parts.value.map_or(0, <[u8]>::len));
    let header_bytes: usize =
        parts.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len)).sum();
    BatchBuilder::record_bytes_max(key, value, parts.headers.len(), header_bytes)
}

pub(super) fn push_record(builder: &mut BatchBuilder, parts: &Parts<'_>) {
    if parts.headers.is_empty() {
        builder.push_simple(parts.timestamp, parts.key, parts.value);
    } else {
        let headers = parts.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        builder.push(parts.timestamp, parts.key, parts.value, headers);
    }
}

/// The time between now and then, for sleeping.
pub(super) fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use millstream_protocol::TopicId;
    use millstream_protocol::batch::Compression;
    use millstream_protocol::message::Acks;

    use super::*;

    fn accumulator(linger: Duration) -> Accumulator {
        let settings = Settings {
            linger,
            batch_bytes: 1_000,
            buffer_bytes: 1 << 20,
            compression: Compression::None,
            acks: Acks::All,
            idempotent: true,
            delivery_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
        };
        let mut accumulator = Accumulator::new(settings);
        accumulator.set_topic(Topic { id: TopicId(1), name: "t".into(), partitions: 1, batch_bytes_max: 1 << 20 });
        accumulator
    }

    /// Puts in a record of `bytes`, and says how many batches go then and `later`, with so many requests unanswered.
    fn check(
        accumulator: &mut Accumulator,
        bytes: usize,
        unanswered: usize,
        (later, expected): (Duration, [usize; 2]),
    ) {
        let value = vec![7; bytes];
        accumulator.push(&Parts { value: Some(&value), ..Parts::default() }).unwrap();
        let opened = accumulator.open[0].as_ref().map_or_else(Instant::now, |open| open.opened_at);
        let (now, next) = accumulator.collect(opened, unanswered, |_| true);
        assert_eq!(next, now.is_empty().then(|| opened + later));
        let (after, next) = accumulator.collect(opened + later, unanswered, |_| true);
        assert_eq!(([now.len(), after.len()], next), (expected, None), "{bytes} bytes, {unanswered} unanswered");
    }

    #[test]
    fn small_batches_are_gathered_while_requests_are_unanswered() {
        let mut at_once = accumulator(Duration::ZERO);
        check(&mut at_once, 10, 0, (GATHER, [1, 0]));
        check(&mut at_once, 10, SMALL_IN_FLIGHT - 1, (GATHER, [1, 0]));
        check(&mut at_once, 10, SMALL_IN_FLIGHT, (GATHER, [0, 1]));
        check(&mut at_once, 2_000, 100, (GATHER, [1, 0]));
        let lingering = Duration::from_millis(5);
        check(&mut accumulator(lingering), 10, 0, (lingering, [0, 1]));
        check(&mut accumulator(lingering), 10, 100, (lingering, [0, 1]));
    }

    /// However much it is, no partition is left out, and none gets much more than another.
    #[test]
    fn records_without_a_key_are_spread() {
        let check = |records: usize, bytes: usize, partitions: u32| {
            let mut accumulator = accumulator(Duration::from_secs(1));
            accumulator.settings.batch_bytes = 256 << 10;
            accumulator.settings.buffer_bytes = 1 << 30;
            let topic = Topic { id: TopicId(1), name: "t".into(), partitions, batch_bytes_max: 1 << 20 };
            accumulator.set_topic(topic);
            let value = vec![7; bytes];
            for _ in 0..records {
                accumulator.push(&Parts { value: Some(&value), ..Parts::default() }).unwrap();
            }
            let mut counts = vec![0; partitions as usize];
            let waiting = accumulator.ready.iter().chain(accumulator.open.iter().flatten());
            let batches: Vec<&Filled> = waiting.collect();
            batches.iter().for_each(|filled| counts[filled.partition as usize] += filled.builder.len());
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert_eq!(counts.iter().sum::<usize>(), records);
            assert!(*most <= 2 * least + 1_024 / bytes + 1, "{records} of {bytes} bytes: {counts:?}");
            // Much of it goes in full batches: an open one at most for each partition, and those of the beginning.
            let full = records * bytes / (256 << 10);
            assert!(batches.len() <= 2 * full + partitions as usize, "{} batches, {full} would do", batches.len());
        };
        for (records, bytes) in [(10, 100), (2_000, 10), (2_000, 100), (20_000, 100), (200_000, 100), (3_000, 5_000)] {
            check(records, bytes, 3);
            check(records, bytes, 1);
        }
        check(200_000, 100, 12);
    }

    #[test]
    fn whoever_flushes_waits_for_no_other_batch() {
        let mut accumulator = accumulator(Duration::ZERO);
        accumulator.push(&Parts::default()).unwrap();
        accumulator.flush();
        check(&mut accumulator, 10, 100, (GATHER, [1, 0]));
    }
}
