//! One partition as its owner has it: the log, the replica that says how far it may be read, and the appends
//! that wait for their acknowledgement; and what may be read and written at all.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use millstream_cluster::metadata::State;
use millstream_cluster::replica::{Event, Output, Replica, Ticket};
use millstream_log as log;
use millstream_log::{Log, Reader, Storage};
use millstream_protocol::batch::{BatchHeader, check_new_batch, split_batches};
use millstream_protocol::message::{Acks, Durability};
use millstream_protocol::{ErrorCode, Failure, LeaderEpoch, Offset, PartitionIndex, TopicPartition, mutant};

/// Batches whose headers were parsed, in the order they are to be appended.
pub type Batches = Vec<(BatchHeader, Bytes)>;

/// Where an append went. It is as durable as its [`Acks`] asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Of the first record; of the first time when it was recognised as a duplicate.
    pub base_offset: Offset,
    /// After the last record.
    pub end: Offset,
    pub log_start: Offset,
}

/// Whole batches, the first of which contains the offset asked for.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Empty at the end.
    pub bytes: Bytes,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Sizes and ages of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogDescription {
    pub bytes: u64,
    pub segments: u32,
    /// Of the oldest segment's first record; -1 when there is none.
    pub oldest_timestamp: i64,
}

/// What an event of one partition leads to. `W` is whoever waits for an append.
#[derive(Debug)]
pub enum Effect<W> {
    /// Consumers may read up to here. Comes before the acknowledgements it allows.
    HighWatermark(Offset),
    Answer(W, Result<Appended, Failure>),
}

/// What is to be appended, and who waits for it.
#[derive(Debug)]
pub struct Append<W> {
    pub batches: Batches,
    pub acks: Acks,
    pub waiter: W,
}

/// See the module's head. After a failure the log is dropped; nobody who waited stays unanswered.
pub struct Partition<S: Storage, W> {
    topic: Arc<str>,
    index: PartitionIndex,
    log: Log<S>,
    replica: Replica,
    waiting: HashMap<Ticket, (W, Appended)>,
    next_ticket: u64,
    outputs: Vec<Output>,
    pub(super) sync_in_flight: bool,
    /// On the owner's list of logs to sync.
    pub(super) sync_wanted: bool,
}

impl<S: Storage, W> Partition<S, W> {
    pub fn new((topic, index): (Arc<str>, PartitionIndex), log: Log<S>, durability: Durability) -> Self {
        let replica = Replica::new(LeaderEpoch(0), durability, log.end_offset());
        Partition {
            topic,
            index,
            log,
            replica,
            waiting: HashMap::new(),
            next_ticket: 0,
            outputs: Vec::new(),
            sync_in_flight: false,
            sync_wanted: false,
        }
    }

