//! Partition folders under `topics/`: which partition a folder belongs to, claiming one for a new partition,
//! and getting rid of deleted ones. Data is deleted only for a topic id that metadata says was deleted; what
//! is not known is left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_log::Recovery;
use millstream_protocol::{ErrorCode, Failure, PartitionIndex, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::data_dir::{sync_dir, write_file};
use crate::shard::Spec;

const IDENTITY_FILE: &str = "partition.json";
const DELETED_SUFFIX: &str = ".deleted";

/// Whose folder it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format_version: u32,
    topic_id: String,
    topic: String,
    partition: u32,
}

/// Where a partition lives.
pub(crate) fn path_of(topics: &Path, topic: &str, partition: PartitionIndex) -> PathBuf {
    topics.join(format!("{topic}-{partition}"))
}

/// Makes sure that the folder exists and is this partition's.
///
/// # Errors
/// `CorruptData` when it is another's, or is missing although it existed before.
pub(crate) fn claim(spec: &Spec) -> Result<(), Failure> {
    let shown = spec.folder.display();
    let io = |e: io::Error| {
        let code = code_of_io(&e);
        let advice = if code == ErrorCode::DiskFull { ": free some space on the broker's disk" } else { "" };
        Failure::new(code, format!("folder {shown}: {e}{advice}"))
    };
    match read_identity(&spec.folder).map_err(io)? {
        Some(id) if id == spec.id => Ok(()),
        Some(id) => {
            let message =
                format!("folder {shown} belongs to topic id {}, not {}: move it away", id.topic, spec.id.topic);
            Err(Failure::new(ErrorCode::CorruptData, message))
        }
        None if spec.must_exist => {
            let message = format!("folder {shown} is missing: restore it, or delete the topic");
            Err(Failure::new(ErrorCode::CorruptData, message))
        }
        None => create(spec).map_err(io),
    }
}

fn create(spec: &Spec) -> io::Result<()> {
    // Its parent is there, or the data folder was taken away: then nothing may look as if it were well.
    let fresh = match fs::create_dir(&spec.folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        created => created.map(|()| true)?,
    };
    let identity = Identity {
        format_version: 1,
        topic_id: spec.id.topic.to_string(),
        topic: spec.topic.to_string(),
        partition: spec.id.partition.0,
    };
    let bytes = serde_json::to_vec(&identity).expect("a struct of plain fields");
    let written = write_file(&spec.folder.join(IDENTITY_FILE), &bytes, 0o600);
    let written = written.and_then(|()| sync_dir(spec.folder.parent().unwrap_or(Path::new("."))));
    if written.is_err() && fresh {
        // It holds nothing yet, and would be a stranger. Failing again leaves it as one.
        let _ = fs::remove_dir_all(&spec.folder);
    }
    written
}

/// The partition a folder says it belongs to; `None` when it does not say.
fn read_identity(folder: &Path) -> io::Result<Option<TopicPartition>> {
    let bytes = match fs::read(folder.join(IDENTITY_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let identity: Identity = serde_json::from_slice(&bytes)?;
    let topic: TopicId = identity.topic_id.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some(TopicPartition { topic, partition: PartitionIndex(identity.partition) }))
}

fn code_of_io(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        io::ErrorKind::InvalidData => ErrorCode::CorruptData,
        _ => ErrorCode::StorageUnavailable,
    }
}

/// Renames the folders of one deleted topic out of the way, in one step each, and gives the new names; they
/// are to be removed by [`remove`]. Blocking.
pub(crate) fn set_aside(topics: &Path, id: TopicId) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for entry in fs::read_dir(topics)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // An unreadable identity is nobody's.
        let owner = read_identity(&path).ok().flatten();
        if owner.is_none_or(|owner| owner.topic != id) {
            continue;
        }
        if name.ends_with(DELETED_SUFFIX) {
            aside.push(path);
            continue;
        }
        // Not by its name, which may be as long as names can be.
        let partition = owner.map_or(0, |owner| owner.partition.0);
        let renamed = topics.join(format!("{id}-{partition}{DELETED_SUFFIX}"));
        fs::rename(&path, &renamed)?;
        aside.push(renamed);
    }
    sync_dir(topics)?;
    Ok(aside)
}

/// Removes folders that were set aside, their identity last, so that a half-removed one is still known. Blocking.
pub(crate) fn remove(folders: &[PathBuf]) -> io::Result<()> {
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name() != IDENTITY_FILE {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Folders that belong to no live or deleted topic: reported, never touched.
pub(crate) fn warn_of_strangers(topics: &Path, known: impl Fn(TopicId) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(topics)? {
        let path = entry?.path();
        let folder = path.display();
        match read_identity(&path) {
            Ok(Some(id)) if known(id.topic) => {}
            Ok(_) => tracing::warn!(%folder, "folder belongs to no known topic; it is left alone"),
            Err(error) => tracing::warn!(%folder, %error, "folder can't be identified; it is left alone"),
        }
    }
    Ok(())
}

/// Tells what opening a log had to repair.
pub(crate) fn report_recovery(spec: &Spec, recovery: &Recovery) {
    let (topic, partition) = (&*spec.topic, spec.id.partition.0);
    spec.stats.log.recovered(recovery);
    if recovery.truncated_bytes > 0 {
        let bytes = recovery.truncated_bytes;
        tracing::warn!(topic, partition, bytes, "cut a torn tail: an unfinished write of before the last stop");
    }
}
