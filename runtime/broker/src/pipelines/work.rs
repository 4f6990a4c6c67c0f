//! The inside of a task's thread: attempts, each from the committed offset, until the task ends or fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_pipeline::Guest;
use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::{BATCHES_IN_FLIGHT_MAX, Output, Runner, Stop, Task as RunnerTask, Ticket};
use millstream_pipeline::spec;
use millstream_protocol::message::{CommittedOffset, Position};
use millstream_protocol::{Failure, Offset};
use tokio::sync::mpsc;

use super::guest::Home;
use super::logs::{Level, Place};
use super::sink::Sinks;
use super::task::{Control, Shared, Swap, Swapped, TaskSpec, TaskState};
use crate::core::task::{self, Next, READ_BYTES, Start};
use crate::partition::Partition;

/// Pause before a failed attempt is repeated; doubled up to the second.
const RETRY_MS: (u64, u64) = (250, 15_000);
/// How often statistics are made visible while there is work.
const PUBLISH: Duration = Duration::from_millis(100);

/// Why an attempt is over.
enum Exit {
    Ended,
    /// Until somebody acts.
    Failed(String),
    Again(Failure),
    /// At once, with the guests that came.
    Relieved,
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        if failure.code.is_retriable() { Exit::Again(failure) } else { Exit::Failed(failure.message) }
    }
}

/// What comes back from the disk.
enum Landed {
    Appended(Ticket, Result<(), Failure>),
    Committed(Offset, Result<(), Failure>),
}

/// The thread's main function.
pub(super) fn run(spec: TaskSpec, home: Home, shared: Arc<Shared>, controls: mpsc::Receiver<Control>) {
    let last_words = Arc::clone(&shared);
    let work = move || Work { spec, home, shared, controls }.run();
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
        last_words.set_state(TaskState::Failed("internal error: see the broker's log".into()));
    }
}

struct Work {
    spec: TaskSpec,
    home: Home,
    shared: Arc<Shared>,
    controls: mpsc::Receiver<Control>,
}

impl Work {
    fn run(mut self) {
        let mut pause_ms = RETRY_MS.0;
        loop {
            self.shared.set_state(TaskState::Running);
            let started = self.shared.records_in.load(Ordering::Relaxed);
            match self.attempt() {
                Exit::Ended => return self.shared.set_state(TaskState::Ended),
                Exit::Failed(message) => {
                    tracing::warn!(pipeline = %self.spec.plan.name, topic = %self.spec.topic.name,
                        partition = self.spec.partition.0, reason = %message, "pipeline task failed");
                    self.log(Level::Error, &message);
                    return self.shared.set_state(TaskState::Failed(message));
                }
                Exit::Relieved => pause_ms = RETRY_MS.0,
                Exit::Again(failure) => {
                    if self.shared.records_in.load(Ordering::Relaxed) > started {
                        pause_ms = RETRY_MS.0;
                    }
                    self.log(Level::Warn, &format!("tries again in {pause_ms} ms: {failure}"));
                    self.shared.set_state(TaskState::Waiting(failure.message));
                    self.wait(Duration::from_millis(pause_ms));
                    pause_ms = (pause_ms * 2).min(RETRY_MS.1);
                }
            }
            if self.home.ending.is_set() {
                return self.shared.set_state(TaskState::Ended);
            }
        }
    }

    /// Between attempts. New guests end the wait: they may be the repair.
    fn wait(&mut self, pause: Duration) {
        let runtime = self.spec.service.runtime().clone();
        let next = runtime.block_on(async { tokio::time::timeout(pause, self.controls.recv()).await });
        if let Ok(Some(Control::Swap(swap))) = next {
            self.take_over(*swap);
        }
    }

    /// New guests for the next attempt.
    fn take_over(&mut self, swap: Swap) {
        let Swap { plan, guests, reply, .. } = swap;
        (self.spec.plan, self.spec.guests) = (plan, guests);
        self.home.ending.relief_arrived();
        let offset = Offset(self.shared.position.load(Ordering::Acquire));
        let _ = reply.send(Swapped { offset, pause_us: 0 });
    }

