//! The handle of one partition. Writes go to its shard, which this hides; reads go straight
//! to the files, up to the high watermark, and never wait for a writer.
//!
//! A partition that failed (damaged files, a failed sync) or was deleted keeps its handle; every call then
//! answers with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use millstream_log::{Extent, Finding, Reader};
use millstream_protocol::batch::split_batches;
use millstream_protocol::message::{Acks, Position};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::budget::Share;
use crate::core;
pub use crate::core::partition::{Appended, Batches, Fetched};
use crate::error::shutting_down;
use crate::shard::{Command, LogDescription, Mailbox};
use crate::stats::{Count, Stats};

/// See the module's head. Shared as `Arc<Partition>`.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    topic: Arc<str>,
    mailbox: Mailbox,
    runtime: Handle,
    /// Absent when the log could not be opened; `offline` then says why.
    reader: Option<Reader>,
    high_watermark: watch::Sender<Offset>,
    log_end: AtomicI64,
    batch_bytes_max: AtomicU32,
    offline: ArcSwapOption<Failure>,
    stats: Arc<Stats>,
    /// Of acknowledged batches, since the start.
    pub(crate) appended_bytes: Arc<Count>,
    pub(crate) appended_records: Count,
    pub(crate) read_bytes: Count,
}

/// Who learns the outcome of an append.
pub enum Reply {
    Channel(oneshot::Sender<Result<Appended, Failure>>),
    /// Called on the shard's thread, or the one that appends: it must be short and never block.
    Call(Box<dyn FnOnce(Result<Appended, Failure>) + Send>),
    /// Counted on its way.
    Metered(Box<Metered>),
}

/// What an append is counted as when its outcome is known.
pub struct Metered {
    reply: Reply,
    stats: Arc<Stats>,
    partition_bytes: Arc<Count>,
    batches: u64,
    bytes: u64,
}

/// An append on its way to the shard.
#[derive(Debug)]
pub struct Append {
    pub batches: Batches,
    pub acks: Acks,
    pub reply: Reply,
    /// Counts the bytes as in flight until they are appended.
    pub budget: Option<Share>,
}

/// How a new handle begins.
pub(crate) struct Opening {
    pub(crate) id: TopicPartition,
    pub(crate) topic: Arc<str>,
    pub(crate) mailbox: Mailbox,
    pub(crate) runtime: Handle,
    pub(crate) batch_bytes_max: u32,
    pub(crate) stats: Arc<Stats>,
}

impl Partition {
    /// A serving partition whose readable end is `end`.
    pub(crate) fn serving(opening: Opening, reader: Reader, end: Offset) -> Self {
        Partition::new(opening, Some(reader), end)
    }

    /// A partition that answers everything with `reason`.
    pub(crate) fn refusing(opening: Opening, reason: Failure) -> Self {
        opening.stats.log.recovery_refused.add(1);
        let partition = Partition::new(opening, None, Offset::ZERO);
        partition.set_offline(reason);
        partition
    }

    fn new(opening: Opening, reader: Option<Reader>, end: Offset) -> Self {
        Partition {
            id: opening.id,
            topic: opening.topic,
            mailbox: opening.mailbox,
            runtime: opening.runtime,
            reader,
            high_watermark: watch::Sender::new(end),
            log_end: AtomicI64::new(end.0),
            batch_bytes_max: AtomicU32::new(opening.batch_bytes_max),
            offline: ArcSwapOption::empty(),
            stats: opening.stats,
            appended_bytes: Arc::default(),
            appended_records: Count::default(),
            read_bytes: Count::default(),
        }
    }

    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn index(&self) -> PartitionIndex {
        self.id.partition
    }

    /// End of what may be read.
    pub fn high_watermark(&self) -> Offset {
        *self.high_watermark.borrow()
    }

    /// First offset that is still there.
    pub fn log_start(&self) -> Offset {
        self.reader.as_ref().map_or(Offset::ZERO, Reader::start_offset)
    }

    /// End of what was appended, durable or not.
    pub fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// Why the partition refuses service, if it does.
    pub fn offline(&self) -> Option<Arc<Failure>> {
        self.offline.load_full()
    }

    /// Checks batches that come from a producer: lengths, checksums, rules for new batches, size limit.
    ///
    /// # Errors
    /// `InvalidBatch` or `BatchTooLarge`, for the first batch that is wrong.
    pub fn check_new(&self, bytes: &Bytes) -> Result<Batches, Failure> {
        let max = self.batch_bytes_max.load(Ordering::Relaxed) as usize;
        core::partition::check_new(bytes, max, (&self.topic, self.id.partition))
    }

