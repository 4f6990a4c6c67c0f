//! The agreed state and its lookups. Changed only by `apply`; everything is in ordered maps, so that equal
//! states encode to equal bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use millstream_protocol::message::{self, Durability};
use millstream_protocol::{Secret, TopicId};
use serde::{Deserialize, Serialize};

use super::token::{Token, secrets};

/// Revisions of a pipeline that are kept, the current one included.
pub const PIPELINE_REVISIONS_MAX: usize = 10;

/// Everything the cluster agrees on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Number of commands applied so far, refused ones included.
    pub(super) applied: u64,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) deleted: Vec<DeletedTopic>,
    pub(super) plugins: BTreeMap<String, BTreeMap<String, Plugin>>,
    pub(super) pipelines: BTreeMap<String, Pipeline>,
    pub(super) next_producer_id: i64,
    /// Absent in format 1.
    #[serde(default)]
    pub(super) tokens: BTreeMap<String, Token>,
    /// Derived from `topics`.
    #[serde(skip)]
    pub(super) names: BTreeMap<TopicId, String>,
}

/// One life of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    #[serde(with = "topic_id")]
    pub id: TopicId,
    pub partitions: u32,
    /// Partitions whose folders are known to exist.
    pub ready: u32,
    pub config: TopicConfig,
    pub internal: bool,
    pub created_at_ms: i64,
}

/// A topic that was deleted and whose files may still be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    pub name: String,
    #[serde(with = "topic_id")]
    pub id: TopicId,
    pub partitions: u32,
}

/// The disk form of a topic's settings; `None` means the broker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_bytes_max: Option<u32>,
    /// `Some(true)`: acknowledged from the page cache of the in-sync replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicated: Option<bool>,
}

/// One registered version of a plugin; the bytes are stored by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    pub name: String,
    pub version: String,
    pub digest: Digest,
    pub bytes: u64,
    pub asks: Vec<String>,
    pub description: String,
    pub uploaded_at_ms: i64,
}

/// A pipeline and its newest revisions, oldest first; the last one is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    pub paused: bool,
    pub created_at_ms: i64,
    pub(super) revisions: Vec<PipelineRevision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineRevision {
    /// From 1, never reused within the pipeline's life.
    pub revision: u32,
    pub yaml: String,
    /// Values the YAML refers to; may hold secrets.
    #[serde(with = "secrets")]
    pub variables: BTreeMap<String, Secret>,
    pub plugins: Vec<PluginUse>,
    pub applied_at_ms: i64,
}

/// The exact plugin a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginUse {
    pub step: String,
    pub name: String,
    pub version: String,
    pub digest: Digest,
}

/// A sha256, shown and stored as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl State {
    /// Number of commands applied so far.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.topics.values()
    }

    /// Deleted topics whose files may still be there, oldest deletion first.
    pub fn deleted_topics(&self) -> &[DeletedTopic] {
        &self.deleted
    }

    /// All plugin versions, by name and version.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.values().flat_map(BTreeMap::values)
    }

    pub fn plugin(&self, name: &str, version: &str) -> Option<&Plugin> {
        self.plugins.get(name)?.get(version)
    }

    /// Versions of one plugin.
    pub fn plugin_versions(&self, name: &str) -> impl Iterator<Item = &Plugin> {
        self.plugins.get(name).into_iter().flat_map(BTreeMap::values)
    }

    pub fn plugin_by_digest(&self, digest: &Digest) -> Option<&Plugin> {
        self.plugins().find(|plugin| plugin.digest == *digest)
    }

    pub fn pipelines(&self) -> impl ExactSizeIterator<Item = &Pipeline> {
        self.pipelines.values()
    }

    pub fn pipeline(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.get(name)
    }

    /// Names of the pipelines whose current revision runs this plugin version.
    pub fn pipelines_using<'a>(&'a self, name: &'a str, version: &'a str) -> impl Iterator<Item = &'a str> {
        let uses = move |used: &PluginUse| used.name == name && used.version == version;
        self.pipelines().filter(move |p| p.current().plugins.iter().any(uses)).map(|p| p.name.as_str())
    }

    /// All tokens by id.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &Token> {
        self.tokens.values()
    }

    pub fn token(&self, id: &str) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// Rebuilds what is derived, after decoding.
    pub(super) fn index(&mut self) {
        self.names = self.topics.values().map(|topic| (topic.id, topic.name.clone())).collect();
    }
}

impl Pipeline {
    pub fn current(&self) -> &PipelineRevision {
        self.revisions.last().expect("a pipeline is created with its first revision")
    }

    /// The kept revisions, oldest first; the last one is current.
    pub fn revisions(&self) -> &[PipelineRevision] {
        &self.revisions
    }
}

impl TopicConfig {
    /// Takes over the fields that `change` sets.
    pub(super) fn merge(&mut self, change: &TopicConfig) {
        self.retention_ms = change.retention_ms.or(self.retention_ms);
        self.retention_bytes = change.retention_bytes.or(self.retention_bytes);
        self.segment_bytes = change.segment_bytes.or(self.segment_bytes);
        self.segment_ms = change.segment_ms.or(self.segment_ms);
        self.batch_bytes_max = change.batch_bytes_max.or(self.batch_bytes_max);
        self.replicated = change.replicated.or(self.replicated);
    }
}

impl From<&message::TopicConfig> for TopicConfig {
    fn from(wire: &message::TopicConfig) -> Self {
        TopicConfig {
            retention_ms: wire.retention_ms,
            retention_bytes: wire.retention_bytes,
            segment_bytes: wire.segment_bytes,
            segment_ms: wire.segment_ms,
            batch_bytes_max: wire.batch_bytes_max,
            replicated: wire.durability.map(|durability| durability == Durability::Replicated),
        }
    }
}

impl From<&TopicConfig> for message::TopicConfig {
    fn from(config: &TopicConfig) -> Self {
        let durability = |replicated| if replicated { Durability::Replicated } else { Durability::Disk };
        message::TopicConfig {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            segment_bytes: config.segment_bytes,
            segment_ms: config.segment_ms,
            batch_bytes_max: config.batch_bytes_max,
            durability: config.replicated.map(durability),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a digest has 64 hex digits, got `{text}`");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (i, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Digest(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Topic ids are stored as they are shown: 32 hex digits.
pub(super) mod topic_id {
    use millstream_protocol::TopicId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
