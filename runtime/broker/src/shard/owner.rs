//! The loop of one shard: commands go into [`core::shard`](crate::core::shard), what it wants done comes out.
//! Invariant: only this thread touches its logs; whatever it does besides appending (opening, retention) it
//! does inline, so that no partition needs a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use millstream_log::{Log, Storage, Volume};
use millstream_protocol::{ErrorCode, Failure, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::sync::Job;
use super::{Command, Spec};
use crate::clock::now_ms;
use crate::core;
use crate::core::partition::code_of;
use crate::core::shard::{Event, Output, Shard};
use crate::data_dir::DataDir;
use crate::folder;
use crate::limits::SHARD_DRAIN_MAX;
use crate::partition::{Append, Opening, Partition, Reply};

/// What a shard is made of.
pub(super) struct Parts {
    pub(super) mailbox: mpsc::Sender<Command>,
    pub(super) runtime: Handle,
    pub(super) syncs: Sender<Job>,
    pub(super) abort: Arc<AtomicBool>,
    /// The folder is not free before this thread is done with it.
    pub(super) data_dir: Arc<DataDir>,
}

pub(super) struct Owner {
    parts: Parts,
    core: Shard<Arc<dyn Storage>, Reply>,
    handles: HashMap<TopicPartition, Arc<Partition>>,
    outputs: Vec<Output<Reply>>,
    /// Someone waits for a clean end.
    shutdown: Option<oneshot::Sender<()>>,
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Self {
        Owner { parts, core: Shard::default(), handles: HashMap::new(), outputs: Vec::new(), shutdown: None }
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            self.handle(first);
            for _ in 1..SHARD_DRAIN_MAX {
                if self.aborted() {
                    return;
                }
                let Ok(next) = commands.try_recv() else { break };
                self.handle(next);
            }
            self.feed(Event::Drained);
            if self.aborted() {
                return;
            }
            if self.shutdown.is_some() && commands.is_empty() && !self.core.is_syncing() {
                break;
            }
        }
        for (id, error) in self.core.close(&crate::error::shutting_down(), &mut self.outputs) {
            let (topic, partition) = (self.topic(id), id.partition.0);
            tracing::warn!(topic, partition, %error, "log not closed cleanly; the next start checks it");
        }
        self.carry_out();
        if let Some(reply) = self.shutdown {
            let _ = reply.send(());
        }
    }

    fn aborted(&self) -> bool {
        self.parts.abort.load(Ordering::Acquire)
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { spec, reply } => {
                let partition = self.open(*spec);
                let _ = reply.send(partition);
            }
            Command::Append { id, append } => {
                let Append { batches, acks, reply: waiter, budget } = append;
                self.feed(Event::Append { id, append: core::partition::Append { batches, acks, waiter } });
                drop(budget);
            }
            Command::Synced { id, done } => self.feed(Event::Synced { id, done }),
            Command::DeleteRecords { id, before, reply } => drop(reply.send(self.core.delete_records(id, before))),
            Command::Describe { id, reply } => drop(reply.send(self.core.describe(id))),
            Command::SetConfig { id, config, durability } => {
                if let Some(handle) = self.handles.get(&id) {
                    handle.set_batch_bytes_max(u32::try_from(config.batch_bytes_max).unwrap_or(u32::MAX));
                }
                self.feed(Event::SetConfig { id, config, durability });
            }
            Command::Close { id, reason, reply } => {
                if let Some(handle) = self.handles.remove(&id) {
                    handle.set_offline(reason.clone());
                }
                self.feed(Event::Close { id, reason });
                let _ = reply.send(());
            }
            Command::Tick => self.tick(),
            Command::Shutdown { reply } => self.shutdown = Some(reply),
            Command::Wake => {}
        }
    }

    fn tick(&mut self) {
        for (id, handle) in &self.handles {
            folder::report_mended(handle.topic(), id.partition.0, &handle.take_mended());
        }
        self.feed(Event::Tick);
    }

    fn open(&mut self, spec: Spec) -> Arc<Partition> {
        let opening = Opening {
            id: spec.id,
            topic: Arc::clone(&spec.topic),
            mailbox: self.parts.mailbox.clone(),
            runtime: self.parts.runtime.clone(),
            batch_bytes_max: u32::try_from(spec.config.batch_bytes_max).unwrap_or(u32::MAX),
            stats: Arc::clone(&spec.stats),
        };
        let (topic, partition) = (spec.topic.to_string(), spec.id.partition.0);
        match open_log(&**self.parts.data_dir.volume(), &spec) {
            Ok(log) => {
                let handle = Arc::new(Partition::serving(opening, log.reader(), log.end_offset()));
                self.handles.insert(spec.id, Arc::clone(&handle));
                let (log, durability) = (Box::new(log), spec.durability);
                self.feed(Event::Opened { id: spec.id, topic: spec.topic, log, durability });
                handle
            }
            Err(reason) => {
                tracing::error!(topic, partition, %reason, "partition refuses service");
                Arc::new(Partition::refusing(opening, reason))
            }
        }
    }

    fn feed(&mut self, event: Event<Arc<dyn Storage>, Reply>) {
        self.core.handle(event, now_ms(), &mut self.outputs);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Answer(reply, outcome) => reply.answer(outcome),
                Output::LogEnd(id, end) => self.with(id, |handle| handle.set_log_end(end)),
                Output::HighWatermark(id, offset) => self.with(id, |handle| handle.set_high_watermark(offset)),
                Output::Sync(id, job) => {
                    let job = Job { id, job, shard: self.parts.mailbox.clone() };
                    self.parts.syncs.send(job).expect("sync threads live as long as their senders");
                }
                Output::Offline(id, reason) => {
                    let (topic, partition) = (self.topic(id), id.partition.0);
                    tracing::error!(topic, partition, %reason, "partition goes offline");
                    self.with(id, |handle| handle.set_offline(reason));
                    self.handles.remove(&id);
                }
                Output::Late(id, error) => {
                    let (topic, partition) = (self.topic(id), id.partition.0);
                    tracing::warn!(topic, partition, %error, "retention failed; it is tried again");
                }
            }
        }
        self.outputs = outputs;
    }

    fn with(&self, id: TopicPartition, act: impl FnOnce(&Partition)) {
        if let Some(handle) = self.handles.get(&id) {
            act(handle);
        }
    }

    fn topic(&self, id: TopicPartition) -> &str {
        self.handles.get(&id).map_or("", |handle| handle.topic())
    }
}

/// Opens the log of a partition, checking first that the folder is this partition's.
fn open_log(volume: &dyn Volume, spec: &Spec) -> Result<Log<Arc<dyn Storage>>, Failure> {
    folder::claim(volume, spec.place())?;
    let corrupt = |e: &dyn std::fmt::Display, code| {
        let (topic, partition) = (&spec.topic, spec.id.partition);
        Failure::new(code, format!("{topic}/{partition}: {e}"))
    };
    let storage = volume.open(&spec.folder).map_err(|e| corrupt(&e, ErrorCode::StorageUnavailable))?;
    let opened = Log::open(storage, spec.config.clone(), now_ms());
    let (log, recovery) = opened.map_err(|e| corrupt(&e, code_of(&e)))?;
    folder::report_recovery(spec, &recovery);
    Ok(log)
}