    /// Hands batches to the shard; waits only for room in its mailbox. Appends of one caller keep their order.
    ///
    /// # Errors
    /// The partition is offline or the broker stops; `append.reply` is then dropped unanswered.
    pub async fn enqueue(&self, append: Append) -> Result<(), Failure> {
        self.check_online()?;
        let append = self.metered(append);
        match self.mailbox.append(self.id, append) {
            None => Ok(()),
            Some(command) => self.mailbox.send(command).await.map_err(|_| shutting_down()),
        }
    }

    /// [`Partition::enqueue`] for guest threads.
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_blocking(&self, append: Append) -> Result<(), Failure> {
        self.check_online()?;
        let append = self.metered(append);
        match self.mailbox.append(self.id, append) {
            None => Ok(()),
            Some(command) => self.mailbox.blocking_send(command).map_err(|_| shutting_down()),
        }
    }

    fn metered(&self, append: Append) -> Append {
        let metered = Metered {
            batches: append.batches.len() as u64,
            bytes: append.batches.iter().map(|(_, batch)| batch.len() as u64).sum(),
            reply: append.reply,
            stats: Arc::clone(&self.stats),
            partition_bytes: Arc::clone(&self.appended_bytes),
        };
        Append { reply: Reply::Metered(Box::new(metered)), ..append }
    }

    /// Appends batches made inside the broker (their checksums are not checked) and waits for the outcome.
    ///
    /// # Errors
    /// Why nothing was appended, or, for `CorruptData`, why it isn't known to be durable.
    pub async fn append(&self, bytes: &Bytes, acks: Acks) -> Result<Appended, Failure> {
        let (append, outcome) = Append::trusted(bytes, acks)?;
        self.enqueue(append).await?;
        outcome.await.map_err(|_| shutting_down())?
    }

    /// [`Partition::append`] for guest threads.
    ///
    /// # Errors
    /// As there.
    pub fn append_blocking(&self, bytes: &Bytes, acks: Acks) -> Result<Appended, Failure> {
        let (append, outcome) = Append::trusted(bytes, acks)?;
        self.enqueue_blocking(append)?;
        outcome.blocking_recv().map_err(|_| shutting_down())?
    }

