//! What a log needs of the world: a folder of flat files. Everything durable goes through these two
//! traits, so a disk, memory and a simulated lossy disk are interchangeable.
//!
//! Nothing is durable until [`File::sync_data`] (contents and length) or [`Storage::sync_dir`] (names:
//! created, renamed, deleted) returned `Ok`; before that a crash may keep any part of it.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

/// A folder that holds one log. Names are plain file names.
pub trait Storage: Send + Sync + 'static {
    /// Opens an existing file for reading and writing; `NotFound` when there is none.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file, or empties the one that is there.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Names of all files, in any order.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames atomically, replacing `to`.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Handles that are open go on working.
    ///
    /// # Errors
    /// The system's.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and deletions so far durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file. Positions are explicit, so one handle serves any number of threads.
pub trait File: Send + Sync + Debug {
    /// Appends to `into` at most `len` bytes found at `at`; 0 is the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize>;

    /// [`File::read_at`], as far as it goes without waiting for the disk. Where nobody can tell, it may wait.
    ///
    /// # Errors
    /// `WouldBlock` when it does not go anywhere; else the system's.
    fn read_cached_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.read_at(at, len, into)
    }

    /// Writes the parts one after another at `at`; may write less than all.
    ///
    /// # Errors
    /// The system's; `StorageFull` when the disk is.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize>;

    /// Length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> io::Result<u64>;

    /// Cuts to `size` bytes and gives back room reserved beyond.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Reserves room without changing the size; `Unsupported` where there is no such thing.
    ///
    /// # Errors
    /// The system's; `StorageFull` when the disk is.
    fn allocate(&self, from: u64, len: u64) -> io::Result<()>;

    /// Asks that bytes which were written begin to go to the disk, does not wait for it, and lets others have the core.
    /// Nothing is durable by this, and what goes wrong shows at [`File::sync_data`], which has less to do after it.
    fn write_out(&self, _range: Range<u64>) {}

    /// Returns when contents and size are durable. After an error nothing is known about any of the
    /// writes since the last success, and a second try proves nothing.
    ///
    /// # Errors
    /// The system's.
    fn sync_data(&self) -> io::Result<()>;

    /// Whether the file still has a name. One that was deleted behind the log's back can be written and synced, and is
    /// gone with the process.
    ///
    /// # Errors
    /// The system's.
    fn is_linked(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        (**self).open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        (**self).create(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        (**self).delete(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        (**self).sync_dir()
    }
}

/// Writes all parts. On an error some of them may be there.
///
/// # Errors
/// The system's.
pub fn write_all_at(file: &dyn File, mut parts: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    // Linux takes at most 1024 parts in one call.
    const PARTS_MAX: usize = 1024;
    // Empty parts would look like a disk that takes nothing.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let now = parts.len().min(PARTS_MAX);
        let written = file.write_at(&parts[..now], at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}

/// Reads up to `len` bytes; fewer only at the end of the file.
///
/// # Errors
/// The system's.
pub fn read_full_at(file: &dyn File, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut done = 0;
    while done < len {
        match file.read_at(at + done as u64, len - done, into)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// A whole small file; `None` when there is none.
///
/// # Errors
/// The system's.
pub fn read_file(storage: &dyn Storage, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(name) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::with_capacity(size);
    read_full_at(&*file, 0, size, &mut bytes)?;
    Ok(Some(bytes))
}

/// Puts a file in place, durably, so that a crash leaves the old or the new contents, never a mixture.
///
/// # Errors
/// The system's.
pub fn replace_file(storage: &dyn Storage, name: &str, contents: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}{}", crate::names::TEMPORARY);
    let file = storage.create(&temporary)?;
    write_all_at(&*file, &mut [IoSlice::new(contents)], 0)?;
    file.sync_data()?;
    storage.rename(&temporary, name)?;
    storage.sync_dir()
}

/// Deletes a file that may be gone already.
///
/// # Errors
/// The system's.
pub fn delete_if_there(storage: &dyn Storage, name: &str) -> io::Result<()> {
    match storage.delete(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
