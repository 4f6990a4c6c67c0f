//! The writing side of a task: rows, as batches per output partition ([`crate::core::sink`]), appended without
//! waiting; one call-back per append when all its parts are durable.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_protocol::message::Acks;
use millstream_protocol::{Columns, Failure};

use crate::core::sink::Encoder;
use crate::error::unknown_topic;
use crate::partition::{Append, Reply};
use crate::service::Service;

/// Told once, when every part of an append is durable or one has failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), Failure>) + Send + Sync>;

/// Writes one task's outputs.
pub(super) struct Sinks {
    service: Arc<Service>,
    /// By the plan's sink index.
    topics: Vec<String>,
    encoder: Encoder,
}

impl Sinks {
    pub(super) fn new(service: Arc<Service>, topics: Vec<String>, input_partition: u32) -> Self {
        Sinks { service, topics, encoder: Encoder::new(input_partition) }
    }

    /// Appends the rows to a sink's topic. Waits for room in the shards' mailboxes, not for the disk.
    /// Appends to one partition keep the order of the calls.
    ///
    /// # Errors
    /// The topic is gone or a partition is offline. `done` is called all the same.
    pub(super) fn append(&mut self, sink: usize, rows: &Columns, done: Done) -> Result<(), Failure> {
        let name = &self.topics[sink];
        let state = self.service.state();
        let parts = Parts::new(done);
        let Some(topic) = state.topic(name) else {
            let failure = unknown_topic(name);
            parts.fail(failure.clone());
            return Err(failure);
        };
        let limit = self.service.topics().effective(topic).batch_bytes_max.unwrap_or(u32::MAX) as usize;
        for (partition, batches) in self.encoder.encode(rows, topic.partitions, limit)? {
            let (part, failed) = (parts.part(), parts.clone());
            let reply = Reply::Call(Box::new(move |outcome| part.settle(outcome.map(drop))));
            let sent = self
                .service
                .partition(topic.id, partition)
                .and_then(|to| to.enqueue_blocking(Append { batches, acks: Acks::All, reply, budget: None }));
            if let Err(failure) = sent {
                failed.fail(failure.clone());
                return Err(failure);
            }
        }
        Ok(())
    }
}

/// The parts of one append: when the last handle of them goes, the outcome is reported. A part that is
/// dropped unanswered is a failure.
#[derive(Clone)]
struct Parts(Arc<Shared>);

struct Shared {
    failure: Mutex<Option<Failure>>,
    done: Option<Done>,
}

impl Parts {
    fn new(done: Done) -> Self {
        Parts(Arc::new(Shared { failure: Mutex::new(None), done: Some(done) }))
    }

    fn part(&self) -> Part {
        Part { parts: self.clone(), settled: false }
    }

    fn fail(&self, failure: Failure) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let failure = self.failure.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = self.done.take() {
            done(failure.map_or(Ok(()), Err));
        }
    }
}

struct Part {
    parts: Parts,
    settled: bool,
}

impl Part {
    fn settle(mut self, outcome: Result<(), Failure>) {
        self.settled = true;
        if let Err(failure) = outcome {
            self.parts.fail(failure);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.settled {
            self.parts.fail(crate::error::shutting_down());
        }
    }
}
