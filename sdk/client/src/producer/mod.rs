//! Producing: records are collected into batches per partition and sent by one task. A record costs the
//! sender one short lock; waiting, encoding and the network are the task's.

mod accumulator;
mod driver;
mod lane;
mod ready;
mod receipt;

pub use ready::ReadyBatch;
pub use receipt::{Delivered, Receipt};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_protocol::batch::Compression;
use millstream_protocol::message::Acks;
use tokio::sync::Notify;

use crate::link::Link;
use crate::{Error, Record};
use accumulator::{Accumulator, Parts, Pushed};
use driver::Driver;

/// Bytes of records that a producer keeps, in all partitions, before [`Producer::send`] waits.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// A batch is sent at this size at the latest.
const BATCH_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_millis(1);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// How a producer works; see [`crate::Client::producer`].
#[must_use]
pub struct ProducerBuilder {
    link: Arc<Link>,
    topic: String,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    linger: Duration,
    batch_bytes: usize,
    buffer_bytes: usize,
    compression: Compression,
    acks: Acks,
    idempotent: bool,
    delivery_timeout: Duration,
    request_timeout: Duration,
}

/// Sends records to one topic; clones share buffers and order. Call [`Producer::flush`] or
/// [`Producer::close`] before dropping the last one, unless every receipt was awaited.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    started: tokio::sync::OnceCell<()>,
}

struct Shared {
    link: Arc<Link>,
    topic_name: String,
    settings: Settings,
    accumulator: Mutex<Accumulator>,
    /// Wakes the driver.
    wake: Notify,
    /// Tells senders and flushers that batches are done.
    room: Notify,
}

impl ProducerBuilder {
    pub(crate) fn new(link: Arc<Link>, topic: &str) -> Self {
        let settings = Settings {
            linger: LINGER,
            batch_bytes: BATCH_BYTES,
            buffer_bytes: BUFFER_BYTES,
            compression: Compression::None,
            acks: Acks::All,
            idempotent: true,
            delivery_timeout: DELIVERY_TIMEOUT,
            request_timeout: link.settings().request_timeout,
        };
        ProducerBuilder { link, topic: topic.to_owned(), settings }
    }

    /// How long a batch that is not full waits for more records (1 ms). Zero sends it at once, unless two requests are
    /// unanswered: then it waits for one of the answers, 1 ms at most.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// A batch is sent at this size at the latest (256 KiB, before compression).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes.max(1);
        self
    }

    /// Bytes of records that wait for their acknowledgement before [`Producer::send`] waits (32 MiB).
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes.max(1);
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// When a record counts as delivered: [`Acks::All`], as durable as its topic says (the default), or
    /// [`Acks::Leader`], when the leader has it in memory.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Whether repetitions are recognised by the broker (true). Without it, a record may be stored twice
    /// after a lost connection.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = idempotent;
        self
    }

    /// How long to try before a record fails (120 s).
    pub fn delivery_timeout(mut self, limit: Duration) -> Self {
        self.settings.delivery_timeout = limit;
        self
    }

    /// The producer. It asks for its topic when the first record is sent.
    pub fn build(self) -> Producer {
        let shared = Shared {
            link: self.link,
            topic_name: self.topic,
            settings: self.settings,
            accumulator: Mutex::new(Accumulator::new(self.settings)),
            wake: Notify::new(),
            room: Notify::new(),
        };
        Producer { handle: Arc::new(Handle { shared: Arc::new(shared), started: tokio::sync::OnceCell::new() }) }
    }
}

impl Producer {
    /// Queues a record and returns its receipt; waits while the buffer is full. Records of one partition are
    /// stored in the order they were queued.
    ///
    /// # Errors
    /// There is no such topic, no broker to ask, the record is too large, or the producer is closed.
    pub async fn send(&self, record: impl Into<Record>) -> Result<Receipt, Error> {
        let record = record.into();
        let parts = Parts {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            timestamp: record.timestamp.unwrap_or_else(now_ms),
            partition: record.partition,
        };
        self.send_parts(&parts).await
    }

    /// [`Producer::send`] for borrowed bytes without headers, sent now: nothing is allocated per record.
    ///
    /// # Errors
    /// As there.
    pub async fn send_bytes(&self, key: Option<&[u8]>, value: &[u8]) -> Result<Receipt, Error> {
        let parts = Parts { key, value: Some(value), timestamp: now_ms(), ..Parts::default() };
        self.send_parts(&parts).await
    }

    /// Like [`Producer::send`], but never waits: `None` when the record can't be queued now, because the
    /// buffer is full or the topic was not asked for yet (the first record must be sent the other way).
    ///
    /// # Errors
    /// The record is too large, or the producer is closed.
    pub fn try_send_bytes(&self, key: Option<&[u8]>, value: &[u8]) -> Result<Option<Receipt>, Error> {
        let parts = Parts { key, value: Some(value), timestamp: now_ms(), ..Parts::default() };
        if !self.handle.started.initialized() {
            return Ok(None);
        }
        self.handle.shared.try_push(&parts)
    }

