//! From a frame to the code that serves it: the one place that lists every API, and how each is run.
//!
//! Requests whose order matters on their stream (produce, commits, upload chunks) are started here before the
//! next frame is read; all others run in tasks of their own and may be answered out of order.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::message::{Api, ApiKey};
use millstream_protocol::{ErrorCode, Failure, message};
use millstream_transport::{Frame, OutFrame};

use super::session::Session;
use super::stream::Pending;
use super::{Core, cluster, data, groups, pipelines, plugins, produce, topics};

/// Starts a request. Waits only for room in the queues of those whose order matters.
pub(super) async fn begin(core: &Arc<Core>, session: &Arc<Session>, frame: Frame) -> Pending {
    let api = match frame.api() {
        Ok(api) => api,
        Err(failure) => return Pending::Ready(OutFrame::failure(&frame.header, &failure)),
    };
    match api {
        ApiKey::Hello => refused(&frame, "the session is authenticated already"),
        ApiKey::Subscribe => refused(&frame, "a subscription needs a stream of its own"),

        ApiKey::Produce => produce::begin(core, frame).await,
        ApiKey::CommitOffsets => groups::begin_commit(core, frame).await,
        ApiKey::UploadPlugin => inline(core, &frame, plugins::upload).await,

        ApiKey::ClusterStatus => spawn(core, frame, cluster::status),
        ApiKey::DescribeTopics => spawn(core, frame, topics::describe),
        ApiKey::CreateTopic => spawn(core, frame, topics::create),
        ApiKey::DeleteTopic => spawn(core, frame, topics::delete),
        ApiKey::AlterTopic => spawn(core, frame, topics::alter),
        ApiKey::DeleteRecords => spawn(core, frame, topics::delete_records),
        ApiKey::InitProducer => spawn(core, frame, data::init_producer),
        ApiKey::Fetch => {
            let session = Arc::clone(session);
            spawn_with_payload(core, frame, |core, request| data::fetch(core, session, request))
        }
        ApiKey::ListOffsets => spawn(core, frame, data::list_offsets),
        ApiKey::GroupHeartbeat => spawn(core, frame, groups::heartbeat),
        ApiKey::LeaveGroup => spawn(core, frame, groups::leave),
        ApiKey::FetchOffsets => spawn(core, frame, groups::fetch_offsets),
        ApiKey::ListGroups => spawn(core, frame, groups::list),
        ApiKey::DescribeGroup => spawn(core, frame, groups::describe),
        ApiKey::DeleteGroup => spawn(core, frame, groups::delete),
        ApiKey::ListPlugins => spawn(core, frame, plugins::list),
        ApiKey::DeletePlugin => spawn(core, frame, plugins::delete),
        ApiKey::DownloadPlugin => spawn_with_payload(core, frame, plugins::download),
        ApiKey::ApplyPipeline => spawn(core, frame, pipelines::apply),
        ApiKey::ListPipelines => spawn(core, frame, pipelines::list),
        ApiKey::DescribePipeline => spawn(core, frame, pipelines::describe),
        ApiKey::ControlPipeline => spawn(core, frame, pipelines::control),
        ApiKey::PipelineLogs => spawn(core, frame, pipelines::logs),
        ApiKey::RedrivePipeline => {
            tracing::info!(client = session.client_name, remote = %session.remote, "redrive asked for");
            spawn(core, frame, pipelines::redrive)
        }
    }
}

fn refused(frame: &Frame, why: &str) -> Pending {
    let failure = Failure::new(ErrorCode::InvalidRequest, why);
    Pending::Ready(OutFrame::failure(&frame.header, &failure))
}

/// Runs a handler in a task of its own.
fn spawn<A, H, F>(core: &Arc<Core>, frame: Frame, handler: H) -> Pending
where
    A: Api + Send + 'static,
    A::Response: Send,
    H: FnOnce(Arc<Core>, A) -> F,
    F: Future<Output = Result<A::Response, Failure>> + Send + 'static,
{
    spawn_with_payload(core, frame, |core, request| {
        let answer = handler(core, request);
        async move { Ok((answer.await?, Bytes::new())) }
    })
}

/// [`spawn`] for handlers that give bytes beside their response.
fn spawn_with_payload<A, H, F>(core: &Arc<Core>, frame: Frame, handler: H) -> Pending
where
    A: Api + Send + 'static,
    A::Response: Send,
    H: FnOnce(Arc<Core>, A) -> F,
    F: Future<Output = Result<(A::Response, Bytes), Failure>> + Send + 'static,
{
    let header = frame.header;
    let request = match frame.request::<A>() {
        Ok(request) => request,
        Err(failure) => return Pending::Ready(OutFrame::failure(&header, &failure)),
    };
    let answer = handler(Arc::clone(core), request);
    let task = tokio::spawn(async move {
        match answer.await {
            Ok((response, payload)) => {
                let payload = if payload.is_empty() { Vec::new() } else { vec![payload] };
                OutFrame::response::<A>(header.correlation, &response).with_payload(payload)
            }
            Err(failure) => OutFrame::failure(&header, &failure),
        }
    });
    Pending::Later(Box::pin(async move {
        task.await.unwrap_or_else(|_| {
            let failure =
                Failure::new(ErrorCode::Internal, format!("{} failed inside the broker; see its log", A::NAME));
            OutFrame::failure(&header, &failure)
        })
    }))
}

/// Runs a handler to its end before the stream is read further.
async fn inline<A, H, F>(core: &Arc<Core>, frame: &Frame, handler: H) -> Pending
where
    A: Api,
    H: FnOnce(Arc<Core>, A, Bytes) -> F,
    F: Future<Output = Result<A::Response, Failure>>,
{
    let answer = match frame.request::<A>() {
        Ok(request) => handler(Arc::clone(core), request, frame.payload.clone()).await,
        Err(failure) => Err(failure),
    };
    Pending::Ready(match answer {
        Ok(response) => OutFrame::response::<A>(frame.header.correlation, &response),
        Err(failure) => OutFrame::failure(&frame.header, &failure),
    })
}

/// The empty response of a handler that only has to succeed.
pub(super) fn done(outcome: Result<(), Failure>) -> Result<message::Done, Failure> {
    outcome.map(|()| message::Done)
}
