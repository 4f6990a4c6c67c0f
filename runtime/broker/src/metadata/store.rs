//! The metadata store: a log of commands and a snapshot in redb, over one file of a [`Storage`]. A single owner,
//! blocking calls.
//!
//! What guards it: redb keeps a checksum of every page and checks all of them at each opening; commits are in two
//! phases, so a page that doesn't check out is damage and never a commit that was cut short; and [`mark`] tells how
//! many commands had been committed, in case an older commit is taken for the newest.

use std::io::ErrorKind;
use std::sync::Arc;

use millstream_cluster::metadata::codec::{decode_command, decode_snapshot, encode_command, encode_snapshot};
use millstream_cluster::metadata::{Applied, Command, Rejection, State};
use millstream_log::{MemoryStorage, Storage, replace_file};
use millstream_protocol::{ErrorCode, Failure};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::backend::{Backend, Place};
use super::mark::Mark;
use crate::limits::METADATA_LOG_MAX;

/// Name of the file.
pub const FILE: &str = "metadata.redb";

/// Command index -> command.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// One row: what the commands before the log's first add up to.
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");
const SNAPSHOT_KEY: &str = "state";

/// Metadata is small; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// See the module's head. After an error it must be dropped and opened again: what is on disk is not known.
pub struct Store {
    database: Database,
    mark: Mark,
    state: State,
    /// Commands in the log table, and how many make it a snapshot.
    logged: u64,
    log_max: u64,
}

impl Store {
    /// Opens or creates the store in a folder and replays it.
    ///
    /// # Errors
    /// The file can't be used, or its contents are damaged or newer.
    pub fn open(storage: &Arc<dyn Storage>) -> Result<Self, Failure> {
        let unusable = |e: &dyn ToString| failure_of_open(&e.to_string());
        let names = storage.list().map_err(|e| unusable(&e))?;
        if !names.iter().any(|name| name == FILE) {
            if Mark::load(&**storage).map_err(|e| unusable(&e))?.is_some() {
                return Err(damaged("", "the file is gone: restore it from a backup"));
            }
            create(storage).map_err(|e| unwritable(&e))?;
        }
        check_pages(storage)?;
        let place = Arc::new(Place::default());
        let whole = || where_in(storage, None);
        let database = open_database(storage, FILE, false, &place);
        let database = database.map_err(|e| failure_of(&e, &where_in(storage, Some(&place))))?;
        let (state, logged) = replay(&database).map_err(|reason| damaged(&whole(), &reason))?;
        let committed = Mark::load(&**storage).map_err(|e| unusable(&e))?;
        if let Some(committed) = committed.filter(|committed| *committed > state.applied()) {
            let found = state.applied();
            return Err(damaged(
                &whole(),
                &format!("it holds {found} of {committed} commands: restore it from a backup"),
            ));
        }
        let mark = Mark::open(&**storage, state.applied()).map_err(|e| unusable(&e))?;
        Ok(Store { database, mark, state, logged, log_max: METADATA_LOG_MAX })
    }

    /// Another number of logged commands after which they are replaced by a snapshot.
    #[must_use]
    pub fn with_log_max(self, log_max: u64) -> Self {
        Store { log_max, ..self }
    }

    /// What the committed commands add up to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies commands, durably, in one transaction.
    ///
    /// # Errors
    /// The disk is full or fails; nothing is known then. Refusals of commands are in the result.
    pub fn commit(&mut self, commands: &[&Command]) -> Result<Vec<Result<Applied, Rejection>>, Failure> {
        let mut state = self.state.clone();
        let first = state.applied() + 1;
        let outcomes = commands.iter().map(|command| state.apply(command)).collect();
        self.logged = self.write(first, commands, &state).map_err(|e| unwritable(&e))?;
        self.mark.advance(state.applied());
        self.state = state;
        Ok(outcomes)
    }

    fn write(&self, first: u64, commands: &[&Command], state: &State) -> Result<u64, redb::Error> {
        let transaction = begin(&self.database)?;
        let mut logged = self.logged + commands.len() as u64;
        {
            let mut log = transaction.open_table(LOG)?;
            if logged > self.log_max {
                transaction.open_table(SNAPSHOT)?.insert(SNAPSHOT_KEY, encode_snapshot(state).as_slice())?;
                log.retain(|_, _| false)?;
                logged = 0;
            } else {
                for (index, command) in (first..).zip(commands) {
                    log.insert(index, encode_command(command).as_slice())?;
                }
            }
        }
        transaction.commit()?;
        Ok(logged)
    }
}

