//! What a Rust plugin is built with: the toolchain that its folder asks for, with the WebAssembly target.
//! Whatever builds a plugin asks here first; what is missing is installed by rustup, or told before a
//! compiler runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::console::Console;
use crate::problem::Problem;

/// What plugins are compiled to.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// What the compiler of a folder says.
enum Found {
    Ready,
    NoTarget {
        sysroot: PathBuf,
    },
    /// It does not start: rustup has not got the toolchain that the folder asks for. With rustup's words.
    NoToolchain(String),
}

/// Sees to it that the plugin in `folder` can be built. A folder without a Cargo.toml needs nothing.
///
/// # Errors
/// The toolchain or the target is missing, and `offline`, a Rust without rustup, or rustup keep it so.
pub(crate) fn prepare(folder: &Path, offline: bool, console: &Console) -> Result<()> {
    if !folder.join("Cargo.toml").is_file() {
        return Ok(());
    }
    if let Found::NoToolchain(words) = look(folder)? {
        if offline || !has_rustup() {
            return Err(Problem::failure(format!("the Rust toolchain of {} is not there: {words}", folder.display()))
                .help(format!("in {}: rustup toolchain install", folder.display()))
                .into());
        }
        install(folder, &["toolchain", "install", "--no-self-update"], &toolchain_wanted(folder), console)?;
    }
    let sysroot = match look(folder)? {
        Found::Ready => return Ok(()),
        Found::NoToolchain(words) => {
            return Err(Problem::failure(format!("the compiler of {} does not start: {words}", folder.display()))
                .help("see `rustup show` in that folder")
                .into());
        }
        Found::NoTarget { sysroot } => sysroot,
    };
    if !has_rustup() {
        return Err(no_target(&format!("install Rust from https://rustup.rs, then: rustup target add {TARGET}")));
    }
    if !is_rustups(folder, &sysroot) {
        let advice = format!(
            "{} is not rustup's: install the target from where it came, or put rustup's cargo first on PATH",
            sysroot.display()
        );
        return Err(no_target(&advice));
    }
    let name = sysroot.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if offline {
        let elsewhere = look(Path::new(".")).is_ok_and(|here| !here.is_of(&sysroot));
        let toolchain = if elsewhere { format!(" --toolchain {name}") } else { String::new() };
        return Err(no_target(&format!("rustup target add {TARGET}{toolchain}")));
    }
    install(folder, &["target", "add", TARGET], &format!("target {TARGET} for {name}"), console)?;
    match look(folder)? {
        Found::Ready => Ok(()),
        _ => Err(no_target(&format!("rustup said that it is; see what it has: rustup target list --toolchain {name}"))),
    }
}

impl Found {
    /// Whether the compiler that was found is the one of `sysroot`, without the target.
    fn is_of(&self, sysroot: &Path) -> bool {
        matches!(self, Found::NoTarget { sysroot: own } if own == sysroot)
    }
}

/// The sentence for a target that stays missing.
pub(crate) fn no_target(help: &str) -> anyhow::Error {
    Problem::failure(format!("the Rust target {TARGET} is not installed")).help(help).into()
}

/// For when neither cargo nor a compiler can be started.
pub(crate) fn no_cargo(error: std::io::Error) -> anyhow::Error {
    let problem = match error.kind() {
        std::io::ErrorKind::NotFound => Problem::failure("cargo is not installed, and a plugin is built with it")
            .help("install Rust from https://rustup.rs, then try again"),
        _ => Problem::failure(format!("cargo can't be started: {error}")),
    };
    problem.into()
}

/// A program of the toolchain that a user's shell would run; the one beside the cargo that runs us when
/// there is none.
pub(crate) fn program(name: &str) -> Command {
    match std::env::var_os("CARGO") {
        Some(own) if !is_on_path(name) => Command::new(Path::new(&own).with_file_name(name)),
        _ => Command::new(name),
    }
}

