//! Notices saves. Folders are watched, not files, because editors replace files; what an event says is not
//! believed: after each burst all watched files are hashed, and contents that differ are what changed.
//! Only files that matter are looked at, so that `target/`, `.git` and the data folder never are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use notify_debouncer_full::notify::event::{AccessKind, AccessMode};
use notify_debouncer_full::notify::{Config, EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, NoCache, new_debouncer_opt};
use tokio::sync::mpsc;

use crate::manifest::{self, Project};
use crate::plugin_source::MANIFESTS;

/// A burst of events ends after this long without another: an editor writes, renames and sets times at once.
const DEBOUNCE: Duration = Duration::from_millis(60);
/// How often the end of a burst is looked for: a save is seen after at most `DEBOUNCE + TICK`.
const TICK: Duration = Duration::from_millis(20);
/// How far the time of a file may lie behind the clock: file systems take the time of the kernel's last tick.
const FILE_TIME_LAG: Duration = Duration::from_millis(20);
/// Larger files are told apart by size and time: hashing them would delay every save.
const HASHED_BYTES_MAX: u64 = 8 << 20;
/// Depth of folders below a plugin's `src`.
const DEPTH_MAX: usize = 16;

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Manifest,
    /// A pipeline's file: written, new or gone.
    Pipeline(PathBuf),
    /// A source of the plugin with this place in the manifest.
    Plugin(usize),
}

/// What to look at.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) project: Project,
    pub(super) plugins: Vec<Sources>,
}

/// What a plugin is made of: everything below `src` and the manifests of its folder, in any language, or a
/// component that another toolchain makes; and files elsewhere that its last build read.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) root: PathBuf,
    pub(super) elsewhere: Vec<PathBuf>,
}

/// Contents of all files that matter, by what they belong to. A file may belong to several plugins.
type Seen = BTreeMap<(Change, PathBuf), [u8; 32]>;

pub(super) struct Watcher {
    debouncer: Debouncer<RecommendedWatcher, NoCache>,
    /// Weak, so that `bursts` ends with the debouncer.
    burst: mpsc::WeakSender<()>,
    bursts: mpsc::Receiver<()>,
    layout: Layout,
    seen: Seen,
    /// When `seen` was looked at last; whatever handles a change reads the files later.
    looked: SystemTime,
    /// Watched folders with device and inode: one that was replaced must be watched anew.
    folders: BTreeMap<PathBuf, (u64, u64)>,
}

impl Watcher {
    /// Takes note of all contents as they are now.
    ///
    /// # Errors
    /// The system watches no more folders.
    pub(super) fn start(layout: Layout) -> Result<Self> {
        // One place: a burst that nobody has looked at yet covers the next one too.
        let (burst, bursts) = mpsc::channel(1);
        let weak = burst.downgrade();
        let handler = move |events: DebounceEventResult| {
            if events.is_err() || events.is_ok_and(|events| events.iter().any(|event| is_write(&event.kind))) {
                burst.try_send(()).ok();
            }
        };
        let debouncer = new_debouncer_opt(DEBOUNCE, Some(TICK), handler, NoCache, Config::default())
            .context("files can't be watched")?;
        let looked = SystemTime::now();
        let (seen, folders) = (Seen::new(), BTreeMap::new());
        let mut watcher = Watcher { debouncer, burst: weak, bursts, layout, seen, looked, folders };
        watcher.seen = watcher.look()?;
        Ok(watcher)
    }

