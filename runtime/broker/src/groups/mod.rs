//! Groups: the handle to the loop that owns them all. The rules are `cluster::group`'s and
//! [`crate::core::groups`]'; here they meet the offsets topic, the clock and the partitions whose ends make the
//! lag.
//!
//! - [`owner`]: the loop.
//! - [`store`]: the internal topic.

mod owner;
mod store;

use std::sync::Arc;

use millstream_cluster::group::{Answer, Committer, Coordinator, GroupView, Limits as GroupLimits};
use millstream_protocol::message::{
    CommitOffsets, CommittedOffset, DeleteGroup, DescribeGroup, DescribeGroupAck, FetchOffsets, FetchOffsetsAck,
    GroupHeartbeat, GroupHeartbeatAck, GroupPartition, GroupSummary, LeaveGroup, ListGroupsAck, TopicPartitions,
};
use millstream_protocol::{ErrorCode, Failure};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::core;
use crate::core::groups::Call;
use crate::error::{StartError, shutting_down};
use crate::limits::{GROUP_MAILBOX_MAX, Limits};
use crate::metadata::Metadata;
use crate::stats::Stats;
use crate::topics::Topics;

/// Everything that reaches the loop from outside.
enum Request {
    Call {
        call: Call,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
    /// Looks at the groups, or learns why there are none to look at.
    Look(Look),
    /// Finish the writes in flight and end.
    Stop {
        reply: oneshot::Sender<()>,
    },
}

type Look = Box<dyn FnOnce(Result<&Coordinator, Failure>) + Send>;

/// A commit on its way.
pub type Committing = oneshot::Receiver<Result<(), Failure>>;

/// See the module's head. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Groups {
    mailbox: mpsc::Sender<Request>,
    topics: Arc<Topics>,
    runtime: Handle,
    stats: Arc<Stats>,
    /// Why no group can be served, if that is so.
    refusing: Option<Arc<Failure>>,
}

impl Groups {
    /// Replays the offsets topic, creating it first if need be, and starts the loop. When that topic is damaged
    /// the broker starts all the same and every call says what is wrong.
    ///
    /// # Errors
    /// The topic can't be created.
    pub(crate) async fn start(
        topics: Arc<Topics>,
        metadata: &Metadata,
        limits: &Limits,
        stats: Arc<Stats>,
    ) -> Result<Self, StartError> {
        let (mailbox, requests) = mpsc::channel(GROUP_MAILBOX_MAX);
        let group_limits = GroupLimits {
            groups_max: limits.groups_max,
            members_max: limits.members_per_group_max,
            metadata_bytes_max: limits.offset_metadata_bytes_max,
            ..GroupLimits::default()
        };
        let partition = store::open(&topics).await?;
        let source = Arc::clone(&partition);
        let replayed = tokio::task::spawn_blocking(move || {
            core::groups::replay(source.log_start(), |at, bytes_max| source.read_blocking(at, bytes_max))
        })
        .await;
        let replayed = replayed.unwrap_or_else(|e| Err(Failure::new(ErrorCode::Internal, e.to_string())));
        let refusing = replayed.as_ref().err().cloned().map(Arc::new);
        match replayed {
            Ok(entries) => {
                let groups = core::groups::Groups::new(group_limits, limits.offsets_records_max, entries);
                let owner = owner::Owner::new(groups, partition, metadata.watch());
                tokio::spawn(owner.run(requests));
            }
            Err(reason) => {
                tracing::error!(%reason, "groups refuse service");
                tokio::spawn(owner::refuse(requests, reason));
            }
        }
        Ok(Groups { mailbox, topics, runtime: Handle::current(), stats, refusing })
    }

    /// Starts a commit; commits of one caller are applied in the order they were started.
    ///
    /// # Errors
    /// The broker stops.
    pub async fn begin_commit(&self, request: CommitOffsets) -> Result<Committing, Failure> {
        self.begin(request, Committer::Client).await
    }

    /// Starts the commit of a running pipeline, whose group has its name.
    ///
    /// # Errors
    /// The broker stops.
    pub async fn begin_commit_of_pipeline(
        &self,
        pipeline: &str,
        offsets: Vec<CommittedOffset>,
    ) -> Result<Committing, Failure> {
        let (group, member_id) = (pipeline.to_owned(), String::new());
        self.begin(CommitOffsets { group, member_id, generation: 0, offsets }, Committer::Pipeline).await
    }

    /// Commits for a running pipeline and waits until it is durable.
    ///
    /// # Errors
    /// The offsets topic can't be written, or a partition does not exist.
    pub async fn commit_of_pipeline(&self, pipeline: &str, offsets: Vec<CommittedOffset>) -> Result<(), Failure> {
        let committing = self.begin_commit_of_pipeline(pipeline, offsets).await?;
        committing.await.map_err(|_| shutting_down())?
    }

    /// [`Groups::commit_of_pipeline`] for guest threads.
    ///
    /// # Errors
    /// As there.
    pub fn commit_of_pipeline_blocking(&self, pipeline: &str, offsets: Vec<CommittedOffset>) -> Result<(), Failure> {
        self.runtime.block_on(self.commit_of_pipeline(pipeline, offsets))
    }

