//! A disk in memory with a page cache in front. What is written is visible at once; what a power loss leaves of it
//! ([`SimDisk::crash`]) is what was synced and any part of the rest. All else that a disk can do wrong is
//! [`Faults`]. One seed decides everything, and calls are counted, so every run of a history is the same.
//!
//! Clones are the same disk. Handles stay usable after their file was renamed or deleted, as on Linux.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_log::split_path;

use crate::chance::Chance;
use crate::crash::Left;
use crate::faults::{Faults, Injector, Kind};
use crate::nodes::{Contents, Copied, FileNode, FolderNode, Node};
use crate::storage::SimStorage;

/// See the module's head.
#[derive(Clone)]
pub struct SimDisk {
    root: Arc<FolderNode>,
    control: Arc<Mutex<Control>>,
}

struct Control {
    injector: Injector,
    /// Calls so far that change something or make it durable.
    changes: u64,
    power: Power,
    watcher: Option<Watcher>,
}

/// Sees the disk before each of its changes.
type Watcher = Arc<dyn Fn(&SimDisk, u64) + Send + Sync>;

/// Whether the power goes, and what it left.
enum Power {
    On,
    /// Before the change of this number.
    GoesAt(u64, Chance),
    /// What happens now happens to nobody.
    Gone(SimDisk),
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk.
    pub fn new(faults: Faults, seed: u64) -> Self {
        SimDisk::with_root(Arc::default(), Injector::new(faults, Chance::new(seed)))
    }

    fn with_root(root: Arc<FolderNode>, injector: Injector) -> Self {
        let control = Control { injector, changes: 0, power: Power::On, watcher: None };
        SimDisk { root, control: Arc::new(Mutex::new(control)) }
    }

