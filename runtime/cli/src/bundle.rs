//! The SDK that travels with the command: `new` writes it into a project, where it is committed like any
//! other source, and `plugin update-sdk` brings such a copy to the version of a newer command.
//!
//! Beside a copy lies a list of its files' hashes, so that a change made by hand is seen and not lost.
//! `build.rs` packs the files.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use millstream_plugin_host::digest;
use semver::Version;

use crate::console::{Console, Tone};
use crate::format::hex;
use crate::problem::Problem;

include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// Where a project keeps its copies, relative to its root. Not `vendor`: `cargo vendor` deletes what it finds there.
pub(crate) const FOLDER: &str = "sdk";
/// This command's version, which is that of every SDK it carries.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const README: &str = include_str!("../templates/sdk/README.md.in");

/// What a language's plugins are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// `millstream-plugin`, its macro, and the contract.
    Rust,
    /// The npm package `millstream-plugin`, for JavaScript and TypeScript, and the contract.
    JavaScript,
    /// The Python package `millstream_plugin`, and the contract.
    Python,
}

/// How a project's copy stands to what this command carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// There is none.
    Absent,
    Same,
    /// Of the same version with other contents, as between releases.
    OtherBuild,
    Older(String),
    Newer(String),
}

/// A copy on disk, by its list.
struct Listed {
    version: String,
    /// Path relative to the copy's folder, and hash.
    files: BTreeMap<String, String>,
}

impl Bundle {
    /// Every bundle, for commands that are about whatever a project has.
    pub(crate) const ALL: [Bundle; 3] = [Bundle::Rust, Bundle::JavaScript, Bundle::Python];

    fn name(self) -> &'static str {
        match self {
            Bundle::Rust => "rust",
            Bundle::JavaScript => "javascript",
            Bundle::Python => "python",
        }
    }

    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Bundle::Rust => RUST,
            Bundle::JavaScript => JAVASCRIPT,
            Bundle::Python => PYTHON,
        }
    }

    /// The list of hashes in a copy's folder; `sha256sum --check` reads it.
    fn list(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.sha256", self.name()))
    }

    /// Writes a copy into `folder`, over an older one; what lies there beside its files stays.
    ///
    /// # Errors
    /// The folder can't be written.
    pub(crate) fn write(self, folder: &Path) -> Result<()> {
        let mut list = format!("# millstream {VERSION}: `millstream plugin update-sdk` goes by this list\n");
        for (path, content) in self.files() {
            write_file(&folder.join(path), content)?;
            writeln!(list, "{}  {path}", hex(&digest(content))).expect("writing to a string");
        }
        let old = self.read(folder)?.map(|copy| copy.files).unwrap_or_default();
        for gone in old.keys().filter(|path| !self.files().iter().any(|(own, _)| own == path)) {
            std::fs::remove_file(folder.join(gone)).ok();
        }
        write_file(&folder.join("README.md"), README.replace("{{version}}", VERSION).as_bytes())?;
        // Last: a copy that was written in part is told from a whole one.
        write_file(&self.list(folder), list.as_bytes())
    }

    /// Compares the copy in `folder` with what this command carries.
    ///
    /// # Errors
    /// Its list can't be read.
    pub(crate) fn age(self, folder: &Path) -> Result<Age> {
        let Some(copy) = self.read(folder)? else { return Ok(Age::Absent) };
        let own: BTreeMap<String, String> =
            self.files().iter().map(|(path, content)| ((*path).to_owned(), hex(&digest(content)))).collect();
        let order = Version::parse(&copy.version).ok().zip(Version::parse(VERSION).ok());
        Ok(match order.map(|(theirs, ours)| theirs.cmp(&ours)) {
            _ if copy.files == own && copy.version == VERSION => Age::Same,
            Some(Ordering::Greater) => Age::Newer(copy.version),
            Some(Ordering::Equal) => Age::OtherBuild,
            Some(Ordering::Less) | None => Age::Older(copy.version),
        })
    }

    /// Files of the copy that are not as they were written.
    ///
    /// # Errors
    /// The copy can't be read.
    pub(crate) fn edited(self, folder: &Path) -> Result<BTreeSet<PathBuf>> {
        let Some(copy) = self.read(folder)? else { return Ok(BTreeSet::new()) };
        let mut edited = BTreeSet::new();
        for (path, hash) in copy.files {
            let path = folder.join(path);
            match std::fs::read(&path) {
                Ok(content) if hex(&digest(&content)) == hash => {}
                Ok(_) => drop(edited.insert(path)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(edited)
    }

    fn read(self, folder: &Path) -> Result<Option<Listed>> {
        let list = self.list(folder);
        let text = match std::fs::read_to_string(&list) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| list.display().to_string()),
        };
        let copy = parse(&text).ok_or_else(|| {
            Problem::refused(format!("{} is no list of an SDK's files", list.display()))
                .help("take the one that was committed, or make the copy anew in another folder: millstream new NAME")
        })?;
        Ok(Some(copy))
    }
}

