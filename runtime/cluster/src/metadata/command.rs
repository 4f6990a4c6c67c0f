//! The commands of the metadata state machine. They are stored for ever in command logs: a field may be
//! added with a default, never renamed or given another meaning.

use std::collections::BTreeMap;

use millstream_protocol::access::Grant;
use millstream_protocol::{Secret, TopicId};
use serde::{Deserialize, Serialize};

use super::state::{Digest, PluginUse, TopicConfig, topic_id};
use super::token::{grants, secrets};

/// One change. Times are milliseconds since the epoch, taken by whoever issues the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// `id` is new and random; `partitions` is at least 1.
    CreateTopic {
        name: String,
        #[serde(with = "topic_id")]
        id: TopicId,
        partitions: u32,
        config: TopicConfig,
        #[serde(default)]
        internal: bool,
        at_ms: i64,
    },
    /// The folders of the first `partitions` partitions exist: from now on a missing one is a loss, not a
    /// creation that was interrupted.
    PartitionsReady {
        #[serde(with = "topic_id")]
        id: TopicId,
        partitions: u32,
    },
    /// Sets the fields that are present; partitions may only grow.
    AlterTopic {
        name: String,
        partitions: Option<u32>,
        config: TopicConfig,
    },
    /// Deletes the life `id` of the topic; the state remembers it until [`Command::ForgetDeleted`].
    DeleteTopic {
        name: String,
        #[serde(with = "topic_id")]
        id: TopicId,
    },
    /// The files of a deleted topic are gone.
    ForgetDeleted {
        #[serde(with = "topic_id")]
        id: TopicId,
    },
    /// Adds a plugin version; repeating it with the same digest changes nothing, with another one it is
    /// refused unless `replace` is set.
    RegisterPlugin {
        name: String,
        version: String,
        digest: Digest,
        bytes: u64,
        asks: Vec<String>,
        description: String,
        at_ms: i64,
        replace: bool,
    },
    /// Refused while the current revision of a pipeline uses it.
    DeletePlugin {
        name: String,
        version: String,
    },
    /// Creates the pipeline, or gives it a new current revision.
    PutPipeline {
        name: String,
        yaml: String,
        #[serde(with = "secrets")]
        variables: BTreeMap<String, Secret>,
        plugins: Vec<PluginUse>,
        at_ms: i64,
    },
    SetPipelinePaused {
        name: String,
        paused: bool,
    },
    DeletePipeline {
        name: String,
    },
    /// Reserves the next `count` producer ids; the reserved range is in the event.
    AllocateProducerIds {
        count: u32,
    },
    /// Makes a token; `secret` is the sha256 of its secret.
    CreateToken {
        id: String,
        secret: Digest,
        #[serde(with = "grants")]
        rights: Vec<Grant>,
        expires_at_ms: Option<i64>,
        at_ms: i64,
    },
    /// Gives a token another secret; the present one is valid until `previous_until_ms`, one before it no more.
    RotateToken {
        id: String,
        secret: Digest,
        previous_until_ms: i64,
        at_ms: i64,
    },
    DeleteToken {
        id: String,
    },
    /// Takes rights of a token, then gives others. Since format 3.
    AlterToken {
        id: String,
        #[serde(with = "grants")]
        grant: Vec<Grant>,
        #[serde(with = "grants")]
        revoke: Vec<Grant>,
    },
}