    /// An empty batch for one partition, to be filled and handed to [`Producer::send_batch`]. For programs that
    /// have many records at hand at once: per record it costs the encoding alone.
    ///
    /// ```standalone_crate
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/embedded.inc"));
    /// use millstream_client::prelude::*;
    /// # fn main() { run(|server| async move {
    /// # let client = Client::connect(server).await?;
    /// let producer = client.producer("orders").build();
    /// let mut batch = producer.batch(0).await?;                      // for partition 0
    /// for line in "a mill\na wheel\na pond".lines() {
    ///     batch.push_bytes(None, line.as_bytes())?;
    /// }
    /// let first = producer.send_batch(batch).await?.await?;          // one receipt: of the first record
    /// assert_eq!((first.partition, first.offset), (0, 0));           // the others are behind it
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// There is no such topic or partition, no broker to ask, or the producer is closed.
    pub async fn batch(&self, partition: u32) -> Result<ReadyBatch, Error> {
        if !self.handle.started.initialized() {
            self.start().await?;
        }
        self.handle.shared.lock().ready_batch(partition)
    }

    /// Queues a batch behind everything sent to its partition before, and returns the receipt of its first record;
    /// waits while the buffer is full.
    ///
    /// # Errors
    /// The batch is empty, or the producer is closed.
    pub async fn send_batch(&self, batch: ReadyBatch) -> Result<Receipt, Error> {
        if batch.is_empty() {
            return Err(Error::Invalid("a batch without records can't be sent".to_owned()));
        }
        let shared = &self.handle.shared;
        let mut batch = Some(batch);
        self.when_room(|| shared.try_push_batch(&mut batch)).await
    }

    async fn send_parts(&self, parts: &Parts<'_>) -> Result<Receipt, Error> {
        if !self.handle.started.initialized() {
            self.start().await?;
        }
        let shared = &self.handle.shared;
        self.when_room(|| shared.try_push(parts)).await
    }

    /// Offers something again and again until there is room for it.
    async fn when_room(&self, mut offer: impl FnMut() -> Result<Option<Receipt>, Error>) -> Result<Receipt, Error> {
        loop {
            if let Some(receipt) = offer()? {
                return Ok(receipt);
            }
            let room = self.handle.shared.room.notified();
            tokio::pin!(room);
            // Registered before looking again, so that no notice is missed.
            room.as_mut().enable();
            if let Some(receipt) = offer()? {
                return Ok(receipt);
            }
            room.await;
        }
    }

    /// Asks for the topic and starts the driver, once.
    async fn start(&self) -> Result<(), Error> {
        let start = async {
            let shared = Arc::clone(&self.handle.shared);
            let topic = shared.link.topic(&shared.topic_name).await?;
            shared.lock().set_topic(topic.clone());
            tokio::spawn(Driver::new(shared, topic).run());
            Ok(())
        };
        self.handle.started.get_or_try_init(|| Box::pin(start)).await.copied()
    }

    /// The topic's number of partitions.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn partitions(&self) -> Result<u32, Error> {
        if !self.handle.started.initialized() {
            self.start().await?;
        }
        Ok(self.handle.shared.lock().topic().map_or(0, |topic| topic.partitions))
    }

    /// Sends everything queued so far at once and waits until all of it is settled.
    ///
    /// # Errors
    /// The first delivery that failed since the last flush, whether or not its receipt was awaited.
    pub async fn flush(&self) -> Result<(), Error> {
        let shared = &self.handle.shared;
        let before = shared.lock().flush();
        shared.wake.notify_one();
        loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if shared.lock().is_flushed(before) {
                break;
            }
            room.await;
        }
        shared.lock().take_failed().map_or(Ok(()), Err)
    }

    /// Flushes and ends the producer; its clones can't send any more.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), Error> {
        self.handle.shared.lock().close(Error::Closed("producer"));
        self.flush().await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut accumulator = self.shared.lock();
        let batches = accumulator.outstanding();
        if batches > 0 {
            let topic = &*self.shared.topic_name;
            tracing::warn!(topic, batches, "producer dropped before its records were delivered; call flush() first");
        }
        accumulator.close(Error::Closed("producer"));
        drop(accumulator);
        // The driver sends what is left, then ends.
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        // A panic in the middle of a push can at worst lose that record.
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_push(&self, parts: &Parts<'_>) -> Result<Option<Receipt>, Error> {
        let pushed = self.lock().push(parts)?;
        Ok(self.taken(pushed))
    }

    fn try_push_batch(&self, batch: &mut Option<ReadyBatch>) -> Result<Option<Receipt>, Error> {
        let pushed = self.lock().push_batch(batch)?;
        Ok(self.taken(pushed))
    }

    fn taken(&self, pushed: Pushed) -> Option<Receipt> {
        match pushed {
            Pushed::Full => None,
            Pushed::Taken { receipt, wake } => {
                if wake {
                    self.wake.notify_one();
                }
                Some(receipt)
            }
        }
    }

    /// Batches are done, with success or not.
    fn finish(&self, numbers: &[u64], failed: Option<&Error>) {
        if numbers.is_empty() {
            return;
        }
        let mut accumulator = self.lock();
        numbers.iter().for_each(|number| accumulator.finish(*number, failed));
        drop(accumulator);
        self.room.notify_waiters();
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
