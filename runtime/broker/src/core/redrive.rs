//! The redrive of one partition of dead letters: which of them go through their pipeline again, in what company,
//! and when that is remembered. Each goes once, from where the last redrive ended to the end this one was given;
//! what fails again becomes a dead letter anew, behind that end.
//!
//! Invariants: letters are remembered as redriven only when everything they became is durable; until then they
//! are redriven again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_pipeline::dead_letter::{Provenance, provenance, restore};
use millstream_pipeline::runner::{Event, Output, Runner, Stop, Stopwatch, Task, Ticket};
use millstream_pipeline::{Guest, Plan};
use millstream_protocol::batch::{self, DECOMPRESSED_BYTES_MAX, decode_batches, split_batches};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset, mutant};

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It takes dead letters from this offset on: [`Redrive::read`].
    Read(Offset),
    /// So many records of this input partition go to fresh guests: [`Redrive::begin`].
    Begin {
        input: usize,
        partition: u32,
        records: usize,
    },
    /// What those became is not durable yet: [`Redrive::appended`].
    Wait,
    /// Letters before this offset are done: commit it, then [`Redrive::committed`].
    Commit(Offset),
    Done,
    /// A step stopped it. What was committed stays so.
    Stopped(Stop),
}

/// Letters of one input partition that go through one runner: records of a batch are told apart by their
/// offsets, so these ascend.
struct Run {
    input: usize,
    partition: u32,
    columns: Columns,
}

/// See the module's head.
pub struct Redrive {
    plan: Arc<Plan>,
    end: Offset,
    /// Letters before it were read, and before `committed` remembered.
    read_to: Offset,
    committed: Offset,
    runs: VecDeque<Run>,
    runner: Option<Runner>,
    waiting: HashSet<Ticket>,
    stop: Option<Stop>,
    redriven: u64,
    failed: u64,
}

/// The group that remembers how far dead letters were redriven.
pub fn group(pipeline: &str) -> String {
    format!("{pipeline}.redrive")
}

/// Where a redrive begins, by what the last one committed and where the letters begin.
pub fn start(committed: Option<Offset>, log_start: Offset) -> Offset {
    if mutant!("redrive-from-the-start") {
        return log_start;
    }
    committed.unwrap_or_default().max(log_start)
}

impl Redrive {
    /// Redrives the letters from `from` to `end`.
    pub fn new(plan: Arc<Plan>, (from, end): (Offset, Offset)) -> Self {
        Redrive {
            plan,
            end,
            read_to: from,
            committed: from,
            runs: VecDeque::new(),
            runner: None,
            waiting: HashSet::new(),
            stop: None,
            redriven: 0,
            failed: 0,
        }
    }

    /// Records that went through again, and those that failed again.
    pub fn counts(&self) -> (u64, u64) {
        (self.redriven, self.failed)
    }

    /// What is to be done now. Outputs of earlier calls must have been carried out.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: what it asks for decides how it goes on")]
    pub fn next(&mut self) -> Next {
        if mutant!("redrive-remembered-too-early") && self.committed < self.read_to {
            return Next::Commit(self.read_to);
        }
        if !self.waiting.is_empty() {
            return Next::Wait;
        }
        if let Some(runner) = self.runner.take() {
            self.failed += runner.stats().iter().map(|step| step.dead_letters).sum::<u64>();
        }
        if let Some(stop) = self.stop.take() {
            return Next::Stopped(stop);
        }
        if let Some(Run { input, partition, columns }) = self.runs.front() {
            return Next::Begin { input: *input, partition: *partition, records: columns.len() };
        }
        if self.committed < self.read_to {
            return Next::Commit(self.read_to);
        }
        if self.read_to < self.end { Next::Read(self.read_to) } else { Next::Done }
    }

    /// Whole batches of dead letters, from the offset that [`Next::Read`] asked for; none when there are no more.
    ///
    /// # Errors
    /// They can't be decoded.
    pub fn read(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        let damaged = |e: batch::Error| Failure::new(ErrorCode::CorruptData, e.to_string());
        let mut letters = Columns::default();
        decode_batches(bytes, self.read_to, DECOMPRESSED_BYTES_MAX, &mut letters).map_err(damaged)?;
        match split_batches(bytes).last().transpose().map_err(damaged)? {
            Some((last, _)) => self.read_to = last.next_offset().min(self.end),
            None => self.end = self.read_to,
        }
        self.sort(&letters);
        Ok(())
    }

    /// Puts this pipeline's letters among the records into runs, by the partition they came from.
    fn sort(&mut self, letters: &Columns) {
        // The open run of each input partition.
        let mut open: HashMap<(usize, u32), usize> = HashMap::new();
        for row in letters.rows().filter(|row| row.offset < self.end.0) {
            let Some(origin) = provenance(&row).filter(|origin| origin.pipeline == self.plan.name) else { continue };
            let Some(input) = self.plan.inputs.iter().position(|input| input.topic == origin.topic) else { continue };
            let Provenance { partition, offset, .. } = origin;
            let fits = |run: &&mut Run| run.columns.offsets.last().is_none_or(|last| *last < offset);
            let at = open.get(&(input, partition)).copied();
            if let Some(run) = at.and_then(|at| self.runs.get_mut(at)).filter(fits) {
                restore(&row, &origin, &mut run.columns);
            } else {
                let mut columns = Columns::default();
                restore(&row, &origin, &mut columns);
                open.insert((input, partition), self.runs.len());
                self.runs.push_back(Run { input, partition, columns });
            }
        }
    }

    /// Lets the guests, one per plugin step, have the records that [`Next::Begin`] announced.
    pub fn begin(&mut self, guests: Vec<Box<dyn Guest>>, stopwatch: Stopwatch, out: &mut Vec<Output>) {
        let Some(Run { input, partition, columns }) = self.runs.pop_front() else { return };
        self.redriven += columns.len() as u64;
        let next = Offset(columns.offsets.last().map_or(0, |last| last + 1));
        let task = Task { plan: Arc::clone(&self.plan), input, partition, start: Offset::ZERO };
        let runner = self.runner.insert(Runner::new(task, guests, stopwatch));
        let mut made = Vec::new();
        runner.handle(Event::Fetched { columns, next }, &mut made);
        self.pass_on(made, out);
    }

    /// An append is durable.
    pub fn appended(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        self.waiting.remove(&ticket);
        let mut made = Vec::new();
        if let Some(runner) = &mut self.runner {
            runner.handle(Event::Durable { ticket }, &mut made);
        }
        self.pass_on(made, out);
    }

    /// The offset that [`Next::Commit`] gave is durable.
    pub fn committed(&mut self) {
        self.committed = self.read_to;
    }

    /// The offsets of the pipeline's own group are not this one's to commit.
    fn pass_on(&mut self, made: Vec<Output>, out: &mut Vec<Output>) {
        for output in made {
            match output {
                Output::Commit { .. } => {}
                Output::Stop(stop) => self.stop = Some(stop),
                Output::Append { ticket, sink, columns } => {
                    self.waiting.insert(ticket);
                    out.push(Output::Append { ticket, sink, columns });
                }
                other => out.push(other),
            }
        }
    }
}
