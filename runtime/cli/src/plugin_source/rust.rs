//! A plugin's crate on disk: what its manifest says, and building it with cargo into a component. Cargo's
//! own words reach the user unchanged.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_plugin_host::{Manifest, componentize};
use serde_json::Value;

use super::toolchain::{self, TARGET, no_cargo};
use super::{Built, Show, write_whole};
use crate::console::Console;
use crate::problem::{Exit, Problem, Shown};

/// A crate that becomes a plugin.
#[derive(Clone, Debug)]
pub(crate) struct PluginCrate {
    /// As the user named it.
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    package_id: String,
    /// Apart from the workspace's own builds, so that neither waits for or undoes the other.
    target_dir: PathBuf,
    /// Cargo may download nothing.
    offline: bool,
}

impl PluginCrate {
    /// Reads the crate in `folder` with `cargo metadata`, once what it is built with is there.
    ///
    /// # Errors
    /// No crate there, no cargo, no WebAssembly target, or a manifest that is not a plugin's.
    pub(crate) fn open(folder: &Path, offline: bool, console: &Console) -> Result<Self> {
        let manifest_path = folder.join("Cargo.toml");
        if !manifest_path.exists() {
            return Err(Problem::not_found(format!("there is no Cargo.toml in {}", folder.display()))
                .help("name a plugin's folder, or make one with `millstream new NAME`")
                .into());
        }
        let manifest_path = manifest_path.canonicalize().with_context(|| manifest_path.display().to_string())?;
        toolchain::prepare(folder, offline, console)?;
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest_path)
            .current_dir(folder)
            .output()
            .map_err(no_cargo)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(
                Problem::failure(format!("cargo can't read {}:\n{}", manifest_path.display(), words.trim())).into()
            );
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
        let package = find_package(&metadata, &manifest_path).ok_or_else(|| {
            Problem::refused(format!("{} holds no package", folder.display()))
                .help("name the folder of the plugin's own crate")
        })?;
        if !is_cdylib(package) {
            return Err(Problem::refused(format!("{} is not a plugin: it builds no cdylib", folder.display()))
                .help("add to its Cargo.toml: [lib] crate-type = [\"cdylib\", \"rlib\"]")
                .into());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<String>>();
        let own = &package["metadata"]["millstream"];
        let manifest = Manifest {
            name: text(&package["name"]),
            version: text(&package["version"]),
            description: text(&package["description"]),
            outputs: names(&own["outputs"]),
            asks: names(&own["asks"]),
            sdk: format!("millstream-plugin {}", sdk_version(package)),
        };
        let target_dir = guests_dir(&text(&metadata["target_directory"]), &text(&metadata["workspace_root"]));
        Ok(PluginCrate {
            folder: folder.to_path_buf(),
            manifest,
            package_id: text(&package["id"]),
            target_dir,
            offline,
        })
    }

    /// Where [`PluginCrate::build`]'s component is kept for the user.
    pub(crate) fn component_path(&self) -> PathBuf {
        self.target_dir.join(format!("{}.component.wasm", self.manifest.name))
    }

    /// The files outside of its folder that the last build read, by the compiler's own list: path
    /// dependencies, files that were included.
    pub(crate) fn sources_elsewhere(&self) -> Vec<PathBuf> {
        let rule = self.target_dir.join(TARGET).join("release").join(self.manifest.name.replace('-', "_") + ".d");
        let Ok(rule) = std::fs::read_to_string(rule) else { return Vec::new() };
        let inside = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let elsewhere = |source: &PathBuf| !source.starts_with(&inside) && !source.starts_with(&self.target_dir);
        sources_of(&rule).into_iter().filter(elsewhere).collect()
    }

    /// Builds the component. Blocks for as long as cargo takes.
    ///
    /// # Errors
    /// What cargo said was shown; [`Shown`] tells so.
    pub(crate) fn build(&self, console: &Console, show: Show) -> Result<Built> {
        let start = Instant::now();
        let module = self.cargo_build(console, show)?;
        let core = std::fs::read(&module).with_context(|| module.display().to_string())?;
        let component = componentize(&core, &self.manifest).map_err(|error| {
            Problem::failure(format!("{}: {error}", self.manifest.name))
                .help("a plugin is one function marked `#[transform]` of the crate millstream-plugin")
        })?;
        let path = self.component_path();
        write_whole(&path, &component).with_context(|| path.display().to_string())?;
        let Manifest { name, version, .. } = self.manifest.clone();
        Ok(Built { name, version, component, took: start.elapsed() })
    }

    fn cargo_build(&self, console: &Console, show: Show) -> Result<PathBuf> {
        let mut command = cargo();
        // In its own folder, whose toolchain and settings are meant.
        command
            .current_dir(&self.folder)
            .args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .args(self.offline.then_some("--offline"))
            .args(["--color", if console.is_coloured() { "always" } else { "never" }])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Names for the backtrace of a trap stay; line tables would treble the upload.
        for (key, value) in
            [("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"), ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")]
        {
            if std::env::var_os(key).is_none() {
                command.env(key, value);
            }
        }
        let mut child = command.spawn().map_err(no_cargo)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        // Both pipes are read at once: cargo stops when either is full.
        let package_id = self.package_id.clone();
        let messages = std::thread::spawn(move || find_module(BufReader::new(stdout), &package_id));
        let said = relay(console, show, &self.manifest.name, BufReader::new(stderr));
        let status = child.wait().context("cargo")?;
        let module = messages.join().expect("reading messages does not panic");
        match module {
            Some(module) if status.success() => Ok(module),
            _ => Err(explain(&said)),
        }
    }
}

/// The cargo that a user's shell would run; the one that runs us when there is none.
fn cargo() -> Command {
    let mut command = toolchain::program("cargo");
    // Cargo works in the plugin's folder; the user named this from where he is.
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR").and_then(|target| std::path::absolute(target).ok()) {
        command.env("CARGO_TARGET_DIR", target);
    }
    // What `cargo run` says about this program is not about the plugin.
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(|key| key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(key);
        }
    }
    command
}

