//! The loop that owns all groups: requests, metadata changes, finished writes and time go into the
//! coordinator, its answers and writes come out. One timer, set to the coordinator's next deadline.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesOrdered, StreamExt};
use millstream_cluster::group::{Answer, Coordinator, Entry, Event, Output, Ticket, TopicInfo, WriteId};
use millstream_cluster::metadata::State;
use millstream_protocol::message::Acks;
use millstream_protocol::{ErrorCode, Failure, Offset};
use tokio::sync::{mpsc, oneshot, watch};

use super::store;
use super::{Call, Request};
use crate::clock::now_ms;
use crate::error::shutting_down;
use crate::partition::{Append, Appended, Partition, Reply};

/// Longest sleep when no deadline is set.
const IDLE: Duration = Duration::from_secs(3_600);

/// What a finished append was for.
enum Write {
    Commit(WriteId),
    /// Everything before its first offset is superfluous.
    Snapshot,
}

type Outcome = Result<Appended, Failure>;
type Writing = Pin<Box<dyn Future<Output = (Write, Outcome)> + Send>>;

pub(super) struct Owner {
    coordinator: Coordinator,
    partition: Arc<Partition>,
    states: watch::Receiver<Arc<State>>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Answer, Failure>>>,
    next_ticket: u64,
    /// In the order they were enqueued, which is the order they become durable.
    writes: FuturesOrdered<Writing>,
    snapshot_in_flight: bool,
    /// Records after which the log is cut back to a snapshot.
    records_max: u64,
    /// The coordinator's clock must not go back: the wall's at the start, and what has passed since.
    started: (i64, Instant),
    stop: Option<oneshot::Sender<()>>,
}

impl Owner {
    pub(super) fn new(
        coordinator: Coordinator,
        partition: Arc<Partition>,
        states: watch::Receiver<Arc<State>>,
        records_max: u64,
    ) -> Self {
        Owner {
            coordinator,
            partition,
            states,
            waiting: HashMap::new(),
            next_ticket: 0,
            writes: FuturesOrdered::new(),
            snapshot_in_flight: false,
            records_max,
            started: (now_ms(), Instant::now()),
            stop: None,
        }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.take_state().await;
        while self.stop.is_none() || !self.writes.is_empty() {
            let sleep = self.coordinator.next_deadline().map_or(IDLE, |at| self.until(at));
            tokio::select! {
                Some((write, outcome)) = self.writes.next(), if !self.writes.is_empty() => {
                    self.written(write, outcome).await;
                }
                request = requests.recv(), if self.stop.is_none() => match request {
                    Some(request) => self.request(request).await,
                    None => return,
                },
                changed = self.states.changed() => match changed {
                    Ok(()) => self.take_state().await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(sleep) => self.handle(Event::Tick).await,
            }
        }
        if let Some(reply) = self.stop {
            let _ = reply.send(());
        }
    }

    fn now(&self) -> i64 {
        self.started.0 + i64::try_from(self.started.1.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn until(&self, at: i64) -> Duration {
        Duration::from_millis(u64::try_from(at - self.now()).unwrap_or(0))
    }

    async fn request(&mut self, request: Request) {
        // What the caller knows to exist must be known here, too.
        if self.states.has_changed().unwrap_or(false) {
            self.take_state().await;
        }
        match request {
            Request::Call { call, reply } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.waiting.insert(ticket, reply);
                let event = match call {
                    Call::Heartbeat(request) => {
                        let fresh_id = format!("{}-{:016x}", request.client_name, rand::random::<u64>());
                        Event::Heartbeat { ticket, request, fresh_id }
                    }
                    Call::Leave(request) => Event::Leave { ticket, request },
                    Call::Commit(request, committer) => Event::Commit { ticket, request, committer },
                    Call::Delete(request) => Event::Delete { ticket, request },
                };
                self.handle(event).await;
            }
            Request::Look(look) => look(Ok(&self.coordinator)),
            Request::Stop { reply } => self.stop = Some(reply),
        }
    }

    async fn take_state(&mut self) {
        let state = Arc::clone(&self.states.borrow_and_update());
        let topic = |topic: &millstream_cluster::metadata::Topic| TopicInfo {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions,
        };
        let topics = state.topics().filter(|topic| !topic.internal).map(topic).collect();
        let pipelines = state.pipelines().map(|pipeline| pipeline.name.clone()).collect();
        self.handle(Event::TopicsChanged { topics }).await;
        self.handle(Event::PipelinesChanged { pipelines }).await;
    }

    async fn handle(&mut self, event: Event) {
        let mut outputs = Vec::new();
        self.coordinator.handle(event, self.now(), &mut outputs);
        for output in outputs {
            match output {
                Output::Answer { ticket, result } => {
                    // Whoever asked may have gone away.
                    let _ = self.waiting.remove(&ticket).map(|reply| reply.send(result));
                }
                Output::Persist { write, entries } => {
                    let now = self.now();
                    self.append(Write::Commit(write), &entries, now).await;
                }
            }
        }
    }

    async fn append(&mut self, write: Write, entries: &[Entry], now: i64) {
        let (reply, outcome) = oneshot::channel();
        let batches = store::encode(entries, now);
        let append = Append { batches, acks: Acks::All, reply: Reply::Channel(reply), budget: None };
        let enqueued = self.partition.enqueue(append).await;
        self.writes.push_back(Box::pin(async move {
            let outcome = match enqueued {
                Ok(()) => outcome.await.unwrap_or_else(|_| Err(shutting_down())),
                Err(failure) => Err(failure),
            };
            (write, outcome)
        }));
    }

    async fn written(&mut self, write: Write, outcome: Outcome) {
        match (write, outcome) {
            (Write::Commit(write), Ok(_)) => {
                self.handle(Event::Persisted { write }).await;
                self.bound_log().await;
            }
            (Write::Commit(write), Err(failure)) => self.handle(Event::PersistFailed { write, failure }).await,
            (Write::Snapshot, outcome) => {
                self.snapshot_in_flight = false;
                let cut = match outcome {
                    Ok(appended) => self.partition.delete_records(Some(appended.base_offset)).await,
                    Err(failure) => Err(failure),
                };
                if let Err(error) = cut {
                    tracing::warn!(%error, "the offsets topic is not cut; it is tried again later");
                }
            }
        }
    }

    /// Writes a snapshot when the log has become much longer than what it says.
    async fn bound_log(&mut self) {
        let records = u64::try_from(self.partition.high_watermark() - self.partition.log_start()).unwrap_or(0);
        if self.snapshot_in_flight || records < self.records_max {
            return;
        }
        let entries = self.coordinator.snapshot();
        if entries.is_empty() || records < 4 * entries.len() as u64 {
            return;
        }
        self.snapshot_in_flight = true;
        let now = self.now();
        self.append(Write::Snapshot, &entries, now).await;
    }
}

/// Answers everything with the reason why groups can't be served.
pub(super) async fn refuse(mut requests: mpsc::Receiver<Request>, reason: Failure) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Call { reply, .. } => drop(reply.send(Err(reason.clone()))),
            Request::Look(look) => look(Err(reason.clone())),
            Request::Stop { reply } => {
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// The offsets topic can't be used.
pub(super) fn damaged(at: Offset, reason: impl std::fmt::Display) -> Failure {
    let message = format!("topic `{}` is damaged at offset {at}: {reason}", store::TOPIC);
    Failure::new(ErrorCode::CorruptData, message)
}
