//! For tests of this and other crates: builds the repository's own plugins as users build theirs, and
//! lends an engine. Behind the feature `testing`, never part of the program.

pub mod text;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::component::{Manifest, componentize};
use crate::engine::{Engine, EngineConfig};
use crate::plugin::Plugin;

/// The component of `plugins/NAME` of this repository. Built at first use (cargo decides whether anything
/// is to be done), offline, in a target folder of its own.
///
/// # Panics
/// When it does not build, with cargo's words.
pub fn component(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    component_of(&root.join("plugins").join(name))
}

/// The component of the plugin crate in `folder`.
///
/// # Panics
/// When it does not build, with cargo's words.
pub fn component_of(folder: &Path) -> Vec<u8> {
    static BUILT: OnceLock<Mutex<HashMap<PathBuf, Vec<u8>>>> = OnceLock::new();
    let folder = folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    // Held while cargo runs: tests of one process that need the same guest wait for it.
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(folder).or_insert_with_key(|folder| build(folder)).clone()
}

/// An engine without a disk cache, shared by the tests of a process.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let new = || Engine::new(EngineConfig::default()).expect("the machine lets tests reserve addresses");
    ENGINE.get_or_init(new).clone()
}

/// `plugins/NAME`, built and compiled.
///
/// # Panics
/// When it does not build.
pub fn plugin(name: &str) -> Arc<Plugin> {
    engine().compile(&component(name)).expect("the repository's plugins load")
}

fn build(folder: &Path) -> Vec<u8> {
    let target = target_dir();
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(folder).env("CARGO_TARGET_DIR", &target).env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo
    };
    let run = |command: &mut Command| {
        let output = command.output().expect("cargo is there, it runs the tests");
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let metadata = run(cargo().args(["metadata", "--offline", "--no-deps", "--format-version", "1"]));
    let manifest = manifest(&metadata, folder);
    run(cargo().args(["build", "--offline", "--release", "--target", "wasm32-unknown-unknown", "--lib"]));
    let file = format!("wasm32-unknown-unknown/release/{}.wasm", manifest.name.replace('-', "_"));
    let module = std::fs::read(target.join(file)).expect("cargo made the module");
    componentize(&module, &manifest).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// Beside the folder of the tests' own build, so that `cargo clean` removes it too.
fn target_dir() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("guests")
}

fn manifest(metadata: &[u8], folder: &Path) -> Manifest {
    let metadata: serde_json::Value = serde_json::from_slice(metadata).expect("cargo metadata is JSON");
    let path = folder.join("Cargo.toml");
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages
        .into_iter()
        .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(&path))
        .unwrap_or_else(|| panic!("{} is not a package", path.display()));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &serde_json::Value| value.as_array().into_iter().flatten().map(text).collect();
    let own = &package["metadata"]["millstream"];
    Manifest {
        name: text(&package["name"]),
        version: text(&package["version"]),
        description: text(&package["description"]),
        outputs: texts(&own["outputs"]),
        asks: texts(&own["asks"]),
        sdk: String::new(),
    }
}
