//! From a frame to the code that serves it: the one place that lists every API, and how each is run. What each needs
//! to be allowed is said in [`guard`]; nothing here gets a request that was not admitted there.
//!
//! Requests whose order matters on their stream (produce, commits, upload chunks) are started here before the
//! next frame is read; all others run in tasks of their own and may be answered out of order.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::message::ApiKey;
use millstream_protocol::{ErrorCode, Failure, message};
use millstream_transport::{Frame, OutFrame};
use tracing::Instrument;

use super::guard::{Guarded, admit};
use super::session::Session;
use super::stream::Pending;
use super::{Core, cluster, data, groups, pipelines, plugins, produce, tokens, topics};

/// Starts a request. Waits only for room in the queues of those whose order matters.
pub(super) async fn begin(core: &Arc<Core>, session: &Arc<Session>, frame: Frame) -> Pending {
    let api = match frame.api() {
        Ok(api) => api,
        Err(failure) => return Pending::Ready(OutFrame::failure(&frame.header, &failure)),
    };
    let by = || Arc::clone(session);
    match api {
        ApiKey::Hello => refused(&frame, "the session is authenticated already"),
        ApiKey::Subscribe => refused(&frame, "a subscription needs a stream of its own"),

        ApiKey::Produce => produce::begin(core, session, frame).await,
        ApiKey::CommitOffsets => groups::begin_commit(core, session, frame).await,
        ApiKey::UploadPlugin => {
            let upload = |core, request, chunk| plugins::upload(core, by(), request, chunk);
            // In a box: every stream would else have room for it.
            Box::pin(inline(core, session, &frame, upload)).await
        }

        ApiKey::ClusterStatus => spawn(core, session, frame, cluster::status),
        ApiKey::DescribeTopics => spawn(core, session, frame, |core, request| topics::describe(core, by(), request)),
        ApiKey::CreateTopic => spawn(core, session, frame, topics::create),
        ApiKey::DeleteTopic => spawn(core, session, frame, topics::delete),
        ApiKey::AlterTopic => spawn(core, session, frame, topics::alter),
        ApiKey::DeleteRecords => spawn(core, session, frame, topics::delete_records),
        ApiKey::InitProducer => spawn(core, session, frame, data::init_producer),
        ApiKey::Fetch => spawn_with_payload(core, session, frame, |core, request| data::fetch(core, by(), request)),
        ApiKey::ListOffsets => spawn(core, session, frame, data::list_offsets),
        ApiKey::GroupHeartbeat => spawn(core, session, frame, groups::heartbeat),
        ApiKey::LeaveGroup => spawn(core, session, frame, groups::leave),
        ApiKey::FetchOffsets => spawn(core, session, frame, |core, request| groups::fetch_offsets(core, by(), request)),
        ApiKey::ListGroups => spawn(core, session, frame, |core, request| groups::list(core, by(), request)),
        ApiKey::DescribeGroup => spawn(core, session, frame, |core, request| groups::describe(core, by(), request)),
        ApiKey::DeleteGroup => spawn(core, session, frame, groups::delete),
        ApiKey::ListPlugins => spawn(core, session, frame, |core, request| plugins::list(core, by(), request)),
        ApiKey::DeletePlugin => spawn(core, session, frame, |core, request| plugins::delete(core, by(), request)),
        ApiKey::DownloadPlugin => spawn_with_payload(core, session, frame, plugins::download),
        ApiKey::ApplyPipeline => spawn(core, session, frame, pipelines::apply),
        ApiKey::ListPipelines => spawn(core, session, frame, |core, request| pipelines::list(core, by(), request)),
        ApiKey::DescribePipeline => spawn(core, session, frame, pipelines::describe),
        ApiKey::ControlPipeline => spawn(core, session, frame, pipelines::control),
        ApiKey::PipelineLogs => spawn(core, session, frame, pipelines::logs),
        ApiKey::RedrivePipeline => {
            tracing::info!(client = session.client_name, remote = %session.remote, "redrive asked for");
            spawn(core, session, frame, pipelines::redrive)
        }

        ApiKey::CreateToken => spawn(core, session, frame, |core, request| tokens::create(core, by(), request)),
        ApiKey::DescribeTokens => spawn(core, session, frame, tokens::describe),
        ApiKey::AlterToken => spawn(core, session, frame, |core, request| tokens::alter(core, by(), request)),
        ApiKey::RotateToken => spawn(core, session, frame, |core, request| tokens::rotate(core, by(), request)),
        ApiKey::DeleteToken => spawn(core, session, frame, |core, request| tokens::delete(core, by(), request)),
    }
}

fn refused(frame: &Frame, why: &str) -> Pending {
    let failure = Failure::new(ErrorCode::InvalidRequest, why);
    Pending::Ready(OutFrame::failure(&frame.header, &failure))
}

/// Runs a handler in a task of its own.
fn spawn<A, H, F>(core: &Arc<Core>, session: &Session, frame: Frame, handler: H) -> Pending
where
    A: Guarded + Send + 'static,
    A::Response: Send,
    H: FnOnce(Arc<Core>, A) -> F,
    F: Future<Output = Result<A::Response, Failure>> + Send + 'static,
{
    spawn_with_payload(core, session, frame, |core, request| {
        let answer = handler(core, request);
        async move { Ok((answer.await?, Bytes::new())) }
    })
}

/// [`spawn`] for handlers that give bytes beside their response.
fn spawn_with_payload<A, H, F>(core: &Arc<Core>, session: &Session, frame: Frame, handler: H) -> Pending
where
    A: Guarded + Send + 'static,
    A::Response: Send,
    H: FnOnce(Arc<Core>, A) -> F,
    F: Future<Output = Result<(A::Response, Bytes), Failure>> + Send + 'static,
{
    let header = frame.header;
    let request = match admit::<A>(session, &core.service, &frame) {
        Ok(request) => request,
        Err(failure) => return Pending::Ready(OutFrame::failure(&header, &failure)),
    };
    let answer = handler(Arc::clone(core), request);
    let span = tracing::error_span!("request", api = A::NAME, request = header.correlation);
    let work = async move {
        match answer.await {
            Ok((response, payload)) => {
                let payload = if payload.is_empty() { Vec::new() } else { vec![payload] };
                OutFrame::response::<A>(header.correlation, &response).with_payload(payload)
            }
            Err(failure) => OutFrame::failure(&header, &failure),
        }
    };
    let task = tokio::spawn(work.instrument(span));
    Pending::Later(Box::pin(async move {
        task.await.unwrap_or_else(|_| {
            let failure =
                Failure::new(ErrorCode::Internal, format!("{} failed inside the broker; see its log", A::NAME));
            OutFrame::failure(&header, &failure)
        })
    }))
}

/// Runs a handler to its end before the stream is read further.
async fn inline<A, H, F>(core: &Arc<Core>, session: &Session, frame: &Frame, handler: H) -> Pending
where
    A: Guarded,
    H: FnOnce(Arc<Core>, A, Bytes) -> F,
    F: Future<Output = Result<A::Response, Failure>>,
{
    let answer = match admit::<A>(session, &core.service, frame) {
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
