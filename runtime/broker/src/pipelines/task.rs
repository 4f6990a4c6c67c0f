//! One task: a pipeline on one input partition, on a thread of its own. The thread reads the partition,
//! feeds the runner, appends what it gives and commits; it waits for nothing but its own messages and the
//! partition's end. Anything transient that fails is tried again from the committed offset.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use millstream_cluster::metadata::Topic;
use millstream_pipeline::Plan;
use millstream_pipeline::runner::StepStats;
use millstream_protocol::{Failure, Offset, PartitionIndex};
use tokio::sync::{mpsc, oneshot};

use super::guest::{Ending, GuestSpec, Home, Hosted};
use super::logs::Logs;
use super::work;
use crate::service::Service;
use crate::stats::PipelineStats;

/// Controls that wait for a task.
const CONTROLS_MAX: usize = 16;
/// Seconds a rate is the mean of.
const RATE_SECONDS: usize = 10;

/// What a task is started with.
#[derive(Clone)]
pub(super) struct TaskSpec {
    pub(super) service: Arc<Service>,
    pub(super) plan: Arc<Plan>,
    /// One per plugin step.
    pub(super) guests: Vec<Arc<GuestSpec>>,
    /// Index into the plan's inputs.
    pub(super) input: usize,
    pub(super) topic: Topic,
    pub(super) partition: PartitionIndex,
    pub(super) logs: Arc<Logs>,
    pub(super) counted: Arc<PipelineStats>,
}

/// The outside of a running task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) topic: Topic,
    pub(super) partition: PartitionIndex,
    pub(super) shared: Arc<Shared>,
    pub(super) home: Home,
    controls: mpsc::Sender<Control>,
    /// Records read at the last few ticks, oldest first.
    samples: Mutex<VecDeque<(Instant, u64)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a task lets others see.
#[derive(Debug)]
pub(super) struct Shared {
    /// Everything before it is committed.
    pub(super) position: AtomicI64,
    pub(super) records_in: AtomicU64,
    /// Results appended, without dead letters.
    pub(super) records_out: AtomicU64,
    pub(super) stats: Mutex<Vec<StepStats>>,
    state: Mutex<TaskState>,
    /// The pipeline's, over all tasks.
    counted: Arc<PipelineStats>,
    /// Names of the steps.
    steps: Vec<String>,
    /// What of `records_in` and `records_out` the pipeline has counted.
    told: Mutex<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Running,
    /// Tries again soon; why it had to stop.
    Waiting(String),
    Ended,
    /// Stopped until somebody acts.
    Failed(String),
}

/// What a task is told to do.
pub(super) enum Control {
    Swap(Box<Swap>),
    /// End when everything that was read is durable and committed. (Wakes the thread; `Ending` says it too.)
    Stop,
}

/// New guests for plugin steps, made before the task is disturbed.
pub(super) struct Swap {
    pub(super) plan: Arc<Plan>,
    pub(super) guests: Vec<Arc<GuestSpec>>,
    /// Index of the plugin step and its new instance.
    pub(super) fresh: Vec<(usize, Hosted)>,
    pub(super) reply: oneshot::Sender<Swapped>,
}

/// The new guests own all records from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swapped {
    pub(super) offset: Offset,
    /// How long the task handled no records for it.
    pub(super) pause_us: u64,
}

