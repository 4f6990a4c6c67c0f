//! The loop of one shard: commands go into [`core::shard`](crate::core::shard), what it wants done comes out.
//! Invariant: its logs are touched at its [`Desk`] only, by this thread or, for a quick append, by the one that brings it;
//! whatever else is done to them (retention) this thread does, so that no partition needs a lock of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millstream_log::Storage;
use millstream_protocol::TopicPartition;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::desk::Desk;
use super::sync::Job;
use super::{Command, Mailbox, Opened};
use crate::clock::now_ms;
use crate::core;
use crate::core::shard::{Event, Output, Shard};
use crate::data_dir::DataDir;
use crate::folder;
use crate::limits::{GATHER_YIELDS_MAX, OPENINGS_MAX, QUICK_AGAIN, QUICK_APPEND_MAX, SHARD_DRAIN_MAX};
use crate::partition::{Append, Opening, Partition, Reply};

/// What a shard is made of.
pub(super) struct Parts {
    pub(super) mailbox: Mailbox,
    pub(super) runtime: Handle,
    pub(super) syncs: Sender<Job>,
    pub(super) abort: Arc<AtomicBool>,
    /// The folder is not free before this thread is done with it.
    pub(super) _owned: Arc<DataDir>,
}

pub(super) struct Owner {
    parts: Parts,
    core: Shard<Arc<dyn Storage>, Reply>,
    handles: HashMap<TopicPartition, Arc<Partition>>,
    outputs: Vec<Output<Reply>>,
    /// Whom the last sync answered and who has not appended again: see [`Owner::gather`].
    answered: usize,
    /// The page cache kept a quick append waiting: until then nobody but this thread appends.
    slow_until: Option<Instant>,
    /// Someone waits for a clean end.
    shutdown: Option<oneshot::Sender<()>>,
}

