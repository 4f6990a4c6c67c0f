//! Pipelines: apply, look at, control, redrive.

use std::sync::Arc;

use millstream_protocol::Failure;
use millstream_protocol::message::{
    ApplyPipeline, ApplyPipelineAck, ControlPipeline, DescribePipeline, DescribePipelineAck, Done, ListPipelines,
    ListPipelinesAck, PipelineLogs, PipelineLogsAck, RedrivePipeline, RedrivePipelineAck,
};

use millstream_protocol::access::Resource;

use super::Core;
use super::dispatch::done;
use super::session::Session;

pub(super) async fn apply(core: Arc<Core>, request: ApplyPipeline) -> Result<ApplyPipelineAck, Failure> {
    core.pipelines.apply(request).await
}

pub(super) async fn list(
    core: Arc<Core>,
    session: Arc<Session>,
    _request: ListPipelines,
) -> Result<ListPipelinesAck, Failure> {
    let mut ack = core.pipelines.list().await?;
    ack.pipelines.retain(|pipeline| session.caller.sees(Resource::Pipeline, &pipeline.name));
    Ok(ack)
}

pub(super) async fn describe(core: Arc<Core>, request: DescribePipeline) -> Result<DescribePipelineAck, Failure> {
    core.pipelines.describe(request).await
}

pub(super) async fn control(core: Arc<Core>, request: ControlPipeline) -> Result<Done, Failure> {
    done(core.pipelines.control(request).await)
}

pub(super) async fn logs(core: Arc<Core>, request: PipelineLogs) -> Result<PipelineLogsAck, Failure> {
    core.pipelines.logs(request).await
}

pub(super) async fn redrive(core: Arc<Core>, request: RedrivePipeline) -> Result<RedrivePipelineAck, Failure> {
    core.pipelines.redrive(request).await
}
