//! A plugin in Python: pyproject.toml with a section `[tool.millstream]` (or plugin.toml), sources below `src`.
//! componentize-py, from a virtual environment made for the plugin, puts them and an interpreter into a component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use millstream_plugin_host::{Manifest, with_manifest};
use serde::Deserialize;

use super::cached::{Kept, Key};
use super::program;
use super::{Built, DIST, write_whole};
use crate::bundle;
use crate::console::Console;
use crate::format::bytes;
use crate::problem::{Exit, Problem, Shown};

const PYTHON_MIN: (u32, u32) = (3, 11);
const VENV: &str = ".venv";
const REQUIREMENTS: &str = "requirements.txt";
/// Depth of folders below the sources.
const DEPTH_MAX: usize = 16;
/// The component's main module, beside the plugin's own: the class that the contract's world becomes.
const WRAPPER: &str = "millstream_component";

/// Tells what Python this is and what the manifest says, in one start of it. It is read by Pythons too old for us.
const PROBE: &str = r#"
import json, sys
from importlib.util import find_spec
found = {"version": list(sys.version_info[:2]), "venv": bool(find_spec("venv") and find_spec("ensurepip"))}
if sys.version_info >= (3, 11):
    import tomllib
    try:
        with open(sys.argv[1], "rb") as file:
            toml = tomllib.load(file)
        if sys.argv[1].endswith("pyproject.toml"):
            project = toml.get("project", {})
            toml = {**{key: project[key] for key in ("name", "version", "description") if key in project}, **toml["tool"]["millstream"]}
        found["plugin"] = toml
    except Exception as error:
        found["error"] = str(error)
print(json.dumps(found))
"#;

pub(crate) struct Python {
    folder: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) manifest_file: &'static str,
    entry: PathBuf,
    /// Folder of the SDK, in which `src` and beside which the contract lie.
    sdk: PathBuf,
}

/// What [`PROBE`] prints.
#[derive(Deserialize)]
struct Probed {
    version: (u32, u32),
    venv: bool,
    #[serde(default)]
    plugin: Option<Said>,
    #[serde(default)]
    error: Option<String>,
}

/// What the manifest says of the plugin.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    asks: Vec<String>,
    #[serde(default = "usual_entry")]
    entry: PathBuf,
    #[serde(default = "usual_sdk")]
    sdk: PathBuf,
}

fn usual_entry() -> PathBuf {
    PathBuf::from("src/plugin.py")
}

fn usual_sdk() -> PathBuf {
    Path::new(bundle::FOLDER).join("plugin-python")
}

/// The file that says what Millstream wants to know, if there is one.
pub(super) fn manifest_file(folder: &Path) -> Option<&'static str> {
    let text = std::fs::read_to_string(folder.join("pyproject.toml")).unwrap_or_default();
    if text.lines().any(|line| line.trim() == "[tool.millstream]") {
        return Some("pyproject.toml");
    }
    folder.join("plugin.toml").is_file().then_some("plugin.toml")
}

impl Python {
    /// Reads the manifest and makes the virtual environment, unless it is there.
    pub(super) fn open(folder: &Path, offline: bool, console: &Console) -> Result<Self> {
        let manifest_file = manifest_file(folder).context("the folder holds a plugin in Python")?;
        let (python, said) = probe(&folder.join(manifest_file))?;
        let entry = folder.join(&said.entry);
        if !entry.is_file() {
            return Err(Problem::not_found(format!("the plugin's module {} does not exist", entry.display()))
                .help(format!("another one is named in {manifest_file}: entry = \"src/price.py\""))
                .into());
        }
        let sdk = folder.join(&said.sdk);
        if !sdk.join("src/millstream_plugin").is_dir() {
            return Err(Problem::not_found(format!("the SDK is not in {}", sdk.display()))
                .help(format!("its folder is named in {manifest_file}: sdk = \"{}\"", usual_sdk().display()))
                .into());
        }
        let requirements = Requirements::read(folder)?;
        let environment = Environment { folder, python, requirements };
        environment.prepare(offline, console)?;
        environment.write_paths(&[entry.parent().unwrap_or(folder), &sdk.join("src")])?;
        let version = environment.requirements.version_of("componentize-py").unwrap_or("?");
        let manifest = Manifest {
            name: said.name,
            version: said.version,
            description: said.description,
            outputs: said.outputs,
            asks: said.asks,
            sdk: format!("millstream-plugin-python {}, componentize-py {version}", sdk_version(&sdk)),
        };
        Ok(Python { folder: folder.to_path_buf(), manifest, manifest_file, entry, sdk })
    }

