//! The loop that owns all groups: requests, metadata changes, finished writes and time go into
//! [`core::groups`](crate::core::groups), its answers and appends come out. One timer, set to the next deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesOrdered, StreamExt};
use millstream_cluster::group::Answer;
use millstream_cluster::metadata::State;
use millstream_protocol::Failure;
use millstream_protocol::message::Acks;
use tokio::sync::{mpsc, oneshot, watch};

use super::Request;
use crate::clock::now_ms;
use crate::core::groups::{Event, Groups, Output, Write};
use crate::error::shutting_down;
use crate::partition::{Append, Appended, Batches, Partition, Reply};

/// Longest sleep when no deadline is set.
const IDLE: Duration = Duration::from_secs(3_600);

type Outcome = Result<Appended, Failure>;
type Writing = Pin<Box<dyn Future<Output = (Write, Outcome)> + Send>>;

type Waiter = oneshot::Sender<Result<Answer, Failure>>;

pub(super) struct Owner {
    groups: Groups<Waiter>,
    partition: Arc<Partition>,
    states: watch::Receiver<Arc<State>>,
    /// In the order they were enqueued, which is the order they become durable.
    writes: FuturesOrdered<Writing>,
    /// The groups' clock must not go back: the wall's at the start, and what has passed since.
    started: (i64, Instant),
    stop: Option<oneshot::Sender<()>>,
}

impl Owner {
    pub(super) fn new(groups: Groups<Waiter>, partition: Arc<Partition>, states: watch::Receiver<Arc<State>>) -> Self {
        let (writes, started) = (FuturesOrdered::new(), (now_ms(), Instant::now()));
        Owner { groups, partition, states, writes, started, stop: None }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.take_state().await;
        while self.stop.is_none() || !self.writes.is_empty() {
            let sleep = self.groups.next_deadline().map_or(IDLE, |at| self.until(at));
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
            Request::Call { call, reply } => self.handle(Event::Call { call, waiter: reply }).await,
            Request::Look(look) => look(Ok(self.groups.coordinator())),
            Request::Stop { reply } => self.stop = Some(reply),
        }
    }

    async fn take_state(&mut self) {
        let state = Arc::clone(&self.states.borrow_and_update());
        let mut outputs = Vec::new();
        self.groups.take_state(&state, self.now(), &mut outputs);
        self.carry_out(outputs).await;
    }

    async fn handle(&mut self, event: Event<Waiter>) {
        let mut outputs = Vec::new();
        self.groups.handle(event, self.now(), &mut outputs);
        self.carry_out(outputs).await;
    }

    async fn carry_out(&mut self, outputs: Vec<Output<Waiter>>) {
        for output in outputs {
            match output {
                // Whoever asked may have gone away.
                Output::Answer(reply, result) => drop(reply.send(result)),
                Output::Append(write, batches) => self.append(write, batches).await,
                Output::Cut(before) => {
                    if let Err(error) = self.partition.delete_records(Some(before)).await {
                        tracing::warn!(%error, "the offsets topic is not cut; it is tried again later");
                    }
                }
                Output::Late(error) => {
                    tracing::warn!(%error, "the offsets topic is not cut; it is tried again later");
                }
            }
        }
    }

    async fn append(&mut self, write: Write, batches: Batches) {
        let (reply, outcome) = oneshot::channel();
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
        let log = (self.partition.log_start(), self.partition.high_watermark());
        self.handle(Event::Written { write, outcome, log }).await;
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
