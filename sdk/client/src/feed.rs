//! A push subscription to some partitions, with a position each. It survives lost connections: it asks again
//! from the positions, so nothing is lost or seen twice. Every batch is decoded when it is asked for; what
//! nobody asks for yet waits in the stream's flow control window.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::{Batches, Subscribe, SubscribeEntry};
use millstream_protocol::{ErrorCode, Failure, Offset, TopicPartition};
use millstream_transport::config::CloseCode;
use millstream_transport::{Frame, FrameReader, FrameWriter, open_stream};

use crate::Error;
use crate::backoff::Backoff;
use crate::batch::{Batch, decode};
use crate::link::{Link, is_stale};
use crate::position::{Start, resolve};

/// Soft limit of one pushed frame, bytes.
const FRAME_BYTES: u32 = 1024 * 1024;

/// Where a partition is read.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) topic: Arc<str>,
    pub(crate) next: i64,
}

pub(crate) struct Feed {
    link: Arc<Link>,
    cursors: BTreeMap<TopicPartition, Cursor>,
    /// What to do when a position was deleted by retention.
    start: Start,
    stream: Option<(FrameWriter, FrameReader)>,
    backoff: Backoff,
    paused: bool,
}

impl Feed {
    pub(crate) fn new(link: Arc<Link>, start: Start) -> Self {
        Feed { link, cursors: BTreeMap::new(), start, stream: None, backoff: Backoff::default(), paused: false }
    }

    pub(crate) fn cursors(&self) -> &BTreeMap<TopicPartition, Cursor> {
        &self.cursors
    }

    /// Reads these partitions from now on; takes effect with the next call of [`Feed::next`].
    pub(crate) fn assign(&mut self, cursors: BTreeMap<TopicPartition, Cursor>) {
        self.close_stream();
        self.cursors = cursors;
    }

    pub(crate) fn remove(&mut self, key: TopicPartition) {
        if self.cursors.remove(&key).is_some() {
            self.close_stream();
        }
    }

    fn close_stream(&mut self) {
        if let Some((mut writer, mut reader)) = self.stream.take() {
            writer.reset(CloseCode::Done);
            reader.stop(CloseCode::Done);
        }
    }

    /// The next records of any partition, in order per partition. Waits while there are none, also for a
    /// broker that is away. May be cancelled.
    ///
    /// # Errors
    /// Only what time will not heal: a topic that is gone (it is no longer read then), corrupt data, refused
    /// credentials.
    pub(crate) async fn next(&mut self) -> Result<(TopicPartition, Batch), Error> {
        loop {
            if self.paused {
                self.backoff.pause().await;
                self.paused = false;
            }
            match self.step().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => {
                    self.close_stream();
                    self.paused = true;
                    if !error.is_retriable() {
                        return Err(error);
                    }
                    tracing::debug!(%error, "subscription interrupted, will go on");
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<(TopicPartition, Batch)>, Error> {
        if self.cursors.is_empty() {
            std::future::pending::<()>().await;
        }
        if self.stream.is_none() {
            self.stream = Some(self.open().await?);
        }
        let (_, reader) = self.stream.as_mut().expect("it was opened just now");
        let Some(frame) = reader.read(FRAME_BYTES_MAX).await? else {
            return Err(Error::Disconnected("the broker ended the subscription".to_owned()));
        };
        let pushed = frame.response::<Subscribe>()?;
        self.take(pushed, &frame).await
    }

    async fn open(&self) -> Result<(FrameWriter, FrameReader), Error> {
        let session = self.link.session().await?;
        let (mut writer, reader) = open_stream(&session.connection).await?;
        let entry = |(key, cursor): (&TopicPartition, &Cursor)| SubscribeEntry {
            topic: key.topic,
            partition: key.partition,
            offset: Offset(cursor.next),
        };
        let request = Subscribe { entries: self.cursors.iter().map(entry).collect(), bytes_max: FRAME_BYTES };
        writer.send_request(1, &request, Vec::new()).await?;
        Ok((writer, reader))
    }

    async fn take(&mut self, pushed: Batches, frame: &Frame) -> Result<Option<(TopicPartition, Batch)>, Error> {
        let key = TopicPartition { topic: pushed.topic, partition: pushed.partition };
        if let Some(failure) = pushed.failure {
            self.failed(key, failure).await?;
            return Ok(None);
        }
        let Some(cursor) = self.cursors.get_mut(&key) else { return Ok(None) };
        let (batch, next) = decode(&cursor.topic, key.partition.0, &frame.payload, cursor.next, pushed.high_watermark)?;
        cursor.next = next;
        self.backoff.reset();
        if frame.is_end() {
            self.close_stream();
        }
        Ok(batch.map(|batch| (key, batch)))
    }

    /// One partition's part of the subscription ended.
    async fn failed(&mut self, key: TopicPartition, failure: Failure) -> Result<(), Error> {
        let Some(cursor) = self.cursors.get(&key) else { return Ok(()) };
        let topic = Arc::clone(&cursor.topic);
        if failure.code == ErrorCode::OffsetOutOfRange {
            let start = if self.start == Start::Latest { Start::Latest } else { Start::Earliest };
            let found = resolve(&self.link, key.topic, &[key.partition], start).await?;
            let next = found.first().copied().unwrap_or(0);
            tracing::warn!(topic = &*topic, partition = key.partition.0, from = next, "position is gone: {failure}");
            if let Some(cursor) = self.cursors.get_mut(&key) {
                cursor.next = next;
            }
            self.close_stream();
            return Ok(());
        }
        if is_stale(failure.code) {
            self.link.forget_topic(&topic);
            let known = self.link.refresh_topic(&topic).await.map(|topic| topic.id);
            if known.as_ref().is_ok_and(|id| *id == key.topic) {
                return Err(Error::Disconnected(failure.message));
            }
            self.remove(key);
            return Err(known.err().unwrap_or_else(|| Error::UnknownTopic(topic.to_string())));
        }
        Err(Error::Broker(failure))
    }
}