    pub(super) fn component_path(&self) -> PathBuf {
        self.dist().join(format!("{}.wasm", self.manifest.name))
    }

    pub(super) fn machine_code(&self) -> PathBuf {
        self.dist().join("machine-code")
    }

    /// The SDK, and sources that lie elsewhere than below `src`.
    pub(super) fn sources_elsewhere(&self) -> Vec<PathBuf> {
        let usual = self.folder.join("src");
        let mut found = BTreeMap::new();
        for folder in [self.sources(), self.sdk.join("src")] {
            read_tree(&folder, DEPTH_MAX, &mut found);
        }
        found.into_keys().filter(|path| !path.starts_with(&usual)).collect()
    }

    pub(super) fn build(&self, console: &Console) -> Result<Built> {
        let start = Instant::now();
        let key = self.key()?;
        let kept = Kept::new(&self.dist());
        let component = match kept.get(&key) {
            Some(component) => component,
            None => {
                let component = with_manifest(self.package(console)?, &self.manifest);
                kept.put(&key, &component).with_context(|| self.dist().display().to_string())?;
                component
            }
        };
        let path = self.component_path();
        write_whole(&path, &component).with_context(|| path.display().to_string())?;
        let Manifest { name, version, .. } = self.manifest.clone();
        Ok(Built { name, version, component, took: start.elapsed() })
    }

    /// The hash of all that goes into the component.
    fn key(&self) -> Result<String> {
        let mut key = Key::default();
        key.add("python");
        key.add(serde_json::to_vec(&self.manifest)?);
        for folder in [self.sources(), self.sdk.join("src")] {
            let mut files = BTreeMap::new();
            read_tree(&folder, DEPTH_MAX, &mut files);
            for (path, content) in files {
                key.add(path.strip_prefix(&folder).unwrap_or(&path).as_os_str().as_encoded_bytes());
                key.add(content);
            }
        }
        for file in [self.folder.join(REQUIREMENTS), self.contract().join("plugin.wit"), self.entry.clone()] {
            key.add(file.file_name().unwrap_or_default().as_encoded_bytes());
            key.add(std::fs::read(&file).with_context(|| file.display().to_string())?);
        }
        Ok(key.finish())
    }

    /// Puts the sources and an interpreter into a component.
    fn package(&self, console: &Console) -> Result<Vec<u8>> {
        let name = &self.manifest.name;
        let step = console.step("Packaging", &format!("{name} with a Python interpreter, which takes some seconds"));
        let wrapper = self.dist().join("wrapper");
        let module = self.entry.file_stem().unwrap_or_default().to_string_lossy();
        let code = format!(
            "import {module} as plugin\nfrom millstream_plugin.component import world\n\nWitWorld = world(plugin)\n"
        );
        let file = wrapper.join(WRAPPER).with_extension("py");
        write_whole(&file, code.as_bytes()).with_context(|| file.display().to_string())?;
        let component = self.dist().join("component.wasm");
        let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
        let environment = absolute(&self.folder.join(VENV))?;
        let mut command = Command::new(environment.join("bin/componentize-py"));
        command.arg("--wit-path").arg(absolute(&self.contract())?).args(["--world", "plugin", "componentize"]);
        // Nothing is imported but the contract: there are no clock, files and network.
        command.arg("--stub-wasi");
        for path in [wrapper, self.sources(), self.sdk.join("src")] {
            command.arg("--python-path").arg(absolute(&path)?);
        }
        // Where it looks for the plugin's packages.
        command.env("VIRTUAL_ENV", &environment).env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command.arg("--output").arg(absolute(&component)?).arg(WRAPPER).current_dir(&self.folder);
        let ran = program::run(&mut command)?;
        if !ran.success {
            drop(step);
            let sources = self.sources();
            explain(&ran.words(), &[(1, &sources), (2, &self.sdk.join("src"))])
                .lines()
                .for_each(|line| console.line(line));
            return Err(Shown(Exit::Failure).into());
        }
        let bytes_made = std::fs::read(&component).with_context(|| component.display().to_string())?;
        std::fs::remove_file(&component).ok();
        step.done("Packaged", &format!("{name}  {}", bytes(bytes_made.len() as u64)));
        Ok(bytes_made)
    }

    /// The folder of the plugin's modules.
    fn sources(&self) -> PathBuf {
        self.entry.parent().map_or_else(|| self.folder.clone(), Path::to_path_buf)
    }

