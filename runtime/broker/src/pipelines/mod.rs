//! Pipelines of this broker: what is applied, and the tasks that run it, one thread per input partition.
//!
//! - [`resolve`]: from YAML to a plan with compiled plugins; [`change`]: what applying it changes.
//! - [`running`]: one applied pipeline and its tasks; [`task`], [`work`]: a task from outside and inside.
//! - [`guest`], [`sink`]: plugin instances and output topics as the runner sees them.
//! - [`redrive`], [`logs`]: dead letters sent back; the newest log lines. [`masks`] keeps secrets out of both.
//! - [`look`]: what metrics and `cluster status` show.

mod change;
mod guest;
mod logs;
mod look;
mod masks;
mod redrive;
mod resolve;
mod running;
mod sink;
mod task;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_cluster::metadata::{Command, Event, PipelineRevision, PluginUse};
use millstream_protocol::message::{
    ApplyPipeline, ApplyPipelineAck, ControlPipeline, DeleteGroup, DescribePipeline, DescribePipelineAck,
    ListPipelinesAck, PipelineAction, PipelineLogs, PipelineLogsAck, PipelineState, PipelineSummary, RedrivePipeline,
    RedrivePipelineAck, Swap, TaskStatus,
};
use millstream_protocol::{ErrorCode, Failure, Secret};

use crate::clock::now_ms;
use crate::error::StartError;
use crate::plugins::Plugins;
use crate::service::Service;
use change::Change;
use masks::Masks;
use resolve::Resolved;
use running::Running;

pub(crate) use look::View;

/// How often partitions that were added get their tasks, and rates are taken.
const TICK: Duration = Duration::from_secs(1);
/// Log lines of one answer.
const LOG_LINES_MAX: usize = 1_000;

/// Applies, runs and describes pipelines.
#[derive(Debug)]
pub struct Pipelines {
    inner: Arc<Inner>,
    ticker: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    service: Arc<Service>,
    plugins: Arc<Plugins>,
    /// By name; pipelines that can't run at all are in `broken`.
    running: Mutex<BTreeMap<String, Arc<Running>>>,
    /// Applied pipelines that could not be started, and why.
    broken: Mutex<BTreeMap<String, String>>,
    /// Applying and controlling happen one at a time.
    changing: tokio::sync::Mutex<bool>,
}

