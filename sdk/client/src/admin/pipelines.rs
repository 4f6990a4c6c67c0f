//! Pipelines: apply, list, describe, control, logs, redrive.

use millstream_protocol::message::{
    ApplyPipeline, ApplyPipelineAck, ControlPipeline, DescribePipeline, DescribePipelineAck, ListPipelines, LogLine,
    PipelineAction, PipelineLogs, PipelineSummary, RedrivePipeline, RedrivePipelineAck,
};

use super::Admin;
use crate::Error;

impl Admin {
    /// Creates a pipeline or changes the running one, or only says what that would do.
    ///
    /// # Errors
    /// The YAML has mistakes (the text shows where), something it refers to is missing, or the broker can't
    /// be reached.
    pub async fn apply_pipeline(&self, request: &ApplyPipeline) -> Result<ApplyPipelineAck, Error> {
        self.call(request).await
    }

    /// All pipelines.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn list_pipelines(&self) -> Result<Vec<PipelineSummary>, Error> {
        Ok(self.link.call(&ListPipelines).await?.pipelines)
    }

    /// Tasks, steps, rates and lag of one pipeline.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn describe_pipeline(&self, name: &str) -> Result<DescribePipelineAck, Error> {
        self.link.call(&DescribePipeline { name: name.to_owned() }).await
    }

    /// Pauses, resumes, restarts, rolls back or deletes a pipeline.
    ///
    /// # Errors
    /// It does not exist, that can't be done now, or the broker can't be reached.
    pub async fn control_pipeline(&self, name: &str, action: PipelineAction) -> Result<(), Error> {
        self.call(&ControlPipeline { name: name.to_owned(), action }).await.map(|_| ())
    }

    /// The newest lines its plugins logged, only those after a sequence number.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn pipeline_logs(&self, name: &str, after: u64, lines_max: u32) -> Result<Vec<LogLine>, Error> {
        let request = PipelineLogs { name: name.to_owned(), after, lines_max };
        Ok(self.link.call(&request).await?.lines)
    }

    /// Sends every dead letter that was not redriven before through the pipeline again, once.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn redrive_pipeline(&self, name: &str) -> Result<RedrivePipelineAck, Error> {
        self.call(&RedrivePipeline { name: name.to_owned() }).await
    }
}
