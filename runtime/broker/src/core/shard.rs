//! The partitions of one owner and their group commit: appends go to the page cache at once, and only when the
//! owner has drained its mailbox ([`Event::Drained`]) does each log that needs it ask for one sync.
//!
//! Invariants: a log has at most one sync in flight; a partition that failed is gone, and everybody who waited
//! for it was told why.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_log as log;
use millstream_log::{Log, Storage};
use millstream_protocol::message::Durability;
use millstream_protocol::{ErrorCode, Failure, Offset, TopicPartition, mutant};

use super::partition::{Append, Appended, Effect, LogDescription, Partition};

/// What happens to a shard. `W` is whoever waits for an append.
pub enum Event<S: Storage, W> {
    Opened {
        id: TopicPartition,
        topic: Arc<str>,
        log: Box<Log<S>>,
        durability: Durability,
    },
    Append {
        id: TopicPartition,
        append: Append<W>,
    },
    /// A sync of this partition's log is over.
    Synced {
        id: TopicPartition,
        done: log::SyncDone,
    },
    SetConfig {
        id: TopicPartition,
        config: log::Config,
        durability: Durability,
    },
    /// Forget the partition; its files are the caller's from then on.
    Close {
        id: TopicPartition,
        reason: Failure,
    },
    /// Time to look after retention and marks.
    Tick,
    /// No more events are waiting: what was appended can be made durable together.
    Drained,
}

/// What a shard wants done, in this order.
#[derive(Debug)]
pub enum Output<W> {
    Answer(W, Result<Appended, Failure>),
    /// The end of what was appended, durable or not.
    LogEnd(TopicPartition, Offset),
    /// Consumers may read up to here. Comes before the acknowledgements it allows.
    HighWatermark(TopicPartition, Offset),
    /// Run the job where blocking is allowed and report [`Event::Synced`].
    Sync(TopicPartition, log::SyncJob),
    /// Out of service from now on.
    Offline(TopicPartition, Failure),
    /// Retention failed; it is tried again.
    Late(TopicPartition, log::Error),
}

/// See the module's head.
pub struct Shard<S: Storage, W> {
    partitions: HashMap<TopicPartition, Partition<S, W>>,
    /// Logs that want a sync once the mailbox is drained.
    dirty: Vec<TopicPartition>,
    effects: Vec<Effect<W>>,
}

impl<S: Storage, W> Default for Shard<S, W> {
    fn default() -> Self {
        Shard { partitions: HashMap::new(), dirty: Vec::new(), effects: Vec::new() }
    }
}

impl<S: Storage, W> Shard<S, W> {
    /// Takes one event; what is to be done is appended to `out`.
    pub fn handle(&mut self, event: Event<S, W>, now_ms: i64, out: &mut Vec<Output<W>>) {
        match event {
            Event::Opened { id, topic, log, durability } => {
                self.partitions.insert(id, Partition::new((topic, id.partition), *log, durability));
            }
            Event::Append { id, append } => self.change(id, out, |partition, effects| match partition {
                Some(partition) => partition.append(append, now_ms, effects),
                None => {
                    effects.push(Effect::Answer(append.waiter, Err(gone())));
                    Ok(())
                }
            }),
            // A log that was closed meanwhile needs no answer.
            Event::Synced { id, done } => self.change(id, out, |partition, effects| {
                partition.map_or(Ok(()), |partition| partition.finish_sync(done, effects))
            }),
            Event::SetConfig { id, config, durability } => self.change(id, out, |partition, effects| {
                if let Some(partition) = partition {
                    partition.set_config(config, durability, effects);
                }
                Ok(())
            }),
            Event::Close { id, reason } => self.fail(id, &reason, out),
            Event::Tick => self.tick(now_ms, out),
            Event::Drained => self.request_syncs(out),
        }
    }