/// The folder of the copies that `folder` belongs to: its own, or the project's around it.
pub(crate) fn find_copies(folder: &Path) -> Option<PathBuf> {
    let is_copy = |folder: &Path| Bundle::ALL.iter().any(|bundle| bundle.list(folder).is_file());
    let whole = std::path::absolute(folder).ok()?;
    let mut around = whole.ancestors().flat_map(|above| [above.to_path_buf(), above.join(FOLDER)]);
    around.find(|folder| is_copy(folder))
}

/// Tells in a line when the copies around `folder`, a plugin's, are not those of this command.
pub(crate) fn tell_age(folder: &Path, console: &Console) -> Result<()> {
    let Some(copies) = find_copies(folder) else { return Ok(()) };
    for bundle in Bundle::ALL {
        let what = match bundle.age(&copies)? {
            Age::Absent | Age::Same => continue,
            Age::Older(version) => {
                format!("{version}, this command has {VERSION}: `millstream plugin update-sdk` brings it")
            }
            Age::OtherBuild => {
                format!("another build of {VERSION}: `millstream plugin update-sdk` brings this command's")
            }
            Age::Newer(version) => {
                format!("{version}, newer than this command ({VERSION}): install that version of it")
            }
        };
        console.toned(Tone::Warn, "SDK", &format!("{} is {what}", shown(&copies).display()));
    }
    Ok(())
}

/// Relative to where the user is, if that is shorter.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf)).unwrap_or_else(|| path.to_path_buf())
}

/// The lock file of a new Rust project: the versions that the SDK is tested with.
pub(crate) fn rust_lock(project: &str) -> String {
    let own = format!(
        "[[package]]\nname = \"{project}\"\nversion = \"0.1.0\"\ndependencies = [\n \"millstream-plugin\",\n \"serde\",\n]\n"
    );
    let mut entries: Vec<(&str, &str)> = RUST_LOCK.to_vec();
    entries.push((project, &own));
    entries.sort_by_key(|(name, _)| *name);
    let text: Vec<&str> = entries.iter().map(|(_, entry)| *entry).collect();
    format!("# This file is automatically @generated by Cargo.\nversion = 4\n\n{}", text.join("\n"))
}

/// The list's lines: `# millstream VERSION: …`, then a hash and a path each.
fn parse(text: &str) -> Option<Listed> {
    let (head, rest) = text.split_once('\n')?;
    let version = head.strip_prefix("# millstream ")?.split_once(':')?.0.to_owned();
    let mut files = BTreeMap::new();
    for line in rest.lines() {
        let (hash, path) = line.split_once("  ")?;
        // A path of another's making must not lead out of the folder.
        let inside = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return None;
        }
        files.insert(path.to_owned(), hash.to_owned());
    }
    Some(Listed { version, files })
}

