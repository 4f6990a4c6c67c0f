//! What a broker needs of a disk: a tree of folders, each of whose files are a [`Storage`]. The real disk and
//! the simulated one are interchangeable behind this.
//!
//! Paths are relative to the volume's root, with `/` between folders; the empty path is the root. A folder's
//! own name is durable when the folder that holds it was synced ([`Volume::sync`]); the names in it are its
//! own [`Storage::sync_dir`]'s, which is the same thing seen from inside.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use crate::storage::Storage;

/// See the module's head. Folders are few and opened seldom: nothing here is on a record's way.
pub trait Volume: Send + Sync + Debug + 'static {
    /// The files of an existing folder; `NotFound` when there is none.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, folder: &str) -> io::Result<Arc<dyn Storage>>;

    /// Creates a folder in an existing one; no error when it is there already.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, folder: &str) -> io::Result<()>;

    /// Names of the folders inside a folder, in any order.
    ///
    /// # Errors
    /// The system's.
    fn folders(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Renames a folder atomically within the folder that holds it. Storage that is open goes on working.
    ///
    /// # Errors
    /// The system's; `to` must not be there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a folder that holds nothing any more.
    ///
    /// # Errors
    /// The system's; `DirectoryNotEmpty` when it holds something.
    fn remove(&self, folder: &str) -> io::Result<()>;

    /// Makes creations, renames and removals so far in this folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, folder: &str) -> io::Result<()>;

    /// A path as people know it, for messages.
    fn show(&self, path: &str) -> String;
}

/// The folder that holds this one, and its name there.
pub fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