impl Shared {
    pub(super) fn state(&self) -> TaskState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_state(&self, state: TaskState) {
        match state {
            TaskState::Waiting(_) => self.counted.retries.add(1),
            TaskState::Failed(_) => self.counted.task_failures.add(1),
            TaskState::Running | TaskState::Ended => {}
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn publish(&self, stats: &[StepStats]) {
        let mut published = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for (step, (before, now)) in self.steps.iter().zip(published.iter().zip(stats)) {
            self.counted.progress(step, before, now);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.records_in.load(Ordering::Relaxed), self.records_out.load(Ordering::Relaxed));
        self.counted.records_in.add(now.0 - told.0);
        self.counted.records_out.add(now.1 - told.1);
        *told = now;
        published.clear();
        published.extend_from_slice(stats);
    }
}

impl Task {
    /// Starts the task's thread.
    ///
    /// # Errors
    /// The machine gives no more threads.
    pub(super) fn start(spec: TaskSpec) -> Result<Task, Failure> {
        let (controls, inbox) = mpsc::channel(CONTROLS_MAX);
        let ending = Arc::new(Ending::default());
        let home = Home {
            topic: spec.topic.name.clone(),
            partition: spec.partition.0,
            logs: Arc::clone(&spec.logs),
            ending: Arc::clone(&ending),
            counted: Arc::clone(&spec.counted),
        };
        let shared = Arc::new(Shared {
            position: AtomicI64::new(0),
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            stats: Mutex::new(vec![StepStats::default(); spec.plan.steps.len()]),
            state: Mutex::new(TaskState::Running),
            counted: Arc::clone(&spec.counted),
            steps: spec.plan.steps.iter().map(|step| step.name.clone()).collect(),
            told: Mutex::default(),
        });
        let (topic, partition) = (spec.topic.clone(), spec.partition);
        let name = format!("{} {}/{}", spec.plan.name, topic.name, partition);
        let (inside, own_home) = (Arc::clone(&shared), home.clone());
        let span =
            tracing::error_span!("task", pipeline = %spec.plan.name, topic = %topic.name, partition = partition.0);
        let work = move || span.in_scope(|| work::run(spec, own_home, inside, inbox));
        let thread = std::thread::Builder::new().name(name).spawn(work);
        let thread = thread.map_err(|e| {
            let message = format!("no thread for task {}/{partition}: {e}", topic.name);
            Failure::new(millstream_protocol::ErrorCode::LimitExceeded, message)
        })?;
        Ok(Task {
            topic,
            partition,
            shared,
            home,
            controls,
            samples: Mutex::default(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Whether its thread still takes records, now or soon.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.shared.state(), TaskState::Running | TaskState::Waiting(_))
    }

    /// Hands over new guests; `None` when the task ended instead. Takes no longer than the call that is
    /// being made: a batch the old guests fail on is left to the new ones.
    pub(super) async fn swap(&self, swap: Swap, swapped: oneshot::Receiver<Swapped>) -> Option<Swapped> {
        self.home.ending.relieve();
        self.controls.send(Control::Swap(Box::new(swap))).await.ok()?;
        swapped.await.ok()
    }

    /// Asks it to end; [`Task::join`] waits for it.
    pub(super) fn stop(&self) {
        self.home.ending.end();
        // A full box wakes it as well.
        let _ = self.controls.try_send(Control::Stop);
    }

    pub(super) fn abort(&self) {
        self.home.ending.abort();
        let _ = self.controls.try_send(Control::Stop);
    }

    /// Waits until the thread is gone.
    pub(super) async fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It does not panic: `work::run` catches.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Called once a second.
    pub(super) fn sample(&self) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() > RATE_SECONDS {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), self.shared.records_in.load(Ordering::Relaxed)));
    }

    /// Records per second over the last ten seconds.
    pub(super) fn rate(&self) -> u64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, before)) = samples.front() else { return 0 };
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        let records = self.shared.records_in.load(Ordering::Relaxed).saturating_sub(*before);
        (records as f64 / seconds).round() as u64
    }

    /// Records it has still to read, from what is committed.
    pub(super) fn lag(&self, service: &Service) -> u64 {
        let Ok(partition) = service.partition(self.topic.id, self.partition) else { return 0 };
        let done = self.position().max(partition.log_start());
        u64::try_from(partition.high_watermark() - done).unwrap_or(0)
    }

    pub(super) fn position(&self) -> Offset {
        Offset(self.shared.position.load(Ordering::Acquire))
    }
}
