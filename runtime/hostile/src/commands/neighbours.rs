//! Producing to one topic while a pipeline on another one loops, crashes and floods.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use millstream_plugin_host::testing::text::{Guest, component};
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::message::*;
use millstream_protocol::{PartitionIndex, TopicId};
use millstream_transport::Rpc;

use super::child::Served;

/// Pause between two produce requests: a rate that any machine keeps.
const PACE: Duration = Duration::from_millis(2);

/// What a hostile pipeline may add to the p99 of others, per cent.
const SHIFT_MAX: f64 = 20.0;

/// Loops for ever.
const LOOPS: &str = "(loop $again (br $again)) (i32.const 0)";
/// Crashes at once.
const CRASHES: &str = "unreachable";

pub(crate) async fn run(time: Duration) -> Result<()> {
    let served = Served::start("broker").await?;
    let (_connection, rpc) = served.connect().await?;
    let quiet = create(&rpc, "quiet", 1).await?;
    measure(&rpc, quiet, time / 4).await?;
    // Alternating, so that what else the machine does falls on both.
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..3 {
        alone.extend(measure(&rpc, quiet, time).await?);
        for (name, process) in [("loops", LOOPS), ("crashes", CRASHES)] {
            start(&rpc, name, process).await?;
        }
        beside.extend(measure(&rpc, quiet, time).await?);
        for name in ["loops", "crashes"] {
            let seen = rpc.call(&DescribePipeline { name: name.into() }).await?;
            println!("round {round}: {name} was at work on {} records", seen.tasks[0].records_in);
            rpc.call(&ControlPipeline { name: name.into(), action: PipelineAction::Delete }).await?;
        }
    }
    let (alone, beside) = (Latencies::of(alone), Latencies::of(beside));
    println!("alone   p50 {:>6.0} us  p99 {:>6.0} us  {} requests", alone.p50, alone.p99, alone.count);
    println!("beside  p50 {:>6.0} us  p99 {:>6.0} us  {} requests", beside.p50, beside.p99, beside.count);
    let shift = (beside.p99 / alone.p99 - 1.0) * 100.0;
    println!("p99 shifts by {shift:+.1} %");
    anyhow::ensure!(shift < SHIFT_MAX, "on an otherwise idle machine it may shift by {SHIFT_MAX} %");
    Ok(())
}

struct Latencies {
    p50: f64,
    p99: f64,
    count: usize,
}

impl Latencies {
    fn of(mut samples: Vec<Duration>) -> Latencies {
        samples.sort_unstable();
        let at = |percent: usize| samples[(samples.len() - 1) * percent / 100].as_secs_f64() * 1e6;
        Latencies { p50: at(50), p99: at(99), count: samples.len() }
    }
}

async fn create(rpc: &Rpc, name: &str, partitions: u32) -> Result<TopicId> {
    let request = CreateTopic { name: name.into(), partitions, config: TopicConfig::default(), if_not_exists: true };
    Ok(rpc.call(&request).await?.id)
}

fn batch(values: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    (0..values).for_each(|n| builder.push_simple(1, None, Some(format!("record {n} of some length").as_bytes())));
    builder.build()
}

async fn produce(rpc: &Rpc, topic: TopicId, bytes: Bytes) -> Result<()> {
    let entry = ProduceEntry { topic, partition: PartitionIndex(0), bytes: bytes.len() as u32 };
    let reply = rpc.call_with(&Produce { acks: Acks::All, entries: vec![entry] }, vec![bytes]).await?;
    match &reply.response.results[0].failure {
        None => Ok(()),
        Some(failure) => anyhow::bail!("{failure}"),
    }
}

/// Latencies of small produce requests at an even pace.
async fn measure(rpc: &Rpc, topic: TopicId, time: Duration) -> Result<Vec<Duration>> {
    let bytes = batch(10);
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let started = Instant::now();
    while started.elapsed() < time {
        ticks.tick().await;
        let sent = Instant::now();
        produce(rpc, topic, bytes.clone()).await?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// A pipeline of this guest with more to do than it will ever finish.
async fn start(rpc: &Rpc, name: &str, process: &str) -> Result<()> {
    let bytes = component(&Guest { process, ..Guest::default() });
    let digest = millstream_plugin_host::digest(&bytes);
    let size = bytes.len() as u64;
    let upload = UploadPlugin { name: name.into(), version: "0.1.0".into(), digest, size, position: 0, replace: true };
    rpc.call_with(&upload, vec![bytes.into()]).await?;
    let topic = create(rpc, &format!("{name}-in"), 1).await?;
    for _ in 0..20 {
        produce(rpc, topic, batch(5_000)).await?;
    }
    let yaml = format!(
        "pipeline: {name}\ninputs: [{{ topic: {name}-in }}]\nsteps:\n  - plugin: {name}@0.1\n    on_error: {{ dead_letter: {name}-bad }}\n\
         outputs: [{{ topic: {name}-out }}]\n"
    );
    let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 1, dry_run: false };
    rpc.call(&request).await.with_context(|| format!("applying {name}"))?;
    Ok(())
}