    fn log(&self, level: Level, message: &str) {
        let place =
            Place { step: String::new(), topic: self.spec.topic.name.clone(), partition: self.spec.partition.0 };
        self.spec.logs.push(level, &place, message);
    }

    fn attempt(&mut self) -> Exit {
        let begun = Attempt::begin(self);
        match begun.and_then(Attempt::run) {
            Ok(()) => Exit::Ended,
            Err(exit) => exit,
        }
    }

    /// The committed offset, else where the input says to start. That is committed at once: a restart
    /// before the first record must not move `latest`.
    fn start_offset(&self, partition: &Partition) -> Result<Offset, Failure> {
        let groups = self.spec.service.groups();
        let (topic, index) = (self.spec.topic.id, self.spec.partition);
        let committed = groups.committed_blocking(&self.spec.plan.name)?;
        let own = committed.iter().find(|known| known.topic == topic && known.partition == index);
        let (start, end) = (partition.log_start(), partition.high_watermark());
        let committed = own.map(|known| known.offset);
        match task::start(committed, (start, end)) {
            Start::At(offset) => Ok(offset),
            Start::Deleted(offset) => {
                let from = committed.unwrap_or_default();
                self.log(Level::Warn, &format!("records {from} to {offset} were deleted before they were read"));
                Ok(offset)
            }
            Start::Beyond(offset) => {
                let from = committed.unwrap_or_default();
                let message = format!("committed offset {from} is beyond the end {offset}: goes on from there");
                self.log(Level::Warn, &message);
                Ok(offset)
            }
            Start::AsPlanned => {
                let position = match self.spec.plan.inputs[self.spec.input].from {
                    spec::Start::Earliest => Position::Earliest,
                    spec::Start::Latest => Position::Latest,
                    spec::Start::Timestamp(at) => Position::Timestamp(at),
                };
                let offset = partition.offset_of(position)?;
                groups.commit_of_pipeline_blocking(&self.spec.plan.name, vec![self.commit_at(offset)])?;
                Ok(offset)
            }
        }
    }

    fn commit_at(&self, offset: Offset) -> CommittedOffset {
        CommittedOffset { topic: self.spec.topic.id, partition: self.spec.partition, offset, metadata: String::new() }
    }
}

/// One attempt of [`core::task`](crate::core::task), with what carries out its outputs.
struct Attempt<'w> {
    work: &'w mut Work,
    partition: Arc<Partition>,
    core: task::Attempt,
    sinks: Sinks,
    landed: mpsc::Receiver<Landed>,
    landing: mpsc::Sender<Landed>,
    published: Instant,
}

impl<'w> Attempt<'w> {
    fn begin(work: &'w mut Work) -> Result<Self, Exit> {
        let spec = &work.spec;
        let partition = spec.service.partition(spec.topic.id, spec.partition)?;
        let start = work.start_offset(&partition)?;
        work.shared.position.store(start.0, Ordering::Release);
        let mut guests: Vec<Box<dyn Guest>> = Vec::with_capacity(spec.guests.len());
        for guest in &spec.guests {
            let hosted = guest.start(&work.home).map_err(|e| Exit::Failed(format!("step `{}`: {e}", guest.step)))?;
            guests.push(Box::new(hosted));
        }
        let runner = RunnerTask { plan: Arc::clone(&spec.plan), input: spec.input, partition: spec.partition.0, start };
        let zero = Instant::now();
        let stopwatch = Box::new(move || zero.elapsed().as_nanos() as u64);
        let topics = spec.plan.sinks.iter().map(|sink| sink.topic.clone()).collect();
        // Every append a full runner can have open, and one commit.
        let appends_per_batch = spec.plan.outputs.len() + spec.plan.sinks.len();
        let (landing, landed) = mpsc::channel(BATCHES_IN_FLIGHT_MAX * appends_per_batch + 1);
        let place = format!("{}/{}", spec.topic.name, spec.partition);
        Ok(Attempt {
            partition,
            core: task::Attempt::new(Runner::new(runner, guests, stopwatch), place),
            sinks: Sinks::new(Arc::clone(&spec.service), topics, spec.partition.0),
            landed,
            landing,
            published: zero,
            work,
        })
    }

