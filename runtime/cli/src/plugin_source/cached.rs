//! Components that take seconds to make, kept by the hash of all that they were made of: sources, packages, tools.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_plugin_host::digest;

use super::write_whole;
use crate::format::hex;

/// Components that are kept: going back to the last version or two costs nothing. Each has some 12 to 20 MB.
const KEPT: usize = 4;
const DIGEST_BYTES: usize = 32;

/// Hashes what a component is made of, part by part.
#[derive(Default)]
pub(super) struct Key {
    parts: Vec<u8>,
}

impl Key {
    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.parts.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.parts.extend_from_slice(part);
    }

    pub(super) fn finish(&self) -> String {
        hex(&digest(&self.parts))
    }
}

/// The components kept in one folder.
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(super) fn new(dist: &Path) -> Self {
        Kept { folder: dist.join("kept") }
    }

    /// The component of this key, if it is there and whole.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(key);
        let mut bytes = fs::read(&path).ok()?;
        let component = bytes.split_off(DIGEST_BYTES.min(bytes.len()));
        if digest(&component)[..] != bytes[..] {
            return None;
        }
        // What is used last is dropped last.
        File::open(&path).and_then(|file| file.set_modified(SystemTime::now())).ok();
        Some(component)
    }

    /// Keeps a component and drops the oldest; each file has its contents' hash in front.
    pub(super) fn put(&self, key: &str, component: &[u8]) -> io::Result<()> {
        write_whole(&self.folder.join(key), &[&digest(component)[..], component].concat())?;
        prune(&self.folder, KEPT)
    }
}

/// Deletes all but the newest files of a folder.
pub(crate) fn prune(folder: &Path, kept: usize) -> io::Result<()> {
    let age = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
    let mut files: Vec<(SystemTime, PathBuf)> =
        fs::read_dir(folder)?.filter_map(|entry| age(entry.ok()?.path())).collect();
    files.sort();
    let surplus = files.len().saturating_sub(kept);
    files[..surplus].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_kept_whole_and_few() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path());
        assert_eq!(kept.get("a"), None);
        for (i, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            kept.put(key, key.as_bytes()).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64);
            File::open(kept.folder.join(key)).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(kept.get("a"), None, "the oldest goes");
        assert_eq!(kept.get("b").as_deref(), Some(&b"b"[..]));
        kept.put("f", b"f").unwrap();
        assert!(kept.get("b").is_some() && kept.get("c").is_none(), "what was used stays");
        let file = kept.folder.join("f");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(kept.get("f"), None, "a damaged file is no component");
        fs::write(&file, b"short").unwrap();
        assert_eq!(kept.get("f"), None);
    }

    #[test]
    fn keys_tell_parts_apart() {
        let key = |parts: &[&str]| {
            let mut key = Key::default();
            parts.iter().for_each(|part| key.add(part));
            key.finish()
        };
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["ab"]));
        assert_ne!(key(&["a", "b"]), key(&["ab", ""]));
    }
}