    /// Appends to the page cache; answers now or when the replica allows it.
    ///
    /// # Errors
    /// The log can't go on (the append is answered all the same).
    pub fn append(&mut self, append: Append<W>, now_ms: i64, out: &mut Vec<Effect<W>>) -> Result<(), Failure> {
        let Append { batches, acks, waiter } = append;
        match self.log.append(&batches, self.replica.epoch(), now_ms) {
            Ok(done) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                let appended = Appended {
                    base_offset: done.base_offset,
                    end: done.end_offset,
                    log_start: self.log.start_offset(),
                };
                self.waiting.insert(ticket, (waiter, appended));
                self.feed(Event::Appended { ticket, end: appended.end, acks }, out);
                Ok(())
            }
            Err(error) => {
                let failure = self.failure(&error);
                out.push(Effect::Answer(waiter, Err(failure.clone())));
                // Short of file descriptors, for example, a file can't be opened or begun now, but maybe later.
                if self.log.is_fenced() { Err(failure) } else { Ok(()) }
            }
        }
    }

    /// Whether an append waits for nothing but the page cache: neither for a sync nor for files to be made.
    pub fn is_quick(&self, batches: &Batches, now_ms: i64) -> bool {
        let bytes = batches.iter().map(|(_, batch)| batch.len() as u64).sum();
        !self.replica.waits_for_disk() && self.log.has_room(bytes, self.replica.epoch(), now_ms)
    }

    /// Whether appended records wait for a sync that isn't on its way, or so many are in the page cache only that one is
    /// due.
    pub fn wants_sync(&self) -> bool {
        let due = self.replica.wants_sync() || self.log.is_sync_due();
        due && !self.sync_in_flight
    }

    /// Whether anything is in the page cache only, wanted there or not.
    pub fn is_unsynced(&self) -> bool {
        !self.sync_in_flight && self.log.durable_end() < self.log.end_offset()
    }

    pub fn begin_sync(&mut self) -> Option<log::SyncJob> {
        let mut job = self.log.begin_sync()?;
        job.waited_for = self.replica.wants_sync();
        self.sync_in_flight = true;
        Some(job)
    }

    /// # Errors
    /// The sync failed: the log is fenced.
    pub fn finish_sync(&mut self, done: log::SyncDone, out: &mut Vec<Effect<W>>) -> Result<(), Failure> {
        self.sync_in_flight = false;
        let end = self.log.finish_sync(done).map_err(|e| self.failure(&e))?;
        self.feed(Event::Durable { end }, out);
        Ok(())
    }

    /// Makes records before `before` unreadable, durably; gives the new start.
    ///
    /// # Errors
    /// The log's.
    pub fn delete_records(&mut self, before: Offset) -> Result<Offset, Failure> {
        self.log.delete_records(before).map_err(|e| self.failure(&e))?;
        Ok(self.log.start_offset())
    }

    /// Retention and rolling by age.
    ///
    /// # Errors
    /// The log's; it is tried again at the next tick.
    pub fn tick(&mut self, now_ms: i64) -> Result<(), log::Error> {
        self.log.apply_retention(now_ms).map(drop)
    }

    pub fn set_config(&mut self, config: log::Config, durability: Durability, out: &mut Vec<Effect<W>>) {
        self.log.set_config(config);
        self.feed(Event::DurabilityChanged { durability }, out);
    }

    pub fn describe(&self) -> LogDescription {
        let described = self.log.describe();
        LogDescription {
            bytes: described.bytes,
            segments: u32::try_from(described.segments).unwrap_or(u32::MAX),
            oldest_timestamp: described.oldest_timestamp.unwrap_or(-1),
        }
    }

    /// End of what was appended, durable or not.
    pub fn log_end(&self) -> Offset {
        self.log.end_offset()
    }

    /// End of what is on the disk.
    pub fn durable_end(&self) -> Offset {
        self.log.durable_end()
    }

    pub fn high_watermark(&self) -> Offset {
        self.replica.high_watermark()
    }

    pub fn reader(&self) -> Reader {
        self.log.reader()
    }

    /// Syncs and closes with the clean mark. No sync may be in flight.
    ///
    /// # Errors
    /// It could not be closed cleanly, so the next opening checks it. Everybody was answered all the same.
    pub fn close(mut self, reason: &Failure, out: &mut Vec<Effect<W>>) -> Result<(), Failure> {
        if let Some(job) = self.log.begin_sync() {
            let done = job.run();
            if let Err(failure) = self.finish_sync(done, out) {
                self.fail(&failure, out);
                return Err(failure);
            }
        }
        self.refuse_waiting(reason, out);
        let Partition { topic, index, log, .. } = self;
        log.close().map_err(|e| failure_of(&e, &topic, index))
    }

    /// Takes the partition out of service; everybody who waits learns why.
    pub fn fail(mut self, reason: &Failure, out: &mut Vec<Effect<W>>) {
        self.refuse_waiting(reason, out);
    }

    fn refuse_waiting(&mut self, reason: &Failure, out: &mut Vec<Effect<W>>) {
        self.replica.handle(Event::Failed, &mut self.outputs);
        self.carry_out(Some(reason), out);
    }

    fn feed(&mut self, event: Event, out: &mut Vec<Effect<W>>) {
        self.replica.handle(event, &mut self.outputs);
        self.carry_out(None, out);
    }

    fn carry_out(&mut self, reason: Option<&Failure>, out: &mut Vec<Effect<W>>) {
        for output in self.outputs.drain(..) {
            out.push(match output {
                Output::HighWatermark(offset) => Effect::HighWatermark(offset),
                Output::Acknowledge(ticket) => {
                    let (waiter, appended) = self.waiting.remove(&ticket).expect("each ticket is acknowledged once");
                    Effect::Answer(waiter, Ok(appended))
                }
                Output::Refuse(ticket) => {
                    let (waiter, _) = self.waiting.remove(&ticket).expect("each ticket is refused once");
                    Effect::Answer(waiter, Err(reason.cloned().unwrap_or_else(crate::error::shutting_down)))
                }
            });
        }
    }

    fn failure(&self, error: &log::Error) -> Failure {
        failure_of(error, &self.topic, self.index)
    }
}

/// Reads whole batches below `high_watermark`, from the one that contains `offset`; at least one even when it is
/// larger than `bytes_max`.
///
/// # Errors
/// `OutOfRange` before the start or beyond the high watermark, or the log's damage.
pub fn read(reader: &Reader, offset: Offset, bytes_max: usize, high_watermark: Offset) -> Result<Fetched, log::Error> {
    let (log_start, end) = readable(reader, offset, high_watermark)?;
    let bytes = if offset == end { Bytes::new() } else { reader.read(offset, bytes_max, end)? };
    Ok(Fetched { bytes, high_watermark, log_start })
}

