//! Keeps the metadata state machine durable: one thread of its own owns the [`Store`], because commits block.
//! Readers never wait: they load the newest published state. One voter for now; the commands and the state are
//! those a consensus group will carry.

mod backend;
mod mark;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use millstream_cluster::metadata::{Applied, Command, State};
use millstream_log::Storage;
use millstream_protocol::{ErrorCode, Failure, TopicId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::data_dir::DataDir;
use crate::error::{StartError, shutting_down};
use crate::limits::METADATA_MAILBOX_MAX;
use crate::stats::Stats;

pub use store::{FILE, Store, check};

/// The handle: cheap to clone, hides the store's thread. The thread ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Metadata {
    state: watch::Receiver<Arc<State>>,
    /// Of the newest state, so that whoever remembers something sees cheaply whether it changed.
    applied: Arc<AtomicU64>,
    mailbox: mpsc::Sender<Request>,
    trouble: Arc<Trouble>,
}

/// How the last commit failed, until one succeeds.
#[derive(Debug)]
struct Trouble {
    last: ArcSwapOption<Failure>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
enum Request {
    Apply(Pending),
    /// Close the database and end.
    Stop(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Pending {
    command: Command,
    reply: oneshot::Sender<Result<Applied, Failure>>,
}

struct Keeper {
    /// The folder is not free before this thread is done with it.
    _data_dir: Arc<DataDir>,
    storage: Arc<dyn Storage>,
    /// Absent after a failed commit: what is on disk is not known until it was read again.
    store: Option<Store>,
    state: watch::Sender<Arc<State>>,
    applied: Arc<AtomicU64>,
    trouble: Arc<Trouble>,
}

impl Metadata {
    /// Opens or creates the store and replays it.
    ///
    /// # Errors
    /// The file can't be used, or its contents are damaged or newer.
    pub(crate) fn open(data_dir: &Arc<DataDir>, stats: &Arc<Stats>) -> Result<Self, StartError> {
        let failed = |reason: String| StartError::Metadata { file: data_dir.volume().show(FILE).into(), reason };
        let storage = data_dir.volume().open("").map_err(|e| failed(e.to_string()))?;
        let store = Store::open(&storage).map_err(|failure| failed(failure.message))?;
        let applied = Arc::new(AtomicU64::new(store.state().applied()));
        let (publish, state) = watch::channel(Arc::new(store.state().clone()));
        let (mailbox, requests) = mpsc::channel(METADATA_MAILBOX_MAX);
        let trouble = Arc::new(Trouble { last: ArcSwapOption::empty(), stats: Arc::clone(stats) });
        let keeper = Keeper {
            _data_dir: Arc::clone(data_dir),
            storage,
            store: Some(store),
            state: publish,
            applied: Arc::clone(&applied),
            trouble: Arc::clone(&trouble),
        };
        let thread = std::thread::Builder::new().name("metadata".into()).spawn(move || keeper.run(requests));
        thread.map_err(|e| failed(e.to_string()))?;
        Ok(Metadata { state, applied, mailbox, trouble })
    }

    /// The newest durable state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// The number of commands the newest state has seen; not ahead of [`Metadata::state`].
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Follows the state as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Applies a command; durable, and visible in [`Metadata::state`], when this returns.
    ///
    /// # Errors
    /// The state machine's refusal, or a store that can't write.
    pub async fn submit(&self, command: Command) -> Result<Applied, Failure> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Request::Apply(Pending { command, reply })).await.map_err(|_| shutting_down())?;
        answer.await.map_err(|_| shutting_down())?
    }

    /// Why nothing can be committed, as far as was seen.
    pub(crate) fn trouble(&self) -> Option<Arc<Failure>> {
        self.trouble.last.load_full()
    }

    /// Tries a commit that changes nothing, when the last one failed: the disk may be well again, and nobody else
    /// may come along to find out.
    pub(crate) async fn try_again(&self) {
        if self.trouble().is_some() {
            // What came of it shows in the trouble.
            let _ = self.submit(Command::ForgetDeleted { id: TopicId(0) }).await;
        }
    }

    /// Closes the store; the file is free when this returns.
    pub(crate) async fn shutdown(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.mailbox.send(Request::Stop(reply)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

impl Keeper {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut stop = None;
        while stop.is_none()
            && let Some(first) = requests.blocking_recv()
        {
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Apply(pending) => batch.push(pending),
                    Request::Stop(reply) => stop = Some(reply),
                }
                next = requests.try_recv().ok().filter(|_| stop.is_none());
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
        }
        drop(self.store);
        let _ = stop.map(|reply| reply.send(()));
    }

    /// One transaction for all that was waiting.
    fn commit(&mut self, batch: Vec<Pending>) {
        let commands: Vec<&Command> = batch.iter().map(|pending| &pending.command).collect();
        let committed = self.store().and_then(|store| Ok((store.commit(&commands)?, store.state().clone())));
        match committed {
            Ok((outcomes, state)) => {
                self.trouble.last.store(None);
                self.publish(state);
                for (pending, outcome) in batch.into_iter().zip(outcomes) {
                    // Whoever asked may have gone away.
                    let _ = pending.reply.send(outcome.map_err(Failure::from));
                }
            }
            Err(failure) => {
                tracing::error!(%failure, "metadata store failed; the next change tries again");
                self.store = None;
                self.trouble.stats.metadata_failures.add(1);
                self.trouble.last.store(Some(Arc::new(failure.clone())));
                for pending in batch {
                    let _ = pending.reply.send(Err(failure.clone()));
                }
            }
        }
    }

    /// The number follows the state: whoever sees it finds the state that it counts, or a later one.
    fn publish(&self, state: State) {
        let applied = state.applied();
        self.state.send_replace(Arc::new(state));
        self.applied.store(applied, Ordering::Release);
    }

    /// After a failed commit: reads again what is really there.
    fn store(&mut self) -> Result<&mut Store, Failure> {
        if self.store.is_none() {
            let store = Store::open(&self.storage)?;
            // What failed may have become durable all the same.
            self.publish(store.state().clone());
            self.store = Some(store);
        }
        self.store.as_mut().ok_or_else(|| Failure::new(ErrorCode::Internal, "the metadata store is closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::METADATA_LOG_MAX;

    #[tokio::test]
    async fn commands_survive_a_restart_through_log_and_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let check = |commands: u64| {
            let path = folder.path().join(commands.to_string());
            async move {
                let data_dir = Arc::new(DataDir::open(&path).unwrap());
                let metadata = Metadata::open(&data_dir, &Arc::default()).unwrap();
                let submits = (0..commands).map(|_| metadata.submit(Command::AllocateProducerIds { count: 1 }));
                for applied in futures_util::future::join_all(submits).await {
                    applied.unwrap();
                }
                let missing = Command::DeletePipeline { name: "x".into() };
                assert_eq!(metadata.submit(missing).await.unwrap_err().code, ErrorCode::UnknownPipeline);
                let before = metadata.state();
                metadata.shutdown().await;
                assert_eq!(
                    metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap_err(),
                    shutting_down()
                );
                let metadata = Metadata::open(&data_dir, &Arc::default()).unwrap();
                assert_eq!(metadata.state(), before);
            }
        };
        for commands in [0, 1, METADATA_LOG_MAX - 1, METADATA_LOG_MAX, METADATA_LOG_MAX + 2] {
            check(commands).await;
        }
    }
}