    /// Lets a partition act, puts it on the list when it wants a sync, takes it out of service when it failed.
    fn change(
        &mut self,
        id: TopicPartition,
        out: &mut Vec<Output<W>>,
        act: impl FnOnce(Option<&mut Partition<S, W>>, &mut Vec<Effect<W>>) -> Result<(), Failure>,
    ) {
        let mut partition = self.partitions.get_mut(&id);
        let before = partition.as_ref().map(|partition| partition.log_end());
        let outcome = act(partition.as_deref_mut(), &mut self.effects);
        if let Some(partition) = partition {
            if before != Some(partition.log_end()) {
                out.push(Output::LogEnd(id, partition.log_end()));
            }
            if !partition.sync_wanted && partition.wants_sync() {
                partition.sync_wanted = true;
                self.dirty.push(id);
            }
        }
        if let Err(reason) = &outcome {
            out.push(Output::Offline(id, reason.clone()));
        }
        pass_on(id, &mut self.effects, out);
        if let Err(reason) = outcome {
            self.fail(id, &reason, out);
        }
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Output<W>>) {
        let mut ids: Vec<_> = self.partitions.keys().copied().collect();
        // The order must not be the table's, which differs from run to run.
        ids.sort_unstable();
        for id in ids {
            let partition = self.partitions.get_mut(&id).expect("listed a moment ago");
            // Topics that do not wait for the disk reach it now and then all the same.
            if !partition.sync_wanted && partition.is_unsynced() && !mutant!("replicated-never-synced") {
                partition.sync_wanted = true;
                self.dirty.push(id);
            }
            if let Err(error) = partition.tick(now_ms) {
                out.push(Output::Late(id, error));
            }
        }
    }

    fn request_syncs(&mut self, out: &mut Vec<Output<W>>) {
        for id in self.dirty.drain(..) {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            partition.sync_wanted = false;
            if let Some(job) = partition.begin_sync() {
                out.push(Output::Sync(id, job));
            }
        }
    }

    fn fail(&mut self, id: TopicPartition, reason: &Failure, out: &mut Vec<Output<W>>) {
        let Some(partition) = self.partitions.remove(&id) else { return };
        partition.fail(reason, &mut self.effects);
        pass_on(id, &mut self.effects, out);
    }

    /// Makes records before `before` unreadable, durably; gives the new start.
    ///
    /// # Errors
    /// The partition is gone, or its log's.
    pub fn delete_records(&mut self, id: TopicPartition, before: Offset) -> Result<Offset, Failure> {
        self.partitions.get_mut(&id).ok_or_else(gone)?.delete_records(before)
    }

    /// # Errors
    /// The partition is gone.
    pub fn describe(&self, id: TopicPartition) -> Result<LogDescription, Failure> {
        self.partitions.get(&id).map(Partition::describe).ok_or_else(gone)
    }

    pub fn partition(&self, id: TopicPartition) -> Option<&Partition<S, W>> {
        self.partitions.get(&id)
    }

    /// Whether [`Event::Drained`] would ask for a sync.
    pub fn wants_sync(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a sync is still on its way.
    pub fn is_syncing(&self) -> bool {
        self.partitions.values().any(|partition| partition.sync_in_flight)
    }

    /// Every partition, to be closed by [`close`]; no sync may be in flight.
    pub fn take(&mut self) -> Vec<(TopicPartition, Partition<S, W>)> {
        let mut partitions: Vec<_> = self.partitions.drain().collect();
        partitions.sort_unstable_by_key(|(id, _)| *id);
        partitions
    }
}

/// Closes a partition's log cleanly. Blocks for the disk.
///
/// # Errors
/// It could not be closed cleanly, so the next opening checks it. Everybody was answered all the same.
pub fn close<S: Storage, W>(
    (id, partition): (TopicPartition, Partition<S, W>),
    reason: &Failure,
    out: &mut Vec<Output<W>>,
) -> Result<(), Failure> {
    let mut effects = Vec::new();
    let closed = partition.close(reason, &mut effects);
    pass_on(id, &mut effects, out);
    closed
}

fn pass_on<W>(id: TopicPartition, effects: &mut Vec<Effect<W>>, out: &mut Vec<Output<W>>) {
    out.extend(effects.drain(..).map(|effect| match effect {
        Effect::HighWatermark(offset) => Output::HighWatermark(id, offset),
        Effect::Answer(waiter, outcome) => Output::Answer(waiter, outcome),
    }));
}

fn gone() -> Failure {
    Failure::new(ErrorCode::UnknownPartition, "the partition was closed")
}
