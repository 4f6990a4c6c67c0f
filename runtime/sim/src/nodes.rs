//! The tree behind a simulated disk: folders and files, each as a process sees it, as the disk has it, and the way
//! from one to the other. Nodes are shared: a handle keeps a file that lost its name.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::lock;

#[derive(Clone)]
pub(crate) enum Node {
    File(Arc<FileNode>),
    Folder(Arc<FolderNode>),
}

#[derive(Default)]
pub(crate) struct FolderNode(Mutex<Entries>);

/// Names now, as of the last sync, and the way from one to the other.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) now: BTreeMap<String, Node>,
    pub(crate) durable: BTreeMap<String, Node>,
    pub(crate) pending: Vec<Rename>,
}

#[derive(Clone)]
pub(crate) enum Rename {
    Put { name: String, node: Node },
    Move { from: String, to: String, node: Node },
    Remove { name: String, node: Node },
}

#[derive(Default)]
pub(crate) struct FileNode(Mutex<Contents>);

/// Bytes now, as of the last sync, and what was written since.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) now: Arc<Vec<u8>>,
    pub(crate) durable: Arc<Vec<u8>>,
    pub(crate) pending: Vec<Write>,
}

#[derive(Clone)]
pub(crate) enum Write {
    Data { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Node {
    pub(crate) fn is(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::File(one), Node::File(two)) => Arc::ptr_eq(one, two),
            (Node::Folder(one), Node::Folder(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl FolderNode {
    pub(crate) fn durable(names: BTreeMap<String, Node>) -> Self {
        FolderNode(Mutex::new(Entries { now: names.clone(), durable: names, pending: Vec::new() }))
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.0)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut entries = self.entries();
        let node = entries.now.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        entries.record(Rename::Move { from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    /// Bytes that the name held.
    pub(crate) fn remove(&self, name: &str) -> io::Result<u64> {
        let mut entries = self.entries();
        let node = entries.now.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        let held = match &node {
            Node::File(file) => file.contents().now.len() as u64,
            Node::Folder(_) => 0,
        };
        entries.record(Rename::Remove { name: name.to_owned(), node });
        Ok(held)
    }

    /// Everything that the names below hold now.
    pub(crate) fn hash_into(&self, hasher: &mut impl Hasher) {
        let entries = self.entries();
        entries.now.len().hash(hasher);
        for (name, node) in &entries.now {
            name.hash(hasher);
            match node {
                Node::File(file) => {
                    let bytes = Arc::clone(&file.contents().now);
                    (bytes.len(), crc32c::crc32c(&bytes)).hash(hasher);
                }
                Node::Folder(folder) => folder.hash_into(hasher),
            }
        }
    }

    pub(crate) fn collect(&self, prefix: &str, found: &mut Vec<String>) {
        for (name, node) in &self.entries().now {
            match node {
                Node::File(_) => found.push(format!("{prefix}{name}")),
                Node::Folder(folder) => folder.collect(&format!("{prefix}{name}/"), found),
            }
        }
    }
}

impl Entries {
    pub(crate) fn record(&mut self, change: Rename) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.pending.clear();
    }
}

impl FileNode {
    pub(crate) fn durable(bytes: Arc<Vec<u8>>) -> Self {
        FileNode(Mutex::new(Contents { now: Arc::clone(&bytes), durable: bytes, pending: Vec::new() }))
    }

    pub(crate) fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.0)
    }
}

impl Contents {
    /// Bytes that the file shrank by.
    pub(crate) fn record(&mut self, write: Write) -> u64 {
        let before = self.now.len();
        write.apply(Arc::make_mut(&mut self.now));
        self.pending.push(write);
        before.saturating_sub(self.now.len()) as u64
    }

    pub(crate) fn sync(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        self.pending.drain(..).for_each(|write| write.apply(durable));
    }
}

/// Nodes that were copied, so that one which has two names is still one.
#[derive(Default)]
pub(crate) struct Copied {
    files: BTreeMap<usize, Arc<FileNode>>,
    folders: BTreeMap<usize, Arc<FolderNode>>,
}

impl Copied {
    pub(crate) fn folder(&mut self, folder: &Arc<FolderNode>) -> Arc<FolderNode> {
        let key = Arc::as_ptr(folder).addr();
        if let Some(copy) = self.folders.get(&key) {
            return Arc::clone(copy);
        }
        let entries = folder.entries();
        let mut names = |names: &BTreeMap<String, Node>| -> BTreeMap<String, Node> {
            names.iter().map(|(name, node)| (name.clone(), self.node(node))).collect()
        };
        let (now, durable) = (names(&entries.now), names(&entries.durable));
        let pending = entries.pending.iter().map(|change| match change.clone() {
            Rename::Put { name, node } => Rename::Put { name, node: self.node(&node) },
            Rename::Move { from, to, node } => Rename::Move { from, to, node: self.node(&node) },
            Rename::Remove { name, node } => Rename::Remove { name, node: self.node(&node) },
        });
        let pending = pending.collect();
        let copy = Arc::new(FolderNode(Mutex::new(Entries { now, durable, pending })));
        self.folders.insert(key, Arc::clone(&copy));
        copy
    }

    fn node(&mut self, node: &Node) -> Node {
        match node {
            Node::Folder(folder) => Node::Folder(self.folder(folder)),
            Node::File(file) => {
                let copy = || Arc::new(FileNode(Mutex::new(Contents::clone(&file.contents()))));
                Node::File(Arc::clone(self.files.entry(Arc::as_ptr(file).addr()).or_insert_with(copy)))
            }
        }
    }
}

impl fmt::Debug for FolderNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries().now.keys()).finish()
    }
}

impl fmt::Debug for FileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.contents().now.len())
    }
}
