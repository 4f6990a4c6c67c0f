//! `plugin`: from source to a component in the cluster.

mod bench;
mod build;
mod delete;
mod inspect;
mod list;
mod push;
mod test;
mod update_sdk;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use millstream_plugin_host::{Engine, EngineConfig};

use crate::args::Context;
use crate::bundle;
use crate::console::Console;
use crate::plugin_crate::PluginCrate;
pub(crate) use push::{describe, read_component, upload};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a plugin's crate into a component
    Build(build::Args),
    /// Run the real component against the records in fixtures/
    Test(test::Args),
    /// Measure what a plugin costs per record
    Bench(bench::Args),
    /// Build and upload a plugin
    Push(push::Args),
    /// List uploaded plugins
    List(list::Args),
    /// Show what a component is: name, outputs, imports
    Inspect(inspect::Args),
    /// Delete a version of a plugin
    Delete(delete::Args),
    /// Bring a project's copy of the SDK to this command's version
    UpdateSdk(update_sdk::Args),
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Build(args) => build::run(&args, context),
        Command::Test(args) => test::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Push(args) => push::run(args, context),
        Command::List(args) => list::run(args, context),
        Command::Inspect(args) => inspect::run(args, context),
        Command::Delete(args) => delete::run(args, context),
        Command::UpdateSdk(args) => update_sdk::run(&args, context),
    }
}

/// A folder with a plugin's crate, the current one by default, that is to be built.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// The plugin's folder
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Download nothing: build with the crates and the WebAssembly target that are here
    #[arg(long)]
    pub(crate) offline: bool,
}

impl FolderArgs {
    /// The crate, ready to be built.
    fn open(&self, console: &Console) -> Result<PluginCrate> {
        let plugin = PluginCrate::open(&self.folder, self.offline, console)?;
        bundle::tell_age(&self.folder, console)?;
        Ok(plugin)
    }
}

/// An engine for one component on this machine, few instances, nothing kept on disk.
fn local_engine() -> Result<Engine> {
    let config = EngineConfig { cache_dir: None, instances_max: 8, ..EngineConfig::default() };
    Ok(Engine::new(config)?)
}
