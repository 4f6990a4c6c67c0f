//! A pipeline that is applied: its plan and its tasks, one per partition of its inputs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::StepStats;
use millstream_protocol::message::{
    DescribePipelineAck, PipelinePlugin, PipelineState, PipelineSummary, StepStatus, Swap as SwapRow, TaskStatus,
};
use millstream_protocol::{Failure, PartitionIndex};
use tokio::sync::oneshot;

use super::guest::GuestSpec;
use super::logs::Logs;
use super::resolve::Resolved;
use super::task::{Swap, Task, TaskSpec, TaskState};
use crate::service::Service;
use crate::stats::PipelineStats;

/// See the module's head. A changed plan makes a new one, which takes over the tasks or starts its own.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) revision: u32,
    pub(super) resolved: Resolved,
    pub(super) paused: bool,
    pub(super) started_at_ms: i64,
    pub(super) logs: Arc<Logs>,
    pub(super) redriving: Arc<AtomicBool>,
    pub(super) counted: Arc<PipelineStats>,
    tasks: Mutex<Vec<Arc<Task>>>,
}

impl Running {
    pub(super) fn new(revision: u32, resolved: Resolved, paused: bool, started_at_ms: i64) -> Self {
        Running {
            revision,
            resolved,
            paused,
            started_at_ms,
            logs: Arc::default(),
            redriving: Arc::default(),
            counted: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    /// The successor of `self`: same log lines, counts and tasks.
    pub(super) fn with(&self, revision: u32, resolved: Resolved) -> Running {
        Running {
            revision,
            resolved,
            paused: self.paused,
            started_at_ms: self.started_at_ms,
            logs: Arc::clone(&self.logs),
            redriving: Arc::clone(&self.redriving),
            counted: Arc::clone(&self.counted),
            tasks: Mutex::new(self.tasks()),
        }
    }

    /// The successor without tasks, paused or not.
    pub(super) fn emptied(&self, paused: bool, started_at_ms: i64) -> Running {
        let successor = Running { started_at_ms, paused, ..self.with(self.revision, self.resolved.clone()) };
        successor.lock().clear();
        successor
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tasks(&self) -> Vec<Arc<Task>> {
        self.lock().clone()
    }

    /// Starts a task for every input partition that has none. Partitions may be added and topics created
    /// at any time, so this is called again and again.
    pub(super) fn start_missing(&self, service: &Arc<Service>) -> Result<usize, Failure> {
        if self.paused {
            return Ok(0);
        }
        let state = service.state();
        let mut tasks = self.lock();
        let mut started = 0;
        for (input, wanted) in self.resolved.plan.inputs.iter().enumerate() {
            let Some(topic) = state.topic(&wanted.topic) else { continue };
            // Tasks of an earlier topic of this name are over.
            tasks.retain(|task| task.topic.name != topic.name || task.topic.id == topic.id);
            for index in (0..topic.partitions).map(PartitionIndex) {
                if tasks.iter().any(|task| task.topic.id == topic.id && task.partition == index) {
                    continue;
                }
                tasks.push(Arc::new(Task::start(TaskSpec {
                    service: Arc::clone(service),
                    plan: Arc::clone(&self.resolved.plan),
                    guests: self.resolved.guests.clone(),
                    input,
                    topic: topic.clone(),
                    partition: index,
                    logs: Arc::clone(&self.logs),
                    counted: Arc::clone(&self.counted),
                })?));
                started += 1;
            }
        }
        Ok(started)
    }

    /// Ends all tasks at a batch boundary and forgets them.
    pub(super) async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.lock());
        tasks.iter().for_each(|task| task.stop());
        for task in tasks {
            task.join().await;
        }
    }

    /// Forgets tasks that failed, so that they are started again.
    pub(super) async fn drop_failed(&self) -> usize {
        let failed: Vec<_> = self.tasks().into_iter().filter(|task| !task.is_live()).collect();
        for task in &failed {
            task.join().await;
        }
        self.lock().retain(|task| !failed.iter().any(|gone| Arc::ptr_eq(task, gone)));
        failed.len()
    }

    pub(super) fn abort(&self) {
        self.lock().iter().for_each(|task| task.abort());
    }

    /// Hands the new guests of these plugin steps to every live task. Every instance starts before any task
    /// is disturbed.
    ///
    /// # Errors
    /// A guest does not start; nothing was changed then.
    pub(super) async fn swap(&self, changed: &[usize], old: &[Arc<GuestSpec>]) -> Result<Vec<SwapRow>, Failure> {
        let tasks: Vec<_> = self.tasks().into_iter().filter(|task| task.is_live()).collect();
        let (guests, plugins, homes) =
            (self.resolved.guests.clone(), changed.to_vec(), tasks.iter().map(|task| task.home.clone()));
        let homes: Vec<_> = homes.collect();
        let started = tokio::task::spawn_blocking(move || {
            let one = |home| {
                let start = |plugin: &usize| guests[*plugin].start(home).map(|hosted| (*plugin, hosted));
                plugins.iter().map(start).collect::<Result<Vec<_>, _>>()
            };
            homes.iter().map(one).collect::<Result<Vec<_>, _>>()
        });
        let internal = |message: String| Failure::new(millstream_protocol::ErrorCode::Internal, message);
        let fresh = started.await.map_err(|e| internal(e.to_string()))?;
        let fresh = fresh.map_err(|e| Failure::new(millstream_protocol::ErrorCode::InvalidPipeline, e.to_string()))?;
        let swaps = tasks.iter().zip(fresh).map(|(task, fresh)| async move {
            let (reply, swapped) = oneshot::channel();
            let (plan, guests) = (Arc::clone(&self.resolved.plan), self.resolved.guests.clone());
            task.swap(Swap { plan, guests, fresh, reply }, swapped).await
        });
        let swapped = futures_util::future::join_all(swaps).await;
        for swapped in swapped.iter().flatten() {
            self.counted.swap_pause.record(Duration::from_micros(swapped.pause_us));
        }
        let mut rows = Vec::new();
        for plugin in changed {
            let (old, new) = (&old[*plugin], &self.resolved.guests[*plugin]);
            for (task, swapped) in tasks.iter().zip(&swapped) {
                let Some(swapped) = swapped else { continue };
                rows.push(SwapRow {
                    step: new.step.clone(),
                    plugin: self.resolved.uses[*plugin].name.clone(),
                    old: old.plugin.digest(),
                    new: new.plugin.digest(),
                    topic: task.topic.name.clone(),
                    partition: task.partition.0,
                    offset: swapped.offset,
                    pause_us: swapped.pause_us,
                });
            }
        }
        self.counted.swaps.add(rows.len() as u64);
        Ok(rows)
    }

    pub(super) fn state(&self) -> PipelineState {
        let failed = |task: &Arc<Task>| matches!(task.shared.state(), TaskState::Failed(_));
        match (self.paused, self.lock().iter().any(failed)) {
            (true, _) => PipelineState::Paused,
            (false, true) => PipelineState::Failed,
            (false, false) => PipelineState::Running,
        }
    }

    /// Per step, over all tasks.
    fn stats(&self) -> Vec<StepStats> {
        let mut total = vec![StepStats::default(); self.resolved.plan.steps.len()];
        for task in self.tasks() {
            let stats = task.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
            total.iter_mut().zip(stats.iter()).for_each(|(total, own)| total.add(own));
        }
        total
    }

    pub(super) fn summary(&self, service: &Service) -> PipelineSummary {
        let tasks = self.tasks();
        let sum = |count: fn(&Task) -> u64| tasks.iter().map(|task| count(task)).sum();
        PipelineSummary {
            name: self.resolved.plan.name.clone(),
            state: self.state(),
            revision: self.revision,
            tasks: tasks.len() as u32,
            lag: tasks.iter().map(|task| task.lag(service)).sum(),
            records_in: sum(|task| task.shared.records_in.load(Ordering::Relaxed)),
            records_out: sum(|task| task.shared.records_out.load(Ordering::Relaxed)),
            dead_letters: self.stats().iter().map(|step| step.dead_letters).sum(),
        }
    }

    pub(super) fn describe(&self, service: &Service) -> DescribePipelineAck {
        let Resolved { yaml, plan, uses, .. } = &self.resolved;
        let plugin = |used: &millstream_cluster::metadata::PluginUse| PipelinePlugin {
            step: used.step.clone(),
            name: used.name.clone(),
            version: used.version.clone(),
            digest: used.digest.0,
        };
        let steps = plan.steps.iter().zip(self.stats()).map(|(step, stats)| StepStatus {
            step: step.name.clone(),
            records_in: stats.records_in,
            records_out: stats.records_out,
            failed: stats.failed,
            dead_letters: stats.dead_letters,
            skipped: stats.skipped,
            restarts: stats.restarts,
            batch_us_p99: stats.batch_time.percentile_ns(99).div_ceil(1000),
            counters: stats.counters.into_iter().collect(),
        });
        let outputs = plan.sinks.iter().filter(|sink| sink.role == Role::Output);
        DescribePipelineAck {
            name: plan.name.clone(),
            state: self.state(),
            revision: self.revision,
            started_at_ms: self.started_at_ms,
            guarantee: plan.guarantee.name().to_owned(),
            yaml: yaml.clone(),
            plugins: uses.iter().map(plugin).collect(),
            tasks: self.tasks().iter().map(|task| self.task_status(task, service)).collect(),
            steps: steps.collect(),
            outputs: outputs.map(|sink| sink.topic.clone()).collect(),
        }
    }

    fn task_status(&self, task: &Task, service: &Service) -> TaskStatus {
        let stats = task.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let busy_ns: u64 = stats.iter().map(|step| step.batch_time.total_ns).sum();
        drop(stats);
        let records_in = task.shared.records_in.load(Ordering::Relaxed);
        TaskStatus {
            topic: task.topic.name.clone(),
            partition: task.partition.0,
            position: task.position(),
            lag: task.lag(service),
            records_in,
            rate: task.rate(),
            cost_ns: busy_ns / records_in.max(1),
            state: match task.shared.state() {
                TaskState::Running => "running".into(),
                TaskState::Waiting(why) => format!("waiting: {why}"),
                TaskState::Ended => "ended".into(),
                TaskState::Failed(why) => why,
            },
        }
    }
}
