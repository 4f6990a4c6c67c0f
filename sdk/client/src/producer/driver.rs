//! The producer's task: takes batches from the accumulator, encodes them, sends many partitions' batches in
//! one request, and carries the answers back. It alone talks to the broker; decisions are the lanes'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_protocol::message::{InitProducer, Produce, ProduceAck, ProduceEntry};
use millstream_protocol::{ErrorCode, Failure, PartitionIndex};

use super::Shared;
use super::accumulator::{Filled, until};
use super::lane::{Batch, Encoded, Identity, Lane, Settled};
use crate::Error;
use crate::backoff::Backoff;
use crate::link::{Session, Topic, timeout};

/// Payload of one request; a single larger batch goes alone.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

type Answered = (Vec<Batch>, Result<ProduceAck, Error>);

pub(super) struct Driver {
    shared: Arc<Shared>,
    topic: Topic,
    lanes: BTreeMap<u32, Lane>,
    /// Shared by the lanes until one needs another.
    identity: Option<Identity>,
    requests: FuturesUnordered<BoxFuture<'static, Answered>>,
    backoff: Backoff,
    paused_until: Option<Instant>,
    /// Why the last request did not get through, until one does.
    refusal: Option<Error>,
    refresh: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic) -> Self {
        Driver {
            shared,
            topic,
            lanes: BTreeMap::new(),
            identity: None,
            requests: FuturesUnordered::new(),
            backoff: Backoff::default(),
            paused_until: None,
            refusal: None,
            refresh: false,
        }
    }

    /// Works until the producer is closed and everything was settled.
    pub(super) async fn run(mut self) {
        loop {
            let mut wait_until = self.collect();
            self.paused_until = self.paused_until.filter(|until| *until > Instant::now());
            if self.paused_until.is_none() {
                self.advance().await;
            }
            if let Some(paused) = self.paused_until {
                wait_until = Some(wait_until.map_or(paused, |until| until.min(paused)));
            } else if self.has_sendable() {
                continue;
            }
            let idle = self.requests.is_empty() && self.lanes.values().all(Lane::is_idle);
            if idle && self.shared.lock().is_closed() && self.shared.lock().outstanding() == 0 {
                return;
            }
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(wait_until.map_or_else(Default::default, until)), if wait_until.is_some() => {}
                Some((batches, answer)) = self.requests.next(), if !self.requests.is_empty() => {
                    self.settle(batches, answer);
                    while let Some(Some((batches, answer))) = self.requests.next().now_or_never() {
                        self.settle(batches, answer);
                    }
                }
            }
        }
    }

    fn has_sendable(&self) -> bool {
        self.lanes.values().any(|lane| lane.next().is_some())
    }

    /// Moves what is due from the accumulator into the lanes; says when to look again.
    fn collect(&mut self) -> Option<Instant> {
        let (filled, next) = {
            let lanes = &self.lanes;
            let free = |partition| lanes.get(&partition).is_none_or(Lane::is_free);
            self.shared.lock().collect(Instant::now(), self.requests.len(), free)
        };
        for filled in filled {
            self.lanes.entry(filled.partition).or_default().queue(into_batch(filled));
        }
        next
    }

    /// Sends what may be sent. A failure that concerns all of it pauses the driver or fails everything.
    async fn advance(&mut self) {
        self.expire();
        if !self.has_sendable() {
            return;
        }
        if let Err(error) = self.try_advance().await {
            if error.is_retriable() {
                self.pause(&error);
            } else {
                self.fail_all(&error);
            }
        }
    }

    async fn try_advance(&mut self) -> Result<(), Error> {
        let session = self.shared.link.session().await?;
        if self.refresh {
            self.refresh_topic().await?;
            self.refresh = false;
        }
        while self.has_sendable() {
            // Each round: what was sent in the one before may have led up to a gap.
            if self.shared.settings.idempotent {
                self.identify().await?;
            }
            self.send_one(&session).await?;
        }
        Ok(())
    }

    async fn refresh_topic(&mut self) -> Result<(), Error> {
        let topic = self.shared.link.refresh_topic(&self.shared.topic_name).await?;
        if topic.id != self.topic.id {
            self.lanes.values_mut().for_each(Lane::start_over);
        }
        self.topic = topic.clone();
        self.shared.lock().set_topic(topic);
        Ok(())
    }

    /// Gives every lane that wants one a producer id: the common one the first time, else a new one.
    async fn identify(&mut self) -> Result<(), Error> {
        let wanting: Vec<u32> =
            self.lanes.iter().filter(|(_, lane)| lane.wants_identity()).map(|(partition, _)| *partition).collect();
        for partition in wanting {
            let common = self.identity.filter(|_| self.lanes.get(&partition).is_some_and(Lane::is_new));
            let identity = match common {
                Some(identity) => identity,
                None => Identity::from(self.shared.link.call(&InitProducer).await?),
            };
            self.identity.get_or_insert(identity);
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.set_identity(identity);
            }
        }
        Ok(())
    }

    /// One request with at most one batch of each partition.
    async fn send_one(&mut self, session: &Session) -> Result<(), Error> {
        let (mut entries, mut payload, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for (partition, lane) in &mut self.lanes {
            if bytes >= REQUEST_BYTES_MAX {
                break;
            }
            let Some((batch, spent)) = lane.take(self.shared.settings.idempotent) else { continue };
            if let Some(builder) = spent {
                self.shared.lock().give_back(builder);
            }
            let Encoded::Done(encoded) = &batch.encoded else { unreachable!("a batch taken is encoded") };
            bytes += encoded.len();
            let length = u32::try_from(encoded.len()).expect("a batch is below the frame limit");
            entries.push(ProduceEntry { topic: self.topic.id, partition: PartitionIndex(*partition), bytes: length });
            payload.push(encoded.clone());
            batches.push(batch);
        }
        if batches.is_empty() {
            // A new producer id has closed the window.
            return Ok(());
        }
        self.submit(session, entries, payload, batches).await
    }

    async fn submit(
        &mut self,
        session: &Session,
        entries: Vec<ProduceEntry>,
        payload: Vec<Bytes>,
        batches: Vec<Batch>,
    ) -> Result<(), Error> {
        let request = Produce { acks: self.shared.settings.acks, entries };
        let limit = self.shared.settings.request_timeout;
        match session.produce.submit(&request, payload).await {
            Ok(pending) => {
                self.requests.push(Box::pin(async move {
                    let answer = match tokio::time::timeout(limit, pending).await {
                        Ok(answer) => answer.map(|reply| reply.response).map_err(Error::from),
                        Err(_) => Err(timeout("Produce", limit)),
                    };
                    (batches, answer)
                }));
                Ok(())
            }
            Err(error) => {
                let error = Error::from(error);
                self.settle(batches, Err(error.clone()));
                Err(error)
            }
        }
    }

    fn settle(&mut self, batches: Vec<Batch>, answer: Result<ProduceAck, Error>) {
        let mut results = answer.map(|ack| ack.results.into_iter());
        for batch in batches {
            let result = match &mut results {
                Err(error) => Err(error.clone()),
                Ok(results) => match results.next() {
                    None => Err(Error::Invalid("the broker left a batch unanswered".to_owned())),
                    Some(result) => match result.failure {
                        Some(failure) => Err(self.explain(failure)),
                        None => Ok(result.base_offset.0),
                    },
                },
            };
            self.settle_batch(batch, result);
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        if failure.code == ErrorCode::UnknownTopic {
            return Error::UnknownTopic(self.topic.name.to_string());
        }
        Error::Broker(failure)
    }

    fn settle_batch(&mut self, batch: Batch, result: Result<i64, Error>) {
        let (partition, number) = (batch.completion.partition(), batch.number);
        let reason = result.as_ref().err().cloned();
        let settled = self.lanes.entry(partition).or_default().settle(batch, result);
        match settled {
            Settled::Stored => {
                self.backoff.reset();
                self.refusal = None;
                self.shared.finish(&[number], None);
            }
            Settled::Failed(error) => self.shared.finish(&[number], Some(&error)),
            Settled::Again { refresh } => {
                self.refresh |= refresh;
                if self.paused_until.is_none() {
                    let reason = reason.unwrap_or(Error::Closed("producer"));
                    self.pause(&reason);
                }
            }
        }
    }

    fn pause(&mut self, error: &Error) {
        let pause = self.backoff.next_pause();
        tracing::debug!(%error, topic = &*self.topic.name, ?pause, "a produce request did not get through, will repeat");
        self.paused_until = Some(Instant::now() + pause);
        self.refusal = Some(error.clone());
    }

    fn expire(&mut self) {
        let limit = self.shared.settings.delivery_timeout;
        let Some(deadline) = Instant::now().checked_sub(limit) else { return };
        let error = match &self.refusal {
            Some(refusal) => timeout(&format!("delivery, in vain until now ({refusal}),"), limit),
            None => timeout("delivery", limit),
        };
        let expired: Vec<u64> = self.lanes.values_mut().flat_map(|lane| lane.expire(deadline, &error)).collect();
        if !expired.is_empty() {
            tracing::warn!(topic = &*self.topic.name, batches = expired.len(), "gave up on batches: {error}");
            self.shared.finish(&expired, Some(&error));
        }
    }

    fn fail_all(&mut self, error: &Error) {
        let failed: Vec<u64> = self.lanes.values_mut().flat_map(|lane| lane.fail_all(error)).collect();
        self.shared.finish(&failed, Some(error));
        // The next batch asks anew.
        self.refresh = true;
    }
}

impl Drop for Driver {
    /// Also when the runtime ends: nobody may wait for ever.
    fn drop(&mut self) {
        let error = Error::Closed("producer");
        let left = self.shared.lock().abandon(&error);
        for filled in left {
            filled.completion.complete(Err(error.clone()));
            self.shared.finish(&[filled.number], Some(&error));
        }
        self.fail_all(&error);
    }
}

fn into_batch(filled: Filled) -> Batch {
    Batch {
        number: filled.number,
        records: i32::try_from(filled.builder.len()).expect("a batch holds less than 2^31 records"),
        encoded: Encoded::Not(Box::new(filled.builder)),
        completion: filled.completion,
        opened_at: filled.opened_at,
        sends: 0,
    }
}
