//! Pipelines of this broker: what is applied, and the tasks that run it.

use std::sync::Arc;

use millstream_protocol::message::{
    ApplyPipeline, ApplyPipelineAck, ControlPipeline, DescribePipeline, DescribePipelineAck, ListPipelinesAck,
    PipelineLogs, PipelineLogsAck, RedrivePipeline, RedrivePipelineAck,
};
use millstream_protocol::{ErrorCode, Failure};

use crate::error::StartError;
use crate::plugins::Plugins;
use crate::service::Service;

/// Applies, runs and describes pipelines.
#[derive(Debug)]
pub struct Pipelines {
    _service: Arc<Service>,
    _plugins: Arc<Plugins>,
}

impl Pipelines {
    /// Starts the tasks of every applied pipeline that isn't paused. A pipeline that can't run is `Failed`,
    /// not a reason for the broker to stay down.
    ///
    /// # Errors
    /// The runtime of the tasks can't be set up.
    pub(crate) async fn start(service: Arc<Service>, plugins: Arc<Plugins>) -> Result<Self, StartError> {
        Ok(Pipelines { _service: service, _plugins: plugins })
    }

    pub(crate) async fn apply(&self, _request: ApplyPipeline) -> Result<ApplyPipelineAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn list(&self) -> Result<ListPipelinesAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn describe(&self, _request: DescribePipeline) -> Result<DescribePipelineAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn control(&self, _request: ControlPipeline) -> Result<(), Failure> {
        Err(not_available())
    }

    pub(crate) async fn logs(&self, _request: PipelineLogs) -> Result<PipelineLogsAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn redrive(&self, _request: RedrivePipeline) -> Result<RedrivePipelineAck, Failure> {
        Err(not_available())
    }

    /// Stops every task at a batch boundary and commits what is done. Called once, before the shards end.
    pub(crate) async fn shutdown(&self) {}

    /// Ends the tasks as they are, as a crash would.
    pub(crate) fn abort(&self) {}
}

fn not_available() -> Failure {
    Failure::new(ErrorCode::InvalidRequest, "this broker runs no pipelines")
}
