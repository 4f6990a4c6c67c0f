//! Consumer groups: membership by heartbeat with server-side assignment (the shape of KIP-848), and
//! committed offsets.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{Offset, PartitionIndex, TopicId};

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicPartitions {
    pub topic: TopicId,
    pub partitions: Vec<PartitionIndex>,
}

/// Joins (empty `member_id`) or stays in a group. The answer carries the member's assignment; a member
/// first stops and commits partitions that left its assignment, then reports without them in `owned`,
/// and only then are they given to another member.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupHeartbeat {
    pub group: String,
    /// Empty to join; the broker chooses it.
    pub member_id: String,
    /// The generation this member knows; 0 to join.
    pub generation: u32,
    pub client_name: String,
    /// Topic names subscribed to.
    pub topics: Vec<String>,
    pub session_timeout_ms: u32,
    /// What the member is still reading.
    pub owned: Vec<TopicPartitions>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupHeartbeatAck {
    pub member_id: String,
    pub generation: u32,
    /// What the member should be reading now.
    pub assignment: Vec<TopicPartitions>,
    pub heartbeat_interval_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LeaveGroup {
    pub group: String,
    pub member_id: String,
}

/// Commits durably. `member_id` and `generation` fence zombies; an empty `member_id` commits for a group
/// that has no members (simple consumers, `group reset`).
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CommitOffsets {
    pub group: String,
    pub member_id: String,
    pub generation: u32,
    pub offsets: Vec<CommittedOffset>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
    /// The client's own note, up to 4 KiB, returned as it was.
    pub metadata: String,
}

/// All committed offsets of the group when `partitions` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FetchOffsets {
    pub group: String,
    pub partitions: Vec<TopicPartitions>,
}

/// Partitions without a committed offset are absent.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FetchOffsetsAck {
    pub offsets: Vec<CommittedOffset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListGroups;

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListGroupsAck {
    pub groups: Vec<GroupSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupSummary {
    pub group: String,
    /// `empty`, `stable`, `rebalancing` or `pipeline`.
    pub state: String,
    pub members: u32,
    /// Sum over all committed partitions.
    pub lag: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeGroup {
    pub group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeGroupAck {
    pub group: String,
    pub state: String,
    pub generation: u32,
    pub members: Vec<GroupMember>,
    pub partitions: Vec<GroupPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupMember {
    pub member_id: String,
    pub client_name: String,
    pub session_timeout_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupPartition {
    pub topic: String,
    pub partition: PartitionIndex,
    pub committed: Option<Offset>,
    pub log_end: Offset,
    pub lag: Option<u64>,
    /// Empty when nobody owns it.
    pub member_id: String,
    pub metadata: String,
}

/// Only for groups without members.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteGroup {
    pub group: String,
}
