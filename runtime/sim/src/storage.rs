//! A simulated disk as the code under test sees it: folders, files, calls that may fail.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_log::{File, Storage, Volume, split_path};

use crate::crash;
use crate::disk::SimDisk;
use crate::faults::Kind;
use crate::nodes::{FileNode, FolderNode, Node, Rename, Write};

impl Volume for SimDisk {
    fn open(&self, folder: &str) -> io::Result<Arc<dyn Storage>> {
        self.read()?;
        Ok(Arc::new(SimStorage { disk: self.clone(), folder: self.folder(folder)? }))
    }

    fn create(&self, path: &str) -> io::Result<()> {
        let (folder, name) = split_path(path);
        let folder = self.folder(folder)?;
        match folder.entries().now.get(name) {
            Some(Node::Folder(_)) => return Ok(()),
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        self.change(Kind::Write)?;
        folder.entries().record(Rename::Put { name: name.to_owned(), node: Node::Folder(Arc::default()) });
        Ok(())
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.read()?;
        let folder = self.folder(folder)?;
        let entries = folder.entries();
        let folders = entries.now.iter().filter(|(_, node)| matches!(node, Node::Folder(_)));
        Ok(folders.map(|(name, _)| name.clone()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (folder, from) = split_path(from);
        let (other, to) = split_path(to);
        assert_eq!(folder, other, "a folder stays in the folder that holds it");
        let folder = self.folder(folder)?;
        if folder.entries().now.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Kind::Write)?;
        folder.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if !self.folder(path)?.entries().now.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Kind::Write)?;
        let (folder, name) = split_path(path);
        self.folder(folder)?.remove(name).map(drop)
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        self.change(Kind::FolderSync)?;
        self.folder(folder)?.entries().sync();
        Ok(())
    }

    fn show(&self, path: &str) -> String {
        format!("sim:/{path}")
    }
}

/// One folder of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimStorage {
    pub(crate) disk: SimDisk,
    pub(crate) folder: Arc<FolderNode>,
}

impl SimStorage {
    fn handle(&self, node: &Arc<FileNode>) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.disk.clone(), node: Arc::clone(node) })
    }
}

impl Storage for SimStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.read()?;
        match self.folder.entries().now.get(name) {
            Some(Node::File(file)) => Ok(self.handle(file)),
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.change(Kind::Write)?;
        let mut entries = self.folder.entries();
        match entries.now.get(name) {
            Some(Node::File(file)) => {
                let freed = file.contents().record(Write::Length(0));
                self.disk.with_injector(|injector| injector.give_back(freed));
                Ok(self.handle(file))
            }
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => {
                let file = Arc::default();
                entries.record(Rename::Put { name: name.to_owned(), node: Node::File(Arc::clone(&file)) });
                Ok(self.handle(&file))
            }
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.read()?;
        Ok(self.folder.entries().now.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.change(Kind::Write)?;
        self.folder.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        if matches!(self.folder.entries().now.get(name), Some(Node::Folder(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.disk.change(Kind::Write)?;
        let freed = self.folder.remove(name)?;
        self.disk.with_injector(|injector| injector.give_back(freed));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.change(Kind::FolderSync)?;
        self.folder.entries().sync();
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: Arc<FileNode>,
}

impl File for SimFile {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.disk.read()?;
        let contents = self.node.contents();
        let from = usize::try_from(at).map_or(contents.now.len(), |at| at.min(contents.now.len()));
        let until = contents.now.len().min(from.saturating_add(len));
        into.extend_from_slice(&contents.now[from..until]);
        Ok(until - from)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.disk.change(Kind::Write)?;
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut contents = self.node.contents();
        let grows = (at + bytes.len()).saturating_sub(contents.now.len());
        let taken = self.disk.with_injector(|injector| injector.takes(bytes.len(), grows as u64))?;
        bytes.truncate(taken);
        contents.record(Write::Data { at, bytes });
        Ok(taken)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.node.contents().now.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.change(Kind::Write)?;
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let freed = self.node.contents().record(Write::Length(size));
        self.disk.with_injector(|injector| injector.give_back(freed));
        Ok(())
    }

    fn allocate(&self, _from: u64, len: u64) -> io::Result<()> {
        match self.disk.faults().room {
            Some(room) if room < len => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let outcome = self.disk.change(Kind::Sync);
        let mut contents = self.node.contents();
        match outcome {
            Ok(()) => contents.sync(),
            Err(_) => self.disk.with_injector(|injector| crash::lose(&mut contents, injector.chance())),
        }
        outcome
    }
}
