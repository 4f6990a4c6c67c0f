//! What a broker is loaded with, by dimension: so many partitions, connections, members of a group, pipelines or
//! segments. Whatever has to stay connected is in [`Held`].

use anyhow::Result;
use futures_util::future::try_join_all;
use millstream_client::{Client, Consumer};
use millstream_protocol::message::{ApplyPipeline, CreateTopic, TopicConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::bench::args::Load;
use crate::commands::bench::broker::Broker;
use crate::commands::bench::values::Values;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in super::super) enum Dimension {
    /// Partitions, in topics of 100
    Partitions,
    /// Idle connections
    Connections,
    /// Consumers of one group
    Members,
    /// Pipelines that wait for records
    Pipelines,
    /// Segments of one partition; each stands for 256 MiB
    Segments,
}

/// The topic that grows.
const TOPIC: &str = "millstream-bench-growth";
const PARTITIONS_PER_TOPIC: u32 = 100;
/// Small ones stand for large: what they cost is counted in segments.
const SEGMENT_BYTES: u64 = 64 * 1024;
/// What partitions are filled with at a time.
const FILL_BATCH_BYTES: u64 = 128 * 1024;

/// Clients that stay.
#[derive(Default)]
pub(super) struct Held {
    clients: Vec<Client>,
    /// They poll, as consumers do: what a member does not fetch it does not let go either.
    consumers: JoinSet<()>,
    /// Dropped when they are to leave.
    stay: Option<watch::Sender<()>>,
}

impl Held {
    /// Says goodbye, so that the broker need not find out.
    pub(super) async fn close(self) {
        drop(self.stay);
        self.consumers.join_all().await;
        for client in self.clients {
            client.close().await;
        }
    }
}

impl Dimension {
    pub(super) const ALL: [Dimension; 5] =
        [Dimension::Partitions, Dimension::Connections, Dimension::Members, Dimension::Pipelines, Dimension::Segments];

    pub(super) fn name(self) -> &'static str {
        match self {
            Dimension::Partitions => "partitions",
            Dimension::Connections => "connections",
            Dimension::Members => "members of a group",
            Dimension::Pipelines => "pipelines",
            Dimension::Segments => "segments",
        }
    }

    pub(super) fn steps(self) -> &'static [u32] {
        match self {
            Dimension::Partitions => &[1, 100, 1_000, 5_000],
            Dimension::Connections => &[1, 10, 100, 1_000],
            Dimension::Members => &[1, 10, 50, 200],
            Dimension::Pipelines => &[1, 10, 100],
            Dimension::Segments => &[4, 40, 400],
        }
    }

    /// Makes `n` of them. Partitions get `fill` bytes in all.
    pub(super) async fn grow(
        self,
        broker: &Broker,
        n: u32,
        (load, values, fill): (&Load, &Values, u64),
    ) -> Result<Held> {
        match self {
            Dimension::Partitions => partitions(broker, n, (load, values, fill)).await,
            Dimension::Connections => connections(broker, n).await,
            Dimension::Members => members(broker, n).await,
            Dimension::Pipelines => pipelines(broker, n).await,
            Dimension::Segments => segments(broker, n, values).await,
        }
    }
}

async fn create(broker: &Broker, name: String, partitions: u32, config: TopicConfig) -> Result<()> {
    broker.server.call(CreateTopic { name, partitions, config, if_not_exists: false }).await?;
    Ok(())
}

async fn partitions(broker: &Broker, n: u32, filling: (&Load, &Values, u64)) -> Result<Held> {
    let config = TopicConfig { durability: Some(filling.0.durability), ..TopicConfig::default() };
    for (name, partitions) in topics(n) {
        create(broker, name, partitions, config.clone()).await?;
    }
    write(broker, n, filling).await?;
    Ok(Held::default())
}

/// The topics that `n` partitions are in, and how many each has.
fn topics(n: u32) -> impl Iterator<Item = (String, u32)> {
    let first = (0..n).step_by(PARTITIONS_PER_TOPIC as usize);
    first.map(move |first| (format!("{TOPIC}-{first}"), PARTITIONS_PER_TOPIC.min(n - first)))
}

/// Writes as much to each of the `n` partitions, `bytes` in all, in turns, so that their files grow side by side.
pub(super) async fn write(broker: &Broker, n: u32, (load, values, bytes): (&Load, &Values, u64)) -> Result<()> {
    let each = bytes / u64::from(n.max(1));
    let client = broker.client().await?;
    let producers: Vec<_> = topics(n).map(|(name, partitions)| (load.producer(&client, &name), partitions)).collect();
    for from in (0..each).step_by(FILL_BATCH_BYTES as usize) {
        let wanted = FILL_BATCH_BYTES.min(each - from) as usize;
        for (producer, partitions) in &producers {
            for partition in 0..*partitions {
                let mut batch = producer.batch(partition).await?;
                while batch.bytes() < wanted {
                    let i = batch.len() as u64;
                    batch.push_bytes(values.key(i), values.value(i))?;
                }
                drop(producer.send_batch(batch).await?);
            }
        }
    }
    for (producer, _) in &producers {
        producer.flush().await?;
    }
    client.close().await;
    Ok(())
}

async fn connections(broker: &Broker, n: u32) -> Result<Held> {
    let mut clients = Vec::new();
    for _ in 0..n {
        clients.push(broker.client().await?);
    }
    Ok(Held { clients, ..Held::default() })
}

async fn members(broker: &Broker, n: u32) -> Result<Held> {
    create(broker, TOPIC.to_owned(), n, TopicConfig::default()).await?;
    let mut held = Held::default();
    for _ in 0..n {
        held.clients.push(broker.client().await?);
    }
    let joining = held.clients.iter().map(|client| client.consumer("millstream-bench").topics([TOPIC]).subscribe());
    let (stay, leave) = watch::channel(());
    for consumer in try_join_all(joining).await? {
        held.consumers.spawn(poll(consumer, leave.clone()));
    }
    held.stay = Some(stay);
    Ok(held)
}

/// Until its end is wished for.
async fn poll(mut consumer: Consumer, mut leave: watch::Receiver<()>) {
    loop {
        tokio::select! {
            // Nobody writes to this topic; an error is tried again by the consumer.
            _ = consumer.next() => {}
            _ = leave.changed() => break,
        }
    }
    // The group notices by itself otherwise.
    consumer.close().await.ok();
}

async fn pipelines(broker: &Broker, n: u32) -> Result<Held> {
    create(broker, TOPIC.to_owned(), 1, TopicConfig::default()).await?;
    create(broker, format!("{TOPIC}-out"), 1, TopicConfig::default()).await?;
    for number in 0..n {
        let yaml = format!(
            "version: 1\npipeline: growth-{number}\ninputs:\n  - topic: {TOPIC}\nsteps:\n  - filter: 'true'\n\
             outputs:\n  - topic: {TOPIC}-out\n"
        );
        let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false };
        broker.server.call(request).await?;
    }
    Ok(Held::default())
}

async fn segments(broker: &Broker, n: u32, values: &Values) -> Result<Held> {
    let config = TopicConfig { segment_bytes: Some(SEGMENT_BYTES), ..TopicConfig::default() };
    create(broker, TOPIC.to_owned(), 1, config).await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC).batch_bytes(SEGMENT_BYTES as usize / 4).build();
    let record = values.value(0).len().max(1) as u64;
    for i in 0..u64::from(n) * SEGMENT_BYTES / record {
        drop(producer.send_bytes(values.key(i), values.value(i)).await?);
    }
    producer.flush().await?;
    client.close().await;
    Ok(Held::default())
}
