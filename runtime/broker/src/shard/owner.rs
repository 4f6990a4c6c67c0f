//! The loop of one shard. Invariant: only this thread touches the logs in its map; whatever it does besides
//! appending (opening, retention) it does inline, so that no partition needs a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use millstream_log::{DiskStorage, Log};
use millstream_protocol::{ErrorCode, Failure, Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::log_of::LogOf;
use super::sync::Job;
use super::{Command, Spec};
use crate::clock::now_ms;
use crate::data_dir::DataDir;
use crate::folder;
use crate::limits::SHARD_DRAIN_MAX;
use crate::partition::{Append, Opening, Partition};

/// What a shard is made of.
pub(super) struct Parts {
    pub(super) mailbox: mpsc::Sender<Command>,
    pub(super) runtime: Handle,
    pub(super) syncs: Sender<Job>,
    pub(super) abort: Arc<AtomicBool>,
    /// The folder is not free before this thread is done with it.
    pub(super) _data_dir: Arc<DataDir>,
}

pub(super) struct Owner {
    parts: Parts,
    logs: HashMap<TopicPartition, LogOf>,
    /// Logs that want a sync once the mailbox is drained.
    dirty: Vec<TopicPartition>,
    /// Someone waits for a clean end.
    shutdown: Option<oneshot::Sender<()>>,
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Self {
        Owner { parts, logs: HashMap::new(), dirty: Vec::new(), shutdown: None }
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
            self.request_syncs();
            if self.aborted() {
                return;
            }
            if self.shutdown.is_some() && commands.is_empty() && !self.logs.values().any(|log| log.sync_in_flight) {
                break;
            }
        }
        self.logs.drain().for_each(|(_, log)| log.close());
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
            Command::Append { id, append } => self.append(id, append),
            Command::Synced { id, done } => {
                // A log that was closed meanwhile needs no answer.
                let Some(log) = self.logs.get_mut(&id) else { return };
                if let Err(reason) = log.finish_sync(done) {
                    self.fail(id, &reason);
                    return;
                }
                self.mark_dirty(id);
            }
            Command::DeleteRecords { id, before, reply } => {
                let _ = reply.send(self.delete_records(id, before));
            }
            Command::Describe { id, reply } => {
                let _ = reply.send(self.logs.get(&id).map(LogOf::describe).ok_or_else(gone));
            }
            Command::SetConfig { id, config, durability } => {
                if let Some(log) = self.logs.get_mut(&id) {
                    log.set_config(config, durability);
                    self.mark_dirty(id);
                }
            }
            Command::Close { id, reason, reply } => {
                if let Some(log) = self.logs.remove(&id) {
                    log.fail(&reason);
                }
                let _ = reply.send(());
            }
            Command::Tick => self.tick(),
            Command::Shutdown { reply } => self.shutdown = Some(reply),
            Command::Wake => {}
        }
    }

    fn open(&mut self, spec: Spec) -> Arc<Partition> {
        let opening = Opening {
            id: spec.id,
            topic: Arc::clone(&spec.topic),
            mailbox: self.parts.mailbox.clone(),
            runtime: self.parts.runtime.clone(),
            batch_bytes_max: u32::try_from(spec.config.batch_bytes_max).unwrap_or(u32::MAX),
        };
        let (topic, partition) = (spec.topic.to_string(), spec.id.partition.0);
        match open_log(&spec) {
            Ok(log) => {
                let handle = Arc::new(Partition::serving(opening, log.reader(), log.end_offset()));
                self.logs.insert(spec.id, LogOf::new(Arc::clone(&handle), log, spec.durability));
                handle
            }
            Err(reason) => {
                tracing::error!(topic, partition, %reason, "partition refuses service");
                Arc::new(Partition::refusing(opening, reason))
            }
        }
    }

    fn append(&mut self, id: TopicPartition, append: Append) {
        let Some(log) = self.logs.get_mut(&id) else {
            append.reply.answer(Err(gone()));
            return;
        };
        match log.append(append, now_ms()) {
            Ok(()) => self.mark_dirty(id),
            Err(reason) => self.fail(id, &reason),
        }
    }

    fn delete_records(&mut self, id: TopicPartition, before: Offset) -> Result<Offset, Failure> {
        let log = self.logs.get_mut(&id).ok_or_else(gone)?;
        log.delete_records(before).map_err(|e| super::failure_of(&e, &log.handle))
    }

    fn tick(&mut self) {
        let now = now_ms();
        for (id, log) in &mut self.logs {
            // Topics that do not wait for the disk reach it now and then all the same.
            if !log.sync_wanted && log.is_unsynced() {
                log.sync_wanted = true;
                self.dirty.push(*id);
            }
            if let Err(error) = log.tick(now) {
                let (topic, partition) = (log.handle.topic(), log.handle.index().0);
                tracing::warn!(topic, partition, %error, "retention failed; it is tried again");
            }
        }
    }

    fn mark_dirty(&mut self, id: TopicPartition) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        if !log.sync_wanted && log.wants_sync() {
            log.sync_wanted = true;
            self.dirty.push(id);
        }
    }

    fn request_syncs(&mut self) {
        for id in self.dirty.drain(..) {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            log.sync_wanted = false;
            if let Some(job) = log.begin_sync() {
                let job = Job { id, job, shard: self.parts.mailbox.clone() };
                self.parts.syncs.send(job).expect("sync threads live as long as their senders");
            }
        }
    }

    fn fail(&mut self, id: TopicPartition, reason: &Failure) {
        let Some(log) = self.logs.remove(&id) else { return };
        let (topic, partition) = (log.handle.topic().to_owned(), id.partition.0);
        tracing::error!(topic, partition, %reason, "partition goes offline");
        log.fail(reason);
    }
}

fn gone() -> Failure {
    Failure::new(ErrorCode::UnknownPartition, "the partition was closed")
}

/// Opens the log of a partition, checking first that the folder is this partition's.
fn open_log(spec: &Spec) -> Result<Log<DiskStorage>, Failure> {
    folder::claim(spec)?;
    let corrupt = |e: &dyn std::fmt::Display, code| {
        let (topic, partition) = (&spec.topic, spec.id.partition);
        Failure::new(code, format!("{topic}/{partition}: {e}"))
    };
    let storage = DiskStorage::open(&spec.folder).map_err(|e| corrupt(&e, ErrorCode::StorageUnavailable))?;
    let opened = Log::open(storage, spec.config.clone(), now_ms());
    let (log, recovery) = opened.map_err(|e| corrupt(&e, super::log_of::code_of(&e)))?;
    folder::report_recovery(spec, &recovery);
    Ok(log)
}
