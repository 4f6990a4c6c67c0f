//! What the simulated clients and the simulated broker say to each other, and everything that happens in between.

use bytes::Bytes;
use millstream_broker::core::partition::{Appended, Fetched};
use millstream_cluster::group::Answer;
use millstream_log::SyncJob;
use millstream_protocol::message::{Acks, CommitOffsets, CommittedOffset, GroupHeartbeat, LeaveGroup};
use millstream_protocol::{Failure, Offset, TopicId, TopicPartition};

use super::tasks::Key;

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    InitProducer,
    Produce {
        at: TopicPartition,
        bytes: Bytes,
        acks: Acks,
    },
    Fetch {
        at: TopicPartition,
        offset: Offset,
    },
    LogStart {
        at: TopicPartition,
    },
    Heartbeat(GroupHeartbeat),
    Leave(LeaveGroup),
    Commit(CommitOffsets),
    Committed {
        group: String,
    },
    /// Which topic has this name now.
    Topic {
        name: &'static str,
    },
}

impl Body {
    /// The partitions that it is about.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        match self {
            Body::Produce { at, .. } | Body::Fetch { at, .. } | Body::LogStart { at } => vec![*at],
            Body::Commit(request) => {
                let own = |own: &CommittedOffset| TopicPartition { topic: own.topic, partition: own.partition };
                request.offsets.iter().map(own).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Its answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Producer(Result<i64, Failure>),
    /// `power`: how often the power had gone before.
    Produced {
        outcome: Result<Appended, Failure>,
        power: u64,
    },
    Fetched(Result<Fetched, Failure>),
    LogStart(Result<Offset, Failure>),
    Group(Result<Answer, Failure>),
    Committed(Result<Vec<CommittedOffset>, Failure>),
    Topic(Option<TopicId>),
}

/// What somebody with rights does to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    /// The pipeline gets a new version of its plugin.
    Swap,
    Pause,
    /// As soon as a commit is on its way.
    PauseAtCommit,
    Resume,
    /// Dead letters go through their pipeline again.
    Redrive,
    /// The pipeline that stops at what fails gets another policy, or the old one again.
    Lenient(bool),
    DeleteTopic,
    CreateTopic,
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
    Task(Key),
    /// A task of this pipeline begins an attempt.
    Begin {
        pipeline: usize,
        at: TopicPartition,
    },
    /// The redrive of this number goes on.
    Redrive(u64),
    /// The files of a deleted topic go.
    RemoveFiles(TopicId),
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
