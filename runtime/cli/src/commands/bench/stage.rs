//! Where the measurements take place: a broker, topics of their own, and the four scenes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_broker::{Broker, Config};
use millstream_client::{Record, Start};
use millstream_protocol::message::{
    ApplyPipeline, ControlPipeline, CreateTopic, DeleteTopic, DescribePipeline, PipelineAction, TopicConfig,
};
use tokio::time::Instant;

use super::Args;
use super::measure::{Figures, Stopwatch};
use crate::args::Context;
use crate::commands::plugin::{read_component, upload};
use crate::commands::serve::refused;
use crate::connect::{Server, ServerArgs};
use crate::console::Console;
use crate::plugin_crate::{Built, PluginCrate, Show};
use crate::problem::Problem;

const INPUT: &str = "millstream-bench-in";
const OUTPUT: &str = "millstream-bench-out";
const LATENCY: &str = "millstream-bench-latency";
const PIPELINE: &str = "millstream-bench";

/// How long the latency measurement sends.
const LATENCY_TIME: Duration = Duration::from_secs(5);
/// How often a pipeline is asked how far it is.
const POLL: Duration = Duration::from_millis(20);

pub(super) struct Stage<'a> {
    args: &'a Args,
    console: Console,
    /// Absent when a running broker is measured.
    broker: Option<Broker>,
    server: Server,
}

impl<'a> Stage<'a> {
    pub(super) async fn set(args: &'a Args, context: &Context) -> Result<Stage<'a>> {
        let console = context.console.clone();
        let (broker, server) = if args.server.was_named() {
            (None, args.server.connect().await?)
        } else {
            let data_dir = &args.data_dir;
            if data_dir.exists() {
                return Err(Problem::refused(format!("{} exists already", data_dir.display()))
                    .help("delete what an earlier run left, or name another folder with --data-dir")
                    .into());
            }
            let broker = Broker::start(Config::embedded(data_dir)).await.map_err(refused)?;
            let own = ServerArgs { server: None, profile: Some(data_dir.join("profile.yaml")) };
            (Some(broker), own.connect().await?)
        };
        Ok(Stage { args, console, broker, server })
    }

    /// Leaves nothing behind.
    pub(super) async fn clear(self) -> Result<()> {
        match self.broker {
            Some(broker) => {
                broker.shutdown().await;
                std::fs::remove_dir_all(&self.args.data_dir).context("the benchmark's data can't be deleted")
            }
            None => {
                for topic in [INPUT, OUTPUT, LATENCY] {
                    // Not all of them were needed.
                    self.server.call(DeleteTopic { name: topic.to_owned() }).await.ok();
                }
                Ok(())
            }
        }
    }

    /// An empty topic of this name.
    async fn topic(&self, name: &str) -> Result<()> {
        self.server.call(DeleteTopic { name: name.to_owned() }).await.ok();
        let (name, partitions) = (name.to_owned(), self.args.partitions);
        self.server
            .call(CreateTopic { name, partitions, config: TopicConfig::default(), if_not_exists: false })
            .await?;
        Ok(())
    }

    pub(super) async fn produce(&self) -> Result<Figures> {
        self.topic(INPUT).await?;
        let spinner = self.console.spinner("Producing", "");
        let figures = self.fill().await;
        spinner.finish_and_clear();
        figures
    }

    async fn fill(&self) -> Result<Figures> {
        let producer = self.args.tuning.producer(&self.server.client, INPUT);
        let values = values(self.args.record_bytes);
        // The first record asks for the topic; that is not what is measured.
        drop(producer.send(Record::new(values[0].clone())).await?);
        producer.flush().await?;
        let watch = Stopwatch::start();
        for i in 1..self.args.records {
            drop(producer.send_bytes(None, &values[i as usize % values.len()]).await?);
        }
        producer.flush().await?;
        let what = format!("produce {} B", self.args.record_bytes);
        Ok(watch.stop(what, self.args.records, self.args.records * self.args.record_bytes as u64))
    }

    /// The records of an earlier scene, or new ones.
    async fn have_input(&self) -> Result<()> {
        let there = match crate::commands::topic::find(&self.server, INPUT).await {
            Ok(topic) => topic.partitions.iter().map(|p| p.high_watermark - p.log_start).sum::<i64>(),
            Err(_) => 0,
        };
        if there as u64 >= self.args.records { Ok(()) } else { self.produce().await.map(drop) }
    }

    pub(super) async fn consume(&self) -> Result<Figures> {
        self.have_input().await?;
        let spinner = self.console.spinner("Consuming", "");
        let watch = Stopwatch::start();
        let mut reader = self.server.client.reader(INPUT).from(Start::Earliest).to_end().open().await?;
        let (mut records, mut bytes) = (0, 0);
        while let Some(batch) = reader.next().await {
            let batch = batch?;
            records += batch.len() as u64;
            bytes += batch.columns().values.len() as u64;
        }
        spinner.finish_and_clear();
        Ok(watch.stop(format!("consume {} B", self.args.record_bytes), records, bytes))
    }

    pub(super) async fn end_to_end(&self) -> Result<Figures> {
        self.topic(LATENCY).await?;
        let spinner = self.console.spinner("Measuring", "latency");
        let total = (self.args.rate * LATENCY_TIME.as_secs()).min(self.args.records).max(1);
        let start = Instant::now();
        let reader = self.server.client.reader(LATENCY).from(Start::Earliest).open().await?;
        let receiver = tokio::spawn(receive(reader, start, total));
        let producer = self.args.tuning.producer(&self.server.client, LATENCY);
        let watch = Stopwatch::start();
        let mut value = values(self.args.record_bytes.max(8)).swap_remove(0);
        let pause = Duration::from_secs(1).div_f64(self.args.rate.max(1) as f64);
        let begin = Instant::now();
        for i in 0..total {
            let due = begin + pause.mul_f64(i as f64);
            // Sleeps have a millisecond's grain; a late sender catches up.
            if due > Instant::now() + Duration::from_millis(1) {
                tokio::time::sleep_until(due).await;
            }
            value[..8].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_le_bytes());
            drop(producer.send_bytes(None, &value).await?);
        }
        producer.flush().await?;
        let latencies = receiver.await??;
        spinner.finish_and_clear();
        let what = format!("end to end {}/s", crate::format::count(self.args.rate));
        Ok(watch.stop(what, total, total * value.len() as u64).with_latencies(latencies))
    }