    /// Durable offsets of a group: of the partitions asked for, of all when there are none.
    ///
    /// # Errors
    /// The broker stops, or the offsets topic is damaged.
    pub async fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartitions>,
    ) -> Result<Vec<CommittedOffset>, Failure> {
        let group = group.to_owned();
        self.look(move |coordinator| coordinator.committed(&group, &partitions)).await
    }

    /// [`Groups::committed`] of a whole group, for guest threads.
    ///
    /// # Errors
    /// As there.
    pub fn committed_blocking(&self, group: &str) -> Result<Vec<CommittedOffset>, Failure> {
        self.runtime.block_on(self.committed(group, Vec::new()))
    }

    /// Forgets a group without members and without a pipeline.
    ///
    /// # Errors
    /// `UnknownGroup`, `GroupNotEmpty`, or `InUse` while the pipeline exists.
    pub async fn delete(&self, request: DeleteGroup) -> Result<(), Failure> {
        self.call(Call::Delete(request)).await.map(drop)
    }

    pub(crate) async fn heartbeat(&self, request: GroupHeartbeat) -> Result<GroupHeartbeatAck, Failure> {
        match self.call(Call::Heartbeat { request, fresh: rand::random() }).await? {
            Answer::Heartbeat(ack) => Ok(ack),
            Answer::Done => Err(Failure::new(ErrorCode::Internal, "a heartbeat was answered as something else")),
        }
    }

    pub(crate) async fn leave(&self, request: LeaveGroup) -> Result<(), Failure> {
        self.call(Call::Leave(request)).await.map(drop)
    }

    pub(crate) async fn fetch_offsets(&self, request: FetchOffsets) -> Result<FetchOffsetsAck, Failure> {
        Ok(FetchOffsetsAck { offsets: self.committed(&request.group, request.partitions).await? })
    }

    pub(crate) async fn count(&self) -> Result<usize, Failure> {
        self.look(Coordinator::group_count).await
    }

    pub(crate) async fn list(&self) -> Result<ListGroupsAck, Failure> {
        let summary = |(view, partitions): (GroupView, Vec<GroupPartition>)| GroupSummary {
            state: view.state.to_string(),
            members: u32::try_from(view.members.len()).unwrap_or(u32::MAX),
            lag: partitions.iter().filter_map(|partition| partition.lag).sum(),
            group: view.group,
        };
        Ok(ListGroupsAck { groups: self.views().await?.into_iter().map(summary).collect() })
    }

    pub(crate) async fn describe(&self, request: DescribeGroup) -> Result<DescribeGroupAck, Failure> {
        let name = request.group.clone();
        let view = self.look(move |coordinator| coordinator.describe(&name)).await?;
        let unknown = || Failure::new(ErrorCode::UnknownGroup, format!("group `{}` does not exist", request.group));
        let view = view.ok_or_else(unknown)?;
        Ok(DescribeGroupAck {
            partitions: self.partitions(&view),
            group: view.group,
            state: view.state.to_string(),
            generation: view.generation,
            members: view.members,
        })
    }

    /// Adds the ends of the logs. Partitions that were deleted meanwhile are left out.
    fn partitions(&self, view: &GroupView) -> Vec<GroupPartition> {
        let described = view.partitions.iter().filter_map(|known| {
            let partition = self.topics.partition(known.topic, known.partition).ok()?;
            let (start, log_end) = (partition.log_start(), partition.high_watermark());
            // What was deleted by retention can't be read any more, so it isn't behind.
            let behind = |committed| u64::try_from(log_end - start.max(committed)).unwrap_or(0);
            Some(GroupPartition {
                topic: known.topic_name.clone(),
                partition: known.partition,
                committed: known.committed,
                log_end,
                lag: known.committed.map(behind),
                member_id: known.member_id.clone(),
                metadata: known.metadata.clone(),
            })
        });
        described.collect()
    }

    /// Why no group can be served, if that is so.
    pub(crate) fn refusing(&self) -> Option<&Failure> {
        self.refusing.as_deref()
    }

    /// Every group as it is now, with the ends of the logs.
    pub(crate) async fn views(&self) -> Result<Vec<(GroupView, Vec<GroupPartition>)>, Failure> {
        let views = self.look(|coordinator| {
            let groups = coordinator.groups();
            groups.iter().filter_map(|group| coordinator.describe(group)).collect::<Vec<GroupView>>()
        });
        let with_ends = |view: GroupView| {
            let partitions = self.partitions(&view);
            (view, partitions)
        };
        Ok(views.await?.into_iter().map(with_ends).collect())
    }

    pub(crate) async fn shutdown(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.mailbox.send(Request::Stop { reply }).await.is_ok() {
            let _ = stopped.await;
        }
    }

    async fn begin(&self, request: CommitOffsets, committer: Committer) -> Result<Committing, Failure> {
        let (reply, answer) = oneshot::channel();
        let call = Call::Commit(request, committer);
        self.mailbox.send(Request::Call { call, reply }).await.map_err(|_| shutting_down())?;
        let (done, committing) = oneshot::channel();
        let stats = Arc::clone(&self.stats);
        tokio::spawn(async move {
            let outcome = answer.await.unwrap_or_else(|_| Err(shutting_down()));
            stats.commits.add(outcome.as_ref().map(drop).map_err(|failure| failure.code));
            let _ = done.send(outcome.map(drop));
        });
        Ok(committing)
    }

    async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Request::Call { call, reply }).await.map_err(|_| shutting_down())?;
        answer.await.map_err(|_| shutting_down())?
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Coordinator) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Look(Box::new(move |coordinator| drop(reply.send(coordinator.map(look)))));
        self.mailbox.send(request).await.map_err(|_| shutting_down())?;
        answer.await.map_err(|_| shutting_down())?
    }
}
