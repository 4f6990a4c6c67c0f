//! Keeps the metadata state machine durable: a log of commands and a snapshot in redb, written by one thread
//! of its own because commits block. Readers never wait: they load the newest published state. One voter for
//! now; the commands and the state are those a consensus group will carry.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use millstream_cluster::metadata::codec::{decode_command, decode_snapshot, encode_command, encode_snapshot};
use millstream_cluster::metadata::{Applied, Command, Rejection, State};
use millstream_protocol::{ErrorCode, Failure, TopicId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot, watch};

use crate::data_dir::DataDir;
use crate::error::{StartError, shutting_down};
use crate::limits::{METADATA_LOG_MAX, METADATA_MAILBOX_MAX};
use crate::stats::Stats;

/// Command index -> command.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// One row: what the commands before the log's first add up to.
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");
const SNAPSHOT_KEY: &str = "state";

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

struct Store {
    data_dir: Arc<DataDir>,
    /// Absent after a failed commit: what is on disk is not known until it was read again.
    database: Option<Database>,
    state: watch::Sender<Arc<State>>,
    applied: Arc<AtomicU64>,
    /// Commands in the log table.
    logged: u64,
    trouble: Arc<Trouble>,
}

impl Metadata {
    /// Opens or creates the store and replays it.
    ///
    /// # Errors
    /// The file can't be used, or its contents are damaged or newer.
    pub(crate) fn open(data_dir: &Arc<DataDir>, stats: &Arc<Stats>) -> Result<Self, StartError> {
        let file = data_dir.metadata_file();
        let failed = |reason: String| StartError::Metadata { file: file.clone(), reason };
        let database = create_database(&file).map_err(|e| failed(e.to_string()))?;
        let (state, logged) = replay(&database).map_err(failed)?;
        let applied = Arc::new(AtomicU64::new(state.applied()));
        let (publish, state) = watch::channel(Arc::new(state));
        let (mailbox, requests) = mpsc::channel(METADATA_MAILBOX_MAX);
        let trouble = Arc::new(Trouble { last: ArcSwapOption::empty(), stats: Arc::clone(stats) });
        let store = Store {
            data_dir: Arc::clone(data_dir),
            database: Some(database),
            state: publish,
            applied: Arc::clone(&applied),
            logged,
            trouble: Arc::clone(&trouble),
        };
        let thread = std::thread::Builder::new().name("metadata".into()).spawn(move || store.run(requests));
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

fn create_database(file: &Path) -> Result<Database, redb::Error> {
    use std::os::unix::fs::OpenOptionsExt;
    // Pipelines' variables may be secrets: the file exists with its mode before redb opens it.
    let opened = std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(file);
    opened.map_err(redb::Error::Io)?;
    let database = Database::create(file)?;
    let reading = database.begin_read()?;
    if reading.open_table(LOG).is_ok() && reading.open_table(SNAPSHOT).is_ok() {
        // Nothing is written without need: the disk may be full.
        drop(reading);
        return Ok(database);
    }
    drop(reading);
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?;
    transaction.open_table(SNAPSHOT)?;
    transaction.commit()?;
    Ok(database)
}

fn unwritable(error: &redb::Error) -> Failure {
    let code = match error {
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
        _ => ErrorCode::StorageUnavailable,
    };
    Failure::new(code, format!("metadata can't be written: {error}; look at the broker's disk, then retry"))
}

/// Snapshot and log as they lie in the tables.
type Stored = (Option<Vec<u8>>, Vec<(u64, Vec<u8>)>);

/// The state that snapshot and log add up to, and the number of logged commands.
fn replay(database: &Database) -> Result<(State, u64), String> {
    let read = || -> Result<Stored, redb::Error> {
        let transaction = database.begin_read()?;
        let snapshot = transaction.open_table(SNAPSHOT)?.get(SNAPSHOT_KEY)?.map(|bytes| bytes.value().to_vec());
        let mut commands = Vec::new();
        for entry in transaction.open_table(LOG)?.iter()? {
            let (index, bytes) = entry?;
            commands.push((index.value(), bytes.value().to_vec()));
        }
        Ok((snapshot, commands))
    };
    let (snapshot, commands) = read().map_err(|e| e.to_string())?;
    let mut state = match snapshot {
        Some(bytes) => decode_snapshot(&bytes).map_err(|e| e.to_string())?,
        None => State::default(),
    };
    for (index, bytes) in &commands {
        if *index != state.applied() + 1 {
            return Err(format!("command {index} follows command {}: restore it from a backup", state.applied()));
        }
        let command = decode_command(bytes).map_err(|e| e.to_string())?;
        // A refusal was a refusal the first time, too.
        let _: Result<Applied, Rejection> = state.apply(&command);
    }
    Ok((state, commands.len() as u64))
}

impl Store {
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
        drop(self.database);
        let _ = stop.map(|reply| reply.send(()));
    }

    /// One transaction for all that was waiting.
    fn commit(&mut self, batch: Vec<Pending>) {
        let committed = self.reopen().and_then(|()| {
            let mut state = State::clone(&self.state.borrow());
            let first = state.applied() + 1;
            let outcomes: Vec<_> = batch.iter().map(|request| state.apply(&request.command)).collect();
            self.write(first, &batch, &state).map_err(|e| unwritable(&e))?;
            Ok((state, outcomes))
        });
        match committed {
            Ok((state, outcomes)) => {
                self.trouble.last.store(None);
                self.publish(state);
                for (request, outcome) in batch.into_iter().zip(outcomes) {
                    // Whoever asked may have gone away.
                    let _ = request.reply.send(outcome.map_err(Failure::from));
                }
            }
            Err(failure) => {
                tracing::error!(%failure, "metadata store failed; the next change tries again");
                self.database = None;
                self.trouble.stats.metadata_failures.add(1);
                self.trouble.last.store(Some(Arc::new(failure.clone())));
                for request in batch {
                    let _ = request.reply.send(Err(failure.clone()));
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
    fn reopen(&mut self) -> Result<(), Failure> {
        if self.database.is_some() {
            return Ok(());
        }
        let database = create_database(&self.data_dir.metadata_file()).map_err(|e| unwritable(&e))?;
        let (state, logged) = replay(&database).map_err(|reason| Failure::new(ErrorCode::CorruptData, reason))?;
        self.publish(state);
        self.logged = logged;
        self.database = Some(database);
        Ok(())
    }

    fn write(&mut self, first: u64, batch: &[Pending], state: &State) -> Result<(), redb::Error> {
        let database = self.database.as_ref().expect("opened before every write");
        let transaction = database.begin_write()?;
        let mut logged = self.logged + batch.len() as u64;
        {
            let mut log = transaction.open_table(LOG)?;
            if logged > METADATA_LOG_MAX {
                transaction.open_table(SNAPSHOT)?.insert(SNAPSHOT_KEY, encode_snapshot(state).as_slice())?;
                log.retain(|_, _| false)?;
                logged = 0;
            } else {
                for (index, request) in (first..).zip(batch) {
                    log.insert(index, encode_command(&request.command).as_slice())?;
                }
            }
        }
        transaction.commit()?;
        self.logged = logged;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
