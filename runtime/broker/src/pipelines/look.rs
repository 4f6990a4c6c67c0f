//! Pipelines as metrics and `cluster status` show them.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_protocol::message::{Cause, Finding, PipelineState};

use super::Pipelines;
use super::task::TaskState;
use crate::service::Service;
use crate::stats::PipelineStats;

/// One pipeline now.
pub(crate) struct View {
    pub(crate) name: String,
    /// `running`, `paused` or `failed`.
    pub(crate) state: &'static str,
    /// Tasks by state; every state is there.
    pub(crate) tasks: BTreeMap<&'static str, usize>,
    pub(crate) lag: u64,
    pub(crate) counted: Arc<PipelineStats>,
}

impl Pipelines {
    /// All of them, those that could not be started too.
    pub(crate) fn views(&self, service: &Service) -> Vec<View> {
        let running: Vec<_> = self.inner.running().values().cloned().collect();
        let mut views: Vec<View> = Vec::new();
        for pipeline in running {
            let mut tasks: BTreeMap<&'static str, usize> = TASK_STATES.into_iter().map(|state| (state, 0)).collect();
            let own = pipeline.tasks();
            for task in &own {
                *tasks.entry(name_of(&task.shared.state())).or_default() += 1;
            }
            views.push(View {
                name: pipeline.resolved.plan.name.clone(),
                state: match pipeline.state() {
                    PipelineState::Running => "running",
                    PipelineState::Paused => "paused",
                    PipelineState::Failed => "failed",
                },
                tasks,
                lag: own.iter().map(|task| task.lag(service)).sum(),
                counted: Arc::clone(&pipeline.counted),
            });
        }
        for name in self.inner.broken().keys() {
            let (tasks, counted) = (BTreeMap::new(), Arc::default());
            views.push(View { name: name.clone(), state: "failed", tasks, lag: 0, counted });
        }
        views
    }

    /// Pipelines that need somebody, and those that try again what failed.
    pub(crate) fn troubles(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for (name, why) in &*self.inner.broken() {
            found.push(Finding {
                cause: Cause::PipelineFailed,
                message: format!("pipeline `{name}` can't be started: {why}"),
            });
        }
        let running: Vec<_> = self.inner.running().values().cloned().collect();
        for pipeline in running {
            let name = &pipeline.resolved.plan.name;
            for task in pipeline.tasks() {
                let (topic, partition) = (&task.topic.name, task.partition);
                let finding = match task.shared.state() {
                    TaskState::Failed(why) => (Cause::PipelineFailed, why),
                    TaskState::Waiting(why) => (Cause::PipelineWaiting, format!("tries again: {why}")),
                    TaskState::Running | TaskState::Ended => continue,
                };
                let (cause, why) = finding;
                found.push(Finding { cause, message: format!("pipeline `{name}` on {topic}/{partition}: {why}") });
            }
        }
        found
    }
}

const TASK_STATES: [&str; 4] = ["running", "waiting", "ended", "failed"];

fn name_of(state: &TaskState) -> &'static str {
    match state {
        TaskState::Running => "running",
        TaskState::Waiting(_) => "waiting",
        TaskState::Ended => "ended",
        TaskState::Failed(_) => "failed",
    }
}
