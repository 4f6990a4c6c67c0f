//! What the simulated clients and the simulated broker say to each other, and everything that happens in between.

use bytes::Bytes;
use millstream_broker::core::partition::{Appended, Fetched};
use millstream_cluster::group::Answer;
use millstream_log::SyncJob;
use millstream_protocol::message::{Acks, CommitOffsets, CommittedOffset, GroupHeartbeat, LeaveGroup};
use millstream_protocol::{Failure, Offset, TopicPartition};

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    InitProducer,
    Produce { at: TopicPartition, bytes: Bytes, acks: Acks },
    Fetch { at: TopicPartition, offset: Offset },
    LogStart { at: TopicPartition },
    Heartbeat(GroupHeartbeat),
    Leave(LeaveGroup),
    Commit(CommitOffsets),
    Committed { group: String },
}

/// Its answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Producer(Result<i64, Failure>),
    Produced(Result<Appended, Failure>),
    Fetched(Result<Fetched, Failure>),
    LogStart(Result<Offset, Failure>),
    Group(Result<Answer, Failure>),
    Committed(Result<Vec<CommittedOffset>, Failure>),
}

/// What somebody with rights does to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    /// The pipeline gets a new version of its plugin.
    Swap,
    Pause,
    Resume,
    /// Records that everybody has read are deleted.
    DeleteRecords,
    /// Failed tasks start again.
    RestartTasks,
}

/// How the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine loses power between two events.
    Power,
    /// It loses power before the n-th change to the disk from now on.
    PowerAt(u64),
    /// The process is killed; what it wrote is in the page cache.
    Kill,
    /// It closes its logs.
    Clean,
}

/// What the disk begins to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// The n-th sync from now fails.
    Sync(u64),
    /// The n-th write, creation, rename or deletion from now fails.
    Write(u64),
    /// Some reads fail.
    Reads,
    /// Some writes are short.
    Short,
    /// So many bytes fit.
    Full(u64),
    Slow,
    /// All is well again.
    None,
}

/// Work that the broker has with itself.
#[derive(Debug)]
pub(crate) enum Work {
    /// The mailbox is empty: ask for syncs.
    Drained,
    Sync {
        at: TopicPartition,
        job: SyncJob,
    },
    /// A task goes on.
    Task {
        at: TopicPartition,
        attempt: u64,
    },
    /// A task begins an attempt.
    Begin {
        at: TopicPartition,
    },
    GroupsTick,
    Tick,
    /// A clean end goes on when no sync is on its way.
    Close,
}

/// Everything that can happen, one at a time.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive {
        incarnation: u64,
        from: usize,
        number: u64,
        body: Body,
    },
    Answer {
        to: usize,
        number: u64,
        reply: Reply,
    },
    Wake {
        client: usize,
    },
    /// Its connection broke.
    Broken {
        client: usize,
    },
    Work {
        incarnation: u64,
        work: Work,
    },
    Admin(Admin),
    End(End),
    Start,
    Disk(DiskFault),
    /// The wall clock jumps by so many milliseconds.
    Jump(i64),
    /// A client stops for so many milliseconds.
    Pause {
        client: usize,
        ms: u64,
    },
    /// A client is gone, and another comes in its place.
    Die {
        client: usize,
    },
    Heal,
    /// Whether all is well and done.
    Look,
}