/// [`read`] by someone who must not wait for the disk: `None` when it would.
///
/// # Errors
/// As there.
pub fn read_cached(
    reader: &Reader,
    offset: Offset,
    bytes_max: usize,
    high_watermark: Offset,
) -> Result<Option<Fetched>, log::Error> {
    let (log_start, end) = readable(reader, offset, high_watermark)?;
    let bytes = if offset == end { Some(Bytes::new()) } else { reader.read_cached(offset, bytes_max, end)? };
    Ok(bytes.map(|bytes| Fetched { bytes, high_watermark, log_start }))
}

/// Start and end of what may be read, if `offset` is within.
fn readable(reader: &Reader, offset: Offset, high_watermark: Offset) -> Result<(Offset, Offset), log::Error> {
    let log_start = reader.start_offset();
    if offset > high_watermark || offset < log_start {
        return Err(log::Error::OutOfRange { offset, start: log_start, end: high_watermark });
    }
    let end = if mutant!("serve-beyond-high-watermark") { Offset(i64::MAX) } else { high_watermark };
    Ok((log_start, end))
}

/// Why a partition that nobody serves is not served: its topic is gone, never was, or has fewer partitions. A topic
/// is known by its id alone, so that nobody who means a deleted one is served by the next of its name.
pub fn not_served(state: &State, at: TopicPartition) -> Failure {
    match state.topic_by_id(at.topic) {
        Some(topic) => crate::error::unknown_partition(&topic.name, at.partition.0),
        None => Failure::new(ErrorCode::UnknownTopic, format!("topic id {} does not exist", at.topic)),
    }
}

/// Checks batches that come from a producer: lengths, checksums, rules for new batches, size limit. `place` names
/// the partition.
///
/// # Errors
/// `InvalidBatch` or `BatchTooLarge`, for the first batch that is wrong.
pub fn check_new(bytes: &Bytes, batch_bytes_max: usize, place: (&str, PartitionIndex)) -> Result<Batches, Failure> {
    let (topic, index) = place;
    let refuse = |reason: &dyn Display| Failure::new(ErrorCode::InvalidBatch, format!("{topic}/{index}: {reason}"));
    let mut batches = Batches::new();
    for split in split_batches(bytes) {
        let (_, batch) = split.map_err(|e| refuse(&e))?;
        if batch.len() > batch_bytes_max {
            let len = batch.len();
            let message =
                format!("batch of {len} bytes is over topic `{topic}`'s batch_bytes_max of {batch_bytes_max}");
            return Err(Failure::new(ErrorCode::BatchTooLarge, message));
        }
        let header = match check_new_batch(&batch) {
            Err(_) if mutant!("unchecked-batch") => BatchHeader::decode(&batch).map_err(|e| refuse(&e))?,
            checked => checked.map_err(|e| refuse(&e))?,
        };
        if header.is_transactional() {
            return Err(refuse(&"transactions are not supported"));
        }
        batches.push((header, batch));
    }
    if batches.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidBatch, format!("nothing to append to {topic}")));
    }
    Ok(batches)
}

/// A log's error in the wire's words; the message names the partition.
pub fn failure_of(error: &log::Error, topic: &str, index: PartitionIndex) -> Failure {
    let code = code_of(error);
    let message = match error {
        log::Error::OutOfRange { offset, start, end } => {
            format!("{topic}/{index} has offsets {start} to {end}, asked for {offset}")
        }
        log::Error::DiskFull => format!("{topic}/{index}: {error}: free some space on the broker's disk"),
        _ => format!("{topic}/{index}: {error}"),
    };
    Failure::new(code, message)
}

/// The log's errors by what the caller does next.
pub fn code_of(error: &log::Error) -> ErrorCode {
    match error {
        log::Error::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        log::Error::TooLarge { .. } => ErrorCode::BatchTooLarge,
        log::Error::Batch(_) => ErrorCode::InvalidBatch,
        log::Error::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequence,
        log::Error::DuplicateSequence { .. } => ErrorCode::DuplicateSequence,
        log::Error::FencedProducer { .. } => ErrorCode::FencedProducer,
        log::Error::StaleEpoch { .. } => ErrorCode::NotLeader,
        log::Error::DiskFull => ErrorCode::DiskFull,
        log::Error::Corrupt { .. } => ErrorCode::CorruptData,
        log::Error::Fenced { .. } | log::Error::Io { .. } => ErrorCode::StorageUnavailable,
    }
}
