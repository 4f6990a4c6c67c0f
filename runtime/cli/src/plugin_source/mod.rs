//! What becomes a plugin: a folder in one of the languages that this command builds, or the file of a component.
//! One file per language: `rust`, `javascript`, `python`. Each says what its folder holds, finds or installs what
//! it is built with, and builds; [`PluginSource`] is what everything else sees.

mod cached;
mod file;
mod javascript;
mod program;
mod python;
mod rust;
mod toolchain;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use millstream_plugin_host::Manifest;

use crate::console::Console;
use crate::problem::Problem;

pub(crate) use cached::prune;
use file::ComponentFile;
use javascript::JavaScript;
use python::Python;
use rust::PluginCrate;

/// Where a build in JavaScript or Python keeps what it made, in the plugin's folder.
const DIST: &str = "dist";

/// Something that a component can be had of, ready to be built.
pub(crate) enum PluginSource {
    Rust(PluginCrate),
    JavaScript(JavaScript),
    Python(Python),
    /// Whatever made it.
    File(ComponentFile),
}

/// A component ready to be tested or uploaded.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) component: Vec<u8>,
    pub(crate) took: Duration,
}

/// How much of cargo's output is shown while it works.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    All,
    /// Warnings and errors only; progress is a spinner on a terminal, a line per crate elsewhere.
    Calm,
}

/// What a folder's plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Rust,
    JavaScript,
    Python,
}

impl PluginSource {
    /// Looks at a folder or file, and sees to it that what it is built with is there.
    ///
    /// # Errors
    /// No plugin there, or a tool is missing that can't be installed.
    pub(crate) fn open(path: &Path, offline: bool, console: &Console) -> Result<Self> {
        if path.is_file() {
            return Ok(PluginSource::File(ComponentFile::open(path)?));
        }
        if !path.exists() {
            return Err(Problem::not_found(format!("there is no {}", path.display()))
                .help("name a plugin's folder, or a component's file")
                .into());
        }
        Ok(match language(path)? {
            Language::Rust => PluginSource::Rust(PluginCrate::open(path, offline, console)?),
            Language::JavaScript => PluginSource::JavaScript(JavaScript::open(path, offline, console)?),
            Language::Python => PluginSource::Python(Python::open(path, offline, console)?),
        })
    }

    /// What the sources say of the plugin; a file may say nothing.
    pub(crate) fn manifest(&self) -> &Manifest {
        match self {
            PluginSource::Rust(plugin) => &plugin.manifest,
            PluginSource::JavaScript(plugin) => &plugin.manifest,
            PluginSource::Python(plugin) => &plugin.manifest,
            PluginSource::File(file) => &file.manifest,
        }
    }

    /// Builds the component. Blocks for as long as it takes.
    ///
    /// # Errors
    /// What the compiler said was shown; [`crate::problem::Shown`] tells so.
    pub(crate) fn build(&self, console: &Console, show: Show) -> Result<Built> {
        match self {
            PluginSource::Rust(plugin) => plugin.build(console, show),
            PluginSource::JavaScript(plugin) => plugin.build(console),
            PluginSource::Python(plugin) => plugin.build(console),
            PluginSource::File(file) => Ok(file.built()),
        }
    }

    /// Where the component lies once it is built.
    pub(crate) fn component_path(&self) -> PathBuf {
        match self {
            PluginSource::Rust(plugin) => plugin.component_path(),
            PluginSource::JavaScript(plugin) => plugin.component_path(),
            PluginSource::Python(plugin) => plugin.component_path(),
            PluginSource::File(file) => file.path.clone(),
        }
    }

    /// The file that holds the plugin's version, for advice.
    pub(crate) fn manifest_file(&self) -> &'static str {
        match self {
            PluginSource::Rust(_) => "Cargo.toml",
            PluginSource::JavaScript(_) => "package.json",
            PluginSource::Python(plugin) => plugin.manifest_file,
            PluginSource::File(_) => "its sources",
        }
    }

    /// Files that the last build read and that do not lie where the watcher looks anyway.
    pub(crate) fn sources_elsewhere(&self) -> Vec<PathBuf> {
        match self {
            PluginSource::Rust(plugin) => plugin.sources_elsewhere(),
            PluginSource::JavaScript(plugin) => plugin.sources_elsewhere(),
            PluginSource::Python(plugin) => plugin.sources_elsewhere(),
            PluginSource::File(_) => Vec::new(),
        }
    }

    /// Where machine code is kept that took long to make; a plugin in Rust is compiled in no time.
    pub(crate) fn machine_code(&self) -> Option<PathBuf> {
        match self {
            PluginSource::JavaScript(plugin) => Some(plugin.machine_code()),
            PluginSource::Python(plugin) => Some(plugin.machine_code()),
            PluginSource::Rust(_) | PluginSource::File(_) => None,
        }
    }
}

