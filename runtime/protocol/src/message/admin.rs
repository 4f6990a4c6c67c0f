//! Topics: create, describe, alter, delete, and cutting their start.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{Offset, PartitionIndex, TopicId};

/// When an acknowledgement may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Durability {
    /// After fdatasync (the default).
    Disk,
    /// From the page cache of every in-sync replica, as Kafka does; `durability: replicated`.
    Replicated,
}

/// Settings of a topic. `None` means the broker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicConfig {
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub segment_bytes: Option<u64>,
    pub segment_ms: Option<i64>,
    pub batch_bytes_max: Option<u32>,
    pub durability: Option<Durability>,
}

/// Topics by name; all of them (internal ones only when asked for) when `names` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeTopics {
    pub names: Vec<String>,
    pub include_internal: bool,
}

/// Unknown names are absent from the answer.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeTopicsAck {
    pub topics: Vec<TopicDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicDescription {
    pub name: String,
    pub id: TopicId,
    pub internal: bool,
    pub config: TopicConfig,
    /// What applies after the broker's defaults: every field is `Some`.
    pub effective: TopicConfig,
    pub created_at_ms: i64,
    pub partitions: Vec<PartitionDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionDescription {
    pub partition: PartitionIndex,
    pub leader: u32,
    pub log_start: Offset,
    /// End of what consumers may read.
    pub high_watermark: Offset,
    pub log_end: Offset,
    pub bytes: u64,
    pub segments: u32,
    /// Timestamp of the oldest segment's first record, -1 when empty.
    pub oldest_timestamp: i64,
    /// Why the partition refuses service, if it does.
    pub offline: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateTopic {
    pub name: String,
    /// At least 1.
    pub partitions: u32,
    pub config: TopicConfig,
    /// Answer with the existing topic instead of `TopicExists`.
    pub if_not_exists: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateTopicAck {
    pub id: TopicId,
    pub created: bool,
    /// Partitions of the topic, which may differ from the asked ones when it existed.
    pub partitions: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteTopic {
    pub name: String,
}

/// Sets the `Some` fields; `partitions` may only grow.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AlterTopic {
    pub name: String,
    pub partitions: Option<u32>,
    pub config: TopicConfig,
}

/// Makes records before `before` unreadable and their segments deletable.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteRecords {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// `None`: up to the high watermark.
    pub before: Option<Offset>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteRecordsAck {
    pub log_start: Offset,
}
