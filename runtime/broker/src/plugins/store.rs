//! Components on disk: `plugins/SHA.wasm`, named by the sha256 of their contents, so a file is written once
//! and never changed. Which of them are in use is metadata's matter; the others are removed.

use std::fmt;
use std::io;
use std::sync::Arc;

use millstream_cluster::metadata::Digest;
use millstream_log::{Storage, Volume, read_file, replace_file};
use millstream_plugin_host::digest;
use millstream_protocol::{ErrorCode, Failure};

use crate::data_dir::PLUGINS;

const SUFFIX: &str = ".wasm";

/// All calls block on the disk.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    /// The folder as people know it.
    shown: Arc<str>,
}

impl Store {
    /// # Errors
    /// The volume was not prepared, or its disk fails.
    pub fn open(volume: &dyn Volume) -> io::Result<Store> {
        Ok(Store { storage: volume.open(PLUGINS)?, shown: volume.show(PLUGINS).into() })
    }

    /// Writes a component; durable when this returns. What is there already is kept, if it is whole.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn put(&self, name: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        if self.read(name).is_ok() {
            // It may have been written by one who was interrupted before it was durable.
            let durable = self.storage.open(&file_name(name)).and_then(|file| {
                file.sync_data()?;
                self.storage.sync_dir()
            });
            return durable.map_err(|error| self.failure(name, &error));
        }
        replace_file(&*self.storage, &file_name(name), bytes).map_err(|error| self.failure(name, &error))
    }

    /// The whole component, its digest checked.
    ///
    /// # Errors
    /// `UnknownPlugin` when it isn't there, `CorruptData` when it is damaged.
    pub fn read(&self, name: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = read_file(&*self.storage, &file_name(name)).map_err(|error| self.failure(name, &error))?;
        let bytes = bytes.ok_or_else(|| self.failure(name, &io::ErrorKind::NotFound.into()))?;
        if digest(&bytes) != name.0 {
            let message = format!("{} is damaged: push the plugin again", self.show(name));
            return Err(Failure::new(ErrorCode::CorruptData, message));
        }
        Ok(bytes)
    }

    /// Up to `bytes_max` bytes from `position`, and the size of the whole, which is checked each time: damage
    /// must not travel, and downloads are rare.
    pub(super) fn read_part(&self, name: &Digest, position: u64, bytes_max: usize) -> Result<(u64, Vec<u8>), Failure> {
        let whole = self.read(name)?;
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(whole.len());
        let until = whole.len().min(from.saturating_add(bytes_max));
        Ok((whole.len() as u64, whole[from..until].to_vec()))
    }

    /// Removes every file that `keep` does not want. Files of other names are left alone.
    ///
    /// # Errors
    /// The disk's.
    pub fn collect(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let mut removed = false;
        for name in self.storage.list()? {
            if digest_of(&name).is_some_and(|digest| !keep(&digest)) {
                self.storage.delete(&name)?;
                removed = true;
            }
        }
        if removed { self.storage.sync_dir() } else { Ok(()) }
    }

    /// Digests of the components that are there, whole or not.
    ///
    /// # Errors
    /// The disk's.
    pub fn list(&self) -> io::Result<Vec<Digest>> {
        Ok(self.storage.list()?.iter().filter_map(|name| digest_of(name)).collect())
    }

    fn show(&self, name: &Digest) -> String {
        format!("{}/{}", self.shown, file_name(name))
    }

    fn failure(&self, name: &Digest, error: &io::Error) -> Failure {
        let path = self.show(name);
        let (code, message) = match error.kind() {
            io::ErrorKind::NotFound => {
                (ErrorCode::UnknownPlugin, format!("{path} is not there: push the plugin again"))
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorCode::DiskFull, format!("{path}: the disk is full"))
            }
            _ => (ErrorCode::StorageUnavailable, format!("{path}: {error}")),
        };
        Failure::new(code, message)
    }
}

fn file_name(name: &Digest) -> String {
    format!("{name}{SUFFIX}")
}

fn digest_of(file_name: &str) -> Option<Digest> {
    file_name.strip_suffix(SUFFIX)?.parse().ok()
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_kept_by_contents() {
        let dir = tempfile::tempdir().unwrap();
        let volume = millstream_log::DiskVolume::new(dir.path());
        volume.create(PLUGINS).unwrap();
        let store = Store::open(&volume).unwrap();
        let path = |digest: &Digest| dir.path().join(PLUGINS).join(file_name(digest));
        let (one, two) = (Digest(digest(b"one")), Digest(digest(b"two")));
        store.put(&one, b"one").unwrap();
        store.put(&two, b"two").unwrap();
        assert_eq!(store.read(&one).unwrap(), b"one");
        assert_eq!(store.read_part(&one, 1, 1).unwrap(), (3, b"n".to_vec()));
        assert_eq!(store.read_part(&one, 2, 9).unwrap(), (3, b"e".to_vec()));
        assert_eq!(store.read_part(&one, 7, 9).unwrap(), (3, Vec::new()));

        // Damage is told, and healed by the next upload.
        std::fs::write(path(&one), b"0ne").unwrap();
        assert_eq!(store.read(&one).unwrap_err().code, ErrorCode::CorruptData);
        assert_eq!(store.read_part(&one, 1, 1).unwrap_err().code, ErrorCode::CorruptData);
        store.put(&one, b"one").unwrap();
        assert_eq!(store.read(&one).unwrap(), b"one");

        let notes = dir.path().join(PLUGINS).join("notes.txt");
        std::fs::write(&notes, b"").unwrap();
        store.collect(|digest| *digest == two).unwrap();
        assert_eq!(store.read(&one).unwrap_err().code, ErrorCode::UnknownPlugin);
        assert_eq!((store.read(&two).unwrap(), notes.exists()), (b"two".to_vec(), true));
    }
}
