//! Packs what a plugin's author needs into the command: the SDK's plain sources, their manifests made to
//! stand alone, and the versions that the SDK is tested with. `src/bundle.rs` writes them into projects.
//!
//! A further language is one line of [`PARTS`] for each folder of its SDK.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bundle, folder or file below the workspace's root, what of it is packed (a folder with all that is in it),
/// and where it lies in a project's copy.
const PARTS: &[(&str, &str, &[&str], &str)] = &[
    ("RUST", "sdk/plugin", &["Cargo.toml", "src"], "plugin"),
    ("RUST", "sdk/plugin-macro", &["Cargo.toml", "src"], "plugin-macro"),
    ("RUST", "sdk/wit", &["plugin.wit"], "wit"),
    ("RUST", "", &["LICENSE"], ""),
    ("JAVASCRIPT", "sdk/plugin-js", &["package.json", "README.md", "src", "tools"], "plugin-js"),
    ("JAVASCRIPT", "sdk/wit", &["plugin.wit"], "wit"),
    ("JAVASCRIPT", "", &["LICENSE"], ""),
    ("PYTHON", "sdk/plugin-python", &["pyproject.toml", "README.md", "src"], "plugin-python"),
    ("PYTHON", "sdk/wit", &["plugin.wit"], "wit"),
    ("PYTHON", "", &["LICENSE"], ""),
];

/// The crates of the Rust SDK, and what a new project depends on itself.
const LOCK_ROOTS: [&str; 2] = ["millstream-plugin", "serde"];

fn main() -> Result<()> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let workspace = Workspace::read(&root)?;
    let mut bundles: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for (bundle, from, what, to) in PARTS {
        let files = bundles.entry(bundle).or_default();
        for name in *what {
            pack(&root.join(from).join(name), &join(to, name), &workspace, files)?;
        }
    }
    let mut code = String::new();
    for (bundle, files) in bundles {
        writeln!(code, "const {bundle}: &[(&str, &[u8])] = &[")?;
        files.iter().try_for_each(|(path, content)| writeln!(code, "    ({path:?}, {content}),"))?;
        writeln!(code, "];")?;
    }
    writeln!(code, "const RUST_LOCK: &[(&str, &str)] = &[")?;
    for (name, entry) in workspace.lock_entries(&LOCK_ROOTS)? {
        writeln!(code, "    ({name:?}, {entry:?}),")?;
    }
    writeln!(code, "];")?;
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("bundle.rs"), code)?;
    Ok(())
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Adds a file, or all files of a folder, as an expression of its bytes.
fn pack(path: &Path, to: &str, workspace: &Workspace, files: &mut BTreeMap<String, String>) -> Result<()> {
    println!("cargo::rerun-if-changed={}", path.display());
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| "a file's name is no text")?;
            // Left by tests that ran here, and no part of the sources.
            if name == "__pycache__" || name.ends_with(".egg-info") {
                continue;
            }
            pack(&entry.path(), &join(to, &name), workspace, files)?;
        }
        return Ok(());
    }
    let content = if path.ends_with("Cargo.toml") {
        let manifest = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let alone = workspace.stand_alone(&manifest).map_err(|cause| format!("{}: {cause}", path.display()))?;
        format!("{alone:?}.as_bytes()")
    } else if path.is_file() {
        format!("include_bytes!({path:?})")
    } else {
        return Err(format!("{} is not there to be packed", path.display()).into());
    };
    files.insert(to.to_owned(), content);
    Ok(())
}

/// What the members inherit, and the versions they are tested with.
struct Workspace {
    package: BTreeMap<String, String>,
    dependencies: BTreeMap<String, String>,
    locked: Vec<Locked>,
    /// What the SDK needs for its tests alone; the lock file does not tell them apart.
    tests_need: BTreeSet<String>,
}

