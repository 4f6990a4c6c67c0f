//! Log shards: one thread per core, each owning the logs of the partitions hashed to it, with one bounded
//! mailbox. A shard appends inline, drains its mailbox, and only then asks for syncs: that is the group
//! commit. Syncs run on threads of their own and come back as commands. What all this decides is
//! [`crate::core::shard`]'s.
//!
//! - [`owner`]: the loop.
//! - [`sync`]: the sync threads.

mod desk;
mod owner;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_log as log;
use millstream_log::{Log, Storage, Volume};
use millstream_protocol::message::{Durability, TopicConfig};
use millstream_protocol::{ErrorCode, Failure, Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub(crate) use self::desk::{Mailbox, Queued};
use crate::clock::now_ms;
pub use crate::core::partition::LogDescription;
use crate::core::partition::code_of;
use crate::data_dir::DataDir;
use crate::error::{StartError, shutting_down};
use crate::folder::{self, Place};
use crate::limits::{OPENING_FILES, OPENINGS_MAX, PARTITION_FILES, SHARD_MAILBOX_MAX};
use crate::observe::process::{self, Files};
use crate::partition::{Append, Partition};
use crate::stats::Stats;

/// Everything that makes a shard act.
#[derive(Debug)]
pub(crate) enum Command {
    /// A partition whose log was opened, or could not be.
    Open {
        opened: Box<Opened>,
        reply: oneshot::Sender<Arc<Partition>>,
    },
    Append {
        id: TopicPartition,
        append: Append,
        queued: Queued,
    },
    /// A sync of this partition's log is over.
    Synced {
        id: TopicPartition,
        done: log::SyncDone,
    },
    DeleteRecords {
        id: TopicPartition,
        before: Offset,
        reply: oneshot::Sender<Result<Offset, Failure>>,
    },
    Describe {
        id: TopicPartition,
        reply: oneshot::Sender<Result<LogDescription, Failure>>,
    },
    SetConfig {
        id: TopicPartition,
        config: log::Config,
        durability: Durability,
    },
    /// Forgets the partition; its files are the caller's from then on.
    Close {
        id: TopicPartition,
        reason: Failure,
        reply: oneshot::Sender<()>,
    },
    /// Time to look after retention and marks.
    Tick,
    /// Finish what is there, sync and close every log cleanly, and end.
    Shutdown {
        reply: oneshot::Sender<()>,
    },
    /// Look at the abort flag, and whether a sync is due.
    Wake,
}

/// A partition to open.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) id: TopicPartition,
    pub(crate) topic: Arc<str>,
    /// On the data folder's volume.
    pub(crate) folder: String,
    pub(crate) config: log::Config,
    pub(crate) durability: Durability,
    /// The folder existed before, so a missing one is a loss.
    pub(crate) must_exist: bool,
    pub(crate) stats: Arc<Stats>,
}

/// What became of opening a partition's log.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) spec: Spec,
    pub(crate) log: Result<Log<Arc<dyn Storage>>, Failure>,
}

impl Spec {
    /// Opens the log, after checking that the folder is this partition's. Blocks for the disk.
    pub(crate) fn open(self, volume: &dyn Volume) -> Opened {
        let log = self.open_log(volume);
        Opened { spec: self, log }
    }

    fn open_log(&self, volume: &dyn Volume) -> Result<Log<Arc<dyn Storage>>, Failure> {
        folder::claim(volume, self.place())?;
        let failed = |e: &dyn std::fmt::Display, code| {
            let (topic, partition) = (&self.topic, self.id.partition);
            Failure::new(code, format!("{topic}/{partition}: {e}"))
        };
        let storage = volume.open(&self.folder).map_err(|e| failed(&e, ErrorCode::StorageUnavailable))?;
        let opened = Log::open(storage, self.config.clone(), now_ms());
        let (log, recovery) = opened.map_err(|e| failed(&e, code_of(&e)))?;
        folder::report_recovery(self, &recovery);
        Ok(log)
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { id: self.id, topic: &self.topic, folder: &self.folder, must_exist: self.must_exist }
    }
}

/// The running shards.
#[derive(Debug)]
pub(crate) struct Shards {
    mailboxes: Vec<Mailbox>,
    data_dir: Arc<DataDir>,
    /// Ends the loops without finishing anything, as a crash would.
    abort: Arc<AtomicBool>,
}