    /// From now on; [`crate::When::Nth`] counts from here.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.control).injector.set(faults);
    }

    /// The faults, with the room that is left.
    pub fn faults(&self) -> Faults {
        lock(&self.control).injector.faults.clone()
    }

    /// How many faults there were.
    pub fn injected(&self) -> u64 {
        lock(&self.control).injector.injected()
    }

    /// Virtual microseconds that calls took since this was asked last. Nothing waits for them here: a simulation
    /// adds them to its clock.
    pub fn take_latency_us(&self) -> u64 {
        lock(&self.control).injector.take_latency_us()
    }

    /// What a power loss at this moment leaves, as a disk without faults. This one goes on.
    pub fn crash(&self, chance: &mut Chance) -> SimDisk {
        let root = Left::default().folder(&self.root, chance);
        SimDisk::with_root(root, Injector::new(Faults::default(), chance.split()))
    }

    /// Equal for disks whose files hold the same under the same names; others differ, but for chance.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.root.hash_into(&mut hasher);
        hasher.finish()
    }

    /// What a stop of the process at this moment leaves: everything that was written, and as yet unsynced what is.
    /// Without faults.
    pub fn fork(&self) -> SimDisk {
        let root = Copied::default().folder(&self.root);
        SimDisk::with_root(root, Injector::new(Faults::default(), Chance::new(0)))
    }

    /// Calls so far that change something or make something durable.
    pub fn changes(&self) -> u64 {
        lock(&self.control).changes
    }

    /// The power goes before the change of this number; calls go on as if it had not. [`SimDisk::left`] has the rest.
    pub fn lose_power_at(&self, change: u64, chance: Chance) {
        lock(&self.control).power = Power::GoesAt(change, chance);
    }

    /// What the power loss left, once it happened.
    pub fn left(&self) -> Option<SimDisk> {
        match &lock(&self.control).power {
            Power::Gone(left) => Some(left.clone()),
            Power::On | Power::GoesAt(..) => None,
        }
    }

    /// Calls `watcher` before each change, with its number. It may look at the disk, crash and fork it, not change it.
    pub fn watch(&self, watcher: impl Fn(&SimDisk, u64) + Send + Sync + 'static) {
        lock(&self.control).watcher = Some(Arc::new(watcher));
    }

    pub(crate) fn read(&self) -> io::Result<()> {
        lock(&self.control).injector.call(Kind::Read)
    }

    pub(crate) fn with_injector<T>(&self, work: impl FnOnce(&mut Injector) -> T) -> T {
        work(&mut lock(&self.control).injector)
    }

    /// Counts a change, before it happens.
    pub(crate) fn change(&self, kind: Kind) -> io::Result<()> {
        let (number, goes, watcher) = {
            let mut control = lock(&self.control);
            let number = control.changes;
            control.changes += 1;
            let goes = match &control.power {
                Power::GoesAt(at, chance) if *at <= number => Some(chance.clone()),
                _ => None,
            };
            (number, goes, control.watcher.clone())
        };
        // Without the lock: others hold files while they wait for it.
        if let Some(mut chance) = goes {
            let left = self.crash(&mut chance);
            lock(&self.control).power = Power::Gone(left);
        }
        if let Some(watcher) = watcher {
            watcher(self, number);
        }
        lock(&self.control).injector.call(kind)
    }

    pub(crate) fn folder(&self, path: &str) -> io::Result<Arc<FolderNode>> {
        let mut folder = Arc::clone(&self.root);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let next = match folder.entries().now.get(name) {
                Some(Node::Folder(next)) => Arc::clone(next),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            folder = next;
        }
        Ok(folder)
    }

    fn file(&self, path: &str) -> Option<Arc<FileNode>> {
        let (folder, name) = split_path(path);
        match self.folder(folder).ok()?.entries().now.get(name) {
            Some(Node::File(file)) => Some(Arc::clone(file)),
            _ => None,
        }
    }

    /// The files in the root folder.
    pub fn root(&self) -> SimStorage {
        SimStorage { disk: self.clone(), folder: Arc::clone(&self.root) }
    }

    /// Paths of all files, in order, as a process sees them.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.root.collect("", &mut found);
        found
    }

    /// A file's contents as a process sees them.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        Some(Vec::clone(&self.file(path)?.contents().now))
    }

    /// Puts other contents into a file, or makes it, durable at once and without a fault: for tests that damage things.
    ///
    /// # Panics
    /// The folder isn't there.
    pub fn put(&self, path: &str, contents: Vec<u8>) {
        let (folder, name) = split_path(path);
        let folder = self.folder(folder).expect("the folder is there");
        let file = Node::File(Arc::new(FileNode::durable(Arc::new(contents))));
        let mut entries = folder.entries();
        entries.now.insert(name.to_owned(), file.clone());
        entries.durable.insert(name.to_owned(), file);
    }

    /// Flips bits of one byte of a file, on the disk and in the cache; open handles see it. `false` when the file is shorter.
    pub fn flip(&self, path: &str, at: usize, bits: u8) -> bool {
        let Some(file) = self.file(path) else { return false };
        let mut contents = file.contents();
        let Contents { now, durable, .. } = &mut *contents;
        let mut flipped = false;
        for copy in [now, durable] {
            if let Some(byte) = Arc::make_mut(copy).get_mut(at) {
                *byte ^= bits;
                flipped = true;
            }
        }
        flipped
    }

    /// Flips one bit of any byte of any file; says which. `None` on an empty disk.
    pub fn rot(&self, chance: &mut Chance) -> Option<(String, usize)> {
        let sized = self.files().into_iter().filter_map(|path| Some((self.file(&path)?.contents().now.len(), path)));
        let sized: Vec<(usize, String)> = sized.filter(|(size, _)| *size > 0).collect();
        let mut at = chance.index(sized.iter().map(|(size, _)| size).sum());
        for (size, path) in sized {
            if at < size {
                self.flip(&path, at, 1 << chance.below(8));
                return Some((path, at));
            }
            at -= size;
        }
        None
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("changes", &self.changes()).finish_non_exhaustive()
    }
}
