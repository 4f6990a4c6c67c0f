//! Records from the log through a plugin into the log, from a topic that is full; against the same pipeline
//! with a native step that passes all records on, and without any step.

use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_protocol::message::{
    ApplyPipeline, ControlPipeline, DescribePipeline, DescribePipelineAck, PipelineAction,
};

use super::{parts, plugin, produce};
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::broker::{Broker, INPUT, OUTPUT};
use crate::commands::bench::measure::{Sample, Stopwatch};
use crate::commands::bench::rounds::{Compare, Scene};
use crate::commands::plugin::upload;
use crate::problem::Problem;

pub(super) const PIPELINE: &str = "millstream-bench";
/// How often a pipeline is asked how far it is.
const POLL: Duration = Duration::from_millis(10);
/// A pipeline that has done nothing for so long does not run.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Part {
    Plugin,
    Filter,
    NoStep,
}

pub(in super::super) async fn pipeline(stage: &mut Stage<'_>) -> Result<Scene> {
    let built = plugin::find(stage.args, &stage.console)?;
    stage.broker().await?;
    let (load, broker) = (&stage.load, stage.broker.as_ref().expect("it was started just now"));
    upload(&broker.server, &built, true, &stage.console).await?;
    stage.bar.set_message("pipeline: filling the topic");
    produce::run(broker, &load.to_fill(), &stage.values).await?;
    let reference = plugin::reference(&built, stage.args);
    let title = format!("{}@{}, {}", built.name, built.version, load.describe());
    let scene = Scene { what: "pipeline", title, compare: Compare::Throughput, series: Vec::new() };
    let all =
        [(Part::Plugin, "plugin step"), (Part::Filter, "native step, filter: true"), (Part::NoStep, "without a step")];
    scene
        .play((load.runs, &stage.bar), &parts(load, &all), async |part| {
            let steps = match part {
                Part::Plugin => plugin_step(&reference),
                Part::Filter => "steps:\n  - filter: 'true'\n".to_owned(),
                Part::NoStep => String::new(),
            };
            run(broker, load, &steps).await
        })
        .await
}

fn with_steps(steps: &str) -> String {
    format!("version: 1\npipeline: {PIPELINE}\ninputs:\n  - topic: {INPUT}\n{steps}outputs:\n  - topic: {OUTPUT}\n")
}

fn plugin_step(reference: &str) -> String {
    format!("steps:\n  - plugin: {{ use: {reference} }}\n    on_error: skip\n")
}

/// The pipeline with this plugin as its step.
pub(super) fn with_step(reference: &str) -> String {
    with_steps(&plugin_step(reference))
}

/// Whether the pipeline got through so many records.
pub(super) async fn is_done(broker: &Broker, records: u64) -> Result<bool> {
    let about = describe(broker).await?;
    Ok(is_through(&about, records))
}

async fn describe(broker: &Broker) -> Result<DescribePipelineAck> {
    broker.server.call(DescribePipeline { name: PIPELINE.to_owned() }).await
}

fn position(about: &DescribePipelineAck) -> i64 {
    about.tasks.iter().map(|task| task.position.0).sum()
}

fn is_through(about: &DescribePipelineAck, records: u64) -> bool {
    position(about) as u64 >= records && about.tasks.iter().all(|task| task.lag == 0)
}

/// From the pipeline's start to the last committed offset.
async fn run(broker: &Broker, load: &Load, steps: &str) -> Result<Sample> {
    broker.topic(OUTPUT, load).await?;
    let yaml = with_steps(steps);
    let watch = Stopwatch::start(broker.pid);
    let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false };
    broker.server.call(request).await?;
    wait(broker, load.records).await?;
    let sample = watch.stop(load.records, load.payload());
    let name = PIPELINE.to_owned();
    broker.server.call(ControlPipeline { name, action: PipelineAction::Delete }).await?;
    Ok(sample)
}

async fn wait(broker: &Broker, records: u64) -> Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let about = describe(broker).await?;
        if is_through(&about, records) {
            return Ok(());
        }
        let done = position(&about);
        if done != last {
            (last, moved) = (done, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            let state = about.tasks.first().map_or("no task", |task| &*task.state);
            return Err(Problem::failure(format!("the pipeline does not go on: {state}")).into());
        }
        tokio::time::sleep(POLL).await;
    }
}
