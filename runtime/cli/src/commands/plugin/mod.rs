//! `plugin`: from source to a component in the cluster.

mod bench;
mod build;
mod delete;
mod inspect;
mod list;
mod push;
mod test;
mod update_sdk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use millstream_plugin_host::{Engine, EngineConfig, Plugin};

use crate::args::Context;
use crate::bundle;
use crate::console::Console;
use crate::fixtures::{self, Fixture};
use crate::format::bytes;
use crate::plugin_source::{Built, PluginSource, prune};
use crate::problem::Problem;
pub(crate) use push::{describe, upload};

/// What takes longer than this is told: nothing is silent for more than a second.
const QUIET: Duration = Duration::from_millis(500);
/// Files of machine code that are kept beside a plugin; each has some 30 MB.
const MACHINE_CODE_KEPT: usize = 2;

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

/// A plugin to be built: the current folder by default.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// A plugin's folder, or a component's file
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    pub(crate) plugin: PathBuf,
    /// Download nothing: build with the packages and tools that are here
    #[arg(long)]
    pub(crate) offline: bool,
}

impl SourceArgs {
    /// The plugin, ready to be built.
    fn open(&self, console: &Console) -> Result<PluginSource> {
        let source = PluginSource::open(&self.plugin, self.offline, console)?;
        if self.plugin.is_dir() {
            bundle::tell_age(&self.plugin, console)?;
        }
        Ok(source)
    }
}

/// Where the records are that a plugin is tried with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FixtureArgs {
    /// Folder of the fixtures [default: `fixtures` in the plugin's folder, or nearest above a component's file]
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
}

impl FixtureArgs {
    fn load(&self, plugin: &Path) -> Result<Vec<(PathBuf, Fixture)>> {
        if let Some(folder) = &self.fixtures {
            return fixtures::load(folder);
        }
        if !plugin.is_file() {
            return fixtures::load(&plugin.join("fixtures"));
        }
        let whole = std::path::absolute(plugin)?;
        let found = whole.ancestors().skip(1).map(|folder| folder.join("fixtures")).find(|folder| folder.is_dir());
        let found = found.ok_or_else(|| {
            Problem::not_found(format!("there is no folder `fixtures` beside or above {}", plugin.display()))
                .help("name it with --fixtures DIR")
        })?;
        fixtures::load(&bundle::shown(&found))
    }
}

/// Compiles a component on this machine, for few instances; tells when that takes long.
fn compile(source: &PluginSource, built: &Built, console: &Console) -> Result<Arc<Plugin>> {
    let machine_code = source.machine_code();
    let config = EngineConfig { cache_dir: machine_code.clone(), instances_max: 8, ..EngineConfig::default() };
    let engine = Engine::new(config)?;
    let plugin = std::thread::scope(|scope| {
        let compiling = scope.spawn(|| engine.compile(&built.component));
        let begun = Instant::now();
        while !compiling.is_finished() && begun.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(5));
        }
        let step = (!compiling.is_finished()).then(|| console.step("Compiling", &about_to_compile(built)));
        let plugin = compiling.join().expect("compiling does not panic");
        if let Some(step) = step
            && plugin.is_ok()
        {
            step.done("Compiled", &label(built));
        }
        plugin
    })?;
    if let Some(folder) = machine_code {
        prune(&folder, MACHINE_CODE_KEPT).with_context(|| folder.display().to_string())?;
    }
    Ok(plugin)
}

fn label(built: &Built) -> String {
    format!("{}@{}", built.name, built.version)
}

/// `celsius@0.1.0  11.7 MiB, which takes a while once`
fn about_to_compile(built: &Built) -> String {
    format!("{}  {}, which takes a while once", label(built), bytes(built.component.len() as u64))
}