    fn contract(&self) -> PathBuf {
        self.sdk.join("../wit")
    }

    fn dist(&self) -> PathBuf {
        self.folder.join(DIST)
    }
}

/// The packages a plugin is built with and uses.
struct Requirements {
    /// Name and version of those that are pinned.
    pinned: Vec<(String, String)>,
}

impl Requirements {
    fn read(folder: &Path) -> Result<Self> {
        let file = folder.join(REQUIREMENTS);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let requirements = Requirements { pinned: parse_requirements(&text) };
        if requirements.version_of("componentize-py").is_none() {
            return Err(Problem::refused(format!("{} does not pin componentize-py", file.display()))
                .help("a plugin is built with it: add the line componentize-py==0.25.1")
                .into());
        }
        Ok(requirements)
    }

    fn version_of(&self, name: &str) -> Option<&str> {
        self.pinned.iter().find(|(own, _)| own == name).map(|(_, version)| version.as_str())
    }
}

/// `name==version`, then whatever; names are compared in lower case with dashes.
fn parse_requirements(text: &str) -> Vec<(String, String)> {
    let pinned = |line: &str| {
        let (name, rest) = line.split_once("==")?;
        let version = rest.split([' ', ';', '\\', '\t']).next()?.trim();
        Some((name.trim().to_lowercase().replace(['_', '.'], "-"), version.to_owned()))
    };
    text.lines().filter(|line| !line.trim_start().starts_with(['#', '-'])).filter_map(pinned).collect()
}

/// The virtual environment of a plugin's folder.
struct Environment<'a> {
    folder: &'a Path,
    python: PathBuf,
    requirements: Requirements,
}

impl Environment<'_> {
    fn prepare(&self, offline: bool, console: &Console) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let folder = self.folder.display();
        let advice = format!("in {folder}: python3 -m venv {VENV} && {VENV}/bin/pip install -r {REQUIREMENTS}");
        if offline {
            return Err(Problem::failure(format!("the Python packages of {folder} are not installed"))
                .help(format!("with the network there, {advice}"))
                .into());
        }
        let step = console.step("Installing", &format!("the Python packages of {folder} into {VENV}"));
        let mut make = Command::new(&self.python);
        // Over one whose interpreter is gone too.
        make.args(["-m", "venv", "--clear", VENV]).current_dir(self.folder);
        let mut install = Command::new(std::path::absolute(self.folder.join(VENV).join("bin/python"))?);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]);
        install.current_dir(self.folder);
        for command in [&mut make, &mut install] {
            let ran = program::run(command)?;
            if !ran.success {
                drop(step);
                return Err(Problem::failure(format!(
                    "the Python packages of {folder} can't be installed:\n{}",
                    ran.words()
                ))
                .help(format!("once that is mended, {advice}"))
                .into());
            }
        }
        step.done("Installed", &format!("the Python packages of {folder} into {VENV}"));
        Ok(())
    }

    /// Whether what is pinned is there, by what pip leaves behind.
    fn is_there(&self) -> bool {
        let Some(packages) = self.site_packages() else { return false };
        let Ok(entries) = std::fs::read_dir(packages) else { return false };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let there: Vec<String> = names.map(|name| name.to_lowercase().replace(['_', '.'], "-")).collect();
        let installed = |name: &str, version: &str| {
            there.contains(&format!("{name}-{}-dist-info", version.to_lowercase().replace(['_', '.'], "-")))
        };
        let works = self.folder.join(VENV).join("bin/python").exists();
        works && self.requirements.pinned.iter().all(|(name, version)| installed(name, version))
    }

    fn site_packages(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join(VENV).join("lib")).ok()?;
        entries.filter_map(|entry| Some(entry.ok()?.path().join("site-packages"))).find(|path| path.is_dir())
    }

    /// Lets the environment's Python, and editors, find the plugin and the SDK.
    fn write_paths(&self, paths: &[&Path]) -> Result<()> {
        let Some(packages) = self.site_packages() else { return Ok(()) };
        let mut lines = String::new();
        for path in paths {
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            lines.push_str(&format!("{}\n", path.display()));
        }
        let file = packages.join("millstream.pth");
        if std::fs::read_to_string(&file).ok().as_deref() == Some(&lines) {
            return Ok(());
        }
        write_whole(&file, lines.as_bytes()).with_context(|| file.display().to_string())
    }
}

