//! Partition folders under `topics/`: which partition a folder belongs to, claiming one for a new partition,
//! and getting rid of deleted ones. Data is deleted only for a topic id that metadata says was deleted; what
//! is not known is left alone.

use std::io;

use millstream_cluster::metadata::DeletedTopic;
use millstream_log::{Finding, Recovery, Volume, delete_if_there, read_file, replace_file, split_path};
use millstream_protocol::{ErrorCode, Failure, PartitionIndex, TopicId, TopicPartition, mutant};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::data_dir::TOPICS;
use crate::sealed;
use crate::shard::Spec;

pub(crate) const IDENTITY_FILE: &str = "partition.json";
const DELETED_SUFFIX: &str = ".deleted";
/// 2 added the checksum.
const FORMAT_VERSION: u32 = 2;

/// Whose folder it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format_version: u32,
    topic_id: String,
    topic: String,
    partition: u32,
}

/// A partition's folder, as the one who opens it knows it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub id: TopicPartition,
    pub topic: &'a str,
    /// On the volume.
    pub folder: &'a str,
    /// It existed before, so a missing one is a loss.
    pub must_exist: bool,
}

/// Where a partition lives.
pub fn path_of(topic: &str, partition: PartitionIndex) -> String {
    format!("{TOPICS}/{topic}-{partition}")
}

/// Makes sure that the folder exists and is this partition's.
///
/// # Errors
/// `CorruptData` when it is another's, or is missing although it existed before.
pub fn claim(volume: &dyn Volume, place: Place<'_>) -> Result<(), Failure> {
    let shown = volume.show(place.folder);
    let io = |e: io::Error| {
        let code = code_of_io(&e);
        let advice = match (code, Errno::from_io_error(&e)) {
            (ErrorCode::DiskFull, _) => ": free some space on the broker's disk",
            (_, Some(Errno::MFILE)) => ": raise the broker's limit of open files (`ulimit -Hn`); a partition keeps two",
            _ => "",
        };
        Failure::new(code, format!("folder {shown}: {e}{advice}"))
    };
    match read_identity(volume, place.folder).map_err(io)? {
        Some(id) if id == place.id || mutant!("old-folder-reused") => Ok(()),
        Some(id) => {
            let message =
                format!("folder {shown} belongs to topic id {}, not {}: move it away", id.topic, place.id.topic);
            Err(Failure::new(ErrorCode::CorruptData, message))
        }
        None if place.must_exist => {
            let message = format!("folder {shown} is missing: restore it, or delete the topic");
            Err(Failure::new(ErrorCode::CorruptData, message))
        }
        None => create(volume, place).map_err(io),
    }
}

fn create(volume: &dyn Volume, place: Place<'_>) -> io::Result<()> {
    let (parent, _) = split_path(place.folder);
    // Its parent is there, or the data folder was taken away: then nothing may look as if it were well.
    volume.open(parent)?;
    let fresh = match volume.open(place.folder) {
        Ok(_) => false,
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(e),
    };
    volume.create(place.folder)?;
    let identity = Identity {
        format_version: FORMAT_VERSION,
        topic_id: place.id.topic.to_string(),
        topic: place.topic.to_owned(),
        partition: place.id.partition.0,
    };
    let written = volume
        .open(place.folder)
        .and_then(|storage| replace_file(&*storage, IDENTITY_FILE, &sealed::encode(&identity)))
        .and_then(|()| volume.sync(parent));
    if written.is_err() && fresh {
        // It holds nothing yet, and would be a stranger. Failing again leaves it as one.
        let _ = remove(volume, &[place.folder.to_owned()]);
    }
    written
}

