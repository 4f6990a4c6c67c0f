//! Plugins are built on a machine whose rustup lacks what they need: a rustup home of links to the real
//! toolchain without the WebAssembly target, the real rustup in front of it, and a stand-in for the one call
//! that would download, which notes its words and links the target in.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::shell;

const TARGET: &str = "wasm32-unknown-unknown";

/// A machine with rustup, and with or without a toolchain.
struct Machine {
    dir: tempfile::TempDir,
    rustup: PathBuf,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Machine {
    /// None, with a word, where the tests themselves run without rustup.
    fn new(with_toolchain: bool) -> Option<Machine> {
        let Some(rustup) = find_on_path("rustup") else {
            eprintln!("SKIPPED: there is no rustup on PATH, so none to lack a target");
            return None;
        };
        // Beside the build's own files: links work within one file system.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let machine = Machine { dir, rustup };
        machine.write_rustup();
        fs::create_dir_all(machine.home().join("toolchains")).unwrap();
        if with_toolchain {
            shell(&machine.link_toolchain());
        }
        machine.millstream(&["new", "shop", "--offline"]);
        Some(machine)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn home(&self) -> PathBuf {
        self.path("rustup-home")
    }

    fn own_toolchain(&self) -> PathBuf {
        let channel = fs::read_to_string(support::workspace().join("rust-toolchain.toml")).unwrap();
        let channel = channel.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
        let host = shell("rustc -vV | sed -n 's/^host: //p'");
        self.home().join("toolchains").join(format!("{channel}-{}", host.trim()))
    }

    /// A script that makes the toolchain without the target, and leaves the documentation out. Links of the
    /// files, not of the folders: rustc finds its libraries beside its own real file.
    fn link_toolchain(&self) -> String {
        let real = shell("rustc --print sysroot");
        let (from, to) = (real.trim(), self.own_toolchain());
        let to = to.display();
        format!(
            "mkdir -p '{to}/lib/rustlib' && cd '{from}' && cp -aL --link bin '{to}/' 2>/dev/null || cp -aL bin '{to}/'; \
             cd '{from}/lib' && for it in $(ls | grep -v '^rustlib$'); do \
             cp -a --link $it '{to}/lib/' 2>/dev/null || cp -a $it '{to}/lib/'; done; \
             cd rustlib && for it in $(ls | grep -v {TARGET}); do ln -s \"$PWD/$it\" '{to}/lib/rustlib/'; done"
        )
    }

    /// The real rustup, but for its calls that would download.
    fn write_rustup(&self) {
        let real = shell("rustc --print sysroot");
        let script = format!(
            "#!/usr/bin/env bash\n\
             case \"$1 $2\" in\n\
             'target add' | 'toolchain install') echo \"$*\" >> '{calls}' ;;\n\
             *) exec '{rustup}' \"$@\" ;;\n\
             esac\n\
             [ ! -e '{broken}' ] || {{ echo 'error: could not download file' >&2; exit 1; }}\n\
             [ \"$1\" = target ] || {{ {link}; }}\n\
             ln -s '{from}/lib/rustlib/{TARGET}' '{to}/lib/rustlib/'\n",
            calls = self.path("calls").display(),
            broken = self.path("no-network").display(),
            rustup = self.rustup.display(),
            link = self.link_toolchain(),
            from = real.trim(),
            to = self.own_toolchain().display(),
        );
        let file = self.path("bin/rustup");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the stand-in was asked for.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let path = std::env::var_os("PATH").unwrap();
        let path = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("RUSTUP_HOME", self.home())
            .env("RUSTUP_AUTO_INSTALL", "0")
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("MILLSTREAM_CONFIG_DIR", self.path("config"))
            .env("MILLSTREAM_HTTP", "127.0.0.1:0")
            .stdin(Stdio::null());
        // What the cargo that runs this test says of its own toolchain.
        for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "CARGO", "RUSTC", "MILLSTREAM_PROFILE", "MILLSTREAM_SERVER"]
        {
            command.env_remove(name);
        }
        command
    }

    fn millstream(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `dev` on the project until it has handled the sample.
    fn dev(&self, more: &[&str]) -> Output {
        self.millstream(&[&["dev", "shop", "--once", "--quic", "127.0.0.1:0"], more].concat())
    }
}

fn check(output: &Output, exit: i32, says: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    says.iter().for_each(|words| assert!(said.contains(words), "{words:?} is not in:\n{said}"));
}

fn place(said: &str, words: &str) -> usize {
    said.find(words).unwrap_or_else(|| panic!("{words:?} is not in:\n{said}"))
}

#[test]
fn dev_installs_the_missing_target_and_says_so_first() {
    let Some(machine) = Machine::new(true) else { return };
    let output = machine.dev(&[]);
    check(&output, 0, &[]);
    let said = text(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("Installing")).collect();
    let [line] = lines[..] else { panic!("one line should tell it:\n{said}") };
    assert!(line.starts_with(&format!("  Installing  target {TARGET} for ")), "{line}");
    assert!(place(&said, "Installing") < place(&said, "Broker"), "{said}");
    assert_eq!(machine.calls(), [format!("target add {TARGET}")]);
    assert!(text(&output.stdout).contains("priced/"), "{}", text(&output.stdout));

    // Once is enough.
    let output = machine.millstream(&["plugin", "test", "shop"]);
    check(&output, 0, &["Passed"]);
    assert_eq!(machine.calls().len(), 1);
}

#[test]
fn offline_the_missing_target_is_told_before_anything_is_built() {
    let Some(machine) = Machine::new(true) else { return };
    let sentence = format!("error: the Rust target {TARGET} is not installed\n  help: rustup target add {TARGET}");
    let check = |args: &[&str]| {
        check(&machine.millstream(args), 1, &[&sentence]);
        assert!(!machine.path("target").exists(), "{args:?} built something");
        assert!(!machine.path("shop/.millstream").exists(), "{args:?} started a broker");
    };
    check(&["dev", "shop", "--once", "--offline", "--quic", "127.0.0.1:0"]);
    for command in ["build", "test", "bench", "push"] {
        check(&["plugin", command, "shop", "--offline"]);
    }
    assert_eq!(machine.calls(), [""; 0]);
    // A project can be made all the same.
    let output = machine.millstream(&["new", "second", "--offline"]);
    self::check(&output, 0, &["Created", &format!("warning: the Rust target {TARGET} is not installed")]);
    assert!(machine.path("second/sdk/plugin/src/lib.rs").exists());
}

#[test]
fn a_download_that_fails_is_told_in_rustups_words() {
    let Some(machine) = Machine::new(true) else { return };
    fs::write(machine.path("no-network"), "").unwrap();
    check(&machine.dev(&[]), 1, &["could not download file", &format!("rustup target add {TARGET}")]);
    assert!(!machine.path("target").exists(), "nothing is built");
    check(&machine.millstream(&["new", "second"]), 0, &["Created", "warning: ", "could not download file"]);
    fs::remove_file(machine.path("no-network")).unwrap();
    check(&machine.millstream(&["new", "third"]), 0, &["Created", "Installing  target"]);
}

#[test]
fn a_missing_toolchain_is_installed_too() {
    let Some(machine) = Machine::new(false) else { return };
    check(
        &machine.millstream(&["plugin", "build", "shop", "--offline"]),
        1,
        &["is not there", "rustup toolchain install"],
    );
    assert_eq!(machine.calls(), [""; 0]);
    check(&machine.millstream(&["plugin", "build", "shop"]), 0, &["Installing  Rust ", "Component  shop@0.1.0"]);
    assert_eq!(machine.calls(), ["toolchain install --no-self-update"]);
}

#[test]
fn a_rust_without_rustup_is_told_what_is_missing() {
    let Some(machine) = Machine::new(true) else { return };
    let tools = machine.own_toolchain().join("bin");
    let path = std::env::join_paths([tools.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    if Path::new("/usr/bin/rustup").exists() {
        eprintln!("SKIPPED: rustup is in /usr/bin");
        return;
    }
    let output = machine.command(&["plugin", "build", "shop"]).env("PATH", path).output().unwrap();
    check(
        &output,
        1,
        &[&format!("the Rust target {TARGET} is not installed"), "help: install Rust from https://rustup.rs"],
    );
    let output = machine.command(&["plugin", "build", "shop"]).env("PATH", machine.path("nothing")).output().unwrap();
    check(&output, 1, &["cargo is not installed", "https://rustup.rs"]);
}
