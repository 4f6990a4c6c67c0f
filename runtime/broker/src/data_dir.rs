//! The data folder: one owner at a time (a lock held as long as any part of the broker lives), an identity,
//! and a format version. Says where everything lies; the contents belong to their own modules.
//!
//! ```text
//! millstream.lock  meta.json  metadata.redb  topics/NAME-P/  plugins/SHA.wasm  cache/  tls/  admin.token  profile.yaml
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::StartError;

/// Version of the folder's layout. Raised when an older broker must not touch it.
pub const FORMAT_VERSION: u32 = 1;

/// An owned data folder. Keep it alive for as long as anything writes below it.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
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
        let meta = read_or_create_meta(&root)?;
        for folder in ["topics", "plugins", "cache", "tls"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).map_err(failed)?;
        }
        sync_dir(&root).map_err(failed)?;
        Ok(DataDir { root, meta, lock: Mutex::new(Some(lock)) })
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

    pub fn metadata_file(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    pub fn topics(&self) -> PathBuf {
        self.root.join("topics")
    }

    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
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

fn read_or_create_meta(root: &Path) -> Result<Meta, StartError> {
    let path = root.join("meta.json");
    let failed = |cause| StartError::data_dir(&path, cause);
    match fs::read(&path) {
        Ok(bytes) => {
            let damaged = |e: serde_json::Error| StartError::Damaged { file: path.clone(), reason: e.to_string() };
            // The version alone first: the rest of a newer file may look different.
            #[derive(Deserialize)]
            struct Version {
                format_version: u32,
            }
            let found = serde_json::from_slice::<Version>(&bytes).map_err(damaged)?.format_version;
            if found > FORMAT_VERSION {
                return Err(StartError::Newer { folder: root.to_owned(), found, known: FORMAT_VERSION });
            }
            serde_json::from_slice(&bytes).map_err(damaged)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let cluster_id = format!("{:032x}", rand::random::<u128>());
            let meta = Meta { format_version: FORMAT_VERSION, cluster_id, node_id: 1 };
            let bytes = serde_json::to_vec_pretty(&meta).expect("a struct of plain fields");
            write_file(&path, &bytes, 0o600).map_err(failed)?;
            Ok(meta)
        }
        Err(e) => Err(failed(e)),
    }
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
        check(r#"{"format_version":2,"surprise":[]}"#, "has format version 2, this broker knows up to 1");
        check("{", "meta.json is damaged");
    }
}