/// Sees to what the plugin in a folder is built with, before anything else is done. What is wrong with the
/// folder itself is left to [`PluginSource::open`].
///
/// # Errors
/// A tool is missing that can't be installed.
pub(crate) fn prepare(path: &Path, offline: bool, console: &Console) -> Result<()> {
    match language(path) {
        Ok(Language::Rust) => toolchain::prepare(path, offline, console),
        Ok(Language::JavaScript) => javascript::prepare(path, offline, console).map(drop),
        Ok(Language::Python) => Python::open(path, offline, console).map(drop),
        Err(_) => Ok(()),
    }
}

/// Files beside the sources that decide what is built, in any language.
pub(crate) const MANIFESTS: [&str; 8] = [
    "Cargo.toml",
    "build.rs",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "pyproject.toml",
    "plugin.toml",
    "requirements.txt",
];

/// Tells by the manifests what a folder holds.
fn language(folder: &Path) -> Result<Language> {
    let has = |file: &str| folder.join(file).is_file();
    let rust = has("Cargo.toml").then_some(("Cargo.toml", Language::Rust));
    let javascript = javascript::is_plugin(folder).then_some(("package.json", Language::JavaScript));
    let python = python::manifest_file(folder).map(|file| (file, Language::Python));
    let found: Vec<(&str, Language)> = [rust, javascript, python].into_iter().flatten().collect();
    match found[..] {
        [(_, language)] => Ok(language),
        [] if has("package.json") => {
            Err(Problem::refused(format!("{} says nothing of a plugin", folder.join("package.json").display()))
                .help("add to it what Millstream wants to know: \"millstream\": { \"outputs\": [] }")
                .into())
        }
        [] if has("pyproject.toml") => {
            Err(Problem::refused(format!("{} says nothing of a plugin", folder.join("pyproject.toml").display()))
                .help("add to it what Millstream wants to know: [tool.millstream] with outputs = []")
                .into())
        }
        [] => Err(Problem::not_found(format!(
            "there is no plugin in {}: no Cargo.toml, package.json or pyproject.toml",
            folder.display()
        ))
        .help("name a plugin's folder, or make one with `millstream new NAME`")
        .into()),
        _ => {
            let files: Vec<&str> = found.iter().map(|(file, _)| *file).collect();
            Err(Problem::refused(format!("{} holds more than one plugin: {}", folder.display(), files.join(" and ")))
                .help("give each a folder of its own")
                .into())
        }
    }
}

/// Replaces a file as a whole, so that nobody reads half a component.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&fresh, bytes)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_language_is_told_by_its_manifests() {
        let check = |files: &[(&str, &str)], expected: Result<Language, &str>| {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
            match (language(dir.path()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{found:?}, {expected:?}"),
            }
        };
        let js = ("package.json", r#"{ "millstream": {} }"#);
        let py = ("pyproject.toml", "[project]\nname = \"x\"\n[tool.millstream]\n");
        check(&[("Cargo.toml", "")], Ok(Language::Rust));
        check(&[js], Ok(Language::JavaScript));
        check(&[py], Ok(Language::Python));
        check(&[("plugin.toml", "")], Ok(Language::Python));
        check(&[("Cargo.toml", ""), ("package.json", "{}")], Ok(Language::Rust));
        check(&[js, ("pyproject.toml", "[project]\n")], Ok(Language::JavaScript));
        check(&[("package.json", "{}")], Err("package.json says nothing of a plugin"));
        check(&[("pyproject.toml", "")], Err("pyproject.toml says nothing of a plugin"));
        check(&[], Err("there is no plugin in"));
        check(&[js, py], Err("more than one plugin: package.json and pyproject.toml"));
    }
}
