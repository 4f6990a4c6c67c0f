//! The data folder: one owner at a time (a lock held as long as any part of the broker lives), an identity,
//! and a format version. Says where everything lies; the contents belong to their own modules.
//!
//! What must survive a power loss is read and written through a [`Volume`], so that the same code runs on a
//! simulated disk. Outside it are the lock (it belongs to the process, not to the disk), the keys, the token and the
//! profile (made once, before anything depends on them, and made again or restored by hand), and the cache of
//! compiled code, whose loss costs time.
//!
//! ```text
//! millstream.lock  meta.json  metadata.redb  topics/NAME-P/  plugins/SHA.wasm  cache/  tls/  admin.token  profile.yaml
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_log::{DiskVolume, Volume, read_file, replace_file};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::StartError;
use crate::sealed;

/// Version of the folder's layout. Raised when an older broker must not touch it. 2 added checksums to the JSON
/// files; a folder of version 1 is read and becomes one of version 2.
pub const FORMAT_VERSION: u32 = 2;

pub(crate) const META_FILE: &str = "meta.json";
/// Folder of partition folders.
pub(crate) const TOPICS: &str = "topics";
/// Folder of stored components.
pub(crate) const PLUGINS: &str = "plugins";

/// An owned data folder. Keep it alive for as long as anything writes below it.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    volume: Arc<dyn Volume>,
    meta: Meta,
    /// Dropping it gives the folder free.
    lock: Mutex<Option<File>>,
}

/// Who this folder belongs to; written once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    pub format_version: u32,
    pub cluster_id: String,
    pub node_id: u32,
}

impl DataDir {
    /// Takes the folder, creating it (0700) when it is absent.
    ///
    /// # Errors
    /// It is in use, of a newer format, or can't be read and written.
    pub fn open(root: &Path) -> Result<Self, StartError> {
        let failed = |cause| StartError::data_dir(root, cause);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = take_lock(&root)?;
        for folder in ["cache", "tls"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).map_err(failed)?;
        }
        let volume = Arc::new(DiskVolume::new(&root));
        let meta = prepare(&*volume, || format!("{:032x}", rand::random::<u128>()))?;
        Ok(DataDir { root, volume, meta, lock: Mutex::new(Some(lock)) })
    }

    /// Gives the folder free. Only for the end of a clean stop: nothing may write below it any more.
    pub(crate) fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The folder as what is durable in it is read and written.
    pub fn volume(&self) -> &Arc<dyn Volume> {
        &self.volume
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    pub fn token_file(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    pub fn profile_file(&self) -> PathBuf {
        self.root.join("profile.yaml")
    }
}

/// A data folder that belongs to this process while it is alive.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// For tools that work on a folder without a broker.
    ///
    /// # Errors
    /// A broker, or another tool, has it.
    pub fn take(root: &Path) -> Result<Self, StartError> {
        Ok(Lock { _file: take_lock(root)? })
    }
}

fn take_lock(root: &Path) -> Result<File, StartError> {
    let path = root.join("millstream.lock");
    let failed = |cause| StartError::data_dir(&path, cause);
    let mut options = OpenOptions::new();
    let mut lock =
        options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&path).map_err(failed)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        lock.read_to_string(&mut owner).map_err(failed)?;
        let owner =
            if owner.trim().is_empty() { "another process".to_owned() } else { format!("process {}", owner.trim()) };
        return Err(StartError::InUse { folder: root.to_owned(), owner });
    }
    lock.set_len(0).map_err(failed)?;
    lock.seek(SeekFrom::Start(0)).map_err(failed)?;
    match writeln!(lock, "{}", std::process::id()) {
        // The number is for people; the lock holds without it, and a full disk is no reason to stay down.
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {}
        written => written.map_err(failed)?,
    }
    Ok(lock)
}

/// Reads a volume's identity and makes its folders, as for a broker that starts; `cluster_id` names a new one.
///
/// # Errors
/// It is of a newer format, damaged, or can't be read and written.
pub fn prepare(volume: &dyn Volume, cluster_id: impl FnOnce() -> String) -> Result<Meta, StartError> {
    let failed = |cause| StartError::data_dir(Path::new(&volume.show("")), cause);
    let storage = volume.open("").map_err(failed)?;
    let found = read_file(&*storage, META_FILE).map_err(failed)?;
    let meta = match &found {
        Some(bytes) => read_meta(bytes, volume)?,
        None => Meta { format_version: FORMAT_VERSION, cluster_id: cluster_id(), node_id: 1 },
    };
    if found.is_none() || meta.format_version < FORMAT_VERSION {
        let current = Meta { format_version: FORMAT_VERSION, ..meta.clone() };
        replace_file(&*storage, META_FILE, &sealed::encode(&current)).map_err(failed)?;
    }
    for folder in [TOPICS, PLUGINS] {
        volume.create(folder).map_err(failed)?;
    }
    volume.sync("").map_err(failed)?;
    Ok(Meta { format_version: FORMAT_VERSION, ..meta })
}

pub(crate) fn read_meta(bytes: &[u8], volume: &dyn Volume) -> Result<Meta, StartError> {
    let file = || PathBuf::from(volume.show(META_FILE));
    let damaged = |reason: String| StartError::Damaged { file: file(), reason };
    // The version alone first: the rest of a newer file may look different.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let found = sealed::peek::<Version>(bytes).map_err(damaged)?.format_version;
    if found > FORMAT_VERSION {
        return Err(StartError::Newer { folder: volume.show("").into(), found, known: FORMAT_VERSION });
    }
    sealed::decode(bytes, found == 1).map_err(damaged)
}

/// Replaces a file as a whole: after a crash it is the old or the new one. Synced, folder included.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_dir(folder)
}

/// Makes creations, renames and removals in a folder durable.
pub(crate) fn sync_dir(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let id = first.meta().cluster_id.clone();
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        let owner = std::process::id();
        assert!(
            refused.starts_with("data folder ") && refused.contains(&format!("is in use by process {owner}: ")),
            "{refused}"
        );
        drop(first);
        assert_eq!(DataDir::open(dir.path()).unwrap().meta().cluster_id, id);
    }

    #[test]
    fn newer_and_damaged_folders_are_refused() {
        let check = |meta: &str, expected: &str| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("meta.json"), meta).unwrap();
            let refused = DataDir::open(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check(r#"{"format_version":3,"surprise":[]}"#, "has format version 3, this broker knows up to 2");
        check("{", "meta.json is damaged");
        check(r#"{"format_version":2,"cluster_id":"a","node_id":1}"#, "its checksum is missing");
        check(r#"{"format_version":2,"cluster_id":"a","node_id":1,"crc32c":"00000000"}"#, "checksum mismatch");
    }

    #[test]
    fn a_folder_of_the_first_version_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = "{\n  \"format_version\": 1,\n  \"cluster_id\": \"abc\",\n  \"node_id\": 1\n}";
        fs::write(dir.path().join("meta.json"), first).unwrap();
        for _ in 0..2 {
            let meta = DataDir::open(dir.path()).unwrap().meta().clone();
            assert_eq!((meta.cluster_id.as_str(), meta.format_version), ("abc", 2));
        }
        let now = fs::read_to_string(dir.path().join("meta.json")).unwrap();
        assert!(now.starts_with(r#"{"format_version":2,"#) && now.contains("crc32c"), "{now}");
    }
}