/// The partition a folder says it belongs to; `None` when it does not say.
///
/// # Errors
/// The folder can't be read; `InvalidData` when what it says is damaged.
pub fn read_identity(volume: &dyn Volume, folder: &str) -> io::Result<Option<TopicPartition>> {
    let bytes = match volume.open(folder).and_then(|storage| read_file(&*storage, IDENTITY_FILE)) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{IDENTITY_FILE}: {reason}"));
    let version = sealed::peek::<Identity>(&bytes).map_err(invalid)?.format_version;
    if version > FORMAT_VERSION {
        return Err(invalid(format!("format version {version}, this broker knows up to {FORMAT_VERSION}")));
    }
    let identity: Identity = sealed::decode(&bytes, version == 1).map_err(invalid)?;
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
///
/// # Errors
/// The disk's.
pub fn set_aside(volume: &dyn Volume, id: TopicId) -> io::Result<Vec<String>> {
    let (mut aside, mut unreadable) = (Vec::new(), None);
    for name in volume.folders(TOPICS)? {
        let path = format!("{TOPICS}/{name}");
        let is_aside = name.ends_with(DELETED_SUFFIX);
        if mutant!("old-folder-reused") && !is_aside {
            continue;
        }
        let owner = match owner(volume, &path) {
            Ok(owner) => owner,
            Err(error) => {
                // It may be one of those: the others are set aside, and who asked tries again.
                unreadable.get_or_insert(error);
                continue;
            }
        };
        let Some(owner) = owner.filter(|owner| owner.topic == id) else {
            // All that a removal which was cut short may have left.
            if is_aside && name.starts_with(&format!("{id}-")) && volume.open(&path)?.list()?.is_empty() {
                aside.push(path);
            }
            continue;
        };
        if is_aside {
            aside.push(path);
            continue;
        }
        // Not by its name, which may be as long as names can be.
        let renamed = format!("{TOPICS}/{id}-{}{DELETED_SUFFIX}", owner.partition);
        volume.rename(&path, &renamed)?;
        aside.push(renamed);
    }
    volume.sync(TOPICS)?;
    unreadable.map_or(Ok(aside), Err)
}

/// Whose folder it is; a damaged identity is nobody's, one that can't be read now may be anybody's.
fn owner(volume: &dyn Volume, path: &str) -> io::Result<Option<TopicPartition>> {
    match read_identity(volume, path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(None),
        known => known,
    }
}

/// Sets aside what deleted topics left where a new one of this name is to be: their deletion could not. Blocking.
///
/// # Errors
/// The disk's.
pub fn clear_the_way(volume: &dyn Volume, name: &str, deleted: &[DeletedTopic]) -> io::Result<()> {
    for topic in deleted.iter().filter(|topic| topic.name == name) {
        for index in 0..topic.partitions {
            // Whatever else is there, the claim of the new topic finds.
            let owner = owner(volume, &path_of(name, PartitionIndex(index)))?;
            if owner.is_some_and(|owner| owner.topic == topic.id) {
                set_aside(volume, topic.id)?;
            }
        }
    }
    Ok(())
}

/// Removes folders that were set aside, for good: their identity last, so that a half-removed one is still
/// known, and durably, so that none comes back when its topic is forgotten. Blocking.
///
/// # Errors
/// The disk's.
pub fn remove(volume: &dyn Volume, folders: &[String]) -> io::Result<()> {
    for folder in folders {
        let storage = volume.open(folder)?;
        for name in storage.list()?.iter().filter(|name| *name != IDENTITY_FILE) {
            storage.delete(name)?;
        }
        storage.sync_dir()?;
        delete_if_there(&*storage, IDENTITY_FILE)?;
        volume.remove(folder)?;
    }
    volume.sync(TOPICS)
}

/// Folders that belong to no live or deleted topic: reported, never touched.
pub(crate) fn warn_of_strangers(volume: &dyn Volume, known: impl Fn(TopicId) -> bool) -> io::Result<()> {
    for name in volume.folders(TOPICS)? {
        let path = format!("{TOPICS}/{name}");
        let folder = volume.show(&path);
        match read_identity(volume, &path) {
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
    report_mended(topic, partition, &recovery.mended);
}

/// Tells which damaged files were made again.
pub(crate) fn report_mended(topic: &str, partition: u32, mended: &[Finding]) {
    for Finding { file, position, reason, .. } in mended {
        tracing::warn!(topic, partition, file, position, reason, "mended a damaged file; no record was touched");
    }
}
