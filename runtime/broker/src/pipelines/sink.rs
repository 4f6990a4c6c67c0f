//! The writing side of a task: rows become record batches per output partition, appended without waiting;
//! one call-back per append when all its parts are durable.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_cluster::metadata::Topic;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression};
use millstream_protocol::message::Acks;
use millstream_protocol::partitioner::partition_for_key;
use millstream_protocol::{Columns, ErrorCode, Failure, PartitionIndex, Row};

use crate::error::unknown_topic;
use crate::partition::{Append, Batches, Reply};
use crate::service::Service;

/// Target size of an output batch, bytes; less where the topic's own limit is lower.
const BATCH_BYTES: usize = 512 << 10;

/// Told once, when every part of an append is durable or one has failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), Failure>) + Send + Sync>;

/// Writes one task's outputs.
pub(super) struct Sinks {
    service: Arc<Service>,
    /// By the plan's sink index.
    topics: Vec<String>,
    /// Rows without a key go to the partition with the input's number.
    input_partition: u32,
    builders: Vec<Building>,
}

/// Batches of one output partition.
struct Building {
    builder: BatchBuilder,
    batches: Batches,
}

impl Sinks {
    pub(super) fn new(service: Arc<Service>, topics: Vec<String>, input_partition: u32) -> Self {
        Sinks { service, topics, input_partition, builders: Vec::new() }
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
        for (partition, batches) in self.encode(topic, rows)? {
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

    fn encode(&mut self, topic: &Topic, rows: &Columns) -> Result<Vec<(PartitionIndex, Batches)>, Failure> {
        let partitions = topic.partitions.max(1);
        let limit = self.service.topics().effective(topic).batch_bytes_max.unwrap_or(u32::MAX) as usize;
        let target = limit.min(BATCH_BYTES);
        let new = || Building { builder: BatchBuilder::new(Compression::None), batches: Batches::new() };
        while self.builders.len() < partitions as usize {
            self.builders.push(new());
        }
        for row in rows.rows() {
            let partition = match row.key {
                Some(key) => partition_for_key(key, partitions),
                None => PartitionIndex(self.input_partition % partitions),
            };
            self.builders[partition.0 as usize].push(&row, target)?;
        }
        let mut encoded = Vec::new();
        for (index, building) in (0..).zip(&mut self.builders) {
            building.flush()?;
            if !building.batches.is_empty() {
                encoded.push((PartitionIndex(index), std::mem::take(&mut building.batches)));
            }
        }
        Ok(encoded)
    }
}

impl Building {
    fn push(&mut self, row: &Row<'_>, target: usize) -> Result<(), Failure> {
        let (key, value) = (row.key.map_or(0, <[u8]>::len), row.value.map_or(0, <[u8]>::len));
        let header_bytes = row.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
        let most = BatchBuilder::record_bytes_max(key, value, row.headers.len(), header_bytes);
        if !self.builder.is_empty() && self.builder.bytes() + most > target {
            self.flush()?;
        }
        if row.headers.is_empty() {
            self.builder.push_simple(row.timestamp, row.key, row.value);
        } else {
            self.builder.push(row.timestamp, row.key, row.value, row.headers.iter());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.builder.is_empty() {
            let bytes: Bytes = self.builder.build();
            let header = BatchHeader::decode(&bytes).map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?;
            self.batches.push((header, bytes));
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