    /// Looks at other files from now on. A file that is new counts as seen only if it is older than the last
    /// look: whoever handled the changes of that look may have read the folder before it came.
    ///
    /// # Errors
    /// The system watches no more folders.
    pub(super) fn set_layout(&mut self, layout: Layout) -> Result<()> {
        self.layout = layout;
        let since = self.looked - FILE_TIME_LAG;
        let watched_before = self.folders.clone();
        let now = self.look()?;
        for (file, digest) in &now {
            if !changed_since(&file.1, since) {
                self.seen.entry(file.clone()).or_insert(*digest);
            }
        }
        // What was saved in a folder that nobody watched is told by no event. Elsewhere the event is waited
        // for, so that no file is taken half written.
        if self.folders != watched_before
            && self.seen != now
            && let Some(burst) = self.burst.upgrade()
        {
            burst.try_send(()).ok();
        }
        Ok(())
    }

    /// Waits until contents differ from what was last seen. May be dropped and called again.
    ///
    /// # Errors
    /// The system watches no more folders.
    pub(super) async fn changes(&mut self) -> Result<BTreeSet<Change>> {
        loop {
            self.bursts.recv().await.context("watching files stopped")?;
            self.looked = SystemTime::now();
            let now = self.look()?;
            let changed = difference(&self.seen, &now);
            self.seen = now;
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    /// Watches all folders that matter now, then hashes: in this order no save falls between.
    fn look(&mut self) -> Result<Seen> {
        let files = self.layout.files();
        self.watch_folders(folders_of(&self.layout, &files))?;
        Ok(files
            .into_iter()
            .filter_map(|(change, path)| Some((digest(&path)?, change, path)))
            .map(|(d, c, p)| ((c, p), d))
            .collect())
    }

    fn watch_folders(&mut self, wanted: BTreeSet<PathBuf>) -> Result<()> {
        let present: BTreeMap<PathBuf, (u64, u64)> =
            wanted.into_iter().filter_map(|path| Some((identity(&path)?, path))).map(|(id, path)| (path, id)).collect();
        for (path, id) in &self.folders {
            if present.get(path) != Some(id) {
                // It may be gone already, and its watch with it.
                self.debouncer.unwatch(path).ok();
            }
        }
        for (path, id) in &present {
            if self.folders.get(path) != Some(id) {
                self.debouncer.watch(path, RecursiveMode::NonRecursive).with_context(|| {
                    format!("{} can't be watched (the limit is /proc/sys/fs/inotify/max_user_watches)", path.display())
                })?;
            }
        }
        self.folders = present;
        Ok(())
    }
}

impl Layout {
    fn files(&self) -> BTreeSet<(Change, PathBuf)> {
        let mut files = BTreeSet::from([(Change::Manifest, self.project.path(Path::new(manifest::FILE)))]);
        // A file that is named and missing was deleted or is being replaced: the next look tells.
        for file in self.project.pipeline_files().unwrap_or_default() {
            files.insert((Change::Pipeline(file.clone()), file));
        }
        for (i, sources) in self.plugins.iter().enumerate() {
            files.extend(sources.files().into_iter().map(|file| (Change::Plugin(i), file)));
        }
        files
    }
}

impl Sources {
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.elsewhere.clone();
        if self.root.is_file() {
            files.push(self.root.clone());
        } else {
            files.extend(MANIFESTS.map(|name| self.root.join(name)));
            walk(&self.root.join("src"), DEPTH_MAX, &mut files);
        }
        files
    }
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // Editors keep swap files and locks under such names, Python what it compiled.
        if entry.file_name() == "__pycache__" || entry.file_name().to_string_lossy().starts_with(['.', '#']) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&path, depth - 1, files),
            Ok(kind) if !kind.is_dir() => files.push(path),
            _ => {}
        }
    }
}

/// The folders in which something of the project may appear or change.
fn folders_of(layout: &Layout, files: &BTreeSet<(Change, PathBuf)>) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| {
        path.parent().map_or(PathBuf::from("."), |folder| {
            if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
        })
    };
    let mut folders: BTreeSet<PathBuf> = files.iter().map(|(_, file)| parent(file)).collect();
    folders.extend(
        layout.project.manifest.pipelines.iter().map(|pattern| parent(&layout.project.path(Path::new(pattern)))),
    );
    for plugin in &layout.plugins {
        folders.insert(plugin.root.join("src"));
    }
    folders
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let about = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some((about.dev(), about.ino()))
}

