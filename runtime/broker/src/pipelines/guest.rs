//! Plugin instances behind the runner's `Guest` trait, and the signal that ends their waiting.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_pipeline::config::Config;
use millstream_pipeline::guest::{Failure, Guest, Processed};
use millstream_pipeline::spec::StepLimits;
use millstream_plugin_host::{Instance, InstanceConfig, Limits, Plugin};
use millstream_protocol::Columns;

use super::logs::{Logs, Place};
use super::masks::Masks;
use crate::stats::PipelineStats;

/// Tells a task's thread to end, also while it waits.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// 0: go on, 1: end at a batch boundary, 2: end as a crash would.
    level: AtomicU8,
    /// New guests are waiting: a batch the present ones struggle with is better left to them.
    relieved: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Ending {
    pub(super) fn end(&self) {
        self.raise(1);
    }

    pub(super) fn abort(&self) {
        self.raise(2);
    }

    fn raise(&self, level: u8) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.level.fetch_max(level, Ordering::AcqRel);
        self.changed.notify_all();
    }

    /// New guests wait for the task.
    pub(super) fn relieve(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.relieved.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// The new guests are at work.
    pub(super) fn relief_arrived(&self) {
        self.relieved.store(false, Ordering::Release);
    }

    pub(super) fn is_relieved(&self) -> bool {
        self.relieved.load(Ordering::Acquire)
    }

    pub(super) fn is_set(&self) -> bool {
        self.level.load(Ordering::Acquire) > 0
    }

    pub(super) fn is_abort(&self) -> bool {
        self.level.load(Ordering::Acquire) > 1
    }

    /// Waits, at most until the task is to end.
    fn wait(&self, time: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(guard, time, |()| !self.is_set() && !self.is_relieved()));
    }
}

/// What a plugin step's instances are made from.
#[derive(Debug)]
pub(super) struct GuestSpec {
    pub(super) step: String,
    pub(super) plugin: Arc<Plugin>,
    pub(super) config: Config,
    pub(super) limits: StepLimits,
    pub(super) outputs: Vec<String>,
    pub(super) masks: Masks,
}

impl GuestSpec {
    /// Whether instances of the other would behave the same.
    pub(super) fn is_same(&self, other: &GuestSpec) -> bool {
        self.plugin.digest() == other.plugin.digest()
            && self.config == other.config
            && self.limits == other.limits
            && self.outputs == other.outputs
    }

    /// Starts an instance for one task. Blocks while the plugin's `init` runs.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(self: &Arc<Self>, home: &Home) -> Result<Hosted, Failure> {
        let home = home.clone();
        let instance = self.instantiate(&home).inspect_err(|failure| home.counted.guest_failed(failure))?;
        Ok(Hosted { spec: Arc::clone(self), home, instance, took: Duration::ZERO })
    }

    /// What a call may take.
    fn batch_ms(&self) -> u64 {
        self.limits.batch_ms.unwrap_or(Limits::default().batch_ms)
    }

    fn instantiate(&self, home: &Home) -> Result<Instance, Failure> {
        let place = Place { step: self.step.clone(), topic: home.topic.clone(), partition: home.partition };
        let (logs, masks) = (Arc::clone(&home.logs), self.masks.clone());
        let defaults = Limits::default();
        let limits = Limits {
            memory_bytes: self.limits.memory_bytes.map_or(defaults.memory_bytes, |bytes| bytes as usize),
            batch_ms: self.batch_ms(),
            output_bytes: self.limits.output_bytes.map_or(defaults.output_bytes, |bytes| bytes as usize),
            ..defaults
        };
        let started = self.plugin.instantiate(InstanceConfig {
            config_json: self.config.json().to_owned(),
            limits,
            outputs: self.outputs.clone(),
            log: Box::new(move |level, line| logs.push(level.into(), &place, masks.apply(line))),
        });
        started.map_err(|failure| self.masks.failure(failure))
    }
}

/// The task an instance works for.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) logs: Arc<Logs>,
    pub(super) ending: Arc<Ending>,
    pub(super) counted: Arc<PipelineStats>,
}

/// One instance and what is needed to replace it.
pub(super) struct Hosted {
    spec: Arc<GuestSpec>,
    home: Home,
    instance: Instance,
    /// By the last call.
    took: Duration,
}

impl Guest for Hosted {
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure> {
        let start = Instant::now();
        let done = self.instance.process(batch, processed).map_err(|failure| self.spec.masks.failure(failure));
        self.took = start.elapsed();
        self.spec.masks.processed(processed);
        if let Err(failure) = &done {
            self.home.counted.guest_failed(failure);
        }
        done
    }

    fn time_used(&self) -> f64 {
        self.took.as_secs_f64() * 1_000.0 / self.spec.batch_ms().max(1) as f64
    }

    fn restart(&mut self) -> Result<(), Failure> {
        // A batch of many bad records takes long to sort out: a task that is to end, or to go on with
        // another plugin, leaves it undone.
        if self.home.ending.is_set() || self.home.ending.is_relieved() {
            return Err(Failure::Init { message: "the task does not go on with this plugin".into() });
        }
        let counted = &self.home.counted;
        self.instance = self.spec.instantiate(&self.home).inspect_err(|failure| counted.guest_failed(failure))?;
        Ok(())
    }

    fn pause(&mut self, time: Duration) {
        self.home.ending.wait(time);
    }

    fn digest(&self) -> [u8; 32] {
        self.spec.plugin.digest()
    }
}
