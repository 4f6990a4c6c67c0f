//! What a broker is started with. Also the form of the configuration file of `serve --config`: every field
//! has a default, an unknown one is an error.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use millstream_protocol::message::{Durability, TopicConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::Limits;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The one folder this broker owns.
    pub data_dir: PathBuf,
    /// Where clients connect by QUIC; port 0 takes a free one. Anything but loopback needs `tls` and `token_file`.
    pub quic: SocketAddr,
    /// Where metrics and health are served by HTTP; port 0 takes a free one.
    pub http: HttpDoor,
    /// Whether `http` may be an address that other machines reach: it asks nobody who they are.
    pub http_remote: bool,
    /// Certificate and key of the QUIC endpoint; without them the broker makes its own CA at first start.
    pub tls: Option<TlsFiles>,
    /// File with the admin token; without it the broker makes one at first start.
    pub token_file: Option<PathBuf>,
    /// Whether the client profile is also put into the account's profile registry.
    pub register_profile: bool,
    /// Threads that serve clients; 0 means one for every two cores.
    pub io_threads: usize,
    /// Threads that own partitions; 0 means one per core.
    pub shards: usize,
    /// Threads that sync files.
    pub sync_threads: usize,
    /// What applies to topics that do not say otherwise.
    pub topics: TopicDefaults,
    pub limits: Limits,
    /// How the command logs; without it as text.
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, with `connection`, `request`, `pipeline` and the other fields by name.
    Json,
}

/// Whether there is an HTTP door; written as its address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpDoor {
    Off,
    At(SocketAddr),
}

impl FromStr for HttpDoor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(HttpDoor::Off),
            _ => text
                .parse()
                .map(HttpDoor::At)
                .map_err(|_| "write an address such as 127.0.0.1:9096, or `off`".to_owned()),
        }
    }
}

impl fmt::Display for HttpDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpDoor::Off => f.write_str("off"),
            HttpDoor::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for HttpDoor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpDoor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The CA that clients shall trust; goes into the profile. Without it they need a profile of their own.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// Defaults of topic settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicDefaults {
    /// -1: for ever.
    pub retention_ms: i64,
    /// Per partition; -1: unlimited.
    pub retention_bytes: i64,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub batch_bytes_max: u32,
    /// `disk` or `replicated`.
    pub durability: DurabilityName,
}

/// How the configuration file spells [`Durability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityName {
    Disk,
    Replicated,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("millstream-data"),
            quic: SocketAddr::from(([127, 0, 0, 1], 9094)),
            http: HttpDoor::At(SocketAddr::from(([127, 0, 0, 1], 9096))),
            http_remote: false,
            tls: None,
            token_file: None,
            register_profile: true,
            io_threads: 0,
            shards: 0,
            sync_threads: 4,
            topics: TopicDefaults::default(),
            limits: Limits::default(),
            log_format: LogFormat::default(),
        }
    }
}

impl Default for TopicDefaults {
    fn default() -> Self {
        TopicDefaults {
            retention_ms: 7 * 24 * 3_600 * 1_000,
            retention_bytes: -1,
            segment_bytes: 256 << 20,
            segment_ms: 7 * 24 * 3_600 * 1_000,
            batch_bytes_max: 1 << 20,
            durability: DurabilityName::Disk,
        }
    }
}

impl TopicDefaults {
    /// What applies to a topic with these settings: every field is `Some`.
    pub fn effective(&self, config: &TopicConfig) -> TopicConfig {
        let durability = match self.durability {
            DurabilityName::Disk => Durability::Disk,
            DurabilityName::Replicated => Durability::Replicated,
        };
        TopicConfig {
            retention_ms: config.retention_ms.or(Some(self.retention_ms)),
            retention_bytes: config.retention_bytes.or(Some(self.retention_bytes)),
            segment_bytes: config.segment_bytes.or(Some(self.segment_bytes)),
            segment_ms: config.segment_ms.or(Some(self.segment_ms)),
            batch_bytes_max: config.batch_bytes_max.or(Some(self.batch_bytes_max)),
            durability: config.durability.or(Some(durability)),
        }
    }
}

impl Config {
    /// A broker on a free loopback port, without HTTP, that leaves no trace outside `data_dir`: for tests and embedding.
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Config {
            data_dir: data_dir.into(),
            quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            http: HttpDoor::Off,
            register_profile: false,
            ..Config::default()
        }
    }

    pub(crate) fn shard_count(&self) -> usize {
        match self.shards {
            0 => cores(),
            count => count,
        }
    }

    /// [`Config::io_threads`], as many as they are on this machine.
    pub fn io_thread_count(&self) -> usize {
        match self.io_threads {
            0 => cores().div_ceil(2),
            count => count,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