    fn run(mut self) -> Result<(), Exit> {
        let result = self.turn_until_over();
        self.work.shared.publish(self.core.stats());
        result
    }

    fn turn_until_over(&mut self) -> Result<(), Exit> {
        let mut out = Vec::new();
        loop {
            while let Ok(landed) = self.landed.try_recv() {
                self.land(landed)?;
            }
            while self.core.takes_guests()
                && let Ok(control) = self.work.controls.try_recv()
            {
                self.control(control)?;
            }
            if self.work.home.ending.is_abort() {
                return Ok(());
            }
            if self.work.home.ending.is_set() {
                self.core.end();
            }
            match self.core.next()? {
                Next::Ended => return Ok(()),
                Next::Stopped(stop) => return Err(self.stopped(&stop)),
                Next::Feed { records } => {
                    self.work.shared.records_in.fetch_add(records as u64, Ordering::Relaxed);
                    self.core.feed(&mut out);
                    self.carry_out(&mut out)?;
                    self.publish_now_and_then();
                }
                Next::Read(offset) if self.read(offset)? => {}
                Next::Read(_) => self.wait(true)?,
                Next::Wait => self.wait(false)?,
            }
        }
    }

    /// Everything before the stop is committed. When new guests wait, it may be their arrival that stopped
    /// the old ones: the record is theirs to try.
    fn stopped(&mut self, stop: &Stop) -> Exit {
        if !self.work.home.ending.is_relieved() {
            return Exit::Failed(stop.to_string());
        }
        let runtime = self.work.spec.service.runtime().clone();
        match runtime.block_on(self.work.controls.recv()) {
            Some(Control::Swap(swap)) => {
                self.work.take_over(*swap);
                Exit::Relieved
            }
            Some(Control::Stop) | None => Exit::Ended,
        }
    }

    fn publish_now_and_then(&mut self) {
        if self.published.elapsed() >= PUBLISH {
            self.published = Instant::now();
            self.work.shared.publish(self.core.stats());
        }
    }

    /// Until something lands, somebody asks, or (when wanted) there are records.
    fn wait(&mut self, wants_records: bool) -> Result<(), Exit> {
        enum Woken {
            Landed(Option<Landed>),
            Control(Option<Control>),
            Readable(Result<Offset, Failure>),
        }
        self.work.shared.publish(self.core.stats());
        let takes_controls = self.core.takes_guests();
        let (landed, controls) = (&mut self.landed, &mut self.work.controls);
        let (partition, next) = (&self.partition, self.core.position());
        let woken = self.work.spec.service.runtime().block_on(async {
            tokio::select! {
                landed = landed.recv() => Woken::Landed(landed),
                control = controls.recv(), if takes_controls => Woken::Control(control),
                readable = partition.wait_readable(next), if wants_records => Woken::Readable(readable),
            }
        });
        match woken {
            Woken::Landed(Some(landed)) => self.land(landed),
            Woken::Control(Some(control)) => self.control(control),
            Woken::Readable(Err(failure)) => Err(failure.into()),
            // Nobody can reach this task any more.
            Woken::Control(None) => Err(Exit::Ended),
            Woken::Readable(Ok(_)) | Woken::Landed(None) => Ok(()),
        }
    }

    fn land(&mut self, landed: Landed) -> Result<(), Exit> {
        let mut out = Vec::new();
        match landed {
            Landed::Appended(ticket, outcome) => {
                outcome?;
                self.core.appended(ticket, &mut out);
            }
            Landed::Committed(offset, outcome) => {
                outcome?;
                self.work.shared.position.store(offset.0, Ordering::Release);
                self.core.committed(&mut out);
            }
        }
        self.carry_out(&mut out)
    }

