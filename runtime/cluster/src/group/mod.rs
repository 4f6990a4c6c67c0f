//! Consumer groups: who is a member, which partitions each member reads, and how far the group has read.
//! One [`Coordinator`] serves every group of its node; members come and go by heartbeat (KIP-848's shape).
//!
//! Invariants: a partition is never given to a member while another may still read it, or its commit is on its way;
//! a commit counts only from the member that holds the partition, in the generation it was given or a later one; an
//! offset is visible only when it is durable.
//!
//! The caller carries [`Output::Persist`] to a log in the order of its numbers and reports back, and calls
//! [`Coordinator::handle`] with [`Event::Tick`] when [`Coordinator::next_deadline`] has passed.

mod assign;
pub mod codec;
mod coordinator;
mod members;
mod offsets;
mod view;

pub use codec::Entry;
pub use coordinator::Coordinator;
pub use view::{GroupState, GroupView, PartitionView};

use millstream_protocol::message::{CommitOffsets, DeleteGroup, GroupHeartbeat, GroupHeartbeatAck, LeaveGroup};
use millstream_protocol::{Failure, TopicId};

/// Names a request towards whoever waits for its answer; chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Numbers the writes of committed offsets, rising by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Who commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committer {
    /// A client, fenced by member id and generation.
    Client,
    /// The running pipeline that the group belongs to.
    Pipeline,
}

/// What a coordinator knows about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    pub id: TopicId,
    pub partitions: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All topics that exist; comes once after [`Coordinator::replay`] and at each change. Offsets of topics
    /// that are gone are forgotten.
    TopicsChanged {
        topics: Vec<TopicInfo>,
    },
    /// All pipelines that exist: the groups with their names take no members.
    PipelinesChanged {
        pipelines: Vec<String>,
    },
    /// `fresh_id` becomes the member's id when it joins; no two calls may give the same.
    Heartbeat {
        ticket: Ticket,
        request: GroupHeartbeat,
        fresh_id: String,
    },
    Leave {
        ticket: Ticket,
        request: LeaveGroup,
    },
    Commit {
        ticket: Ticket,
        request: CommitOffsets,
        committer: Committer,
    },
    Delete {
        ticket: Ticket,
        request: DeleteGroup,
    },
    /// The write is on disk, and so are all before it.
    Persisted {
        write: WriteId,
    },
    /// The write failed.
    PersistFailed {
        write: WriteId,
        failure: Failure,
    },
    /// Nothing happened but time.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Answer {
        ticket: Ticket,
        result: Result<Answer, Failure>,
    },
    /// Append durably, after the writes before, then say [`Event::Persisted`].
    Persist {
        write: WriteId,
        entries: Vec<Entry>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Heartbeat(GroupHeartbeatAck),
    Done,
}

/// Limits of a coordinator. Durations in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub groups_max: usize,
    pub members_max: usize,
    /// Topics one member may subscribe to.
    pub topics_max: usize,
    pub metadata_bytes_max: usize,
    pub session_ms_min: u32,
    pub session_ms_max: u32,
    /// A member that keeps a revoked partition longer than this is expelled.
    pub revoke_ms_max: u32,
    /// Upper bound of the heartbeat interval: how late a member may learn of a rebalance.
    pub heartbeat_ms_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            groups_max: 10_000,
            members_max: 1_000,
            topics_max: 1_000,
            metadata_bytes_max: 4 * 1024,
            session_ms_min: 500,
            session_ms_max: 30 * 60 * 1000,
            revoke_ms_max: 60 * 1000,
            heartbeat_ms_max: 1000,
        }
    }
}

#[cfg(test)]
mod tests;