/// `None` for a file that is not there: being replaced, or gone.
fn digest(path: &Path) -> Option<[u8; 32]> {
    let about = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    if about.len() > HASHED_BYTES_MAX {
        return Some(millstream_plugin_host::digest(
            format!("{} {} {}", about.len(), about.mtime(), about.mtime_nsec()).as_bytes(),
        ));
    }
    fs::read(path).ok().map(|bytes| millstream_plugin_host::digest(&bytes))
}

/// Whether a file was written, or given its name, at this time or later.
fn changed_since(path: &Path, since: SystemTime) -> bool {
    let Ok(about) = fs::metadata(path) else { return false };
    let changed = Duration::new(about.ctime().try_into().unwrap_or(0), about.ctime_nsec().try_into().unwrap_or(0));
    UNIX_EPOCH + changed >= since
}

fn difference(before: &Seen, after: &Seen) -> BTreeSet<Change> {
    let came_or_changed = after.iter().filter(|(file, digest)| before.get(file) != Some(digest));
    let went = before.iter().filter(|(file, _)| !after.contains_key(file));
    came_or_changed.chain(went).map(|((change, _), _)| change.clone()).collect()
}

/// Reading a file is an event too, also when it is done here.
fn is_write(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project with one plugin in its own folder.
    fn project(folder: &Path) -> Layout {
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("millstream.yaml", "version: 1\nproject: p\nplugins: [.]\npipelines: ['pipelines/*.yaml']\n");
        write("Cargo.toml", "[package]\n");
        write("src/lib.rs", "//! Empty.\n");
        write("src/deep/er/mod.rs", "");
        write("pipelines/a.yaml", "a");
        write("target/release/x.rs", "");
        let project = Project::load(folder).unwrap();
        Layout { project, plugins: vec![Sources { root: folder.to_owned(), elsewhere: Vec::new() }] }
    }

    async fn next(watcher: &mut Watcher) -> BTreeSet<Change> {
        tokio::time::timeout(Duration::from_secs(60), watcher.changes()).await.unwrap().unwrap()
    }

    /// What changes by `edit`, each kind of it named by a letter.
    async fn check(edit: impl FnOnce(&Path), expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::start(project(dir.path())).unwrap();
        edit(dir.path());
        // Written last and seen last, so that it ends the wait also where nothing changed.
        fs::write(dir.path().join("millstream.yaml"), "version: 1\nproject: q\nplugins: [.]\n").unwrap();
        let mut found = BTreeSet::new();
        while !found.contains("manifest") {
            found.extend(next(&mut watcher).await.into_iter().map(|change| match change {
                Change::Manifest => "manifest".to_owned(),
                Change::Pipeline(path) => path.file_stem().unwrap().to_string_lossy().into_owned(),
                Change::Plugin(i) => format!("plugin {i}"),
            }));
        }
        found.remove("manifest");
        assert_eq!(found.into_iter().collect::<Vec<_>>().join(", "), expected);
    }

    #[tokio::test]
    async fn saves_are_noticed() {
        check(|folder| fs::write(folder.join("src/lib.rs"), "//! Full.\n").unwrap(), "plugin 0").await;
        check(|folder| fs::write(folder.join("src/deep/er/mod.rs"), "// deep\n").unwrap(), "plugin 0").await;
        check(|folder| fs::write(folder.join("Cargo.toml"), "[package]\nname = \"p\"\n").unwrap(), "plugin 0").await;
        check(|folder| fs::write(folder.join("pipelines/a.yaml"), "b").unwrap(), "a").await;
        check(|folder| fs::write(folder.join("pipelines/new.yaml"), "b").unwrap(), "new").await;
        check(|folder| fs::remove_file(folder.join("pipelines/a.yaml")).unwrap(), "a").await;
    }

    #[tokio::test]
    async fn editors_replace_files() {
        let replace = |folder: &Path| {
            fs::write(folder.join("src/.lib.rs.swp"), "//! Full.\n").unwrap();
            fs::rename(folder.join("src/.lib.rs.swp"), folder.join("src/lib.rs")).unwrap();
        };
        check(replace, "plugin 0").await;
    }

    #[tokio::test]
    async fn what_is_not_the_projects_or_did_not_change_is_left_alone() {
        check(|folder| fs::write(folder.join("src/lib.rs"), "//! Empty.\n").unwrap(), "").await;
        check(|folder| fs::write(folder.join("target/release/x.rs"), "//").unwrap(), "").await;
        check(|folder| fs::write(folder.join("src/.lib.rs.swp"), "//").unwrap(), "").await;
    }

    /// As `git checkout` does it: the folder goes and another one comes under its name.
    #[tokio::test]
    async fn a_folder_that_was_replaced_is_watched_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::start(project(dir.path())).unwrap();
        fs::rename(dir.path().join("src"), dir.path().join("old")).unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/lib.rs"), "// first\n").unwrap();
        assert_eq!(next(&mut watcher).await, BTreeSet::from([Change::Plugin(0)]));
        fs::write(dir.path().join("src/lib.rs"), "// second\n").unwrap();
        assert_eq!(next(&mut watcher).await, BTreeSet::from([Change::Plugin(0)]));
    }

    /// A save comes when the changes before it have been read, but before the layout that they led to is set.
    #[tokio::test]
    async fn what_is_saved_while_changes_are_handled_is_reported_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let layout = project(dir.path());
        let mut watcher = Watcher::start(layout.clone()).unwrap();
        fs::write(dir.path().join("pipelines/a.yaml"), "b").unwrap();
        assert_eq!(next(&mut watcher).await, BTreeSet::from([Change::Pipeline(dir.path().join("pipelines/a.yaml"))]));
        fs::write(dir.path().join("pipelines/a.yaml"), "c").unwrap();
        fs::write(dir.path().join("pipelines/new.yaml"), "b").unwrap();
        watcher.set_layout(layout).unwrap();
        let both = ["a", "new"].map(|name| Change::Pipeline(dir.path().join(format!("pipelines/{name}.yaml"))));
        let mut found = BTreeSet::new();
        while found.len() < both.len() {
            found.extend(next(&mut watcher).await);
        }
        assert_eq!(found, BTreeSet::from(both));
    }

    /// A build tells which files it read, and one of them was saved meanwhile in a folder that nobody watched.
    #[tokio::test]
    async fn what_is_new_in_the_layout_and_younger_than_the_last_look_is_reported() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, young) = (other.path().join("old.bin"), other.path().join("young.bin"));
        fs::write(&old, "old").unwrap();
        std::thread::sleep(FILE_TIME_LAG * 2);
        let mut layout = project(dir.path());
        let mut watcher = Watcher::start(layout.clone()).unwrap();
        layout.plugins[0].elsewhere = vec![old];
        watcher.set_layout(layout.clone()).unwrap();
        assert!(watcher.bursts.try_recv().is_err(), "an old file is not a change");
        fs::write(&young, "young").unwrap();
        layout.plugins[0].elsewhere.push(young);
        // Its folder is watched already: the event tells.
        watcher.set_layout(layout.clone()).unwrap();
        assert_eq!(next(&mut watcher).await, BTreeSet::from([Change::Plugin(0)]));

        let unwatched = tempfile::tempdir().unwrap();
        fs::write(unwatched.path().join("young.bin"), "young").unwrap();
        layout.plugins[0].elsewhere.push(unwatched.path().join("young.bin"));
        watcher.set_layout(layout).unwrap();
        assert_eq!(next(&mut watcher).await, BTreeSet::from([Change::Plugin(0)]));
    }
}
