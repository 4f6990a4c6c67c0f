//! Projects of people who have nothing but the installed command: no checkout, no settings, an empty home.
//! A project holds all that it needs, and follows a newer command when it is told to.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A machine to which only the command was copied.
struct Place {
    dir: tempfile::TempDir,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.path("bin")).unwrap();
        fs::copy(support::binary(), place.path("bin/millstream")).unwrap();
        fs::create_dir_all(place.path("cargo")).unwrap();
        // Crates that were fetched before; nothing of cargo's own settings.
        symlink(cargo_home().join("registry"), place.path("cargo/registry")).unwrap();
        place
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "RUSTUP_TOOLCHAIN"] {
            std::env::var_os(name).map(|value| command.env(name, value));
        }
        let rustup = std::env::var_os("RUSTUP_HOME").map_or_else(|| home().join(".rustup"), PathBuf::from);
        command
            .env("RUSTUP_HOME", rustup)
            .env("HOME", self.path("home"))
            .env("CARGO_HOME", self.path("cargo"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("MILLSTREAM_HTTP", "127.0.0.1:0");
        command
    }

    fn millstream(&self, args: &[&str]) -> Output {
        self.command(self.path("bin/millstream"), args).output().unwrap()
    }

    fn check(&self, args: &[&str], exit: i32, says: &[&str]) -> String {
        let output = self.millstream(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {said}");
        says.iter().for_each(|words| assert!(said.contains(words), "{args:?}: {words:?} is not in:\n{said}"));
        said
    }
}

fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap())
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_project_is_made_built_and_run_where_no_checkout_exists() {
    let place = Place::new();
    place.check(&["new", "alone"], 0, &["Created  alone"]);
    let checkout = support::workspace();
    let (checkout, here) = (checkout.to_str().unwrap(), place.dir.path().to_str().unwrap());
    for file in files(&place.path("alone")) {
        let content = text(&fs::read(&file).unwrap());
        for path in [checkout, here] {
            assert!(!content.contains(path), "{} names {path}", file.display());
        }
    }
    // Moved as a clone on another machine would be, before it is built for the first time.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::rename(place.path("alone"), place.path("elsewhere/alone")).unwrap();
    let project = place.path("elsewhere/alone").canonicalize().unwrap();

    // The lock file is whole as it was written: the versions that the SDK is tested with.
    let args = ["metadata", "--format-version", "1", "--locked"];
    let output = place.command("cargo", &args).current_dir(&project).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lock = fs::read_to_string(support::workspace().join("Cargo.lock")).unwrap();
    let mut own = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        if package["source"].is_null() {
            let manifest = package["manifest_path"].as_str().unwrap();
            assert!(Path::new(manifest).starts_with(&project), "{name} is read from {manifest}");
            own.push(name);
        } else {
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name} {version}");
        }
    }
    own.sort_unstable();
    assert_eq!(own, ["alone", "millstream-plugin", "millstream-plugin-macro"]);

    // People who vendor their crates, too: cargo takes away what else lies in `vendor`.
    let output = place.command("cargo", &["vendor", "--locked"]).current_dir(&project).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(project.join("vendor/serde").is_dir() && project.join("sdk/plugin/src/lib.rs").is_file());

    let folder = project.to_str().unwrap();
    let output = place.millstream(&["dev", folder, "--once", "--quic", "127.0.0.1:0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("priced/"), "{}", text(&output.stdout));
    place.check(&["plugin", "test", folder], 0, &["Passed"]);
    let output = place.command("cargo", &["test", "--quiet", "--locked"]).current_dir(&project).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_copy_of_the_sdk_follows_a_newer_command() {
    let place = Place::new();
    place.check(&["new", "old-shop"], 0, &[]);
    let version = env!("CARGO_PKG_VERSION");
    place.check(&["plugin", "update-sdk", "old-shop"], 0, &["Unchanged  old-shop/sdk"]);

    let list = place.path("old-shop/sdk/rust.sha256");
    let say_version = |it: &str| {
        let text = fs::read_to_string(&list).unwrap();
        let (_, rest) = text.split_once(':').unwrap();
        fs::write(&list, format!("# millstream {it}:{rest}")).unwrap();
    };
    say_version("0.0.9");
    let told = format!("SDK  old-shop/sdk is 0.0.9, this command has {version}");
    let said = place.check(&["plugin", "build", "old-shop"], 0, &[&told, "`millstream plugin update-sdk`"]);
    assert_eq!(said.matches("update-sdk").count(), 1, "{said}");
    place.check(&["dev", "old-shop", "--once", "--quic", "127.0.0.1:0"], 0, &[&told]);

    // A change made by hand is not lost by the way.
    let source = place.path("old-shop/sdk/plugin/src/record.rs");
    let own = fs::read_to_string(&source).unwrap() + "// of my own\n";
    fs::write(&source, &own).unwrap();
    place.check(&["plugin", "update-sdk", "old-shop"], 4, &["plugin/src/record.rs", "was changed by hand", "--force"]);
    assert_eq!(fs::read_to_string(&source).unwrap(), own);
    place.check(&["plugin", "update-sdk", "old-shop/src", "--force"], 0, &[&format!("0.0.9 -> {version}")]);
    assert!(!fs::read_to_string(&source).unwrap().contains("of my own"));
    let said = place.check(&["plugin", "test", "old-shop"], 0, &["Passed"]);
    assert!(!said.contains("update-sdk"), "{said}");

    say_version("99.0.0");
    place.check(&["plugin", "build", "old-shop"], 0, &["99.0.0, newer than this command"]);
    place.check(&["plugin", "update-sdk", "old-shop"], 4, &["newer than this command", "--force"]);
    place.check(&["plugin", "update-sdk"], 3, &["there is no copy of the SDK in ."]);
}

#[test]
fn a_developer_of_the_sdk_uses_the_checkout() {
    let place = Place::new();
    let sdk = support::workspace().canonicalize().unwrap();
    place.check(&["new", "linked", "--sdk", sdk.to_str().unwrap()], 0, &[]);
    let manifest = fs::read_to_string(place.path("linked/Cargo.toml")).unwrap();
    assert!(manifest.contains(sdk.join("sdk/plugin").to_str().unwrap()), "{manifest}");
    assert!(!place.path("linked/sdk").exists());
    place.check(&["new", "other", "--sdk", "nowhere"], 3, &["the plugin SDK is not in nowhere"]);
    let args = ["metadata", "--format-version", "1", "--locked"];
    let output = place.command("cargo", &args).current_dir(place.path("linked")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}
