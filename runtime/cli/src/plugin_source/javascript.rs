//! A plugin in JavaScript or TypeScript: package.json with a section `millstream`, sources below `src`. Node.js runs
//! the SDK's `tools/build.mjs`: esbuild makes one file of the sources, which is cheap and tells whether anything
//! changed; componentize-js puts it and an engine into a component, which takes seconds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use millstream_plugin_host::{Manifest, with_manifest};
use serde_json::Value;

use super::cached::{Kept, Key};
use super::program::{self, Ran};
use super::{Built, DIST, write_whole};
use crate::console::Console;
use crate::format::bytes;
use crate::problem::Problem;

/// Older ones lack what the tests of a plugin in TypeScript need (`module.register`).
const NODE_MIN: (u32, u32) = (20, 6);
const COMPONENTIZE: &str = "@bytecodealliance/componentize-js";

pub(crate) struct JavaScript {
    folder: PathBuf,
    pub(super) manifest: Manifest,
    entry: PathBuf,
    node: PathBuf,
    /// The SDK's build script, among the plugin's packages.
    script: PathBuf,
}

/// Whether the folder's package.json speaks of a plugin.
pub(super) fn is_plugin(folder: &Path) -> bool {
    read_json(&folder.join("package.json")).is_some_and(|package| package["millstream"].is_object())
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl JavaScript {
    pub(super) fn open(folder: &Path, offline: bool, console: &Console) -> Result<Self> {
        let node = prepare(folder, offline, console)?;
        let package = read_json(&folder.join("package.json")).context("package.json is no JSON")?;
        let own = &package["millstream"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<String>>();
        let entry = entry(folder, own["entry"].as_str())?;
        let script = folder.join("node_modules/millstream-plugin/tools/build.mjs");
        if !script.is_file() {
            return Err(Problem::refused(format!("{} does not depend on millstream-plugin", folder.display()))
                .help("make a project with `millstream new NAME --lang typescript` and see its package.json")
                .into());
        }
        let version_of = |package: &str| {
            let package = read_json(&folder.join("node_modules").join(package).join("package.json"));
            package.map_or_else(|| "?".to_owned(), |package| text(&package["version"]))
        };
        let sdk = format!(
            "millstream-plugin-js {}, componentize-js {}",
            version_of("millstream-plugin"),
            version_of(COMPONENTIZE)
        );
        let name = own["name"].as_str().or(package["name"].as_str()).unwrap_or_default().to_owned();
        let manifest = Manifest {
            name,
            version: text(&package["version"]),
            description: text(&package["description"]),
            outputs: names(&own["outputs"]),
            asks: names(&own["asks"]),
            sdk,
        };
        Ok(JavaScript { folder: folder.to_path_buf(), manifest, entry, node, script })
    }

    pub(super) fn component_path(&self) -> PathBuf {
        self.dist().join(format!("{}.wasm", self.manifest.name))
    }

    pub(super) fn machine_code(&self) -> PathBuf {
        self.dist().join("machine-code")
    }

    /// By the bundler's own list, without what npm installed.
    pub(super) fn sources_elsewhere(&self) -> Vec<PathBuf> {
        let inputs = read_json(&self.inputs_file()).unwrap_or_default();
        let inputs = inputs["inputs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
        let sources = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone()).join("src");
        let is_package = |input: &Path| input.components().any(|part| part.as_os_str() == "node_modules");
        inputs.filter(|input| !input.starts_with(&sources) && !is_package(input)).collect()
    }

    pub(super) fn build(&self, console: &Console) -> Result<Built> {
        let start = Instant::now();
        let bundle = self.bundle(console)?;
        let mut key = Key::default();
        key.add("javascript");
        key.add(std::fs::read(&bundle).with_context(|| bundle.display().to_string())?);
        key.add(std::fs::read(&self.script).with_context(|| self.script.display().to_string())?);
        // Its version is among what the manifest says of the SDK.
        key.add(serde_json::to_vec(&self.manifest)?);
        let key = key.finish();
        let kept = Kept::new(&self.dist());
        let component = match kept.get(&key) {
            Some(component) => component,
            None => {
                let component = with_manifest(self.package(&bundle, console)?, &self.manifest);
                kept.put(&key, &component).with_context(|| self.dist().display().to_string())?;
                component
            }
        };
        let path = self.component_path();
        write_whole(&path, &component).with_context(|| path.display().to_string())?;
        let Manifest { name, version, .. } = self.manifest.clone();
        Ok(Built { name, version, component, took: start.elapsed() })
    }

    /// Makes one file of the sources.
    fn bundle(&self, console: &Console) -> Result<PathBuf> {
        let bundle = self.dist().join("bundle.js");
        let ran = self.run_script("bundle", &self.entry, &bundle, console)?;
        if !ran.success {
            return Err(ran.shown(console));
        }
        // Warnings.
        ran.stderr.lines().for_each(|line| console.line(line));
        let inputs = self.inputs_file();
        write_whole(&inputs, ran.stdout.as_bytes()).with_context(|| inputs.display().to_string())?;
        Ok(bundle)
    }

    /// Puts the bundle and an engine into a component.
    fn package(&self, bundle: &Path, console: &Console) -> Result<Vec<u8>> {
        let name = &self.manifest.name;
        let step = console.step("Packaging", &format!("{name} with a JavaScript engine, which takes some seconds"));
        let file = self.dist().join("component.wasm");
        let ran = self.run_script("component", bundle, &file, console)?;
        if !ran.success {
            drop(step);
            return Err(ran.shown(console));
        }
        let component = std::fs::read(&file).with_context(|| file.display().to_string())?;
        std::fs::remove_file(&file).ok();
        step.done("Packaged", &format!("{name}  {}", bytes(component.len() as u64)));
        Ok(component)
    }

    fn run_script(&self, step: &str, from: &Path, to: &Path, console: &Console) -> Result<Ran> {
        let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
        std::fs::create_dir_all(self.dist()).with_context(|| self.dist().display().to_string())?;
        let mut command = Command::new(&self.node);
        command
            .arg(absolute(&self.script)?)
            .arg(step)
            .arg(absolute(from)?)
            .arg(absolute(to)?)
            .current_dir(&self.folder);
        match console.is_coloured() {
            true => command.env("FORCE_COLOR", "1").env_remove("NO_COLOR"),
            false => command.env_remove("FORCE_COLOR").env("NO_COLOR", "1"),
        };
        program::run(&mut command)
    }

    fn inputs_file(&self) -> PathBuf {
        self.dist().join("bundle.json")
    }

    fn dist(&self) -> PathBuf {
        self.folder.join(DIST)
    }
}

/// Finds Node.js, and installs the plugin's packages unless they are there; gives the program.
pub(super) fn prepare(folder: &Path, offline: bool, console: &Console) -> Result<PathBuf> {
    let node = find_node()?;
    if packages_are_there(folder) {
        return Ok(node);
    }
    let has_lock = folder.join("package-lock.json").is_file();
    let command = if has_lock { "ci" } else { "install" };
    let advice = format!("in {}: npm {command}", folder.display());
    if offline {
        return Err(Problem::failure(format!("the npm packages of {} are not installed", folder.display()))
            .help(format!("with the network there, {advice}"))
            .into());
    }
    let npm = program::find("npm").ok_or_else(|| {
        Problem::failure("npm is not installed, and the packages that this plugin is built with come by it")
            .help("install it (it comes with Node.js from https://nodejs.org), then try again")
    })?;
    let step = console.step("Installing", &format!("the npm packages of {}", folder.display()));
    let mut install = Command::new(npm);
    install.args([command, "--no-audit", "--no-fund", "--loglevel", "error"]).current_dir(folder);
    let ran = program::run(&mut install)?;
    if !ran.success {
        drop(step);
        return Err(Problem::failure(format!(
            "npm can't install the packages of {}:\n{}",
            folder.display(),
            ran.words()
        ))
        .help(format!("once that is mended, {advice}"))
        .into());
    }
    step.done("Installed", &format!("the npm packages of {}", folder.display()));
    Ok(node)
}

fn find_node() -> Result<PathBuf> {
    let (major, minor) = NODE_MIN;
    let advice = format!("install Node.js {major}.{minor} or newer from https://nodejs.org, then try again");
    let node = program::find("node").ok_or_else(|| {
        Problem::failure("node is not installed, and a plugin in JavaScript is built with it").help(&advice)
    })?;
    let ran = program::run(Command::new(&node).arg("--version"))?;
    let said = ran.stdout.trim();
    match parse_version(said) {
        Some(version) if version >= NODE_MIN => Ok(node),
        _ => Err(Problem::failure(format!(
            "node {} is too old to build a plugin in JavaScript",
            if said.is_empty() { "(of an unknown version)" } else { said }
        ))
        .help(advice)
        .into()),
    }
}

/// `v20.20.2`
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether everything of the lock file is in node_modules, by npm's own list of what it put there.
fn packages_are_there(folder: &Path) -> bool {
    let modules = folder.join("node_modules");
    let Some(lock) = read_json(&folder.join("package-lock.json")) else {
        // Without one only the names can be compared.
        let package = read_json(&folder.join("package.json")).unwrap_or_default();
        let named =
            ["dependencies", "devDependencies"].map(|kind| package[kind].as_object().cloned().unwrap_or_default());
        return named.iter().flat_map(|names| names.keys()).all(|name| modules.join(name).exists());
    };
    let installed = read_json(&modules.join(".package-lock.json")).unwrap_or_default();
    let mut wanted = lock["packages"].as_object().into_iter().flatten();
    wanted.all(|(path, package)| {
        let is_package = path.starts_with("node_modules/") || path.contains("/node_modules/");
        let is_there = match package["link"] == true {
            true => folder.join(path).exists(),
            false => installed["packages"][path]["version"] == package["version"],
        };
        !is_package || package["optional"] == true || is_there
    })
}

/// The module that exports the plugin.
fn entry(folder: &Path, named: Option<&str>) -> Result<PathBuf> {
    let usual = ["src/plugin.ts", "src/plugin.js", "src/plugin.mjs"];
    let candidates: Vec<&str> = named.map_or_else(|| usual.to_vec(), |named| vec![named]);
    let found = candidates.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    Ok(found.ok_or_else(|| {
        Problem::not_found(format!("the plugin's module {} is not in {}", candidates.join(" or "), folder.display()))
            .help("another one is named in package.json: \"millstream\": { \"entry\": \"src/price.ts\" }")
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        let check = |text: &str, expected: Option<(u32, u32)>| assert_eq!(parse_version(text), expected, "{text}");
        check("v20.20.2", Some((20, 20)));
        check("v22.0.0-nightly", Some((22, 0)));
        check("20.1.0", None);
        check("", None);
    }

    #[test]
    fn packages_are_there_when_all_of_the_lock_file_are() {
        let lock = r#"{ "packages": { "": {}, "../sdk": { "version": "0.1.0" },
            "node_modules/a": { "version": "1.0.0" }, "node_modules/b": { "version": "2.0.0", "optional": true },
            "node_modules/a/node_modules/c": { "version": "3.0.0" }, "node_modules/sdk": { "resolved": "../sdk", "link": true } } }"#;
        let check = |installed: &str, linked: bool, expected: bool| {
            let dir = tempfile::tempdir().unwrap();
            let modules = dir.path().join("node_modules");
            std::fs::create_dir(&modules).unwrap();
            std::fs::write(dir.path().join("package-lock.json"), lock).unwrap();
            std::fs::write(modules.join(".package-lock.json"), installed).unwrap();
            if linked {
                std::fs::create_dir(modules.join("sdk")).unwrap();
            }
            assert_eq!(packages_are_there(dir.path()), expected, "{installed}");
        };
        let both = |a: &str| {
            format!(
                r#"{{ "packages": {{ "node_modules/a": {{ "version": "{a}" }}, "node_modules/a/node_modules/c": {{ "version": "3.0.0" }} }} }}"#
            )
        };
        check(&both("1.0.0"), true, true);
        check(&both("1.0.0"), false, false);
        check(&both("1.0.1"), true, false);
        check(r#"{ "packages": { "node_modules/a": { "version": "1.0.0" } } }"#, true, false);
        check("", true, false);
    }
}
