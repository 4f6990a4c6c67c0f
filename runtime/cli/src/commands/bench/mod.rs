//! `bench`: what this machine does with Millstream, and beside it what it does without: every measurement
//! alternates with a bare reference that moves the same bytes. `scenes` has a file per measurement, `rounds`
//! the turns, `peer` and `bare` the two ends of the references, `report` what is printed.

mod args;
mod bare;
mod broker;
mod child;
mod growth;
mod kept;
mod late;
mod measure;
mod pace;
mod peer;
mod report;
mod rounds;
mod scenes;
mod values;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;

use crate::args::Context;
use crate::commands::block_on;
use crate::console::Console;
use crate::problem::Problem;
use crate::table::Format;
pub(crate) use args::Args;
use args::{Load, What};
use bare::Bare;
use broker::Broker;
use child::Folder;
use growth::Growth;
use report::Machine;
use rounds::Scene;
use values::Values;

/// What every scene can reach. The processes are started when the first one needs them.
struct Stage<'a> {
    args: &'a Args,
    load: Load,
    values: Arc<Values>,
    console: Console,
    bar: ProgressBar,
    broker: Option<Broker>,
    bare: Option<Bare>,
    /// Deleted last.
    folder: Folder,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    if args.what == What::Peer {
        return peer::serve(&args.data_dir);
    }
    let machine = Machine::here();
    if !machine.optimised {
        context.console.warn("this is a debug build: its figures say nothing; build with --release");
    }
    let played = block_on(async {
        tokio::select! {
            played = bench(&args, context) => played,
            // Whatever is running is dropped, processes and folder with it.
            _ = tokio::signal::ctrl_c() => Err(Problem::failure("interrupted").into()),
        }
    })?;
    match context.format {
        Format::Json => report::print_as_json(&machine, &played),
        Format::Table => report::print(&machine, &played),
    }
}

/// What was measured.
struct Played {
    scenes: Vec<Scene>,
    grown: Vec<Growth>,
}

async fn bench(args: &Args, context: &Context) -> Result<Played> {
    let mut load = args.load();
    let values = values(args, &mut load)?;
    let mut stage = Stage {
        args,
        values: Arc::new(values),
        load,
        console: context.console.clone(),
        bar: context.console.spinner("Measuring", ""),
        broker: None,
        bare: None,
        folder: Folder::create(&args.data_dir)?,
    };
    let wanted = |what: What| args.what == what || args.what == What::All;
    let mut played = Vec::new();
    if wanted(What::Log) {
        played.extend(scenes::log(&mut stage).await?);
    }
    if wanted(What::Quic) {
        played.push(scenes::quic(&mut stage).await?);
    }
    if wanted(What::Produce) {
        played.push(scenes::produce(&mut stage).await?);
    }
    if wanted(What::Consume) {
        played.push(scenes::consume(&mut stage).await?);
    }
    if wanted(What::EndToEnd) {
        played.push(scenes::end_to_end(&mut stage).await?);
    }
    if wanted(What::Plugin) {
        played.push(scenes::plugin(&mut stage).await?);
    }
    if wanted(What::Pipeline) {
        played.push(scenes::pipeline(&mut stage).await?);
    }
    if wanted(What::Swap) {
        played.push(scenes::swap(&mut stage).await?);
    }
    // It takes minutes: not part of everything.
    let grown = if args.what == What::Growth { growth::run(&stage).await? } else { Vec::new() };
    stage.bar.finish_and_clear();
    if let Some(broker) = stage.broker.take() {
        broker.clear().await;
    }
    Ok(Played { scenes: played, grown })
}

/// What is sent; the load learns how long it is.
fn values(args: &Args, load: &mut Load) -> Result<Values> {
    let Some(file) = &args.lines else { return Ok(Values::of(load)) };
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let empty = || Problem::usage(format!("{} has no line", file.display()));
    let values = Values::of_lines(&text, load).ok_or_else(empty)?;
    load.record_bytes = values.mean_bytes();
    Ok(values)
}

impl Stage<'_> {
    async fn broker(&mut self) -> Result<&Broker> {
        if self.broker.is_none() {
            self.bar.set_message("starting a broker");
            self.broker = Some(Broker::start(self.args, self.folder.path()).await?);
        }
        Ok(self.broker.as_ref().expect("it was started just now"))
    }

    async fn bare(&mut self) -> Result<Bare> {
        if self.bare.is_none() {
            self.bare = Some(Bare::start(self.folder.path()).await?);
        }
        Ok(self.bare.clone().expect("it was started just now"))
    }
}