    /// Reads whole batches below the high watermark, from the one that contains `offset`; at least one even
    /// when it is larger than `bytes_max`. What is not in the page cache is waited for elsewhere.
    ///
    /// # Errors
    /// `OffsetOutOfRange` before the start or beyond the high watermark, or the partition's damage.
    pub async fn read(self: &Arc<Self>, offset: Offset, bytes_max: usize) -> Result<Fetched, Failure> {
        let cached = core::partition::read_cached(self.reader()?, offset, bytes_max, self.high_watermark());
        if let Some(fetched) = cached.map_err(|e| self.failure(&e))? {
            return Ok(self.count(fetched));
        }
        let own = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || own.read_blocking(offset, bytes_max));
        read.await.map_err(|_| shutting_down())?
    }

    /// [`Partition::read`] for guest threads. Blocks for the disk only.
    ///
    /// # Errors
    /// As there.
    pub fn read_blocking(&self, offset: Offset, bytes_max: usize) -> Result<Fetched, Failure> {
        let fetched = core::partition::read(self.reader()?, offset, bytes_max, self.high_watermark());
        Ok(self.count(fetched.map_err(|e| self.failure(&e))?))
    }

    fn count(&self, fetched: Fetched) -> Fetched {
        self.read_bytes.add(fetched.bytes.len() as u64);
        fetched
    }

    /// The offset of a position. Blocks for the disk only.
    ///
    /// # Errors
    /// The partition is offline or damaged.
    pub fn offset_of(&self, position: Position) -> Result<Offset, Failure> {
        let reader = self.reader()?;
        let end = self.high_watermark();
        match position {
            Position::Earliest => Ok(reader.start_offset()),
            Position::Latest => Ok(end),
            Position::Timestamp(at) => {
                let found = reader.offset_for_timestamp(at, end).map_err(|e| self.failure(&e))?;
                Ok(found.unwrap_or(end))
            }
        }
    }

    /// Waits until there is something to read at `offset`, and gives the high watermark.
    ///
    /// # Errors
    /// The partition went offline.
    pub async fn wait_readable(&self, offset: Offset) -> Result<Offset, Failure> {
        let mut watermark = self.high_watermark.subscribe();
        loop {
            self.check_online()?;
            let reached = *watermark.borrow_and_update();
            if reached > offset {
                return Ok(reached);
            }
            watermark.changed().await.map_err(|_| shutting_down())?;
        }
    }

    /// [`Partition::wait_readable`] for guest threads, for at most `timeout`; gives the high watermark, which
    /// after a timeout is not beyond `offset`.
    ///
    /// # Errors
    /// The partition went offline.
    pub fn wait_readable_blocking(&self, offset: Offset, timeout: Duration) -> Result<Offset, Failure> {
        let wait = async { tokio::time::timeout(timeout, self.wait_readable(offset)).await };
        self.runtime.block_on(wait).unwrap_or_else(|_| Ok(self.high_watermark()))
    }

    /// Makes records before `before` (at most the high watermark, which is also the default) unreadable.
    ///
    /// # Errors
    /// `OffsetOutOfRange` beyond the high watermark, or the partition is offline.
    pub async fn delete_records(&self, before: Option<Offset>) -> Result<Offset, Failure> {
        self.check_online()?;
        let end = self.high_watermark();
        let before = before.unwrap_or(end);
        if before > end {
            let start = self.log_start();
            return Err(self.failure(&millstream_log::Error::OutOfRange { offset: before, start, end }));
        }
        self.ask(|reply| Command::DeleteRecords { id: self.id, before, reply }).await?
    }

    /// Sizes and ages of the log.
    ///
    /// # Errors
    /// The partition is offline.
    pub async fn describe(&self) -> Result<LogDescription, Failure> {
        self.check_online()?;
        self.ask(|reply| Command::Describe { id: self.id, reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(command(reply)).await.map_err(|_| shutting_down())?;
        answer.await.map_err(|_| shutting_down())
    }

    fn check_online(&self) -> Result<(), Failure> {
        match self.offline.load().as_deref() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    fn reader(&self) -> Result<&Reader, Failure> {
        self.check_online()?;
        self.reader.as_ref().ok_or_else(shutting_down)
    }

    fn failure(&self, error: &millstream_log::Error) -> Failure {
        core::partition::failure_of(error, &self.topic, self.id.partition)
    }

    /// Damaged index files that reads came upon and that were made again.
    pub(crate) fn take_mended(&self) -> Vec<Finding> {
        self.reader.as_ref().map(Reader::take_mended).unwrap_or_default()
    }

    pub(crate) fn set_offline(&self, reason: Failure) {
        self.offline.store(Some(Arc::new(reason)));
        // Wakes those who wait for records, so that they see it.
        self.high_watermark.send_modify(|_| {});
    }

    pub(crate) fn set_batch_bytes_max(&self, bytes: u32) {
        self.batch_bytes_max.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_log_end(&self, end: Offset) {
        let before = self.log_end.swap(end.0, Ordering::AcqRel);
        let records = u64::try_from(end.0 - before).unwrap_or(0);
        self.appended_records.add(records);
        self.stats.log.appended_records.add(records);
    }

    /// How large the log is; nothing for one that could not be opened.
    pub(crate) fn extent(&self) -> Extent {
        self.reader.as_ref().map(Reader::extent).unwrap_or_default()
    }

    pub(crate) fn set_high_watermark(&self, offset: Offset) {
        self.high_watermark.send_replace(offset);
    }
}

impl Append {
    /// An append of batches made inside the broker, and where its outcome arrives.
    ///
    /// # Errors
    /// `InvalidBatch` when the bytes are not whole batches.
    pub fn trusted(bytes: &Bytes, acks: Acks) -> Result<(Self, oneshot::Receiver<Result<Appended, Failure>>), Failure> {
        let split: Result<Batches, _> = split_batches(bytes).collect();
        let batches = split.map_err(|e| Failure::new(ErrorCode::InvalidBatch, e.to_string()))?;
        let (reply, outcome) = oneshot::channel();
        Ok((Append { batches, acks, reply: Reply::Channel(reply), budget: None }, outcome))
    }
}

impl Reply {
    pub(crate) fn answer(self, outcome: Result<Appended, Failure>) {
        match self {
            // Whoever asked may have gone away.
            Reply::Channel(channel) => drop(channel.send(outcome)),
            Reply::Call(call) => call(outcome),
            Reply::Metered(metered) => {
                let Metered { reply, stats, partition_bytes, batches, bytes } = *metered;
                if outcome.is_ok() {
                    partition_bytes.add(bytes);
                }
                stats.log.appended((batches, bytes), outcome.as_ref().map(drop));
                reply.answer(outcome);
            }
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}
