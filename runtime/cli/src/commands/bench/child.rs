//! Processes of this same program that a measurement needs: the broker, the bare other end. They are killed
//! when their handle goes, and their folder is deleted by whoever made it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::problem::Problem;

/// How long a process may take until it is ready; recovery of nothing takes milliseconds.
const READY_TIME: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// A process that ends with its handle.
pub(super) struct Own {
    child: Child,
    what: &'static str,
    words: PathBuf,
}

impl Own {
    /// Starts this program with other arguments; what it says on stderr goes to a file in `folder`.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(what: &'static str, folder: &Path, arguments: &[&str]) -> Result<Own> {
        let program = std::env::current_exe().context("this program's own file is unknown")?;
        let words = folder.join(format!("{what}.stderr"));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&words)?);
        // Settings of the user's own broker are not this one's.
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_") && name != "MILLSTREAM_LOG")
        {
            command.env_remove(name);
        }
        let child = command.spawn().with_context(|| format!("the {what} can't be started"))?;
        Ok(Own { child, what, words })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has written `file`, whole: it must appear under its name at once.
    ///
    /// # Errors
    /// The process ended instead, with its words.
    pub(super) async fn wait_for(&mut self, file: &Path) -> Result<()> {
        let start = Instant::now();
        while !file.exists() {
            if let Some(status) = self.child.try_wait()? {
                let words = std::fs::read_to_string(&self.words).unwrap_or_default();
                return Err(Problem::failure(format!("the {} ended ({status}): {}", self.what, words.trim())).into());
            }
            if start.elapsed() > READY_TIME {
                return Err(Problem::failure(format!("the {} does not get ready", self.what)).into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Own {
    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    /// It says that it failed.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Problem::failure(format!("the {} ended: {status}", self.what)).into()),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that did not exist before and does not exist after.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// # Errors
    /// It exists already, or can't be made.
    pub(super) fn create(path: &Path) -> Result<Folder> {
        if path.exists() {
            return Err(Problem::refused(format!("{} exists already", path.display()))
                .help("delete what an earlier run left, or name another folder with --data-dir")
                .into());
        }
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        Ok(Folder(path.canonicalize()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be deleted is seen by the next run.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
