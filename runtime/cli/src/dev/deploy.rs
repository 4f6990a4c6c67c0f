//! The project's plugins and pipelines in the broker: brought there at the start, kept up with the files
//! after. A part that fails is told and keeps what it had; the others go on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use millstream_protocol::message::{CreateTopic, TopicConfig};

use super::pipeline::{Applied, Pipeline};
use super::plugin::{Outcome, Plugin};
use super::watch::{Change, Layout};
use crate::connect::Server;
use crate::console::Console;
use crate::format::plural;
use crate::manifest::Project;
use crate::problem::Shown;

pub(super) struct Deployment {
    server: Server,
    console: Console,
    plugins: Vec<Plugin>,
    pipelines: Vec<Pipeline>,
    /// Parts that do not work as saved; `--once` is not content then.
    broken: BTreeSet<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Its place in the manifest.
    Plugin(usize),
    Pipeline(PathBuf),
}

impl Deployment {
    pub(super) fn new(project: &Project, offline: bool, server: Server, console: Console) -> Self {
        let plugin = |path: &PathBuf| Plugin::new(project.path(path), offline);
        let plugins = project.manifest.plugins.iter().map(plugin).collect();
        Deployment { server, console, plugins, pipelines: Vec::new(), broken: BTreeSet::new() }
    }

    /// Brings everything into the broker.
    ///
    /// # Errors
    /// What no save can cure: no cargo, no target, a plugin's folder that is none.
    pub(super) async fn start(&mut self, project: &Project) -> Result<()> {
        for (i, plugin) in self.plugins.iter_mut().enumerate() {
            match plugin.renew(&self.server, &self.console).await {
                Err(error) if error.is::<Shown>() => {
                    plugin.tell_failure(&error, &self.console);
                    self.broken.insert(Part::Plugin(i));
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        self.apply_all(project, &[], true).await.map(drop)
    }

    /// Catches up with saved files; whether a pipeline runs other code now.
    ///
    /// # Errors
    /// The pipelines' folder can't be read.
    pub(super) async fn update(&mut self, project: &Project, changes: &BTreeSet<Change>) -> Result<bool> {
        let mut fresh = Vec::new();
        let mut again = false;
        for (i, plugin) in self.plugins.iter_mut().enumerate() {
            if !changes.contains(&Change::Plugin(i)) {
                continue;
            }
            match plugin.renew(&self.server, &self.console).await {
                Ok(outcome) => {
                    // A pipeline may have waited for it.
                    again |= self.broken.remove(&Part::Plugin(i));
                    if outcome == Outcome::Fresh {
                        fresh.push(plugin.name());
                    }
                }
                Err(error) => {
                    plugin.tell_failure(&error, &self.console);
                    self.broken.insert(Part::Plugin(i));
                }
            }
        }
        if again || !fresh.is_empty() || changes.iter().any(|change| !matches!(change, Change::Plugin(_))) {
            return self.apply_all(project, &fresh, false).await;
        }
        Ok(false)
    }

    /// Applies the pipelines that are new, changed, do not run yet, or use one of the `fresh` plugins; whether one of
    /// them runs other code now.
    async fn apply_all(&mut self, project: &Project, fresh: &[String], anew: bool) -> Result<bool> {
        let files = project.pipeline_files()?;
        for gone in self.pipelines.extract_if(.., |pipeline| !files.contains(&pipeline.file)) {
            gone.tell_gone(&self.console);
            self.broken.remove(&Part::Pipeline(gone.file));
        }
        for file in files {
            if !self.pipelines.iter().any(|pipeline| pipeline.file == file) {
                self.pipelines.push(Pipeline::new(file));
            }
        }
        let (mut swapped, mut changed) = (Vec::new(), false);
        for pipeline in &mut self.pipelines {
            let part = Part::Pipeline(pipeline.file.clone());
            match pipeline.apply(&self.server, &self.console, anew || pipeline.uses(fresh)).await {
                Ok(Applied { told, swapped: plugins }) => {
                    changed |= told;
                    swapped.extend(plugins);
                    if self.broken.remove(&part) && !told {
                        // As it was before the mistake, so nothing else is told.
                        pipeline.tell_mended(&self.console);
                    }
                }
                Err(error) => {
                    pipeline.tell_failure(&error, &self.console);
                    self.broken.insert(part);
                }
            }
        }
        for plugin in &self.plugins {
            // Nothing runs it: say at least that it is there.
            if fresh.contains(&plugin.name()) && !swapped.contains(&plugin.name()) {
                self.console.verb("Plugin", &plugin.description());
            }
        }
        Ok(changed)
    }

    pub(super) fn layout(&self, project: &Project) -> Layout {
        Layout { project: project.clone(), plugins: self.plugins.iter().map(Plugin::sources).collect() }
    }

    /// Names of the pipelines that run.
    pub(super) fn pipeline_names(&self) -> BTreeSet<String> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.name().map(str::to_owned)).collect()
    }

    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }
}

/// Creates the topics that are not there yet, and tells all of them.
///
/// # Errors
/// The broker refuses one.
pub(super) async fn create_topics(project: &Project, server: &Server, console: &Console, only_new: bool) -> Result<()> {
    let mut told = Vec::new();
    for (name, topic) in &project.manifest.topics {
        let request = CreateTopic {
            name: name.clone(),
            partitions: topic.partitions,
            config: TopicConfig::default(),
            if_not_exists: true,
        };
        let ack = server.call(request).await?;
        if ack.partitions != topic.partitions {
            let has = plural(u64::from(ack.partitions), "partition");
            console.warn(&format!(
                "{name} has {has}, not {}: delete the data folder to begin again, or see millstream topic alter",
                topic.partitions
            ));
        }
        if ack.created || !only_new {
            let partitions =
                if ack.partitions == 1 { String::new() } else { format!(" ({} partitions)", ack.partitions) };
            told.push(format!("{name}{partitions}"));
        }
    }
    if !told.is_empty() {
        console.verb("Topics", &told.join(", "));
    }
    Ok(())
}
