//! Groups: membership, committed offsets, lag.

use std::sync::Arc;

use millstream_protocol::Failure;
use millstream_protocol::message::{
    CommitOffsets, DeleteGroup, DescribeGroup, DescribeGroupAck, Done, FetchOffsets, FetchOffsetsAck, GroupHeartbeat,
    GroupHeartbeatAck, LeaveGroup, ListGroups, ListGroupsAck,
};
use millstream_transport::{Frame, OutFrame};

use super::Core;
use super::dispatch::done;
use super::stream::Pending;

/// Commits of one stream are applied in the order they were sent.
pub(super) async fn begin_commit(core: &Arc<Core>, frame: Frame) -> Pending {
    let header = frame.header;
    let started = match frame.request::<CommitOffsets>() {
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

pub(super) async fn fetch_offsets(core: Arc<Core>, request: FetchOffsets) -> Result<FetchOffsetsAck, Failure> {
    core.service.groups().fetch_offsets(request).await
}

pub(super) async fn list(core: Arc<Core>, _request: ListGroups) -> Result<ListGroupsAck, Failure> {
    core.service.groups().list().await
}

pub(super) async fn describe(core: Arc<Core>, request: DescribeGroup) -> Result<DescribeGroupAck, Failure> {
    core.service.groups().describe(request).await
}

pub(super) async fn delete(core: Arc<Core>, request: DeleteGroup) -> Result<Done, Failure> {
    done(core.service.groups().delete(request).await)
}
