//! The runner of one task: one pipeline on one input partition. Batches come in, records to append and
//! offsets to commit go out; whoever drives it reads, appends, waits for the disk and commits.
//!
//! Invariants: an offset is committed only when all appends of all batches before it are durable; a
//! batch's appends come out whole or not at all; records keep their order through every step.

mod batch;
mod isolate;
mod native;
mod pace;
mod stats;
mod verdict;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use millstream_protocol::{Columns, Offset, mutant};

use crate::dead_letter::{self, Cause};
use crate::expr::Origin;
use crate::guest::Guest;
use crate::plan::{Action, Fate, Plan};
use crate::spec::Source;
use batch::Batch;
use isolate::{Handling, Isolation};
use pace::Paced;
pub use stats::{COUNTERS_MAX, Histogram, StepStats};
use verdict::{Failed, Verdict};

/// Batches whose appends may be on their way to the disk at once. A runner at this bound takes no more.
pub const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// Log lines about single records of one batch.
const LINES_PER_BATCH_MAX: usize = 5;

/// Which task a runner is.
#[derive(Clone, Debug)]
pub struct Task {
    pub plan: Arc<Plan>,
    /// Index into the plan's inputs.
    pub input: usize,
    pub partition: u32,
    /// Everything before this offset is done.
    pub start: Offset,
}

/// Reads nanoseconds that only ever grow; used for statistics, never for a decision.
pub type Stopwatch = Box<dyn FnMut() -> u64 + Send>;

/// What happens to a runner.
pub enum Event {
    /// Records read, in order, none before the offset of the last event's `next`. `next` may be beyond
    /// the last record's: offsets that hold no record are done too. Not while [`Runner::is_full`].
    Fetched { columns: Columns, next: Offset },
    /// The append with this ticket is on disk.
    Durable { ticket: Ticket },
    /// From the next record on, this guest runs the plugin step (counted among the plan's plugins).
    Swap { plugin: usize, guest: Box<dyn Guest> },
}

/// Names one append of one runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a runner wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Append these records to the plan's sink and report [`Event::Durable`].
    Append { ticket: Ticket, sink: usize, columns: Arc<Columns> },
    /// All records before this offset are done and their outputs durable.
    Commit { offset: Offset },
    /// The new guest owns all records from `offset` on, the old one had all before.
    Swapped { plugin: usize, offset: Offset, old: [u8; 32], new: [u8; 32] },
    /// For the pipeline's log.
    Log { level: Level, step: usize, message: String },
    /// The task ends here; all that could be committed was. The runner takes no more records.
    Stop(Stop),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Why a task stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub step: String,
    pub topic: String,
    pub partition: u32,
    /// The record it stopped before.
    pub offset: Offset,
    pub message: String,
    pub remedy: &'static str,
}

const REMEDY_RECORD: &str = "to go on past such records give the step `on_error: { dead_letter: TOPIC }` or \
                             `on_error: skip`; the task resumes at this record";
const REMEDY_PLUGIN: &str = "repair the plugin or its settings and apply the pipeline again; the task resumes at \
                             this record";

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stop { step, topic, partition, offset, message, remedy } = self;
        write!(f, "step `{step}` failed on {topic}/{partition}@{offset}: {message} ({remedy})")
    }
}

/// One task's state machine.
pub struct Runner {
    task: Task,
    guests: Vec<Paced>,
    stats: Vec<StepStats>,
    stopwatch: Stopwatch,
    /// The offset of the next record to come.
    next: Offset,
    next_ticket: u64,
    in_flight: VecDeque<InFlight>,
    stop: Option<Stop>,
    stopped: bool,
}

struct InFlight {
    next: Offset,
    /// Tickets of this batch not yet durable.
    waiting: Vec<Ticket>,
}

impl Runner {
    /// `guests`: one per plugin step, in the order of [`Plan::plugins`].
    ///
    /// # Panics
    /// When their number is not the plan's.
    pub fn new(task: Task, guests: Vec<Box<dyn Guest>>, stopwatch: Stopwatch) -> Runner {
        assert_eq!(guests.len(), task.plan.plugins().count(), "one guest per plugin step");
        let stats = vec![StepStats::default(); task.plan.steps.len()];
        let next = task.start;
        Runner {
            task,
            guests: guests.into_iter().map(Paced::new).collect(),
            stats,
            stopwatch,
            next,
            next_ticket: 0,
            in_flight: VecDeque::new(),
            stop: None,
            stopped: false,
        }
    }

    /// Whether it must hear of durable appends before it takes more records.
    pub fn is_full(&self) -> bool {
        self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX || self.stop.is_some()
    }

    /// Whether nothing it wrote is still on its way.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The offset of the next record it wants.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// One per step of the plan.
    pub fn stats(&self) -> &[StepStats] {
        &self.stats
    }