/// Writes a file, and makes the folders that it lies in.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_from_an_older_and_from_an_edited_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let check = |expected: Age, edited: usize| {
            assert_eq!(Bundle::Rust.age(folder).unwrap(), expected);
            assert_eq!(Bundle::Rust.edited(folder).unwrap().len(), edited);
        };
        check(Age::Absent, 0);
        Bundle::Rust.write(folder).unwrap();
        check(Age::Same, 0);
        assert_eq!(find_copies(&folder.join("plugin/src")).as_deref(), Some(folder));

        // What another version had and this one has not.
        let list = Bundle::Rust.list(folder);
        let old = std::fs::read_to_string(&list).unwrap().replacen(VERSION, "0.0.1", 1);
        let gone = format!("{}  plugin/src/gone.rs\n", hex(&digest(b"old")));
        std::fs::write(&list, old + &gone).unwrap();
        std::fs::write(folder.join("plugin/src/gone.rs"), "old").unwrap();
        check(Age::Older("0.0.1".to_owned()), 0);
        std::fs::write(folder.join("plugin/src/gone.rs"), "edited").unwrap();
        std::fs::write(folder.join("plugin/src/own.rs"), "of the user").unwrap();
        check(Age::Older("0.0.1".to_owned()), 1);
        let newer = std::fs::read_to_string(&list).unwrap().replacen("0.0.1", "99.0.0", 1);
        std::fs::write(&list, newer).unwrap();
        check(Age::Newer("99.0.0".to_owned()), 1);

        Bundle::Rust.write(folder).unwrap();
        check(Age::Same, 0);
        assert!(!folder.join("plugin/src/gone.rs").exists());
        assert!(folder.join("plugin/src/own.rs").exists());
    }

    /// Each of this version, with the contract it speaks, and nothing that tests or tools left beside the sources.
    #[test]
    fn bundles_are_whole() {
        let check = |bundle: Bundle, manifest: &str, version: &str, source: &str| {
            let paths: Vec<&str> = bundle.files().iter().map(|(path, _)| *path).collect();
            for expected in [manifest, source, "wit/plugin.wit", "LICENSE"] {
                assert!(paths.contains(&expected), "{expected} is not among {paths:?}");
            }
            let left = ["__pycache__", "node_modules", "dist/", "tests/", "egg-info"];
            assert!(!paths.iter().any(|path| left.iter().any(|left| path.contains(left))), "{paths:?}");
            let (_, content) = bundle.files().iter().find(|(path, _)| *path == manifest).unwrap();
            assert!(std::str::from_utf8(content).unwrap().contains(&format!("{version}\"{VERSION}\"")), "{manifest}");
        };
        check(Bundle::Rust, "plugin/Cargo.toml", "version = ", "plugin/src/lib.rs");
        check(Bundle::JavaScript, "plugin-js/package.json", "\"version\": ", "plugin-js/tools/build.mjs");
        check(
            Bundle::Python,
            "plugin-python/pyproject.toml",
            "version = ",
            "plugin-python/src/millstream_plugin/py.typed",
        );
        // Copies of several lie in one folder.
        let mut all = BTreeMap::new();
        for (path, content) in Bundle::ALL.iter().flat_map(|bundle| bundle.files()) {
            assert_eq!(*all.entry(path).or_insert(content), content, "{path} differs");
        }
    }

    #[test]
    fn lists_lead_nowhere_else() {
        let check = |text: &str, good: bool| assert_eq!(parse(text).is_some(), good, "{text}");
        check("# millstream 0.1.0: x\nab  plugin/src/lib.rs\n", true);
        check("# millstream 0.1.0: x\nab  ../../home\n", false);
        check("# millstream 0.1.0: x\nab  /etc/passwd\n", false);
        check("ab  plugin/src/lib.rs\n", false);
        check("", false);
    }

    /// Nothing of the workspace that they were packed from is needed to read the manifests.
    #[test]
    fn manifests_stand_alone() {
        let manifests = RUST.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
        let mut seen = 0;
        for (path, content) in manifests {
            let text = std::str::from_utf8(content).unwrap();
            assert!(!text.contains("workspace"), "{path}:\n{text}");
            assert!(text.contains(&format!("version = \"{VERSION}\"")), "{path}:\n{text}");
            seen += 1;
        }
        assert_eq!(seen, 2);
    }
}