impl Shards {
    /// Starts `shards` owners and `sync_threads` sync threads. They keep the data folder's lock.
    pub(crate) fn start(
        shards: usize,
        sync_threads: usize,
        data_dir: &Arc<DataDir>,
        stats: &Arc<Stats>,
    ) -> Result<Self, StartError> {
        let abort = Arc::new(AtomicBool::new(false));
        let failed = |e: std::io::Error| StartError::Part { part: "a shard thread", reason: e.to_string() };
        let syncs = sync::start(sync_threads, data_dir, stats).map_err(failed)?;
        let mut mailboxes = Vec::new();
        for number in 0..shards {
            let (sender, commands) = mpsc::channel(SHARD_MAILBOX_MAX);
            let desk = Arc::new(desk::Desk::default());
            let mailbox = Mailbox::new(sender, Arc::clone(&desk));
            let owner = owner::Owner::new(owner::Parts {
                mailbox: mailbox.clone(),
                runtime: Handle::current(),
                syncs: syncs.clone(),
                abort: Arc::clone(&abort),
                _owned: Arc::clone(data_dir),
            });
            let thread = std::thread::Builder::new().name(format!("shard-{number}"));
            thread.spawn(move || owner::run(owner, &desk, commands)).map_err(failed)?;
            mailboxes.push(mailbox);
        }
        Ok(Shards { mailboxes, data_dir: Arc::clone(data_dir), abort })
    }

    /// The mailbox of the shard that owns this partition.
    pub(crate) fn mailbox_of(&self, id: TopicPartition) -> &Mailbox {
        mailbox_of(&self.mailboxes, id)
    }

    /// Opens partitions' logs beside their shards, which go on with the others meanwhile, and hands them over. One call at
    /// a time is enough for everybody.
    pub(crate) async fn open(&self, specs: Vec<Spec>) -> Result<Vec<Arc<Partition>>, Failure> {
        let threads = openings(specs.len(), process::files);
        let left = Arc::new(Mutex::new(specs.into_iter()));
        let mut opening = JoinSet::new();
        for _ in 0..threads {
            let (left, data_dir, mailboxes) = (Arc::clone(&left), Arc::clone(&self.data_dir), self.mailboxes.clone());
            opening.spawn_blocking(move || {
                let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
                let mut partitions = Vec::new();
                while let Some(spec) = next() {
                    let (reply, answer) = oneshot::channel();
                    let mailbox = mailbox_of(&mailboxes, spec.id);
                    let opened = Box::new(spec.open(&**data_dir.volume()));
                    mailbox.blocking_send(Command::Open { opened, reply }).map_err(|_| shutting_down())?;
                    partitions.push(answer.blocking_recv().map_err(|_| shutting_down())?);
                }
                Ok::<_, Failure>(partitions)
            });
        }
        let mut partitions = Vec::new();
        while let Some(opened) = opening.join_next().await {
            partitions.extend(opened.map_err(|_| shutting_down())??);
        }
        Ok(partitions)
    }

    /// One timer for all: a shard that is busy skips a tick.
    pub(crate) fn tick(&self) {
        for mailbox in &self.mailboxes {
            mailbox.try_send(Command::Tick);
        }
    }

    /// Closes every log cleanly and ends the shards.
    pub(crate) async fn shutdown(&self) {
        let mut answers = Vec::new();
        for mailbox in &self.mailboxes {
            let (reply, answer) = oneshot::channel();
            if mailbox.send(Command::Shutdown { reply }).await.is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            let _ = answer.await;
        }
    }

    /// Ends the shards as they are, as a crash would.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            // A full mailbox is being worked on: its owner sees the flag without this.
            mailbox.try_send(Command::Wake);
        }
    }
}

/// How many of `partitions` to open at a time. Close to the limit of open files it is one after the other: what openings
/// take for a moment must not keep partitions closed that fit.
fn openings(partitions: usize, files: impl FnOnce() -> Option<Files>) -> usize {
    let most = partitions.min(OPENINGS_MAX);
    let Some(Files { open, max }) = (most > 1).then(files).flatten() else { return most };
    let spare = max.saturating_sub(open).saturating_sub(PARTITION_FILES * partitions as u64);
    most.min(usize::try_from(spare / OPENING_FILES).unwrap_or(usize::MAX)).max(1)
}

fn mailbox_of(mailboxes: &[Mailbox], id: TopicPartition) -> &Mailbox {
    let hash = (id.topic.0 as u64) ^ ((id.topic.0 >> 64) as u64);
    let place = hash.wrapping_add(u64::from(id.partition.0)) % mailboxes.len() as u64;
    &mailboxes[place as usize]
}

/// What a log needs to know of a topic's settings, all of which are `Some`.
pub(crate) fn log_config(effective: &TopicConfig) -> log::Config {
    let defaults = log::Config::default();
    log::Config {
        segment_bytes: effective.segment_bytes.unwrap_or(defaults.segment_bytes),
        segment_ms: effective.segment_ms.unwrap_or(defaults.segment_ms),
        // -1, or anything below zero, is for ever.
        retention_ms: effective.retention_ms.filter(|ms| *ms >= 0),
        retention_bytes: effective.retention_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        batch_bytes_max: effective.batch_bytes_max.map_or(defaults.batch_bytes_max, |bytes| bytes as usize),
        ..defaults
    }
}