    /// Puts a plan of the same shape in its place, for the names and policies that swaps come with.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn replace_plan(&mut self, plan: Arc<Plan>) {
        assert!(self.task.plan.same_shape(&plan), "a running task's plan keeps its shape");
        self.task.plan = plan;
    }

    /// Takes one event; what is to be done is appended to `out`.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Output>) {
        match event {
            Event::Fetched { columns, next } => self.fetched(columns, next, out),
            Event::Durable { ticket } => self.durable(ticket, out),
            Event::Swap { plugin, guest } => {
                let (old, new) = (self.guests[plugin].guest.digest(), guest.digest());
                self.guests[plugin] = Paced::new(guest);
                let offset = if mutant!("swap-inside-a-batch") { self.next.next() } else { self.next };
                out.push(Output::Swapped { plugin, offset, old, new });
            }
        }
    }

    fn fetched(&mut self, columns: Columns, next: Offset, out: &mut Vec<Output>) {
        if self.stop.is_some() {
            return;
        }
        let input = Batch::from(columns);
        let mut verdict = Verdict::default();
        let made = self.run_steps(&input, &mut verdict, out);
        let first_ticket = self.next_ticket;
        let plan = Arc::clone(&self.task.plan);
        for route in &plan.outputs {
            let batch = gather(&input, &made, &route.from, self.task.input);
            let batch = batch.without(verdict.limit(), verdict.dead_offsets());
            if batch.is_empty() || (verdict.stop.is_some() && mutant!("stop-forgets-what-was-before")) {
                continue;
            }
            let columns = if route.trace { self.traced(&batch) } else { batch.into_columns() };
            self.append(route.sink, columns, out);
        }
        let before_letters = self.next_ticket;
        if !verdict.is_clean() && !mutant!("poison-record-lost") {
            self.bury(&input, &mut verdict, out);
        }
        self.next = verdict.limit().map_or(next, Offset);
        let mut waiting: Vec<_> = (first_ticket..self.next_ticket).map(Ticket).collect();
        if mutant!("commit-before-outputs") {
            waiting.clear();
        }
        if mutant!("dead-letter-not-awaited") {
            waiting.retain(|ticket| ticket.0 < before_letters);
        }
        self.in_flight.push_back(InFlight { next: self.next, waiting });
        if let Some((step, failed)) = verdict.stop {
            self.stop = Some(self.stop_for(step, failed));
        }
        self.settle(out);
    }

    /// Every step over the batch: what each put into each of its outputs.
    fn run_steps(&mut self, input: &Batch, verdict: &mut Verdict, out: &mut Vec<Output>) -> Vec<Vec<Batch>> {
        let plan = Arc::clone(&self.task.plan);
        let mut made: Vec<Vec<Batch>> = Vec::with_capacity(plan.steps.len());
        let mut lines = 0;
        for (index, step) in plan.steps.iter().enumerate() {
            let batch = gather(input, &made, &step.from, self.task.input);
            let batch = batch.without(verdict.limit(), verdict.dead_offsets());
            if batch.is_empty() {
                made.push(vec![Batch::default(); step.outputs.len()]);
                continue;
            }
            let started = (self.stopwatch)();
            self.stats[index].records_in += batch.len() as u64;
            let (outputs, failed) = self.run_step(index, batch, verdict);
            for failed in failed {
                self.judge(index, failed, verdict, &mut lines, out);
            }
            let took = (self.stopwatch)().saturating_sub(started);
            let stats = &mut self.stats[index];
            stats.records_out += outputs.iter().map(|batch| batch.len() as u64).sum::<u64>();
            stats.batch_time.record(took);
            made.push(outputs);
        }
        made
    }

    fn run_step(&mut self, index: usize, batch: Batch, verdict: &mut Verdict) -> (Vec<Batch>, Vec<Failed>) {
        let step = &self.task.plan.steps[index];
        let Action::Plugin { guest, .. } = &step.action else {
            let topic = &self.task.plan.inputs[self.task.input].topic;
            return native::apply(&step.action, &batch, Origin { topic, partition: self.task.partition });
        };
        let handling = Handling { retry: step.retry, stop_at_first: step.then == Fate::Stop };
        let first = batch.rows().map(|(_, row)| row.offset).min().unwrap_or(self.next.0);
        let (guest, stats) = (&mut self.guests[*guest], &mut self.stats[index]);
        let done = Isolation::run(guest, stats, handling, &batch.into_columns(), step.outputs.len());
        match done {
            Ok(done) => (done.outputs.into_iter().map(Batch::from).collect(), done.failed),
            Err(failure) => {
                // No instance, no step: whatever the policy says about records, the task cannot go on.
                verdict.stop_at(index, Failed { offset: first, message: failure.to_string(), attempts: 0 });
                (vec![Batch::default(); step.outputs.len()], Vec::new())
            }
        }
    }

    fn judge(&mut self, step: usize, failed: Failed, verdict: &mut Verdict, lines: &mut usize, out: &mut Vec<Output>) {
        self.stats[step].failed += 1;
        let what = match self.task.plan.steps[step].then {
            Fate::Stop if !mutant!("stop-goes-on") => return verdict.stop_at(step, failed),
            Fate::Stop => "not stopped for",
            Fate::Skip => {
                self.stats[step].skipped += 1;
                "skipped"
            }
            Fate::DeadLetter { .. } => "dead letter",
        };
        *lines += 1;
        if *lines <= LINES_PER_BATCH_MAX {
            let message = format!("{what} {}: {}", self.place(failed.offset), failed.message);
            out.push(Output::Log { level: Level::Warn, step, message });
        }
        if let Fate::DeadLetter { .. } = self.task.plan.steps[step].then {
            verdict.bury(step, failed);
        }
    }

    /// Writes the dead letters of a batch, those before its stop if it has one.
    fn bury(&mut self, input: &Batch, verdict: &mut Verdict, out: &mut Vec<Output>) {
        let plan = Arc::clone(&self.task.plan);
        let mut letters: Vec<Columns> = vec![Columns::default(); plan.sinks.len()];
        let limit = verdict.limit();
        for (_, row) in input.rows().filter(|(_, row)| limit.is_none_or(|limit| row.offset < limit)) {
            let Some((index, failed)) = verdict.dead.get(&row.offset) else { continue };
            let step = &plan.steps[*index];
            let Fate::DeadLetter { sink } = step.then else { continue };
            let digest = match step.action {
                Action::Plugin { guest, .. } => Some(self.guests[guest].guest.digest()),
                _ => None,
            };
            let cause = Cause {
                topic: &plan.inputs[self.task.input].topic,
                partition: self.task.partition,
                pipeline: &plan.name,
                step: &step.name,
                digest,
                error: &failed.message,
                attempts: failed.attempts,
            };
            dead_letter::write(&row, &cause, &mut letters[sink]);
            self.stats[*index].dead_letters += 1;
        }
        for (sink, columns) in letters.into_iter().enumerate().filter(|(_, columns)| !columns.is_empty()) {
            self.append(sink, Arc::new(columns), out);
        }
    }

    fn traced(&self, batch: &Batch) -> Arc<Columns> {
        let mut traced = Columns::default();
        for (_, row) in batch.rows() {
            traced.push_row(&row);
            traced.push_header(dead_letter::ORIGIN.as_bytes(), Some(self.place(row.offset).as_bytes()));
        }
        Arc::new(traced)
    }

    /// `topic/partition@offset`
    fn place(&self, offset: i64) -> String {
        format!("{}/{}@{offset}", self.task.plan.inputs[self.task.input].topic, self.task.partition)
    }

    fn append(&mut self, sink: usize, columns: Arc<Columns>, out: &mut Vec<Output>) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        out.push(Output::Append { ticket, sink, columns });
    }

    fn stop_for(&self, step: usize, failed: Failed) -> Stop {
        Stop {
            step: self.task.plan.steps[step].name.clone(),
            topic: self.task.plan.inputs[self.task.input].topic.clone(),
            partition: self.task.partition,
            offset: Offset(failed.offset),
            message: failed.message,
            remedy: if failed.attempts == 0 { REMEDY_PLUGIN } else { REMEDY_RECORD },
        }
    }

    fn durable(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        for batch in &mut self.in_flight {
            batch.waiting.retain(|waiting| *waiting != ticket);
        }
        self.settle(out);
    }

    /// Commits what is done, in order, and says goodbye when the last of it is.
    fn settle(&mut self, out: &mut Vec<Output>) {
        let mut done = None;
        while self.in_flight.front().is_some_and(|batch| batch.waiting.is_empty()) {
            done = self.in_flight.pop_front().map(|batch| batch.next);
        }
        if let Some(offset) = done {
            out.push(Output::Commit { offset });
        }
        if self.in_flight.is_empty()
            && !self.stopped
            && let Some(stop) = &self.stop
        {
            self.stopped = true;
            out.push(Output::Stop(stop.clone()));
        }
    }
}

/// The records that come from `sources`, for a task that reads `input`.
fn gather(input: &Batch, made: &[Vec<Batch>], sources: &[Source], reads: usize) -> Batch {
    let batches = sources.iter().filter_map(|source| match source {
        Source::Input(index) => (*index == reads).then(|| input.clone()),
        Source::Step { step, output } => Some(made[*step][*output].clone()),
    });
    Batch::merge(batches.collect())
}

#[cfg(test)]
mod tests;