/// The loop of a shard's thread. The logs are nobody's afterwards.
pub(super) fn run(owner: Owner, desk: &Desk, mut commands: mpsc::Receiver<Command>) {
    let laid_out = desk.lay_out(owner);
    while let Some(first) = commands.blocking_recv() {
        if desk.at(|owner| owner.turn(first, &mut commands)).unwrap_or(true) {
            break;
        }
    }
    let Some(mut owner) = laid_out.take() else { return };
    if owner.aborted() {
        return;
    }
    owner.close();
    if let Some(reply) = owner.shutdown {
        let _ = reply.send(());
    }
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Self {
        Owner {
            parts,
            core: Shard::default(),
            handles: HashMap::new(),
            outputs: Vec::new(),
            answered: 0,
            slow_until: None,
            shutdown: None,
        }
    }

    /// Handles what is in the mailbox; whether that was the end.
    fn turn(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) -> bool {
        self.handle(first);
        for _ in 1..SHARD_DRAIN_MAX {
            if self.aborted() {
                return true;
            }
            let Ok(next) = commands.try_recv() else { break };
            self.handle(next);
        }
        self.gather(commands, std::thread::yield_now);
        self.feed(Event::Drained);
        self.aborted() || (self.shutdown.is_some() && commands.is_empty() && !self.core.is_syncing())
    }

    /// Gives those whom a sync has just answered a moment to append again before the next sync is asked for. Without it
    /// the first of them has a sync of its own and all others wait for that: two groups take turns. Who is alone on the
    /// shard has appended by then, and nobody waits.
    pub(super) fn gather(&mut self, commands: &mut mpsc::Receiver<Command>, mut let_others_run: impl FnMut()) {
        if !self.core.wants_sync() {
            return;
        }
        for _ in 0..GATHER_YIELDS_MAX {
            if self.answered == 0 || self.aborted() {
                break;
            }
            let_others_run();
            for _ in 0..self.answered {
                let Ok(next) = commands.try_recv() else { break };
                self.handle(next);
            }
        }
        self.answered = 0;
    }

    /// Closes every log, several at a time: each waits for the disk more than once, and those waits overlap.
    fn close(&mut self) {
        let partitions = self.core.take();
        let threads = partitions.len().min(OPENINGS_MAX);
        let (left, reason) = (Mutex::new(partitions.into_iter()), crate::error::shutting_down());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let close = || {
            let (mut outputs, mut failed) = (Vec::new(), Vec::new());
            while let Some((id, partition)) = next() {
                if let Err(error) = core::shard::close((id, partition), &reason, &mut outputs) {
                    failed.push((id, error));
                }
            }
            (outputs, failed)
        };
        let closed: Vec<_> = std::thread::scope(|scope| {
            let closing: Vec<_> = (0..threads).map(|_| scope.spawn(close)).collect();
            closing.into_iter().map(|thread| thread.join().expect("closing a log does not panic")).collect()
        });
        for (outputs, failed) in closed {
            for (id, error) in failed {
                let (topic, partition) = (self.topic(id), id.partition.0);
                tracing::warn!(topic, partition, %error, "log not closed cleanly; the next start checks it");
            }
            self.outputs.extend(outputs);
        }
        self.carry_out();
    }

    fn aborted(&self) -> bool {
        self.parts.abort.load(Ordering::Acquire)
    }

    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Open { opened, reply } => {
                let partition = self.take(*opened);
                let _ = reply.send(partition);
            }
            Command::Append { id, append, queued } => {
                self.append(id, append);
                drop(queued);
            }
            Command::Synced { id, done } => self.answered = self.feed(Event::Synced { id, done }),
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

    fn append(&mut self, id: TopicPartition, append: Append) {
        let Append { batches, acks, reply: waiter, budget } = append;
        self.feed(Event::Append { id, append: core::partition::Append { batches, acks, waiter } });
        self.answered = self.answered.saturating_sub(1);
        drop(budget);
    }

    /// Whether the append waits for nothing but the page cache.
    pub(super) fn is_quick(&self, id: TopicPartition, append: &Append, now: Instant) -> bool {
        let quick = || self.core.partition(id).is_some_and(|partition| partition.is_quick(&append.batches, now_ms()));
        self.slow_until.is_none_or(|until| until <= now) && !self.aborted() && quick()
    }

    /// Appends on whatever thread this is; whether the shard's has a sync to ask for that it does not know of.
    pub(super) fn append_quickly(&mut self, id: TopicPartition, append: Append, now: Instant) -> bool {
        let knows = self.core.wants_sync();
        self.append(id, append);
        self.note_quick(now, Instant::now());
        self.core.wants_sync() && !knows
    }

    /// A thread that serves clients must not wait for the disk, and the page cache makes writers wait when that does not
    /// keep up.
    pub(super) fn note_quick(&mut self, start: Instant, end: Instant) {
        self.slow_until = (end.saturating_duration_since(start) > QUICK_APPEND_MAX).then(|| end + QUICK_AGAIN);
    }

    fn tick(&mut self) {
        for (id, handle) in &self.handles {
            folder::report_mended(handle.topic(), id.partition.0, &handle.take_mended());
        }
        self.feed(Event::Tick);
    }

    fn take(&mut self, opened: Opened) -> Arc<Partition> {
        let Opened { spec, log } = opened;
        let opening = Opening {
            id: spec.id,
            topic: Arc::clone(&spec.topic),
            mailbox: self.parts.mailbox.clone(),
            runtime: self.parts.runtime.clone(),
            batch_bytes_max: u32::try_from(spec.config.batch_bytes_max).unwrap_or(u32::MAX),
            stats: Arc::clone(&spec.stats),
        };
        let (topic, partition) = (spec.topic.to_string(), spec.id.partition.0);
        match log {
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

    /// Gives the number of answers that came of it.
    pub(super) fn feed(&mut self, event: Event<Arc<dyn Storage>, Reply>) -> usize {
        self.core.handle(event, now_ms(), &mut self.outputs);
        self.carry_out()
    }

    /// Gives the number of answers.
    fn carry_out(&mut self) -> usize {
        let mut outputs = std::mem::take(&mut self.outputs);
        let answers = outputs.iter().filter(|output| matches!(output, Output::Answer(..))).count();
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
        answers
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
