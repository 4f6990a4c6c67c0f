//! Components on disk: `plugins/SHA.wasm`, named by the sha256 of their contents, so a file is written once
//! and never changed. Which of them are in use is metadata's matter; the others are removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use millstream_cluster::metadata::Digest;
use millstream_plugin_host::digest;
use millstream_protocol::{ErrorCode, Failure};

use crate::data_dir::{sync_dir, write_file};

const SUFFIX: &str = ".wasm";

/// All calls block on the disk.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(dir: PathBuf) -> Store {
        Store { dir }
    }

    /// Writes a component; durable when this returns. What is there already is kept, if it is whole.
    pub(super) fn put(&self, name: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        if self.read(name).is_ok() {
            return Ok(());
        }
        write_file(&self.path(name), bytes, 0o600).map_err(|error| self.failure(name, &error))
    }

    /// The whole component, its digest checked.
    pub(super) fn read(&self, name: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = fs::read(self.path(name)).map_err(|error| self.failure(name, &error))?;
        if digest(&bytes) != name.0 {
            let message = format!("{} is damaged: push the plugin again", self.path(name).display());
            return Err(Failure::new(ErrorCode::CorruptData, message));
        }
        Ok(bytes)
    }

    /// Up to `bytes_max` bytes from `position`, and the size of the whole. Not checked.
    pub(super) fn read_part(&self, name: &Digest, position: u64, bytes_max: usize) -> Result<(u64, Vec<u8>), Failure> {
        let part = || -> io::Result<(u64, Vec<u8>)> {
            let file = File::open(self.path(name))?;
            let size = file.metadata()?.len();
            let left = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(bytes_max)];
            file.read_exact_at(&mut bytes, position)?;
            Ok((size, bytes))
        };
        part().map_err(|error| self.failure(name, &error))
    }

    /// Removes every file that `keep` does not want. Files of other names are left alone.
    pub(super) fn collect(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let mut removed = false;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|hex| hex.parse().ok());
            if digest.is_some_and(|digest| !keep(&digest)) {
                fs::remove_file(entry.path())?;
                removed = true;
            }
        }
        if removed { sync_dir(&self.dir) } else { Ok(()) }
    }

    fn path(&self, name: &Digest) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    fn failure(&self, name: &Digest, error: &io::Error) -> Failure {
        let path = self.path(name);
        let (code, message) = match error.kind() {
            io::ErrorKind::NotFound => {
                (ErrorCode::UnknownPlugin, format!("{} is not there: push the plugin again", path.display()))
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorCode::DiskFull, format!("{}: the disk is full", path.display()))
            }
            _ => (ErrorCode::StorageUnavailable, format!("{}: {error}", path.display())),
        };
        Failure::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_kept_by_contents() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        let (one, two) = (Digest(digest(b"one")), Digest(digest(b"two")));
        store.put(&one, b"one").unwrap();
        store.put(&two, b"two").unwrap();
        assert_eq!(store.read(&one).unwrap(), b"one");
        assert_eq!(store.read_part(&one, 1, 1).unwrap(), (3, b"n".to_vec()));
        assert_eq!(store.read_part(&one, 2, 9).unwrap(), (3, b"e".to_vec()));
        assert_eq!(store.read_part(&one, 7, 9).unwrap(), (3, Vec::new()));

        // Damage is told, and healed by the next upload.
        fs::write(store.path(&one), b"0ne").unwrap();
        assert_eq!(store.read(&one).unwrap_err().code, ErrorCode::CorruptData);
        store.put(&one, b"one").unwrap();
        assert_eq!(store.read(&one).unwrap(), b"one");

        fs::write(dir.path().join("notes.txt"), b"").unwrap();
        store.collect(|digest| *digest == two).unwrap();
        assert_eq!(store.read(&one).unwrap_err().code, ErrorCode::UnknownPlugin);
        assert_eq!((store.read(&two).unwrap(), dir.path().join("notes.txt").exists()), (b"two".to_vec(), true));
    }
}