/// A `[[package]]` of the lock file.
struct Locked {
    name: String,
    version: String,
    /// Its lines of source and checksum; empty for the workspace's own.
    origin: String,
    /// `name` or `name version`.
    dependencies: Vec<String>,
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let (manifest, lock) = (root.join("Cargo.toml"), root.join("Cargo.lock"));
        println!("cargo::rerun-if-changed={}", manifest.display());
        println!("cargo::rerun-if-changed={}", lock.display());
        let manifest = std::fs::read_to_string(manifest)?;
        let sdk = std::fs::read_to_string(root.join("sdk/plugin/Cargo.toml"))?;
        let name = |key: String| key.split('.').next().unwrap_or_default().to_owned();
        let locked = std::fs::read_to_string(lock)?.split("[[package]]").skip(1).map(Locked::parse).collect();
        Ok(Workspace {
            package: section(&manifest, "[workspace.package]"),
            dependencies: section(&manifest, "[workspace.dependencies]"),
            locked,
            tests_need: section(&sdk, "[dev-dependencies]").into_keys().map(name).collect(),
        })
    }

    /// A member's manifest without what it inherits, its lints and its tests' dependencies.
    fn stand_alone(&self, manifest: &str) -> Result<String> {
        let (mut alone, mut header, mut wanted) = (String::new(), "", true);
        for line in manifest.lines() {
            if line.starts_with('[') {
                header = line;
                wanted = !matches!(line, "[lints]" | "[dev-dependencies]");
            }
            if !wanted {
                continue;
            }
            if let Some(name) = line.strip_suffix(".workspace = true") {
                let from = if header == "[package]" { &self.package } else { &self.dependencies };
                let value = from.get(name).ok_or_else(|| format!("the workspace has no `{name}`"))?;
                writeln!(alone, "{name} = {value}")?;
            } else if line.contains("workspace = true") {
                return Err(format!("`{line}` should be written `NAME.workspace = true`").into());
            } else {
                writeln!(alone, "{line}")?;
            }
        }
        Ok(alone)
    }

    /// The entries of a lock file for `roots` and all they need, by name.
    fn lock_entries(&self, roots: &[&str]) -> Result<Vec<(String, String)>> {
        let mut needed = BTreeSet::new();
        let mut waiting: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        while let Some(dependency) = waiting.pop() {
            let at = self.find(&dependency)?;
            if needed.insert(at) {
                waiting.extend(self.needs(at));
            }
        }
        let named = |name: &str| needed.iter().filter(|&&at| self.locked[at].name == name).count();
        let mut entries = Vec::new();
        for &at in &needed {
            let Locked { name, version, origin, .. } = &self.locked[at];
            let mut entry = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{origin}");
            let mut needs = Vec::new();
            for dependency in self.needs(at) {
                let Locked { name, version, .. } = &self.locked[self.find(&dependency)?];
                needs.push(if named(name) > 1 {
                    format!(" \"{name} {version}\",\n")
                } else {
                    format!(" \"{name}\",\n")
                });
            }
            if !needs.is_empty() {
                write!(entry, "dependencies = [\n{}]\n", needs.concat())?;
            }
            entries.push((name.clone(), entry));
        }
        Ok(entries)
    }

    /// What a crate needs to be built.
    fn needs(&self, at: usize) -> Vec<String> {
        let Locked { name, dependencies, .. } = &self.locked[at];
        let built = |dependency: &&String| {
            let word = dependency.split(' ').next().unwrap_or_default();
            name != "millstream-plugin" || !self.tests_need.contains(word)
        };
        dependencies.iter().filter(built).cloned().collect()
    }

    fn find(&self, dependency: &str) -> Result<usize> {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let fits = |one: &Locked| one.name == name && version.is_none_or(|version| one.version == version);
        self.locked.iter().position(fits).ok_or_else(|| format!("{dependency} is not in Cargo.lock").into())
    }
}

impl Locked {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let of_line =
                |line: &str| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.trim_end_matches('"').to_owned());
            text.lines().find_map(of_line).unwrap_or_default()
        };
        let origin = text.lines().filter(|line| line.starts_with("source = ") || line.starts_with("checksum = "));
        let dependencies =
            text.lines().filter_map(|line| Some(line.strip_prefix(" \"")?.trim_end_matches("\",").to_owned()));
        Locked {
            name: value("name"),
            version: value("version"),
            origin: origin.fold(String::new(), |all, line| all + line + "\n"),
            dependencies: dependencies.collect(),
        }
    }
}

/// The `name = value` lines of a manifest's section.
fn section(manifest: &str, header: &str) -> BTreeMap<String, String> {
    let lines = manifest.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