/// Reads a store without changing it and gives the state it holds.
///
/// # Errors
/// What is wrong with it.
pub fn check(storage: &Arc<dyn Storage>) -> Result<State, String> {
    // Checking repairs, so it is done on a copy.
    let copy: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    for name in [FILE, super::mark::FILE] {
        if let Some(bytes) = millstream_log::read_file(&**storage, name).map_err(|e| e.to_string())? {
            replace_file(&*copy, name, &bytes).map_err(|e| e.to_string())?;
        }
    }
    Store::open(&copy).map(|store| store.state.clone()).map_err(|failure| failure.message)
}

/// Two phases: a commit becomes the newest only when all of it is on the disk.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Makes an empty store in memory, which needs none of redb's syncs, and puts it in its place as a whole: half of one is
/// never taken for damage.
fn create(storage: &Arc<dyn Storage>) -> Result<(), redb::Error> {
    let memory = MemoryStorage::new();
    memory.put(FILE, Vec::new());
    let held: Arc<dyn Storage> = Arc::new(memory.clone());
    let database = open_database(&held, FILE, false, &Arc::default())?;
    let transaction = begin(&database)?;
    transaction.open_table(LOG)?;
    transaction.open_table(SNAPSHOT)?;
    transaction.commit()?;
    drop(database);
    Ok(replace_file(&**storage, FILE, &memory.get(FILE).unwrap_or_default())?)
}

/// Every page's checksum, on a copy in memory: redb repairs while it checks, and a full disk takes no repairs.
fn check_pages(storage: &Arc<dyn Storage>) -> Result<(), Failure> {
    let copied = millstream_log::read_file(&**storage, FILE).map_err(|e| failure_of_open(&e.to_string()))?;
    let memory = MemoryStorage::new();
    memory.put(FILE, copied.unwrap_or_default());
    let copy: Arc<dyn Storage> = Arc::new(memory);
    let place = Arc::new(Place::default());
    let opened = open_database(&copy, FILE, true, &place);
    opened.map(drop).map_err(|e| failure_of(&e, &where_in(storage, Some(&place))))
}

/// Where damage may be. redb says nothing about it; what it read last is the page at which it gave up, or one near.
fn where_in(storage: &Arc<dyn Storage>, place: Option<&Place>) -> String {
    let size = storage.open(FILE).and_then(|file| file.size()).unwrap_or(0);
    let read = place.map(Place::get).filter(|read| !read.is_empty());
    let near = read.map(|read| format!(", looked at last: {} to {}", read.start, read.end));
    format!(" somewhere in its bytes 0 to {size}{}", near.unwrap_or_default())
}

fn failure_of(error: &redb::Error, place: &str) -> Failure {
    match error {
        // What redb says of a file that isn't one, or is cut short.
        redb::Error::Io(io) if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            unwritable(error)
        }
        _ => damaged(place, &format!("{error}: restore it from a backup")),
    }
}

fn open_database(
    storage: &Arc<dyn Storage>,
    name: &str,
    check: bool,
    place: &Arc<Place>,
) -> Result<Database, redb::Error> {
    let backend = Backend::new(storage.open(name)?, Arc::clone(place));
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(check);
    Ok(builder.create_with_backend(backend)?)
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

fn damaged(place: &str, reason: &str) -> Failure {
    Failure::new(ErrorCode::CorruptData, format!("{FILE} is damaged{place}: {reason}"))
}

fn failure_of_open(reason: &str) -> Failure {
    Failure::new(ErrorCode::StorageUnavailable, format!("{FILE}: {reason}"))
}

fn unwritable(error: &redb::Error) -> Failure {
    let (code, advice) = match error {
        redb::Error::Io(e) if e.kind() == ErrorKind::StorageFull => {
            (ErrorCode::DiskFull, "free some space on the broker's disk")
        }
        _ => (ErrorCode::StorageUnavailable, "look at the broker's disk"),
    };
    Failure::new(code, format!("metadata can't be written: {error}; {advice}, then retry"))
}