impl Pipelines {
    /// Starts the tasks of every applied pipeline that isn't paused. A pipeline that can't run is `Failed`,
    /// not a reason for the broker to stay down.
    ///
    /// # Errors
    /// None today.
    pub(crate) async fn start(service: Arc<Service>, plugins: Arc<Plugins>) -> Result<Self, StartError> {
        let inner = Arc::new(Inner {
            service,
            plugins,
            running: Mutex::default(),
            broken: Mutex::default(),
            changing: tokio::sync::Mutex::new(true),
        });
        let state = inner.service.state();
        for pipeline in state.pipelines() {
            if let Err(failure) = inner.recover(pipeline.current(), pipeline.paused).await {
                tracing::error!(pipeline = %pipeline.name, %failure, "pipeline can't be started");
                inner.broken().insert(pipeline.name.clone(), failure.message);
            }
        }
        let ticking = Arc::downgrade(&inner);
        let ticker = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(inner) = ticking.upgrade() else { return };
                inner.tick().await;
            }
        });
        Ok(Pipelines { inner, ticker })
    }

    pub(crate) async fn apply(&self, request: ApplyPipeline) -> Result<ApplyPipelineAck, Failure> {
        let limits = &self.inner.service.config().limits;
        if request.yaml.len() > limits.pipeline_bytes_max {
            let message = format!("a pipeline has at most {} bytes (pipeline_bytes_max)", limits.pipeline_bytes_max);
            return Err(Failure::new(ErrorCode::LimitExceeded, message));
        }
        let variables = request.variables.into_iter().map(|(name, value)| (name, value.into())).collect();
        let text = Text { yaml: request.yaml, variables, plugins: None };
        self.inner.apply(text, request.create_partitions, request.dry_run).await
    }

    pub(crate) async fn list(&self) -> Result<ListPipelinesAck, Failure> {
        let mut pipelines: Vec<PipelineSummary> =
            self.inner.running().values().map(|running| running.summary(&self.inner.service)).collect();
        let state = self.inner.service.state();
        for name in self.inner.broken().keys() {
            pipelines.push(PipelineSummary {
                name: name.clone(),
                state: PipelineState::Failed,
                revision: state.pipeline(name).map_or(0, |pipeline| pipeline.current().revision),
                tasks: 0,
                lag: 0,
                records_in: 0,
                records_out: 0,
                dead_letters: 0,
            });
        }
        pipelines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListPipelinesAck { pipelines })
    }

    pub(crate) async fn describe(&self, request: DescribePipeline) -> Result<DescribePipelineAck, Failure> {
        let running = self.inner.get(&request.name)?;
        let mut described = running.describe(&self.inner.service);
        if running.paused {
            described.tasks = self.inner.resting(&running).await?;
        }
        Ok(described)
    }

    pub(crate) async fn control(&self, request: ControlPipeline) -> Result<(), Failure> {
        let ControlPipeline { name, action } = request;
        match action {
            PipelineAction::Pause => self.inner.pause(&name, true).await,
            PipelineAction::Resume => self.inner.pause(&name, false).await,
            PipelineAction::Delete => self.inner.delete(&name).await,
            PipelineAction::Restart => self.inner.restart(&name).await,
            PipelineAction::Rollback => self.inner.rollback(&name).await,
        }
    }

    pub(crate) async fn logs(&self, request: PipelineLogs) -> Result<PipelineLogsAck, Failure> {
        let running = self.inner.get(&request.name)?;
        let max = match request.lines_max {
            0 => LOG_LINES_MAX,
            max => (max as usize).min(LOG_LINES_MAX),
        };
        Ok(PipelineLogsAck { lines: running.logs.after(request.after, max) })
    }

    pub(crate) async fn redrive(&self, request: RedrivePipeline) -> Result<RedrivePipelineAck, Failure> {
        let running = self.inner.get(&request.name)?;
        if running.redriving.swap(true, Ordering::AcqRel) {
            let message = format!("pipeline `{}` is being redriven already: wait for it", request.name);
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        let redrive = redrive::Redrive {
            service: Arc::clone(&self.inner.service),
            resolved: running.resolved.clone(),
            logs: Arc::clone(&running.logs),
            counted: Arc::clone(&running.counted),
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = redrive.run();
            // The thread has other work after this.
            millstream_plugin_host::release_core();
            done
        })
        .await;
        running.redriving.store(false, Ordering::Release);
        done.unwrap_or_else(|e| Err(Failure::new(ErrorCode::Internal, e.to_string())))
    }

    /// Stops every task at a batch boundary and commits what is done. Called once, before the shards end.
    pub(crate) async fn shutdown(&self) {
        let mut open = self.inner.changing.lock().await;
        *open = false;
        self.ticker.abort();
        let all: Vec<_> = self.inner.running().values().cloned().collect();
        futures_util::future::join_all(all.iter().map(|running| running.stop())).await;
    }

    /// Ends the tasks as they are, as a crash would.
    pub(crate) fn abort(&self) {
        self.ticker.abort();
        self.inner.running().values().for_each(|running| running.abort());
    }
}

/// A pipeline's text and what it refers to.
struct Text {
    yaml: String,
    variables: BTreeMap<String, Secret>,
    /// The exact plugins, where they are not to be chosen anew.
    plugins: Option<Vec<PluginUse>>,
}

