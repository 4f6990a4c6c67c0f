//! Groups: membership, committed offsets, lag.

use std::sync::Arc;

use millstream_protocol::Failure;
use millstream_protocol::message::{
    CommitOffsets, DeleteGroup, DescribeGroup, DescribeGroupAck, Done, FetchOffsets, FetchOffsetsAck, GroupHeartbeat,
    GroupHeartbeatAck, LeaveGroup, ListGroups, ListGroupsAck,
};
use millstream_transport::{Frame, OutFrame};

use millstream_protocol::access::Resource;

use super::Core;
use super::dispatch::done;
use super::guard::admit;
use super::session::Session;
use super::stream::Pending;

/// Commits of one stream are applied in the order they were sent.
pub(super) async fn begin_commit(core: &Arc<Core>, session: &Session, frame: Frame) -> Pending {
    let header = frame.header;
    let started = match admit::<CommitOffsets>(session, &core.service, &frame) {
        Ok(request) => core.service.groups().begin_commit(request).await,
        Err(failure) => Err(failure),
    };
    match started {
        Ok(outcome) => Pending::Later(Box::pin(async move {
            match outcome.await.unwrap_or_else(|_| Err(crate::error::shutting_down())) {
                Ok(()) => OutFrame::response::<CommitOffsets>(header.correlation, &Done),
                Err(failure) => OutFrame::failure(&header, &failure),
            }
        })),
        Err(failure) => Pending::Ready(OutFrame::failure(&header, &failure)),
    }
}

pub(super) async fn heartbeat(core: Arc<Core>, request: GroupHeartbeat) -> Result<GroupHeartbeatAck, Failure> {
    core.service.groups().heartbeat(request).await
}

pub(super) async fn leave(core: Arc<Core>, request: LeaveGroup) -> Result<Done, Failure> {
    done(core.service.groups().leave(request).await)
}

/// Offsets on topics that the caller sees.
pub(super) async fn fetch_offsets(
    core: Arc<Core>,
    session: Arc<Session>,
    request: FetchOffsets,
) -> Result<FetchOffsetsAck, Failure> {
    let mut ack = core.service.groups().fetch_offsets(request).await?;
    ack.offsets.retain(|offset| session.caller.sees_topic(offset.topic));
    Ok(ack)
}

pub(super) async fn list(
    core: Arc<Core>,
    session: Arc<Session>,
    _request: ListGroups,
) -> Result<ListGroupsAck, Failure> {
    let mut ack = core.service.groups().list().await?;
    ack.groups.retain(|group| session.caller.sees(Resource::Group, &group.group));
    Ok(ack)
}

/// Partitions of topics that the caller sees.
pub(super) async fn describe(
    core: Arc<Core>,
    session: Arc<Session>,
    request: DescribeGroup,
) -> Result<DescribeGroupAck, Failure> {
    let mut ack = core.service.groups().describe(request).await?;
    ack.partitions.retain(|partition| session.caller.sees(Resource::Topic, &partition.topic));
    Ok(ack)
}

pub(super) async fn delete(core: Arc<Core>, request: DeleteGroup) -> Result<Done, Failure> {
    done(core.service.groups().delete(request).await)
}
