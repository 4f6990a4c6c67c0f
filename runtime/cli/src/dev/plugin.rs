//! One plugin of the project: built on save, pushed when it came out different.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use millstream_protocol::message::PluginDescription;

use super::watch::Sources;
use crate::commands::plugin::{describe, upload};
use crate::connect::Server;
use crate::console::{Console, Tone};
use crate::format::short_digest;
use crate::plugin_source::{Built, PluginSource, Show};
use crate::problem::{Shown, explain};

pub(super) struct Plugin {
    /// Folder of its sources, or the component's file.
    root: PathBuf,
    /// Files outside of the folder that its last build read.
    elsewhere: Vec<PathBuf>,
    pushed: Option<PluginDescription>,
    /// Builds may download nothing.
    offline: bool,
}

/// What a build came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Other code than before is in the broker.
    Fresh,
    /// The same code as before.
    Same,
}

impl Plugin {
    pub(super) fn new(root: PathBuf, offline: bool) -> Self {
        Plugin { root, elsewhere: Vec::new(), pushed: None, offline }
    }

    pub(super) fn sources(&self) -> Sources {
        Sources { root: self.root.clone(), elsewhere: self.elsewhere.clone() }
    }

    /// The plugin's name; that of its folder as long as it was never built.
    pub(super) fn name(&self) -> String {
        let folder = || self.root.file_stem().map(|name| name.to_string_lossy().into_owned());
        self.pushed.as_ref().map(|plugin| plugin.name.clone()).or_else(folder).unwrap_or_else(|| "plugin".to_owned())
    }

    /// For messages: `parse-access-log@0.1.0  3f9a41c0  112 KiB, asks for nothing`.
    pub(super) fn description(&self) -> String {
        self.pushed.as_ref().map(describe).unwrap_or_default()
    }

    /// Builds and pushes. What was pushed before stays when either fails.
    ///
    /// # Errors
    /// [`Shown`] when the compiler has said it all; else no cargo, no target, a plugin the broker refuses.
    pub(super) async fn renew(&mut self, server: &Server, console: &Console) -> Result<Outcome> {
        let verb = if self.pushed.is_some() { "Rebuilding" } else { "Building" };
        let (root, offline, inner) = (self.root.clone(), self.offline, console.clone());
        let (built, elsewhere) = tokio::task::spawn_blocking(move || build(&root, offline, &inner)).await??;
        self.elsewhere = elsewhere;
        console.timed(verb, &built.name, built.took);
        let digest = millstream_plugin_host::digest(&built.component);
        if self.pushed.as_ref().is_some_and(|plugin| plugin.digest == digest && plugin.version == built.version) {
            console.verb("Unchanged", &self.label());
            return Ok(Outcome::Same);
        }
        let start = Instant::now();
        let ack = upload(server, &built, true, console).await?;
        let first = self.pushed.is_none();
        self.pushed = ack.plugin;
        if first {
            console.timed("Plugin", &self.description(), start.elapsed());
        }
        Ok(Outcome::Fresh)
    }

    /// Tells why [`Plugin::renew`] failed and what goes on running.
    pub(super) fn tell_failure(&self, error: &anyhow::Error, console: &Console) {
        if !error.is::<Shown>() {
            explain(console, error);
        }
        match self.pushed {
            Some(_) => console.toned(Tone::Warn, "Keeping", &self.label()),
            None => console.toned(Tone::Warn, "Waiting", &format!("{}  for a save that works", self.name())),
        }
    }

    fn label(&self) -> String {
        let digest = self.pushed.as_ref().map(|plugin| short_digest(&plugin.digest)).unwrap_or_default();
        format!("{} {digest}", self.name())
    }
}

/// Blocks for as long as the compiler takes.
fn build(root: &Path, offline: bool, console: &Console) -> Result<(Built, Vec<PathBuf>)> {
    let plugin = PluginSource::open(root, offline, console)?;
    let built = plugin.build(console, Show::Calm)?;
    Ok((built, plugin.sources_elsewhere()))
}