    pub(super) async fn pipeline(&self) -> Result<Figures> {
        self.have_input().await?;
        self.topic(OUTPUT).await?;
        let plugin = self.plugin()?;
        let (step, what) = match &plugin {
            Some(built) => {
                upload(&self.server, built, true, &self.console).await?;
                let reference = format!("{}@{}", built.name, built.version);
                (format!("plugin: {{ use: {reference} }}\n    on_error: skip"), format!("pipeline {}", built.name))
            }
            None => ("filter: 'true'".to_owned(), "pipeline, native filter".to_owned()),
        };
        let yaml = format!(
            "version: 1\npipeline: {PIPELINE}\ninputs:\n  - topic: {INPUT}\nsteps:\n  - {step}\noutputs:\n  - topic: {OUTPUT}\n"
        );
        let spinner = self.console.spinner("Running", "the pipeline");
        let watch = Stopwatch::start();
        let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false };
        self.server.call(request).await?;
        let records = loop {
            let about = self.server.call(DescribePipeline { name: PIPELINE.to_owned() }).await?;
            let done: i64 = about.tasks.iter().map(|task| task.position.0).sum();
            let failed = about.tasks.iter().find(|task| task.state.contains(' ') && task.records_in == 0);
            if let Some(task) = failed.filter(|_| watch.elapsed() > Duration::from_secs(10)) {
                return Err(Problem::failure(format!("the pipeline does not run: {}", task.state)).into());
            }
            if done as u64 >= self.args.records && about.tasks.iter().all(|task| task.lag == 0) {
                break done as u64;
            }
            tokio::time::sleep(POLL).await;
        };
        let figures = watch.stop(what, records, records * self.args.record_bytes as u64);
        spinner.finish_and_clear();
        let name = PIPELINE.to_owned();
        self.server.call(ControlPipeline { name, action: PipelineAction::Delete }).await?;
        Ok(figures)
    }

    /// The plugin asked for, or the repository's that does nothing, if we are in the repository.
    fn plugin(&self) -> Result<Option<Built>> {
        let own = Path::new("plugins/identity");
        let path = match &self.args.plugin {
            Some(path) => path.as_path(),
            None if own.join("Cargo.toml").exists() => own,
            None => return Ok(None),
        };
        if path.is_dir() {
            return PluginCrate::open(path)?.build(&self.console, Show::Calm).map(Some);
        }
        read_component(path).map(Some)
    }
}

/// Takes `total` records and their latencies; each begins with its time of sending.
async fn receive(mut reader: millstream_client::Reader, start: Instant, total: u64) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(total as usize);
    while (latencies.len() as u64) < total {
        let Some(batch) = reader.next().await else { break };
        let batch = batch?;
        let now = start.elapsed();
        for record in &batch {
            let sent = record.value().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
    Ok(latencies)
}

/// Values of this size that are not all alike: words and digits, which compress about as logs do.
fn values(bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = ["GET", "POST", "/index.html", "200", "404", "Mozilla/5.0", "user=", "host-", "10.0.0."];
    let value = |_| {
        let mut value = Vec::with_capacity(bytes + 32);
        while value.len() < bytes {
            let random = next();
            value.extend_from_slice(words[random as usize % words.len()].as_bytes());
            value.extend_from_slice(format!("{} ", random >> 48).as_bytes());
        }
        value.truncate(bytes);
        value
    };
    (0..1_024).map(value).collect()
}