/// Asks the compiler that cargo would run in `folder`; one call, so that a build waits for it for
/// hundredths of a second.
fn look(folder: &Path) -> Result<Found> {
    let mut command = match std::env::var_os("RUSTC") {
        Some(own) => Command::new(own),
        None => program("rustc"),
    };
    command.args(["--print", "sysroot", "--print", "target-libdir", "--target", TARGET]);
    let output = in_folder(&mut command, folder).output().map_err(no_cargo)?;
    if !output.status.success() {
        return Ok(Found::NoToolchain(words(&output.stderr)));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut lines = printed.lines().map(PathBuf::from);
    let (sysroot, libraries) = lines.next().zip(lines.next()).context("rustc printed no sysroot")?;
    let filled = std::fs::read_dir(&libraries).is_ok_and(|mut files| files.next().is_some());
    Ok(if filled { Found::Ready } else { Found::NoTarget { sysroot } })
}

fn in_folder<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    // What has to be installed is told first, here; and rustup's words are for people.
    command.current_dir(folder).env("RUSTUP_AUTO_INSTALL", "0").env("RUST_BACKTRACE", "0").stdin(Stdio::null())
}

/// Whether rustup would install into this toolchain: another may come first on PATH, or in `RUSTC`.
fn is_rustups(folder: &Path, sysroot: &Path) -> bool {
    let mut command = Command::new("rustup");
    let Ok(output) = in_folder(command.args(["which", "rustc"]), folder).output() else { return false };
    let own = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let real = |path: &Path| path.canonicalize().ok();
    output.status.success() && real(&own).is_some_and(|own| real(&sysroot.join("bin/rustc")) == Some(own))
}

/// What the folder asks for, as well as it can be told of a toolchain that is not there.
fn toolchain_wanted(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let named = std::env::var("RUSTUP_TOOLCHAIN").ok().or_else(|| {
        let file = whole.ancestors().map(|above| above.join("rust-toolchain.toml")).find(|file| file.is_file())?;
        let text = std::fs::read_to_string(file).ok()?;
        let channel = text.lines().find_map(|line| line.trim().strip_prefix("channel"))?;
        Some(channel.trim_matches(|c: char| " =\"'".contains(c)).to_owned())
    });
    named.map_or_else(|| "the Rust toolchain".to_owned(), |name| format!("Rust {name}"))
}

/// Runs rustup in the plugin's folder; its words are shown if it fails.
fn install(folder: &Path, args: &[&str], what: &str, console: &Console) -> Result<()> {
    let (start, spinner) = (Instant::now(), console.is_live().then(|| console.spinner("Installing", what)));
    if spinner.is_none() {
        console.verb("Installing", &format!("{what}, by rustup"));
    }
    let output = in_folder(Command::new("rustup").args(args), folder).output();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let output = output.context("rustup")?;
    if output.status.success() {
        if console.is_live() {
            console.timed("Installed", what, start.elapsed());
        }
        return Ok(());
    }
    Err(Problem::failure(format!("rustup can't install {what}:\n{}", words(&output.stderr)))
        .help(format!("once that is mended, in {}: rustup {}", folder.display(), args.join(" ")))
        .into())
}

/// What a program said, without its word `error` and the lines that tell of progress.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(str::trim_end).filter(|line| !line.starts_with("info: ") && !line.is_empty());
    lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn has_rustup() -> bool {
    is_on_path("rustup")
}

fn is_on_path(name: &str) -> bool {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustups_words_are_for_people() {
        let said = "info: syncing channel updates\nerror: toolchain '1.95.0' is not installed\nhelp: run it\n\n";
        assert_eq!(words(said.as_bytes()), "toolchain '1.95.0' is not installed\nhelp: run it");
    }

    #[test]
    fn the_toolchain_of_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("plugins/shop");
        std::fs::create_dir_all(&plugin).unwrap();
        std::fs::write(dir.path().join("rust-toolchain.toml"), "[toolchain]\nchannel = \"1.95.0\"\n").unwrap();
        let expected = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
        assert_eq!(toolchain_wanted(&plugin), format!("Rust {expected}"));
    }
}
