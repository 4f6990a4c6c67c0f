//! From a plugin's sources to the broker, whatever the language: what is missing is told before anything is done, what
//! takes long is told while it does, a name that is taken before the upload. No compiler of another language is needed
//! here: they are stood in for by scripts; `languages.rs` has the real ones.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use millstream_plugin_host::testing::text::{self, Guest};
use support::Server;

/// A folder with plugins, and a PATH that holds nothing but what a test puts there.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("bin")).unwrap();
        place.write(
            "js/package.json",
            r#"{ "name": "shop", "version": "0.1.0", "millstream": {}, "dependencies": { "esbuild": "1" } }"#,
        );
        place.write("js/src/plugin.js", "");
        place.write("js/fixtures/a.yaml", "cases: []");
        place.write("py/pyproject.toml", "[project]\nname = \"shop\"\n[tool.millstream]\nsdk = \"sdk\"\n");
        place.write("py/src/plugin.py", "");
        place.write("py/sdk/src/millstream_plugin/__init__.py", "");
        place.write("py/requirements.txt", "componentize-py==0.25.1\n");
        place.write("py/fixtures/a.yaml", "cases: []");
        place
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A program of this name, which is a shell script.
    fn program(&self, name: &str, script: &str) {
        let file = format!("bin/{name}");
        self.write(&file, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn millstream(&self, args: &[&str]) -> Output {
        let mut command = Command::new(support::binary());
        command.args(args).current_dir(self.dir.path()).env("PATH", self.path("bin")).stdin(Stdio::null());
        command.env("MILLSTREAM_CONFIG_DIR", self.path("config")).env("MILLSTREAM_HTTP", "127.0.0.1:0");
        command.env_remove("MILLSTREAM_PROFILE").env_remove("MILLSTREAM_SERVER").output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs commands over a plugin's folder; all of them must say the same two sentences and nothing else.
fn check(programs: &[(&str, &str)], folder: &str, offline: bool, cause: &str, help: &str) {
    let place = Place::new();
    programs.iter().for_each(|(name, script)| place.program(name, script));
    place.write("dev/millstream.yaml", format!("version: 1\nproject: p\nplugins: [../{folder}]\n"));
    for command in [&["plugin", "build"][..], &["plugin", "test"], &["plugin", "bench"], &["plugin", "push"], &["dev"]]
    {
        let folder = if command == ["dev"] { "dev" } else { folder };
        let mut args = [command, &[folder]].concat();
        args.extend(offline.then_some("--offline"));
        let output = place.millstream(&args);
        let said = said(&output);
        assert!(!output.status.success(), "{args:?}");
        // One sentence of cause, one of what to do.
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{args:?}: {said}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(cause), "{args:?}: {said}");
        assert!(lines[1].starts_with("  help: ") && lines[1].contains(help), "{args:?}: {said}");
        assert!(!place.path("dev/.millstream").exists(), "no broker was started");
    }
}

const NODE: (&str, &str) = ("node", "echo v20.20.2");
/// Says what the real one would of `py/pyproject.toml`.
const PYTHON: (&str, &str) =
    ("python3", r#"echo '{"version": [3, 12], "venv": true, "plugin": {"name": "shop", "sdk": "sdk"}}'"#);

#[test]
fn missing_tools_are_told_before_anything_is_done() {
    check(&[], "js", false, "node is not installed, and a plugin in JavaScript", "install Node.js 20.6 or newer");
    check(&[("node", "echo v18.19.0")], "js", false, "node v18.19.0 is too old", "install Node.js 20.6 or newer");
    check(&[NODE], "js", false, "npm is not installed, and the packages", "it comes with Node.js");
    check(&[NODE], "js", true, "the npm packages of", "npm install");
    check(&[], "py", false, "python3 is not installed, and a plugin in Python", "install Python 3.11 or newer");
    check(
        &[("python3", r#"echo '{"version": [3, 9], "venv": true}'"#)],
        "py",
        false,
        "Python 3.9 is too old",
        "3.11 or newer",
    );
    check(
        &[("python3", r#"echo '{"version": [3, 12], "venv": false}'"#)],
        "py",
        false,
        "can't make virtual environments",
        "python3-venv",
    );
    check(&[PYTHON], "py", true, "the Python packages of", "-m venv .venv");
}

#[test]
fn what_npm_and_pip_say_is_passed_on() {
    let place = Place::new();
    place.program("node", "echo v22.1.0");
    place.program("npm", "echo 'npm error code EUSAGE' >&2; exit 1");
    let output = place.millstream(&["plugin", "build", "js"]);
    let words = said(&output);
    assert!(words.contains("Installing  the npm packages of js"), "{words}");
    assert!(words.contains("npm can't install the packages of js:\nnpm error code EUSAGE"), "{words}");
    assert!(words.contains("help: once that is mended, in js: npm install"), "{words}");

    place.program("python3", &format!("{}\n", r#"case "$2" in venv) echo 'no space left' >&2; exit 1;; esac; echo '{"version": [3, 12], "venv": true, "plugin": {"name": "shop", "sdk": "sdk"}}'"#));
    let words = said(&place.millstream(&["plugin", "build", "py"]));
    assert!(words.contains("Installing  the Python packages of py into .venv"), "{words}");
    assert!(words.contains("the Python packages of py can't be installed:\nno space left"), "{words}");
}

/// A component that takes every machine a while to compile, by its number of functions.
fn slow_to_compile() -> Vec<u8> {
    use std::fmt::Write as _;
    let mut extra = String::new();
    for i in 0..12_000 {
        write!(extra, "(func (param i64 i64) (result i64) (local i64) ").unwrap();
        for j in 0..12 {
            write!(extra, "(local.set 2 (i64.mul (i64.xor (local.get 0) (i64.const {})) (i64.rotl (local.get {}) (local.get 1))))", i * 31 + j, j % 3).unwrap();
        }
        extra.push_str("(local.get 2))");
    }
    text::component(&Guest { extra: &extra, ..Guest::default() })
}

#[test]
fn a_long_compilation_is_told_in_a_pipe_too() {
    let place = Place::new();
    place.write("slow/test.wasm", slow_to_compile());
    place.write("slow/fixtures/a.yaml", "cases: [{ name: as it came, input: [{ value: a }], output: [{ value: a }] }]");
    let output = place.millstream(&["plugin", "test", "slow/test.wasm"]);
    let words = said(&output);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("   Compiling  test@0.1.0  ") && words.contains("    Compiled  test@0.1.0  "), "{words}");

    let server = Server::start();
    let push = || server.command(&["plugin", "push"]).arg(place.path("slow/test.wasm")).output().unwrap();
    let words = said(&push());
    let at = |what: &str| words.find(what).unwrap_or_else(|| panic!("no {what:?} in {words}"));
    assert!(at("   Compiling  test@0.1.0  ") < at("    Compiled  test@0.1.0  "), "{words}");
    assert!(at("    Compiled") < at("Pushed  test@0.1.0"), "{words}");
    // What is there is not even sent.
    let words = said(&push());
    assert!(words.contains("Exists  test@0.1.0") && !words.contains("Compiling"), "{words}");
}

#[test]
fn a_name_that_is_taken_is_told_before_the_upload() {
    let place = Place::new();
    let first = text::component(&Guest::default());
    let other = text::component(&Guest { extra: "(func)", ..Guest::default() });
    place.write("first.wasm", &first);
    place.write("other.wasm", &other);
    let server = Server::start();
    let push = |file: &str, more: &[&str]| {
        let output = server.command(&["plugin", "push"]).arg(place.path(file)).args(more).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    assert_eq!(push("first.wasm", &[]).0, 0);
    let (code, words) = push("first.wasm", &[]);
    assert!(code == 0 && words.contains("Exists  test@0.1.0"), "{words}");

    // The digest of what is there can only be known by having asked.
    let there = server.json(&["plugin", "list"])[0]["digest"].as_str().unwrap()[..8].to_owned();
    let (code, words) = push("other.wasm", &[]);
    assert_eq!(code, 4, "{words}");
    assert!(
        words.contains(&format!("`test@0.1.0` exists with other contents ({there}): raise the version")),
        "{words}"
    );
    assert!(words.contains("--replace"), "{words}");
    assert!(!words.contains("Uploading") && !server.log().contains(&place.path("other.wasm").display().to_string()));

    assert_eq!(push("other.wasm", &["--name", "own", "--plugin-version", "2.0.0"]).0, 0);
    let (code, words) = push("first.wasm", &["--name", "own", "--plugin-version", "2.0.0"]);
    assert!(code == 4 && words.contains("`own@2.0.0` exists with other contents"), "{words}");
    let (code, words) = push("other.wasm", &["--replace"]);
    assert!(code == 0 && words.contains("Pushed  test@0.1.0"), "{words}");
}

#[test]
fn a_file_and_a_folder_are_named_alike() {
    let place = Place::new();
    place.write("plugin/dist/test.wasm", text::component(&Guest::default()));
    place.write("plugin/fixtures/a.yaml", "cases: [{ name: near, input: [{ value: a }], output: [{ value: a }] }]");
    place.write("far/b.yaml", "cases: [{ name: far, input: [{ value: b }], output: [{ value: b }] }]");
    place.write("elsewhere/test.wasm", text::component(&Guest::default()));
    let check = |args: &[&str], code: i32, expected: &str| {
        let output = place.millstream(args);
        let all = format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
        assert!(all.contains(expected), "{args:?}: {all}");
    };
    check(&["plugin", "test", "plugin/dist/test.wasm"], 0, "Passed  a.yaml: near");
    check(&["plugin", "test", "plugin/dist/test.wasm", "--fixtures", "far"], 0, "Passed  b.yaml: far");
    check(&["plugin", "bench", "plugin/dist/test.wasm", "--seconds", "0.01"], 0, "test@0.1.0   near");
    check(&["plugin", "inspect", "plugin/dist/test.wasm"], 0, "test@0.1.0");
    check(&["plugin", "test", "elsewhere/test.wasm"], 3, "--fixtures");
    check(&["plugin", "test", "plugin/dist/none.wasm", "--fixtures", "far"], 3, "there is no plugin/dist/none.wasm");
    check(&["plugin", "test", "plugin"], 3, "there is no plugin in plugin");
    check(&["plugin", "test", "js/package.json", "--fixtures", "far"], 4, "js/package.json: ");
    // Not a plugin's package, and two plugins in one folder.
    place.write("plain/package.json", "{}");
    check(&["plugin", "build", "plain"], 4, "says nothing of a plugin");
    place.write("js/plugin.toml", "");
    check(&["plugin", "build", "js"], 4, "more than one plugin: package.json and plugin.toml");
}

/// With node and python in place, what is wrong with the folder is said in its own words.
#[test]
fn mistakes_in_a_folder_are_told() {
    let place = Place::new();
    place.program(NODE.0, NODE.1);
    place.program(PYTHON.0, PYTHON.1);
    fs::create_dir_all(place.path("js/node_modules/esbuild")).unwrap();
    let check = |folder: &str, expected: &[&str]| {
        let output = place.millstream(&["plugin", "build", folder]);
        let words = said(&output);
        assert!(!output.status.success());
        expected.iter().for_each(|expected| assert!(words.contains(expected), "{folder}: {expected:?} not in {words}"));
    };
    check("js", &["does not depend on millstream-plugin", "help: "]);
    fs::remove_file(place.path("js/src/plugin.js")).unwrap();
    check("js", &["the plugin's module src/plugin.ts or src/plugin.js", "\"entry\""]);
    fs::remove_file(place.path("py/requirements.txt")).unwrap();
    check("py", &["requirements.txt does not pin componentize-py", "componentize-py=="]);
    fs::remove_dir_all(place.path("py/sdk")).unwrap();
    check("py", &["the SDK is not in py/sdk", "sdk = "]);
    fs::remove_file(place.path("py/src/plugin.py")).unwrap();
    check("py", &["the plugin's module py/src/plugin.py does not exist", "entry = "]);
    place.program(
        "python3",
        r#"echo '{"version": [3, 12], "venv": true, "error": "Expected = after a key (at line 1, column 5)"}'"#,
    );
    check("py", &["py/pyproject.toml: Expected = after a key (at line 1, column 5)"]);
    // A name that leads nowhere is no program.
    fs::remove_file(place.path("bin/node")).unwrap();
    symlink("gone", place.path("bin/node")).unwrap();
    check("js", &["node is not installed"]);
}
