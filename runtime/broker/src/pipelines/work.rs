//! The inside of a task's thread: attempts, each from the committed offset, until the task ends or fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_pipeline::Guest;
use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::{BATCHES_IN_FLIGHT_MAX, Event, Output, Runner, Stop, Task as RunnerTask, Ticket};
use millstream_pipeline::spec::Start;
use millstream_protocol::batch::{DECOMPRESSED_BYTES_MAX, decode_batch, split_batches};
use millstream_protocol::message::{CommittedOffset, Position};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset};
use tokio::sync::mpsc;

use super::guest::Home;
use super::logs::{Level, Place};
use super::sink::Sinks;
use super::task::{Control, Shared, Swap, Swapped, TaskSpec, TaskState};
use crate::partition::Partition;

/// Bytes read from the log at once.
const READ_BYTES: usize = 512 << 10;
/// A batch for guests is cut when it has so many bytes…
const GUEST_BATCH_BYTES: usize = 256 << 10;
/// … and never has more than this, except for a single larger record.
const GUEST_BATCH_BYTES_MAX: usize = 512 << 10;
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
                        partition = self.spec.partition.0, %message, "pipeline task failed");
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
        match own.map(|known| known.offset) {
            Some(offset) if offset < start => {
                self.log(Level::Warn, &format!("records {offset} to {start} were deleted before they were read"));
                Ok(start)
            }
            Some(offset) if offset > end => {
                self.log(
                    Level::Warn,
                    &format!("committed offset {offset} is beyond the end {end}: goes on from there"),
                );
                Ok(end)
            }
            Some(offset) => Ok(offset),
            None => {
                let position = match self.spec.plan.inputs[self.spec.input].from {
                    Start::Earliest => Position::Earliest,
                    Start::Latest => Position::Latest,
                    Start::Timestamp(at) => Position::Timestamp(at),
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

/// One run of the runner, from the committed offset on.
struct Attempt<'w> {
    work: &'w mut Work,
    partition: Arc<Partition>,
    runner: Runner,
    sinks: Sinks,
    /// Read and decoded, not yet handed over: records and the offset behind them.
    ready: VecDeque<(Columns, Offset)>,
    /// Read, not yet decoded.
    unread: VecDeque<Bytes>,
    landed: mpsc::Receiver<Landed>,
    landing: mpsc::Sender<Landed>,
    commit_wanted: Option<Offset>,
    committing: bool,
    stop: Option<Stop>,
    ending: bool,
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
        let task = RunnerTask { plan: Arc::clone(&spec.plan), input: spec.input, partition: spec.partition.0, start };
        let zero = Instant::now();
        let stopwatch = Box::new(move || zero.elapsed().as_nanos() as u64);
        let topics = spec.plan.sinks.iter().map(|sink| sink.topic.clone()).collect();
        // Every append a full runner can have open, and one commit.
        let appends_per_batch = spec.plan.outputs.len() + spec.plan.sinks.len();
        let (landing, landed) = mpsc::channel(BATCHES_IN_FLIGHT_MAX * appends_per_batch + 1);
        Ok(Attempt {
            partition,
            runner: Runner::new(task, guests, stopwatch),
            sinks: Sinks::new(Arc::clone(&spec.service), topics, spec.partition.0),
            ready: VecDeque::new(),
            unread: VecDeque::new(),
            landed,
            landing,
            commit_wanted: None,
            committing: false,
            stop: None,
            ending: false,
            published: zero,
            work,
        })
    }

    fn run(mut self) -> Result<(), Exit> {
        let result = self.turn_until_over();
        self.work.shared.publish(self.runner.stats());
        result
    }

    fn turn_until_over(&mut self) -> Result<(), Exit> {
        loop {
            while let Ok(landed) = self.landed.try_recv() {
                self.land(landed)?;
            }
            // A runner that has stopped takes no guests: they are for the next attempt.
            while self.stop.is_none()
                && let Ok(control) = self.work.controls.try_recv()
            {
                self.control(control)?;
            }
            if self.work.home.ending.is_abort() {
                return Ok(());
            }
            self.ending |= self.work.home.ending.is_set();
            let quiet = self.runner.is_settled() && !self.committing && self.commit_wanted.is_none();
            // Asked to end first: a stop may only say that the guest was not restarted for it.
            if quiet && self.ending {
                return Ok(());
            }
            if quiet && let Some(stop) = self.stop.take() {
                return Err(self.stopped(&stop));
            }
            let wants_records = !self.ending && !self.runner.is_full();
            if wants_records && let Some((columns, next)) = self.read()? {
                self.feed(columns, next)?;
            } else {
                self.work.shared.publish(self.runner.stats());
                self.wait(wants_records)?;
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

    fn feed(&mut self, columns: Columns, next: Offset) -> Result<(), Exit> {
        self.work.shared.records_in.fetch_add(columns.len() as u64, Ordering::Relaxed);
        let mut out = Vec::new();
        self.runner.handle(Event::Fetched { columns, next }, &mut out);
        self.carry_out(out)?;
        if self.published.elapsed() >= PUBLISH {
            self.published = Instant::now();
            self.work.shared.publish(self.runner.stats());
        }
        Ok(())
    }

    /// Until something lands, somebody asks, or (when wanted) there are records.
    fn wait(&mut self, wants_records: bool) -> Result<(), Exit> {
        enum Woken {
            Landed(Option<Landed>),
            Control(Option<Control>),
            Readable(Result<Offset, Failure>),
        }
        let takes_controls = self.stop.is_none();
        let (landed, controls) = (&mut self.landed, &mut self.work.controls);
        let (partition, next) = (&self.partition, self.runner.next());
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
        match landed {
            Landed::Appended(ticket, outcome) => {
                outcome?;
                let mut out = Vec::new();
                self.runner.handle(Event::Durable { ticket }, &mut out);
                self.carry_out(out)
            }
            Landed::Committed(offset, outcome) => {
                outcome?;
                self.committing = false;
                self.work.shared.position.store(offset.0, Ordering::Release);
                self.commit();
                Ok(())
            }
        }
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
        let mut out = Vec::new();
        for (plugin, hosted) in fresh {
            self.runner.handle(Event::Swap { plugin, guest: Box::new(hosted) }, &mut out);
        }
        self.work.home.ending.relief_arrived();
        self.runner.replace_plan(Arc::clone(&plan));
        (self.work.spec.plan, self.work.spec.guests) = (plan, guests);
        // Whoever asked may have gone away.
        let _ = reply.send(Swapped { offset: self.runner.next(), pause_us: paused.elapsed().as_micros() as u64 });
        self.carry_out(out)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), Exit> {
        for output in outputs {
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
                Output::Commit { offset } => {
                    self.commit_wanted = Some(offset);
                    self.commit();
                }
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
                Output::Stop(stop) => self.stop = Some(stop),
            }
        }
        Ok(())
    }

    fn log(&self, level: Level, step: String, message: String) {
        let spec = &self.work.spec;
        let place = Place { step, topic: spec.topic.name.clone(), partition: spec.partition.0 };
        spec.logs.push(level, &place, message);
    }

    /// Commits the newest offset there is; one commit at a time, so that they arrive in order and a slow
    /// disk makes them fewer.
    fn commit(&mut self) {
        if self.committing {
            return;
        }
        let Some(offset) = self.commit_wanted.take() else { return };
        self.committing = true;
        let spec = &self.work.spec;
        let (groups, pipeline) = (spec.service.groups().clone(), spec.plan.name.clone());
        let (commit, landing) = (self.work.commit_at(offset), self.landing.clone());
        spec.service.runtime().spawn(async move {
            let outcome = groups.commit_of_pipeline(&pipeline, vec![commit]).await;
            let _ = landing.send(Landed::Committed(offset, outcome)).await;
        });
    }

    /// The next records and the offset behind them; `None` at the end of the partition.
    fn read(&mut self) -> Result<Option<(Columns, Offset)>, Exit> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(Some(ready));
            }
            if self.unread.is_empty() {
                let next = self.runner.next();
                let start = self.partition.log_start();
                if next < start {
                    let message = format!("records {next} to {start} were deleted before they were read");
                    self.log(Level::Warn, String::new(), message);
                    return Ok(Some((Columns::default(), start)));
                }
                let fetched = self.partition.read(next, READ_BYTES)?;
                for batch in split_batches(&fetched.bytes) {
                    let (_, bytes) = batch.map_err(|e| self.damaged(next, &e))?;
                    self.unread.push_back(bytes);
                }
                if self.unread.is_empty() {
                    return Ok(None);
                }
            }
            self.decode()?;
        }
    }

    /// Decodes unread batches until there is enough for a guest.
    fn decode(&mut self) -> Result<(), Exit> {
        let from = self.runner.next();
        let (mut columns, mut next) = (Columns::default(), from);
        while let Some(batch) = self.unread.pop_front() {
            let header =
                split_batches(&batch).next().expect("it was split before").map_err(|e| self.damaged(next, &e))?.0;
            decode_batch(&batch, from, DECOMPRESSED_BYTES_MAX, &mut columns).map_err(|e| self.damaged(next, &e))?;
            next = header.next_offset();
            if columns.payload_bytes() >= GUEST_BATCH_BYTES {
                break;
            }
        }
        if columns.payload_bytes() <= GUEST_BATCH_BYTES_MAX {
            self.ready.push_back((columns, next));
        } else {
            cut(&columns, next, &mut self.ready);
        }
        Ok(())
    }

    fn damaged(&self, offset: Offset, error: &millstream_protocol::batch::Error) -> Exit {
        let place = format!("{}/{}@{offset}", self.work.spec.topic.name, self.work.spec.partition);
        let message = format!("records at {place} can't be decoded: {error}");
        Exit::from(Failure::new(ErrorCode::CorruptData, message))
    }
}

/// Cuts records into batches of a guest's size; `next` is the offset behind the last.
fn cut(columns: &Columns, next: Offset, into: &mut VecDeque<(Columns, Offset)>) {
    let mut part = Columns::default();
    for row in columns.rows() {
        if part.payload_bytes() >= GUEST_BATCH_BYTES {
            into.push_back((std::mem::take(&mut part), Offset(row.offset)));
        }
        part.push_row(&row);
    }
    into.push_back((part, next));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_batches_are_cut_without_loss() {
        let mut columns = Columns::default();
        for offset in 0..1000 {
            columns.push(offset * 2, 0, None, Some(&[b'x'; 1000]));
        }
        let mut parts = VecDeque::new();
        cut(&columns, Offset(2010), &mut parts);
        assert!(parts.len() > 2);
        let mut next = 0;
        for (part, behind) in &parts {
            assert!(part.payload_bytes() <= GUEST_BATCH_BYTES_MAX);
            assert!(part.offsets.iter().all(|offset| *offset >= next && *offset < behind.0));
            next = behind.0;
        }
        assert_eq!(next, 2010);
        assert_eq!(parts.iter().map(|(part, _)| part.len()).sum::<usize>(), 1000);
    }
}
