//! The way to one shard: its mailbox, and the desk its logs lie on. An append that only copies into the page cache is
//! done by the thread that brings it when nobody is at the desk and nobody waits: handing it over would cost two switches
//! of threads, there and back, which is more than the append itself. Whatever is known to wait for the disk (a sync, a new
//! segment, room to be reserved) is the shard's thread's.
//!
//! Invariants: one thread at a time is at the logs; appends of one caller keep their order, since none is done past
//! one that waits in the mailbox; nobody goes on with logs at which a thread panicked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millstream_protocol::TopicPartition;
use tokio::sync::mpsc;

use super::Command;
use super::owner::Owner;
use crate::partition::Append;

/// The way to one shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mailbox {
    commands: mpsc::Sender<Command>,
    desk: Arc<Desk>,
}

/// A shard's logs, while its thread lives, and how many appends are on their way to it.
#[derive(Default)]
pub(super) struct Desk {
    owner: Mutex<Option<Owner>>,
    waiting: Arc<AtomicUsize>,
}

/// An append's place among those that wait for the shard's thread.
#[derive(Debug)]
pub(crate) struct Queued(Arc<AtomicUsize>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The shard has ended.
#[derive(Debug)]
pub(crate) struct Ended;

/// Takes the logs off the desk, however the shard's thread ends: they hold on to the desk, and to the data folder.
pub(super) struct LaidOut<'a>(&'a Desk);

impl Desk {
    pub(super) fn lay_out(&self, owner: Owner) -> LaidOut<'_> {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
        LaidOut(self)
    }

    /// Waits for whoever is at the logs, which is for one append at most; `None` when they are nobody's any more.
    pub(super) fn at<T>(&self, act: impl FnOnce(&mut Owner) -> T) -> Option<T> {
        self.owner.lock().ok()?.as_mut().map(act)
    }
}

impl LaidOut<'_> {
    /// The logs, unless a thread panicked at them.
    pub(super) fn take(self) -> Option<Owner> {
        self.0.owner.lock().ok()?.take()
    }
}

impl Drop for LaidOut<'_> {
    fn drop(&mut self) {
        drop(self.0.owner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Mailbox {
    pub(super) fn new(commands: mpsc::Sender<Command>, desk: Arc<Desk>) -> Self {
        Mailbox { commands, desk }
    }

    /// Waits for room.
    ///
    /// # Errors
    /// The shard has ended.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).await.map_err(|_| Ended)
    }

    /// [`Mailbox::send`] for threads that may block.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn blocking_send(&self, command: Command) -> Result<(), Ended> {
        self.commands.blocking_send(command).map_err(|_| Ended)
    }

    /// Gives up when there is no room.
    pub(crate) fn try_send(&self, command: Command) {
        // A full mailbox is being worked on.
        let _ = self.commands.try_send(command);
    }

    /// Appends here and now, or gives back what the shard's thread has to do.
    pub(crate) fn append(&self, id: TopicPartition, append: Append) -> Option<Command> {
        let now = Instant::now();
        // When somebody is there, or nobody goes there any more, it is the shard's thread's.
        if let Ok(mut owner) = self.desk.owner.try_lock()
            && self.desk.waiting.load(Ordering::Acquire) == 0
            && let Some(owner) = owner.as_mut().filter(|owner| owner.is_quick(id, &append, now))
        {
            if owner.append_quickly(id, append, now) {
                self.try_send(Command::Wake);
            }
            return None;
        }
        self.desk.waiting.fetch_add(1, Ordering::AcqRel);
        Some(Command::Append { id, append, queued: Queued(Arc::clone(&self.desk.waiting)) })
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}
