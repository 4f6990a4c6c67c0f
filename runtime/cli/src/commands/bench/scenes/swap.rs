//! How long a pipeline stands still when its plugin is swapped under full load: it works through a full topic while two
//! versions of the plugin take turns. What counts is the broker's own figure for each task: the time in which it
//! handled no records because of the swap.

use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_protocol::message::{ApplyPipeline, ControlPipeline, PipelineAction};

use super::{pipeline, plugin, produce};
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::broker::{Broker, OUTPUT};
use crate::commands::bench::measure::{Latency, Sample, Stopwatch};
use crate::commands::bench::rounds::{Compare, Scene};
use crate::commands::plugin::upload;
use crate::plugin_source::Built;
use crate::problem::Problem;

/// A custom section of no meaning: makes another component of the same code.
const OTHER: [u8; 8] = [0, 6, 5, b'o', b't', b'h', b'e', b'r'];
/// Between two swaps.
const PAUSE: Duration = Duration::from_millis(20);

pub(in super::super) async fn swap(stage: &mut Stage<'_>) -> Result<Scene> {
    let built = plugin::find(stage.args, &stage.console)?;
    stage.broker().await?;
    let (load, broker) = (&stage.load, stage.broker.as_ref().expect("it was started just now"));
    let other = Built { version: format!("{}-other", built.version), component: other(&built), ..built.clone() };
    let mut turns = Vec::new();
    for built in [&built, &other] {
        upload(&broker.server, built, true, &stage.console).await?;
        turns.push(pipeline::with_step(&plugin::reference(built, stage.args)));
    }
    stage.bar.set_message("swap: filling the topic");
    produce::run(broker, &load.to_fill(), &stage.values).await?;
    let title = format!("{} and {} in turns under full load, {}", built.version, other.version, load.describe());
    let scene = Scene { what: "swap", title, compare: Compare::Latency, series: Vec::new() };
    scene.play((load.runs, &stage.bar), &[((), "pause of a task")], async |()| run(broker, load, &turns).await).await
}

fn other(built: &Built) -> Vec<u8> {
    let mut component = built.component.clone();
    component.extend_from_slice(&OTHER);
    component
}

/// Swaps until the topic is done.
async fn run(broker: &Broker, load: &Load, turns: &[String]) -> Result<Sample> {
    broker.topic(OUTPUT, load).await?;
    let watch = Stopwatch::start(broker.pid);
    let mut latency = Latency::new();
    let (mut done, started) = (false, Instant::now());
    for yaml in turns.iter().cycle() {
        let request = ApplyPipeline { yaml: yaml.clone(), variables: Vec::new(), create_partitions: 0, dry_run: false };
        let applied = broker.server.call(request).await?;
        // The last one met a pipeline that had nothing to do.
        if done {
            break;
        }
        applied.swaps.iter().for_each(|swap| latency.record(Duration::from_micros(swap.pause_us)));
        done = pipeline::is_done(broker, load.records).await?;
        if started.elapsed() > load.time.max(Duration::from_secs(600)) {
            return Err(Problem::failure("the pipeline does not get through the topic between swaps").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let sample = watch.stop(load.records, load.payload()).with_latency(latency);
    broker.server.call(ControlPipeline { name: pipeline::PIPELINE.to_owned(), action: PipelineAction::Delete }).await?;
    Ok(sample)
}
