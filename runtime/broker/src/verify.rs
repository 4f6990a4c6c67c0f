//! Checks a data folder that no broker owns: every file that one keeps there, every byte of it. Nothing is changed
//! unless asked, and then only what is made from other files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_cluster::metadata::State;
use millstream_log::{self as log, Finding, FindingKind, Storage, Volume, delete_if_there, read_file};
use millstream_plugin_host::{digest, is_whole_code};

use crate::data_dir::{META_FILE, PLUGINS, TOPICS, read_meta};
use crate::{folder, metadata};

/// Folder of compiled code.
const CACHE: &str = "cache";
const COMPILED: &str = ".cwasm";
const COMPONENT: &str = ".wasm";

/// One folder, or one file of its own: what was looked at, what is wrong, what was done about it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// On the volume; empty for its root.
    pub place: String,
    pub files: usize,
    pub bytes: u64,
    pub records: u64,
    /// What is left.
    pub findings: Vec<Finding>,
    pub repaired: Vec<String>,
}

/// Everything in a data folder, partitions last.
///
/// # Errors
/// A folder or file can't be read, or, for a repair, written.
pub fn data_folder(volume: &dyn Volume, repair: Option<i64>) -> io::Result<Vec<Checked>> {
    let (root, state) = root(volume)?;
    let mut all = vec![root, plugins(volume, state.as_ref())?, cache(volume, repair.is_some())?];
    let mut names = volume.folders(TOPICS)?;
    names.sort_unstable();
    for name in names {
        all.push(partition(volume, &format!("{TOPICS}/{name}"), state.as_ref(), repair)?);
    }
    Ok(all)
}

/// One partition's folder; `state` tells which topics there are, `repair` mends and has the clock.
///
/// # Errors
/// As for [`data_folder`].
pub fn partition(volume: &dyn Volume, place: &str, state: Option<&State>, repair: Option<i64>) -> io::Result<Checked> {
    let storage = volume.open(place)?;
    let mut checked = Checked { place: place.to_owned(), ..Checked::default() };
    match folder::read_identity(volume, place) {
        Ok(Some(owner)) => {
            checked.files += 1;
            let known = |state: &State| {
                let deleted = state.deleted_topics().iter().any(|topic| topic.id == owner.topic);
                deleted || state.topic_by_id(owner.topic).is_some()
            };
            if state.is_some_and(|state| !known(state)) {
                let reason = format!("it belongs to topic id {}, which metadata does not know", owner.topic);
                checked.findings.push(damage(folder::IDENTITY_FILE, 0, reason));
            }
        }
        // Whoever made it, it holds no partition of this broker.
        Ok(None) if !storage.list()?.iter().any(|name| name.ends_with(".log")) => return Ok(checked),
        Ok(None) => {}
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            checked.findings.push(damage(folder::IDENTITY_FILE, 0, e.to_string()));
        }
        Err(e) => return Err(e),
    }
    let report = match repair {
        None => log::verify(&*storage).map_err(io::Error::other)?,
        Some(now_ms) => {
            let repaired = log::repair(storage, &log::Config::default(), now_ms).map_err(io::Error::other)?;
            checked.repaired = repaired.done;
            repaired.left
        }
    };
    checked.files += report.files;
    checked.bytes += report.bytes;
    checked.records = report.records;
    checked.findings.extend(report.findings);
    Ok(checked)
}

fn damage(file: &str, position: u64, reason: impl Into<String>) -> Finding {
    Finding { file: file.to_owned(), position, reason: reason.into(), kind: FindingKind::Damage }
}

/// The identity and the metadata store, and the state that it holds.
fn root(volume: &dyn Volume) -> io::Result<(Checked, Option<State>)> {
    let storage = volume.open("")?;
    let mut checked = Checked::default();
    if let Some(bytes) = read_file(&*storage, META_FILE)? {
        (checked.files, checked.bytes) = (1, bytes.len() as u64);
        if let Err(e) = read_meta(&bytes, volume) {
            checked.findings.push(damage(META_FILE, 0, e.to_string()));
        }
    }
    let state = match read_file(&*storage, metadata::FILE)? {
        None => None,
        Some(bytes) => {
            checked.files += 1;
            checked.bytes += bytes.len() as u64;
            match metadata::check(&storage) {
                Ok(state) => Some(state),
                Err(reason) => {
                    checked.findings.push(damage(metadata::FILE, 0, reason));
                    None
                }
            }
        }
    };
    Ok((checked, state))
}

/// Stored components are named by what they hold.
fn plugins(volume: &dyn Volume, state: Option<&State>) -> io::Result<Checked> {
    let storage = volume.open(PLUGINS)?;
    let mut checked = Checked { place: PLUGINS.to_owned(), ..Checked::default() };
    for (name, bytes) in files(&storage, COMPONENT)? {
        checked.files += 1;
        checked.bytes += bytes.len() as u64;
        let found: String = digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if name.strip_suffix(COMPONENT) != Some(&found) {
            checked.findings.push(damage(&name, 0, format!("its sha256 is {found}: push the plugin again")));
        }
    }
    for plugin in state.into_iter().flat_map(|state| state.plugins()) {
        let name = format!("{}{COMPONENT}", plugin.digest);
        if read_file(&*storage, &name)?.is_none() {
            let reason = format!("{}@{} is gone: push the plugin again", plugin.name, plugin.version);
            checked.findings.push(damage(&name, 0, reason));
        }
    }
    Ok(checked)
}

/// Compiled code is made again from the components.
fn cache(volume: &dyn Volume, repair: bool) -> io::Result<Checked> {
    let mut checked = Checked { place: CACHE.to_owned(), ..Checked::default() };
    let storage = match volume.open(CACHE) {
        Ok(storage) => storage,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(checked),
        Err(e) => return Err(e),
    };
    for (name, bytes) in files(&storage, COMPILED)? {
        checked.files += 1;
        checked.bytes += bytes.len() as u64;
        if is_whole_code(&bytes) {
            continue;
        }
        if repair {
            delete_if_there(&*storage, &name)?;
            checked.repaired.push(format!("{name}: removed; the next start compiles the plugin again"));
        } else {
            let reason = "checksum mismatch; it is compiled again".to_owned();
            checked.findings.push(Finding { file: name, position: 0, reason, kind: FindingKind::Derived });
        }
    }
    Ok(checked)
}

fn files(storage: &Arc<dyn Storage>, end: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names: Vec<String> = storage.list()?.into_iter().filter(|name| name.ends_with(end)).collect();
    names.sort_unstable();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        if let Some(bytes) = read_file(&**storage, &name)? {
            files.push((name, bytes));
        }
    }
    Ok(files)
}

/// Whether this is a broker's data folder.
pub fn is_data_folder(path: &Path) -> bool {
    path.join(META_FILE).exists() || path.join(metadata::FILE).exists()
}