/// Cargo gives a library for WebAssembly no hash in its file name, so crates of the same name in a target
/// folder that workspaces share (`CARGO_TARGET_DIR`) would pass for each other: each workspace has its own.
fn guests_dir(target: &str, workspace: &str) -> PathBuf {
    let target = Path::new(target);
    if target.starts_with(workspace) {
        return target.join("guests");
    }
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(workspace, &mut hasher);
    target.join(format!("guests-{:016x}", std::hash::Hasher::finish(&hasher)))
}

fn find_package<'a>(metadata: &'a Value, manifest_path: &Path) -> Option<&'a Value> {
    let packages = metadata["packages"].as_array()?;
    packages.iter().find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest_path))
}

fn is_cdylib(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| target["crate_types"].as_array().into_iter().flatten()).any(|kind| kind == "cdylib")
}

/// The version of the SDK that the package depends on by its path; this command's for one that it shares a
/// workspace with.
fn sdk_version(package: &Value) -> String {
    let mut dependencies = package["dependencies"].as_array().into_iter().flatten();
    let sdk = dependencies.find(|dependency| dependency["name"] == "millstream-plugin");
    let manifest = sdk.and_then(|sdk| sdk["path"].as_str()).map(|path| Path::new(path).join("Cargo.toml"));
    let text = manifest.and_then(|manifest| std::fs::read_to_string(manifest).ok()).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("version = "));
    version.map_or(env!("CARGO_PKG_VERSION"), |version| version.trim_matches('"')).to_owned()
}

/// The core module that the package's build made, from cargo's messages.
fn find_module(messages: impl BufRead, package_id: &str) -> Option<PathBuf> {
    let mut module = None;
    for line in messages.lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["reason"] != "compiler-artifact" || message["package_id"] != package_id {
            continue;
        }
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        module = files.map(PathBuf::from).find(|file| file.extension().is_some_and(|end| end == "wasm")).or(module);
    }
    module
}

/// How often a calm build says in a pipe what it is doing.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Passes cargo's stderr on; returns all of it.
fn relay(console: &Console, show: Show, name: &str, stderr: impl BufRead) -> String {
    let spinner = (show == Show::Calm && console.is_live()).then(|| console.spinner("Building", name));
    let mut said = String::new();
    let mut told = Instant::now();
    for line in stderr.lines().map_while(Result::ok) {
        let progress = is_progress(&line);
        match &spinner {
            Some(spinner) if progress => spinner.set_message(format!("{name}: {}", plain(&line).trim())),
            _ if show == Show::Calm && progress && told.elapsed() < TOLD_EVERY => {}
            _ if show == Show::Calm && progress && plain(&line).trim_start().starts_with("Finished") => {}
            _ => {
                told = Instant::now();
                console.line(&line);
            }
        }
        said.push_str(&line);
        said.push('\n');
    }
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    said
}

/// Cargo's own right-aligned lines, as opposed to the compiler's.
fn is_progress(line: &str) -> bool {
    let line = plain(line);
    let verb = line.split_whitespace().next().unwrap_or("");
    let indented = line.find(verb).unwrap_or(0) + verb.len() == 12;
    indented && verb.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Without escape sequences.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\x1b[") {
        text.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |end| end + 1);
        rest = &after[end..];
    }
    text + rest
}

/// The files behind the colon of a makefile's rule; a blank in a name is escaped there.
fn sources_of(rule: &str) -> Vec<PathBuf> {
    let sources = rule.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let sources = sources.replace("\\ ", "\0");
    sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " "))).collect()
}

fn explain(said: &str) -> anyhow::Error {
    let said = plain(said);
    if said.contains(&format!("`{TARGET}` target may not be installed")) {
        return toolchain::no_target(&format!("rustup target add {TARGET}"));
    }
    // The compiler's own words are above.
    Shown(Exit::Failure).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_told_from_the_compilers() {
        let check = |line: &str, expected: bool| assert_eq!(is_progress(line), expected, "{line}");
        check("   Compiling serde v1.0.229", true);
        check("\x1b[1m\x1b[92m   Compiling\x1b[0m serde v1.0.229", true);
        check("    Finished `release` profile [optimized] target(s) in 1.1s", true);
        check("error[E0308]: mismatched types", false);
        check("  --> src/lib.rs:9:5", false);
        check("warning: unused variable: `x`", false);
    }

    #[test]
    fn sources_are_read_from_a_rule() {
        let check = |rule: &str, expected: &[&str]| {
            assert_eq!(sources_of(rule), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        check("/t/shop.wasm: /p/src/lib.rs /my\\ sdk/lib.rs\n", &["/p/src/lib.rs", "/my sdk/lib.rs"]);
        check("", &[]);
    }

    #[test]
    fn a_missing_target_is_named() {
        let said = "error[E0463]: can't find crate for `core`\n  = note: the `wasm32-unknown-unknown` target may not be installed\n";
        let error = explain(said);
        let problem: &Problem = error.downcast_ref().unwrap();
        assert_eq!(problem.help.as_deref(), Some("rustup target add wasm32-unknown-unknown"));
        assert!(explain("error: expected `;`").downcast_ref::<Shown>().is_some());
    }
}
