//! Storage in memory, for tests of this crate and of others. Everything counts as durable at once;
//! clones see the same files, so a log can be dropped and opened again.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::storage::{File, Storage};

/// A folder in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryStorage {
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// An independent folder with the same contents: what a crash at this moment would leave.
    pub fn copy(&self) -> Self {
        let copied = MemoryStorage::new();
        for (name, file) in self.files().iter() {
            copied.put(name, file.read().clone());
        }
        copied
    }

    /// The contents of a file.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.files().get(name)?.read().clone())
    }

    /// Creates or replaces a file.
    pub fn put(&self, name: &str, contents: Vec<u8>) {
        self.files().insert(name.to_owned(), Arc::new(MemoryFile { bytes: RwLock::new(contents) }));
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.files().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = Arc::clone(self.files().entry(name.to_owned()).or_default());
        file.truncate(0)?;
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryFile {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for MemoryFile {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let bytes = self.read();
        let from = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        let until = bytes.len().min(from.saturating_add(len));
        into.extend_from_slice(&bytes[from..until]);
        Ok(until - from)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut bytes = self.write();
        let from = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if bytes.len() < from + total {
            bytes.resize(from + total, 0);
        }
        let mut to = from;
        for part in parts {
            bytes[to..to + part.len()].copy_from_slice(part);
            to += part.len();
        }
        Ok(total)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.read().len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.write().resize(size, 0);
        Ok(())
    }

    fn allocate(&self, _from: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
