//! A folder of the file system as a [`Volume`].

#![allow(clippy::disallowed_methods, reason = "this is where the log meets the file system")]

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::DiskStorage;
use crate::storage::Storage;
use crate::volume::Volume;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct DiskVolume {
    root: PathBuf,
}

impl DiskVolume {
    /// The volume below an existing folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DiskVolume { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, folder: &str) -> PathBuf {
        if folder.is_empty() { self.root.clone() } else { self.root.join(folder) }
    }
}

impl Volume for DiskVolume {
    fn open(&self, folder: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(DiskStorage::open_existing(self.path(folder))?))
    }

    fn create(&self, folder: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.path(folder)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.path(folder).is_dir() => Ok(()),
            other => other,
        }
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder))? {
            let entry = entry?;
            // A name that isn't text is not one of ours.
            if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.path(to).exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, folder: &str) -> io::Result<()> {
        fs::remove_dir(self.path(folder))
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        fs::File::open(self.path(folder))?.sync_all()
    }

    fn show(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}
