//! The options of `bench`, and the [`Load`] they describe once defaults are filled in.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use millstream_client::{Acks, Client, Compression, Producer};
use millstream_protocol::message::Durability;

use super::growth::Dimension;
use crate::commands::produce::compression;
use crate::connect::ServerArgs;
use crate::format::{bytes, count, plural};

/// Payload of a run unless told otherwise, bytes; and the most records of it.
const RUN_BYTES: u64 = 256 << 20;
const RUN_RECORDS_MAX: u64 = 2_000_000;
/// Acknowledgements that a client waits for one by one in a run unless told otherwise.
const RUN_WAITS: u64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// Batches into a log, without broker or network; syncs shared by many producers
    Log,
    /// Records through the SDK into the log
    Produce,
    /// Records from the log through the SDK, visited one by one
    Consume,
    /// Latency from the intended time of sending to receipt by a reader, at a fixed rate
    EndToEnd,
    /// Records from the log through a plugin into the log
    Pipeline,
    /// How long a pipeline under full load stands still when its plugin is swapped
    Swap,
    /// One call of a plugin per batch, without broker
    Plugin,
    /// Bytes over QUIC and TCP, without broker
    Quic,
    /// All of these
    All,
    /// How cost grows with partitions, connections, group members, pipelines, segments; takes minutes
    Growth,
    /// The bare other end of the references; started by the others
    #[value(hide = true)]
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AcksArg {
    /// As durable as the topic says
    All,
    /// In the leader's page cache
    Leader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityArg {
    /// Acknowledged when it is on disk
    Disk,
    /// Acknowledged from the page cache
    Replicated,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream bench all
  millstream bench produce -s 1000 --durability replicated
  millstream bench produce --batch 1000 --clients 4
  millstream bench produce --wait --batch 64 -s 1000      latency of acknowledgements
  millstream bench end-to-end -s 1000 --rate 20000
  millstream bench pipeline --plugin plugins/parse-access-log --lines access.log
  millstream bench swap -n 20000000
  millstream bench consume --server 127.0.0.1:9094
  millstream bench growth --of partitions,connections
  millstream bench growth --of partitions --steps 1000 --fill 10GiB

Without --server a broker is started as a process of its own, so that its CPU time and memory are told apart from
the client's. Each measurement alternates with a bare reference that moves the same bytes without Millstream; the
ratio of the two is what to compare between machines. Build with --release.")]
pub(crate) struct Args {
    #[arg(value_enum, default_value = "all")]
    pub(super) what: What,
    /// Records of each run [default: 256 MiB of them, 2,000,000 at most]
    #[arg(short = 'n', long, value_name = "N")]
    records: Option<u64>,
    /// Bytes of a record's value
    #[arg(short = 's', long, default_value_t = 100, value_name = "N")]
    record_bytes: usize,
    /// File whose lines are the values, over and over, instead of made-up ones of --record-bytes
    #[arg(long, value_name = "FILE")]
    pub(super) lines: Option<PathBuf>,
    /// Different keys; 0 for records without one
    #[arg(short = 'k', long, default_value_t = 0, value_name = "N")]
    keys: usize,
    #[arg(short, long, default_value_t = 2, value_name = "N")]
    partitions: u32,
    /// Producers or readers at a time, each with a connection of its own
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    clients: u32,
    /// Records handed to the producer at once, as one ready batch; 1: one by one
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// Producers wait for each acknowledgement before they send more
    #[arg(long, conflicts_with = "rate")]
    wait: bool,
    /// Records per second [default: as many as go; half of that for latency]
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// How long to measure latency at a rate
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    seconds: f64,
    #[arg(long, value_enum, default_value = "disk")]
    durability: DurabilityArg,
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none", value_parser = compression, value_name = "CODEC")]
    compression: Compression,
    /// How long a record may wait for others of its batch
    #[arg(long, value_parser = millstream_pipeline::units::duration_ms, value_name = "TIME")]
    linger: Option<u64>,
    /// Largest batch
    #[arg(long, value_parser = millstream_pipeline::units::size_bytes, value_name = "SIZE")]
    batch_bytes: Option<u64>,
    /// Bytes that may wait for their acknowledgement [default: the SDK's, 32 MiB]
    #[arg(long, value_parser = millstream_pipeline::units::size_bytes, value_name = "SIZE")]
    buffer_bytes: Option<u64>,
    /// Paired runs; their medians are shown
    #[arg(short, long, default_value_t = 5, value_name = "N")]
    runs: u32,
    /// Leave the bare references out
    #[arg(long)]
    no_reference: bool,
    /// End-to-end: write when each record that came a millisecond late or later was due and came, one a line, in
    /// nanoseconds of CLOCK_MONOTONIC, to be laid beside a trace of the system
    #[arg(long, value_name = "FILE")]
    pub(super) late: Option<PathBuf>,
    /// Growth: of what [default: everything]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(super) of: Vec<Dimension>,
    /// Growth: sizes
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub(super) steps: Vec<u32>,
    /// Growth: bytes of records in the partitions, and some more before each kill -9
    #[arg(long, default_value = "0", value_parser = millstream_pipeline::units::size_bytes, value_name = "SIZE")]
    pub(super) fill: u64,
    /// Plugin: a crate's folder or a component [default: plugins/identity]
    #[arg(long, value_name = "DIR|FILE.wasm")]
    pub(super) plugin: Option<PathBuf>,
    /// Plugin: its configuration, as JSON
    #[arg(long, value_name = "JSON")]
    pub(super) with: Option<String>,
    /// Folder for all data, on the disk to be measured; it must not exist, and is deleted
    #[arg(long, default_value = ".millstream-bench", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Process id of the broker named by --server, if it runs on this machine, for its CPU time and memory
    #[arg(long, value_name = "PID", requires = "server")]
    pub(super) broker_pid: Option<u32>,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What is sent, how, and how often it is measured.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) records: u64,
    pub(super) record_bytes: usize,
    pub(super) keys: usize,
    pub(super) partitions: u32,
    pub(super) clients: u32,
    pub(super) batch: usize,
    pub(super) wait: bool,
    pub(super) rate: Option<u64>,
    pub(super) time: Duration,
    pub(super) durability: Durability,
    pub(super) acks: Acks,
    pub(super) compression: Compression,
    linger: Option<Duration>,
    pub(super) batch_bytes: usize,
    buffer_bytes: Option<usize>,
    pub(super) runs: u32,
    pub(super) references: bool,
}

/// The SDK's own default.
const BATCH_BYTES: usize = 256 * 1024;

impl Args {
    pub(super) fn load(&self) -> Load {
        let (batch, clients) = (self.batch.max(1), self.clients.max(1));
        let own = match self.wait {
            true => RUN_WAITS * batch as u64 * u64::from(clients),
            false => (RUN_BYTES / self.record_bytes.max(1) as u64).clamp(1, RUN_RECORDS_MAX),
        };
        Load {
            records: self.records.unwrap_or(own).max(1),
            record_bytes: self.record_bytes,
            keys: self.keys,
            partitions: self.partitions.max(1),
            clients,
            batch,
            wait: self.wait,
            rate: self.rate.map(|rate| rate.max(1)),
            time: Duration::from_secs_f64(self.seconds.clamp(0.1, 3_600.0)),
            durability: match self.durability {
                DurabilityArg::Disk => Durability::Disk,
                DurabilityArg::Replicated => Durability::Replicated,
            },
            acks: match self.acks {
                AcksArg::All => Acks::All,
                AcksArg::Leader => Acks::Leader,
            },
            compression: self.compression,
            linger: self.linger.map(Duration::from_millis),
            batch_bytes: self.batch_bytes.map_or(BATCH_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            buffer_bytes: self.buffer_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            runs: self.runs.max(1),
            references: !self.no_reference,
        }
    }
}

impl Load {
    /// Bytes of keys and values of a run.
    pub(super) fn payload(&self) -> u64 {
        self.records * (self.record_bytes + super::values::key_bytes(self.keys)) as u64
    }

    /// The same records, to be read later: flat out, one producer per client.
    pub(super) fn to_fill(&self) -> Load {
        Load { wait: false, rate: None, ..self.clone() }
    }

    /// A producer whose records wait for no others, unless the user says how long they may.
    pub(super) fn prompt_producer(&self, client: &Client, topic: &str) -> Producer {
        let linger = self.linger.or(Some(Duration::ZERO));
        Load { linger, ..self.clone() }.producer(client, topic)
    }

    pub(super) fn producer(&self, client: &Client, topic: &str) -> Producer {
        let builder = client.producer(topic).compression(self.compression).acks(self.acks);
        let builder = builder.batch_bytes(self.batch_bytes);
        let builder = match self.buffer_bytes {
            Some(bytes) => builder.buffer_bytes(bytes),
            None => builder,
        };
        match self.linger {
            Some(linger) => builder.linger(linger).build(),
            // Nobody comes to fill a batch whose sender waits for it.
            None if self.wait => builder.linger(Duration::ZERO).build(),
            None => builder.build(),
        }
    }

    /// `1 KiB records, in batches of 100, 4 clients, …`
    pub(super) fn describe(&self) -> String {
        let mut words = vec![format!("records of {}", bytes(self.record_bytes as u64))];
        if self.keys > 0 {
            words.push(plural(self.keys as u64, "key"));
        }
        words.push(match self.batch {
            1 => "one by one".to_owned(),
            batch => format!("in batches of {}", count(batch as u64)),
        });
        words.push(plural(u64::from(self.clients), "client"));
        words.push(plural(u64::from(self.partitions), "partition"));
        words.push(match self.durability {
            Durability::Disk => "acknowledged from disk".to_owned(),
            Durability::Replicated => "acknowledged from page cache".to_owned(),
        });
        if self.compression != Compression::None {
            words.push(self.compression.name().to_owned());
        }
        words.join(", ")
    }
}
