//! Programs that a plugin is built with: finding them, and running them with their words kept for whoever needs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::console::Console;
use crate::problem::{Exit, Shown};

/// What a program said.
pub(super) struct Ran {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) success: bool,
}

/// The program of this name that a shell would run.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end, without input.
pub(super) fn run(command: &mut Command) -> Result<Ran> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), success: output.status.success() })
}

impl Ran {
    /// What it said of why it failed, as people read it.
    pub(super) fn words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        said.trim().to_owned()
    }

    /// Shows what a compiler said, and is the error for it: there is nothing to add.
    pub(super) fn shown(&self, console: &Console) -> anyhow::Error {
        self.words().lines().for_each(|line| console.line(line));
        Shown(Exit::Failure).into()
    }
}
