//! What a power loss leaves. Everything that was synced is there; of the rest, any mixture: of each 512-byte
//! sector any of the contents it had since the last sync, of each file any of the lengths, and of the changes
//! to a folder's names any subset, in their order. Some losses are orderly (a journal that keeps a prefix),
//! some keep all or nothing: those are the ones that real file systems produce most.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chance::Chance;
use crate::nodes::{Contents, Entries, FileNode, FolderNode, Node, Rename, Write};

/// Bytes that a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// How thorough the loss is, drawn once for a file or folder.
enum Loss {
    /// All of it was lost.
    All,
    /// None: the kernel had just written everything back.
    None,
    /// The first so many changes are there.
    Prefix(usize),
    /// Each on its own.
    Any,
}

fn loss(changes: usize, chance: &mut Chance) -> Loss {
    match chance.below(6) {
        0 => Loss::All,
        1 => Loss::None,
        2 => Loss::Prefix(chance.index(changes + 1)),
        _ => Loss::Any,
    }
}

/// Nodes that were left, so that one which has two names is still one.
#[derive(Default)]
pub(crate) struct Left {
    nodes: BTreeMap<usize, Node>,
}

impl Left {
    /// The folder as the disk has it.
    pub(crate) fn folder(&mut self, folder: &Arc<FolderNode>, chance: &mut Chance) -> Arc<FolderNode> {
        let names = names(&folder.entries(), chance);
        let left = names.into_iter().map(|(name, node)| (name, self.node(&node, chance))).collect();
        Arc::new(FolderNode::durable(left))
    }

    fn node(&mut self, node: &Node, chance: &mut Chance) -> Node {
        let key = match node {
            Node::File(file) => Arc::as_ptr(file).addr(),
            Node::Folder(folder) => Arc::as_ptr(folder).addr(),
        };
        if let Some(left) = self.nodes.get(&key) {
            return left.clone();
        }
        let left = match node {
            Node::File(file) => Node::File(Arc::new(FileNode::durable(bytes(&file.contents(), chance)))),
            Node::Folder(folder) => Node::Folder(self.folder(folder, chance)),
        };
        self.nodes.insert(key, left.clone());
        left
    }
}

/// Names that a folder has after a loss.
fn names(entries: &Entries, chance: &mut Chance) -> BTreeMap<String, Node> {
    let mut names = entries.durable.clone();
    if entries.pending.is_empty() {
        return names;
    }
    let loss = loss(entries.pending.len(), chance);
    for (at, change) in entries.pending.iter().enumerate() {
        let kept = match loss {
            Loss::All => false,
            Loss::None => true,
            Loss::Prefix(prefix) => at < prefix,
            Loss::Any => chance.one_in(2),
        };
        if kept {
            change.apply(&mut names);
        }
    }
    names
}

impl Rename {
    /// What a change of names does. Each is atomic; one whose forerunner was lost does what is left to do.
    pub(crate) fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Rename::Put { name, node } => {
                names.insert(name.clone(), node.clone());
            }
            Rename::Move { from, to, node } => {
                if names.get(from).is_some_and(|there| there.is(node)) {
                    names.remove(from);
                }
                names.insert(to.clone(), node.clone());
            }
            Rename::Remove { name, node } => {
                if names.get(name).is_some_and(|there| there.is(node)) {
                    names.remove(name);
                }
            }
        }
    }
}

/// Bytes that a file has after a loss.
fn bytes(contents: &Contents, chance: &mut Chance) -> Arc<Vec<u8>> {
    let pending = &contents.pending;
    if pending.is_empty() {
        return Arc::clone(&contents.durable);
    }
    let all = pending.len();
    let mut left = Vec::clone(&contents.durable);
    match loss(all, chance) {
        Loss::All => {}
        Loss::None => pending.iter().for_each(|write| write.apply(&mut left)),
        Loss::Prefix(prefix) => pending[..prefix].iter().for_each(|write| write.apply(&mut left)),
        Loss::Any => mixture(pending, &mut left, chance),
    }
    Arc::new(left)
}

/// Each sector as of some moment, the length as of some moment. Sectors beyond that length are gone; those within
/// it which were never written hold zeros.
fn mixture(pending: &[Write], left: &mut Vec<u8>, chance: &mut Chance) {
    let mut length = left.len();
    let mut lengths = vec![length];
    for write in pending {
        length = write.length_after(length);
        lengths.push(length);
    }
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let moments: Vec<usize> = (0..longest.div_ceil(SECTOR)).map(|_| chance.index(pending.len() + 1)).collect();
    let length = *chance.pick(&lengths);
    left.resize(longest, 0);
    for (at, write) in pending.iter().enumerate() {
        write.apply_where(left, |sector| at < moments[sector]);
    }
    left.truncate(length);
}

impl Write {
    /// How long a file of `length` bytes is afterwards.
    pub(crate) fn length_after(&self, length: usize) -> usize {
        match self {
            Write::Data { at, bytes } => length.max(at + bytes.len()),
            Write::Length(length) => *length,
        }
    }

    pub(crate) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Write::Data { at, bytes } => {
                if file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Write::Length(length) => file.resize(*length, 0),
        }
    }

    /// To the sectors that are wanted, of a file that is long enough.
    fn apply_where(&self, file: &mut [u8], wanted: impl Fn(usize) -> bool) {
        let (from, until) = match self {
            Write::Data { at, bytes } => (*at, at + bytes.len()),
            // What is cut off reads as zeros if the file grows again.
            Write::Length(length) => (*length, file.len()),
        };
        let mut at = from;
        while at < until {
            let sector = at / SECTOR;
            let stop = until.min((sector + 1) * SECTOR);
            if wanted(sector) {
                match self {
                    Write::Data { bytes, .. } => file[at..stop].copy_from_slice(&bytes[at - from..stop - from]),
                    Write::Length(_) => file[at..stop].fill(0),
                }
            }
            at = stop;
        }
    }
}

/// A failed sync: some sectors got there, the others never will.
pub(crate) fn lose(contents: &mut Contents, chance: &mut Chance) {
    contents.durable = bytes(contents, chance);
    contents.pending.clear();
}