    fn control(&mut self, control: Control) -> Result<(), Exit> {
        match control {
            Control::Stop => Ok(()),
            Control::Swap(swap) => self.swap(*swap),
        }
    }

    fn swap(&mut self, swap: Swap) -> Result<(), Exit> {
        let paused = Instant::now();
        let Swap { plan, guests, fresh, reply } = swap;
        let boxed = |(plugin, hosted)| (plugin, Box::new(hosted) as Box<dyn Guest>);
        let mut out = Vec::new();
        let offset = self.core.swap(Arc::clone(&plan), fresh.into_iter().map(boxed).collect(), &mut out);
        self.work.home.ending.relief_arrived();
        (self.work.spec.plan, self.work.spec.guests) = (plan, guests);
        // Whoever asked may have gone away.
        let _ = reply.send(Swapped { offset, pause_us: paused.elapsed().as_micros() as u64 });
        self.carry_out(&mut out)
    }

    fn carry_out(&mut self, outputs: &mut Vec<Output>) -> Result<(), Exit> {
        for output in outputs.drain(..) {
            match output {
                Output::Append { ticket, sink, columns } => {
                    if self.work.spec.plan.sinks[sink].role == Role::Output {
                        self.work.shared.records_out.fetch_add(columns.len() as u64, Ordering::Relaxed);
                    }
                    let landing = self.landing.clone();
                    // Never full: it has room for all a runner can have open. Gone: the attempt is over.
                    let done = move |outcome| drop(landing.try_send(Landed::Appended(ticket, outcome)));
                    self.sinks.append(sink, &columns, Box::new(done))?;
                }
                Output::Commit { offset } => self.commit(offset),
                Output::Swapped { plugin, offset, old, new } => {
                    let short = |digest: [u8; 32]| digest[..4].iter().map(|b| format!("{b:02x}")).collect::<String>();
                    let step = self.work.spec.guests[plugin].step.clone();
                    let message = format!("swapped {} -> {} at {offset}", short(old), short(new));
                    self.log(Level::Info, step, message);
                }
                Output::Log { level, step, message } => {
                    let step = self.work.spec.plan.steps[step].name.clone();
                    self.log(level.into(), step, message);
                }
                // `Next::Stopped` says it when all before it is committed.
                Output::Stop(_) => {}
            }
        }
        Ok(())
    }

    fn log(&self, level: Level, step: String, message: String) {
        let spec = &self.work.spec;
        let place = Place { step, topic: spec.topic.name.clone(), partition: spec.partition.0 };
        spec.logs.push(level, &place, message);
    }

    fn commit(&self, offset: Offset) {
        let spec = &self.work.spec;
        let (groups, pipeline) = (spec.service.groups().clone(), spec.plan.name.clone());
        let (commit, landing) = (self.work.commit_at(offset), self.landing.clone());
        spec.service.runtime().spawn(async move {
            let outcome = groups.commit_of_pipeline(&pipeline, vec![commit]).await;
            let _ = landing.send(Landed::Committed(offset, outcome)).await;
        });
    }

    /// Gives the attempt what is there from `offset` on; `false` at the end of the partition.
    fn read(&mut self, offset: Offset) -> Result<bool, Exit> {
        let start = self.partition.log_start();
        if offset < start {
            let message = format!("records {offset} to {start} were deleted before they were read");
            self.log(Level::Warn, String::new(), message);
            let mut out = Vec::new();
            self.core.skip_to(start, &mut out);
            self.carry_out(&mut out)?;
            return Ok(true);
        }
        let fetched = self.partition.read_blocking(offset, READ_BYTES)?;
        self.core.read(&fetched.bytes)?;
        Ok(!fetched.bytes.is_empty())
    }
}