/// Finds Python and reads the manifest with it.
fn probe(manifest: &Path) -> Result<(PathBuf, Said)> {
    let (major, minor) = PYTHON_MIN;
    let advice = format!("install Python {major}.{minor} or newer from https://www.python.org, then try again");
    let python = program::find("python3").or_else(|| program::find("python")).ok_or_else(|| {
        Problem::failure("python3 is not installed, and a plugin in Python is built with it").help(&advice)
    })?;
    let ran = program::run(Command::new(&python).args(["-I", "-c", PROBE]).arg(manifest))?;
    if !ran.success {
        return Err(Problem::failure(format!("{} does not start:\n{}", python.display(), ran.words()))
            .help(advice)
            .into());
    }
    let probed: Probed = serde_json::from_str(&ran.stdout).map_err(|error| {
        let cause = error.to_string();
        let cause = cause.split(" at line ").next().unwrap_or_default();
        Problem::refused(format!("{}: {cause}", manifest.display()))
    })?;
    if probed.version < PYTHON_MIN {
        let (major, minor) = probed.version;
        return Err(Problem::failure(format!("Python {major}.{minor} is too old to build a plugin"))
            .help(advice)
            .into());
    }
    if !probed.venv {
        return Err(Problem::failure(format!("{} can't make virtual environments", python.display()))
            .help("install the module venv (on Debian and Ubuntu: apt install python3-venv), then try again")
            .into());
    }
    let plugin = probed.plugin.ok_or_else(|| {
        Problem::refused(format!("{}: {}", manifest.display(), probed.error.as_deref().unwrap_or("it can't be read")))
    })?;
    Ok((python, plugin))
}

/// Python's own words, without the way to them through the tool; `mounts` are the folders that the interpreter in
/// the component sees under a number.
fn explain(words: &str, mounts: &[(usize, &Path)]) -> String {
    let own = words.find("AssertionError: Traceback").map_or(words, |at| &words[at + "AssertionError: ".len()..]);
    let mut text = own.split("\n\nCaused by:").next().unwrap_or_default().trim().to_owned();
    for (number, folder) in mounts {
        text = text.replace(&format!("File \"/{number}/"), &format!("File \"{}/", folder.display()));
    }
    text
}

fn sdk_version(sdk: &Path) -> String {
    let text = std::fs::read_to_string(sdk.join("pyproject.toml")).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("version = "));
    version.map_or("?", |version| version.trim_matches('"')).to_owned()
}

/// Contents of all files below a folder, but for what Python and editors leave there.
fn read_tree(folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name == "__pycache__" || name.to_string_lossy().starts_with(['.', '#']) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => read_tree(&path, depth - 1, files),
            Ok(kind) if kind.is_file() => drop(std::fs::read(&path).map(|content| files.insert(path, content))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_requirements_are_read() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<(String, String)> = expected.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            assert_eq!(parse_requirements(text), expected, "{text}");
        };
        check("componentize-py==0.25.1 \\\n    --hash=sha256:ab==\n", &[("componentize-py", "0.25.1")]);
        check(
            "# a==1\nRuamel_Yaml.Clib==0.2; python_version > '3'\nloose>=1\n-r other\n",
            &[("ruamel-yaml-clib", "0.2")],
        );
    }

    #[test]
    fn pythons_words_name_the_users_files() {
        let said = "Traceback (most recent call last):\n  File \"/x/.venv/bin/componentize-py\", line 8, in <module>\n\
            AssertionError: Traceback (most recent call last):\n  File \"/0/millstream_component.py\", line 1\n  \
            File \"/1/plugin.py\", line 20\nSyntaxError: '{' was never closed\n\n\nCaused by:\n    SyntaxError\n";
        let expected = "Traceback (most recent call last):\n  File \"/0/millstream_component.py\", line 1\n  \
            File \"shop/src/plugin.py\", line 20\nSyntaxError: '{' was never closed";
        assert_eq!(explain(said, &[(1, Path::new("shop/src"))]), expected);
        assert_eq!(explain("error: no space left", &[]), "error: no space left");
    }

    #[test]
    fn sources_are_read_without_what_python_leaves() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.py", "deep/b.py", "__pycache__/a.pyc", ".hidden.py"] {
            write_whole(&dir.path().join(file), b"x").unwrap();
        }
        let mut files = BTreeMap::new();
        read_tree(dir.path(), DEPTH_MAX, &mut files);
        let names: Vec<_> =
            files.keys().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
        assert_eq!(names, ["a.py", "deep/b.py"]);
    }
}