impl From<&PipelineRevision> for Text {
    fn from(revision: &PipelineRevision) -> Self {
        Text {
            yaml: revision.yaml.clone(),
            variables: revision.variables.clone(),
            plugins: Some(revision.plugins.clone()),
        }
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Running>> {
        self.running().get(name).cloned()
    }

    fn get(&self, name: &str) -> Result<Arc<Running>, Failure> {
        if let Some(running) = self.find(name) {
            return Ok(running);
        }
        match self.broken().get(name) {
            Some(why) => {
                let message = format!("pipeline `{name}` could not be started: {why}");
                Err(Failure::new(ErrorCode::InvalidPipeline, message))
            }
            None => Err(unknown(name)),
        }
    }

    fn put(&self, name: &str, running: Arc<Running>) {
        self.broken().remove(name);
        self.running().insert(name.to_owned(), running);
    }

    /// The tasks a paused pipeline would have, at what is committed.
    async fn resting(&self, running: &Running) -> Result<Vec<TaskStatus>, Failure> {
        let plan = &running.resolved.plan;
        let committed = self.service.groups().committed(&plan.name, Vec::new()).await?;
        let state = self.service.state();
        let topics = plan.inputs.iter().filter_map(|input| state.topic(&input.topic));
        let partitions = topics.flat_map(|topic| self.service.topics().partitions_of(topic));
        let rows = partitions.map(|partition| {
            let id = partition.id();
            let own = committed.iter().find(|known| known.topic == id.topic && known.partition == id.partition);
            let position = own.map_or(partition.log_start(), |known| known.offset);
            TaskStatus {
                topic: partition.topic().to_owned(),
                partition: id.partition.0,
                position,
                lag: u64::try_from(partition.high_watermark() - position.max(partition.log_start())).unwrap_or(0),
                records_in: 0,
                rate: 0,
                cost_ns: 0,
                state: "paused".to_owned(),
            }
        });
        Ok(rows.collect())
    }

    async fn resolve(&self, text: Text) -> Result<Resolved, Failure> {
        let Text { yaml, variables, plugins } = text;
        let plan = resolve::read(&yaml, &variables)?;
        let uses = match plugins {
            Some(uses) => uses,
            None => resolve::choose(&self.plugins, &plan)?,
        };
        let guests = resolve::load(&self.plugins, &plan, &uses, &Masks::of(&variables)).await?;
        Ok(Resolved { yaml, variables, plan: Arc::new(plan), uses, guests })
    }

    /// Starts a pipeline as metadata has it.
    async fn recover(&self, revision: &PipelineRevision, paused: bool) -> Result<(), Failure> {
        let resolved = self.resolve(revision.into()).await?;
        let name = resolved.plan.name.clone();
        let running = Arc::new(Running::new(revision.revision, resolved, paused, now_ms()));
        self.put(&name, Arc::clone(&running));
        running.start_missing(&self.service).map(drop)
    }

    async fn apply(&self, text: Text, create_partitions: u32, dry_run: bool) -> Result<ApplyPipelineAck, Failure> {
        let changing = self.changing.lock().await;
        check_open(*changing)?;
        let resolved = self.resolve(text).await?;
        resolve::try_start(&resolved.plan, &resolved.guests).await?;
        let name = resolved.plan.name.clone();
        let state = self.service.state();
        let max = self.service.config().limits.pipelines_max;
        if state.pipeline(&name).is_none() && state.pipelines().len() >= max {
            let message = format!("the broker's limit pipelines_max of {max} is reached");
            return Err(Failure::new(ErrorCode::LimitExceeded, message));
        }
        let before = self.find(&name);
        let topics = change::new_topics(&state, &resolved.plan, create_partitions)?;
        let change = change::of(before.as_deref(), &resolved);
        let plan = change::lines(&state, before.as_deref(), &resolved, &topics, &change);
        let revision = before.as_ref().map_or(0, |before| before.revision);
        let tasks = before.as_ref().map_or(0, |before| before.tasks().len() as u32);
        let mut ack = ApplyPipelineAck { pipeline: name, revision, plan, swaps: Vec::new(), tasks };
        if dry_run {
            return Ok(ack);
        }
        for topic in &topics {
            self.service.create_topic(topic).await?;
        }
        if change != Change::Nothing {
            ack.revision = self.store(&resolved).await?;
        }
        let (swaps, after) = self.carry_out(change, before, resolved, ack.revision).await?;
        ack.swaps = swaps;
        after.drop_failed().await;
        after.start_missing(&self.service)?;
        ack.tasks = after.tasks().len() as u32;
        Ok(ack)
    }

    async fn store(&self, resolved: &Resolved) -> Result<u32, Failure> {
        let put = Command::PutPipeline {
            name: resolved.plan.name.clone(),
            yaml: resolved.yaml.clone(),
            variables: resolved.variables.clone(),
            plugins: resolved.uses.clone(),
            at_ms: now_ms(),
        };
        match self.service.submit(put).await?.event {
            Event::PipelinePut { revision, .. } => Ok(revision),
            other => Err(Failure::new(ErrorCode::Internal, format!("a pipeline was put, and {other:?} happened"))),
        }
    }

    async fn carry_out(
        &self,
        change: Change,
        before: Option<Arc<Running>>,
        resolved: Resolved,
        revision: u32,
    ) -> Result<(Vec<Swap>, Arc<Running>), Failure> {
        let name = resolved.plan.name.clone();
        let (swaps, after) = match (change, before) {
            (Change::Nothing, Some(before)) => (Vec::new(), before),
            (Change::Swap(changed), Some(before)) => {
                let after = Arc::new(before.with(revision, resolved));
                let swaps =
                    if after.paused { Vec::new() } else { after.swap(&changed, &before.resolved.guests).await? };
                (swaps, after)
            }
            (Change::Restart, Some(before)) => {
                before.stop().await;
                let mut after = before.with(revision, resolved);
                after.started_at_ms = now_ms();
                (Vec::new(), Arc::new(after))
            }
            (_, _) => {
                let paused = self.service.state().pipeline(&name).is_some_and(|pipeline| pipeline.paused);
                (Vec::new(), Arc::new(Running::new(revision, resolved, paused, now_ms())))
            }
        };
        self.put(&name, Arc::clone(&after));
        Ok((swaps, after))
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<(), Failure> {
        let changing = self.changing.lock().await;
        check_open(*changing)?;
        let before = self.get(name)?;
        if before.paused == paused {
            return Ok(());
        }
        self.service.submit(Command::SetPipelinePaused { name: name.to_owned(), paused }).await?;
        before.stop().await;
        let after = Arc::new(before.emptied(paused, now_ms()));
        self.put(name, Arc::clone(&after));
        after.start_missing(&self.service).map(drop)
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        let changing = self.changing.lock().await;
        check_open(*changing)?;
        let running = self.find(name);
        if running.is_none() && self.service.state().pipeline(name).is_none() {
            return Err(unknown(name));
        }
        if let Some(running) = &running {
            running.stop().await;
        }
        self.service.submit(Command::DeletePipeline { name: name.to_owned() }).await?;
        self.running().remove(name);
        self.broken().remove(name);
        for group in [name.to_owned(), redrive::group(name)] {
            match self.service.groups().delete(DeleteGroup { group }).await {
                Err(failure) if failure.code != ErrorCode::UnknownGroup => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    /// Failed tasks again; a pipeline that could not be started, too.
    async fn restart(&self, name: &str) -> Result<(), Failure> {
        let changing = self.changing.lock().await;
        check_open(*changing)?;
        if let Some(running) = self.find(name) {
            running.drop_failed().await;
            return running.start_missing(&self.service).map(drop);
        }
        let state = self.service.state();
        let pipeline = state.pipeline(name).ok_or_else(|| unknown(name))?;
        self.recover(pipeline.current(), pipeline.paused).await
    }

    async fn rollback(&self, name: &str) -> Result<(), Failure> {
        let state = self.service.state();
        let pipeline = state.pipeline(name).ok_or_else(|| unknown(name))?;
        let [.., previous, _] = pipeline.revisions() else {
            let message = format!("pipeline `{name}` has one revision only: there is nothing to go back to");
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        };
        self.apply(previous.into(), 0, false).await.map(drop)
    }

    async fn tick(&self) {
        // While somebody changes pipelines there is no hurry.
        let Ok(changing) = self.changing.try_lock() else { return };
        if !*changing {
            return;
        }
        let all: Vec<_> = self.running().values().cloned().collect();
        for running in all {
            running.tasks().iter().for_each(|task| task.sample());
            if let Err(failure) = running.start_missing(&self.service) {
                tracing::warn!(pipeline = %running.resolved.plan.name, %failure, "tasks can't be started");
            }
        }
    }
}

fn check_open(open: bool) -> Result<(), Failure> {
    if open { Ok(()) } else { Err(crate::error::shutting_down()) }
}

fn unknown(name: &str) -> Failure {
    Failure::new(ErrorCode::UnknownPipeline, format!("pipeline `{name}` does not exist"))
}
