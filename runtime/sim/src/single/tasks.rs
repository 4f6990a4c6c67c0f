//! The pipeline's tasks on a simulated broker, one per input partition: attempts of `broker::core::task`, with the
//! broker's own appends and commits around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::core::groups::Call;
use millstream_broker::core::partition::Append;
use millstream_broker::core::sink::Encoder;
use millstream_broker::core::task::{self, Attempt, Next, Start};
use millstream_cluster::group::Committer;
use millstream_cluster::metadata::{Command, State};
use millstream_log::Reader;
use millstream_pipeline::Plan;
use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::{self, Runner, Ticket};
use millstream_protocol::message::{Acks, CommitOffsets, CommittedOffset};
use millstream_protocol::{Columns, Failure, Offset, TopicPartition};

use super::guest::{Fare, Native};
use super::message::Work;
use super::node::{Caller, Node, Waiter, put_pipeline};
use super::schedule::{self, PIPELINE};
use super::world::Ctx;

/// Pause before a failed attempt is repeated.
const RETRY_US: u64 = 250_000;
const READ_BYTES: usize = 2_000;
const BATCH_BYTES: usize = 1_200;

/// The pipeline as it is applied.
pub(crate) struct Tasks {
    plan: Arc<Plan>,
    /// Of the plugin: the pipeline's revision.
    version: u32,
    paused: bool,
    tasks: BTreeMap<TopicPartition, Task>,
    attempts: u64,
}

#[derive(Default)]
struct Task {
    attempt: u64,
    doing: Doing,
}

#[derive(Default)]
enum Doing {
    #[default]
    Resting,
    /// Waits until the offset it starts from is committed.
    Starting,
    Running(Box<Run>),
    Failed,
}

struct Run {
    core: Attempt,
    encoder: Encoder,
    /// Appends not yet durable: how many parts are open, and the first input record they are made of.
    open: BTreeMap<u64, (usize, i64)>,
    /// Since which offset which version of the plugin runs.
    versions: Vec<(i64, u32)>,
    /// A step is on its way.
    woken: bool,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let spec = millstream_pipeline::parse(schedule::YAML, "prices.yaml").expect("the scenario's pipeline parses");
        let plan = Plan::new(&spec, &Default::default()).expect("it has no variables");
        Tasks { plan: Arc::new(plan), version: 0, paused: false, tasks: BTreeMap::new(), attempts: 0 }
    }

    /// Takes over what the metadata say.
    pub(crate) fn applied(&mut self, state: &State) {
        if let Some(pipeline) = state.pipeline(PIPELINE) {
            (self.version, self.paused) = (pipeline.current().revision, pipeline.paused);
        }
    }

    /// All attempts end as they are.
    pub(crate) fn abandon(&mut self) {
        self.tasks.clear();
    }
}

impl Node {
    /// A task begins an attempt, if it rests.
    pub(super) fn begin_task(&mut self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        if self.tasks.paused || !matches!(self.tasks.tasks.entry(at).or_default().doing, Doing::Resting) {
            return;
        }
        self.tasks.attempts += 1;
        let attempt = self.tasks.attempts;
        let place = self.online(at).map(Reader::start_offset);
        let place = place.and_then(|start| Ok((start, self.committed(PIPELINE, at)?)));
        let (start, committed) = match place {
            Ok(place) => place,
            Err(failure) => return self.task_fails((at, 0), &failure, ctx),
        };
        let end = self.high_watermark(at);
        let check = ctx.history.commits.seen(PIPELINE, at, committed.map(|offset| offset.0));
        ctx.history.check(check);
        let from = task::start(committed, (start, end));
        ctx.say(format_args!("task {}: attempt {attempt} from {from:?}", at.partition));
        let task = self.tasks.tasks.entry(at).or_default();
        task.attempt = attempt;
        match from {
            Start::At(offset) | Start::Deleted(offset) => self.run_task((at, attempt), offset, ctx),
            Start::Beyond(end) => {
                ctx.history.wrong(format!("the pipeline committed {at:?} at {committed:?}, beyond its end {end}"));
                self.run_task((at, attempt), end, ctx);
            }
            Start::AsPlanned => {
                task.doing = Doing::Starting;
                let commit = commit_at(at, start);
                self.call(Call::Commit(commit, Committer::Pipeline), Caller::Start { at, attempt, offset: start }, ctx);
            }
        }
    }

    /// The offset it starts from is committed, or is not.
    pub(super) fn task_starts(
        &mut self,
        (at, attempt): (TopicPartition, u64),
        offset: Offset,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        match outcome {
            Ok(()) => self.run_task((at, attempt), offset, ctx),
            Err(failure) => self.task_fails((at, attempt), &failure, ctx),
        }
    }

    fn run_task(&mut self, (at, attempt): (TopicPartition, u64), start: Offset, ctx: &mut Ctx<'_>) {
        let (plan, version) = (Arc::clone(&self.tasks.plan), self.tasks.version);
        let Some(task) = self.tasks.tasks.get_mut(&at).filter(|task| task.attempt == attempt) else { return };
        let own = runner::Task { plan, input: 0, partition: at.partition.0, start };
        let runner = Runner::new(own, vec![Native::boxed(version)], Box::new(|| 0));
        task.doing = Doing::Running(Box::new(Run {
            core: Attempt::new(runner, format!("{}/{}", schedule::ORDERS, at.partition)),
            encoder: Encoder::new(at.partition.0),
            open: BTreeMap::new(),
            versions: vec![(start.0, version)],
            woken: false,
        }));
        self.wake_task(at, ctx);
    }

    /// Something happened that the task may be waiting for.
    pub(super) fn wake_task(&mut self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        let incarnation = self.incarnation;
        let Some(task) = self.tasks.tasks.get_mut(&at) else { return };
        let Doing::Running(run) = &mut task.doing else { return };
        if !run.woken {
            run.woken = true;
            let delay = 20 + ctx.chance.below(2_000);
            ctx.work(incarnation, delay, Work::Task { at, attempt: task.attempt });
        }
    }

    /// The run of this attempt, if it still goes on.
    fn run(&mut self, (at, attempt): (TopicPartition, u64)) -> Option<&mut Run> {
        match self.tasks.tasks.get_mut(&at) {
            Some(Task { attempt: own, doing: Doing::Running(run) }) if *own == attempt => Some(run),
            _ => None,
        }
    }

    pub(super) fn step_task(&mut self, at: TopicPartition, attempt: u64, ctx: &mut Ctx<'_>) {
        let paused = self.tasks.paused;
        let Some(run) = self.run((at, attempt)) else { return };
        run.woken = false;
        if paused {
            run.core.end();
        }
        match run.core.next() {
            Ok(Next::Ended) => {
                ctx.say(format_args!("task {} ended", at.partition));
                let position = run.core.position();
                let committed = self.committed(PIPELINE, at).ok().flatten();
                if committed != Some(position) {
                    let found = format!("the pipeline ended on {at:?} at {position} and committed {committed:?}");
                    ctx.history.wrong(found);
                }
                self.end_task((at, attempt), Doing::Resting);
                if !self.tasks.paused {
                    ctx.work(self.incarnation, 0, Work::Begin { at });
                }
            }
            Ok(Next::Stopped(stop)) => {
                ctx.history.wrong(format!("the pipeline stopped, which it is not told to: {stop}"));
                self.end_task((at, attempt), Doing::Failed);
            }
            Ok(Next::Feed { .. }) => {
                let mut out = Vec::new();
                run.core.feed(&mut out);
                self.carry_out_task((at, attempt), out, ctx);
                self.wake_task(at, ctx);
            }
            Ok(Next::Read(offset)) => self.read_task((at, attempt), offset, ctx),
            Ok(Next::Wait) => {}
            Err(failure) => self.task_fails((at, attempt), &failure, ctx),
        }
    }

    fn read_task(&mut self, (at, attempt): (TopicPartition, u64), offset: Offset, ctx: &mut Ctx<'_>) {
        let start = match self.online(at).map(Reader::start_offset) {
            Ok(start) => start,
            Err(failure) => return self.task_fails((at, attempt), &failure, ctx),
        };
        if offset < start {
            let mut out = Vec::new();
            if let Some(run) = self.run((at, attempt)) {
                run.core.skip_to(start, &mut out);
            }
            self.carry_out_task((at, attempt), out, ctx);
            return self.wake_task(at, ctx);
        }
        match self.fetch(at, offset, READ_BYTES, ctx) {
            // The high watermark wakes it.
            Ok(fetched) if fetched.bytes.is_empty() => {}
            Ok(fetched) => {
                let read = self.run((at, attempt)).map_or(Ok(()), |run| run.core.read(&fetched.bytes));
                match read {
                    Ok(()) => self.wake_task(at, ctx),
                    Err(failure) => self.task_fails((at, attempt), &failure, ctx),
                }
            }
            Err(failure) => self.task_fails((at, attempt), &failure, ctx),
        }
    }

    fn carry_out_task(&mut self, key: (TopicPartition, u64), out: Vec<runner::Output>, ctx: &mut Ctx<'_>) {
        for output in out {
            match output {
                runner::Output::Append { ticket, sink, columns } => {
                    self.append_outputs(key, (ticket, sink), &columns, ctx);
                }
                runner::Output::Commit { offset } => self.commit_task(key, offset, ctx),
                runner::Output::Swapped { offset, .. } => {
                    ctx.say(format_args!("task {} swapped at {offset}", key.0.partition));
                    ctx.history.note("plugin swapped");
                    let version = self.tasks.version;
                    if let Some(run) = self.run(key) {
                        run.versions.push((offset.0, version));
                    }
                }
                runner::Output::Log { .. } | runner::Output::Stop(_) => {}
            }
        }
    }

    fn append_outputs(
        &mut self,
        key: (TopicPartition, u64),
        (ticket, sink): (Ticket, usize),
        columns: &Columns,
        ctx: &mut Ctx<'_>,
    ) {
        let sink = self.tasks.plan.sinks[sink].clone();
        let topic = self.state().topic(&sink.topic).cloned().expect("the scenario's topics are there");
        let Some(run) = self.run(key) else { return };
        if sink.role == Role::Output {
            let versions = run.versions.clone();
            check_versions(columns, &versions, ctx);
        } else {
            ctx.history.note("dead letter");
        }
        let encoded = run.encoder.encode(columns, topic.partitions, BATCH_BYTES).expect("what was just built decodes");
        let first = columns.offsets.iter().copied().min().unwrap_or(0);
        run.open.insert(ticket.0, (encoded.len(), first));
        for (partition, batches) in encoded {
            let to = TopicPartition { topic: topic.id, partition };
            let waiter = Waiter::Task { at: key.0, attempt: key.1, ticket: ticket.0 };
            match self.online(to).map(drop) {
                Ok(()) => self.append(to, Append { batches, acks: Acks::All, waiter }, ctx),
                Err(failure) => return self.task_fails(key, &failure, ctx),
            }
        }
    }

    pub(super) fn task_appended(
        &mut self,
        key: (TopicPartition, u64),
        ticket: u64,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Err(failure) = outcome {
            return self.task_fails(key, &failure, ctx);
        }
        let Some(run) = self.run(key) else { return };
        let Some((parts, _)) = run.open.get_mut(&ticket) else { return };
        *parts -= 1;
        if *parts == 0 {
            run.open.remove(&ticket);
            let mut out = Vec::new();
            run.core.appended(Ticket(ticket), &mut out);
            self.carry_out_task(key, out, ctx);
            self.wake_task(key.0, ctx);
        }
    }

    fn commit_task(&mut self, key: (TopicPartition, u64), offset: Offset, ctx: &mut Ctx<'_>) {
        let Some(run) = self.run(key) else { return };
        if let Some((_, first)) = run.open.values().find(|(_, first)| *first < offset.0) {
            let first = *first;
            ctx.history.wrong(format!("input {offset} is committed while results of record {first} are not durable"));
        }
        let (at, attempt) = key;
        let commit = Call::Commit(commit_at(at, offset), Committer::Pipeline);
        self.call(commit, Caller::Task { at, attempt, offset }, ctx);
    }

    pub(super) fn task_committed(
        &mut self,
        key: (TopicPartition, u64),
        offset: Offset,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Err(failure) = outcome {
            return self.task_fails(key, &failure, ctx);
        }
        let at = key.0;
        ctx.later(move |history| {
            let check = history.commits.acked(PIPELINE, at, offset.0);
            history.check(check);
        });
        let Some(run) = self.run(key) else { return };
        let mut out = Vec::new();
        run.core.committed(&mut out);
        self.carry_out_task(key, out, ctx);
        self.wake_task(at, ctx);
    }

    /// Tried again from what is committed, or when somebody acts.
    fn task_fails(&mut self, (at, attempt): (TopicPartition, u64), failure: &Failure, ctx: &mut Ctx<'_>) {
        let Some(task) = self.tasks.tasks.get_mut(&at) else { return };
        // 0: it did not begin.
        if attempt != 0 && task.attempt != attempt {
            return;
        }
        ctx.say(format_args!("task {} fails: {failure:?}", at.partition));
        if failure.code.is_retriable() {
            ctx.history.note("task tried again");
            (task.attempt, task.doing) = (0, Doing::Resting);
            ctx.work(self.incarnation, RETRY_US, Work::Begin { at });
        } else {
            (task.attempt, task.doing) = (0, Doing::Failed);
        }
    }

    fn end_task(&mut self, (at, attempt): (TopicPartition, u64), doing: Doing) {
        if let Some(task) = self.tasks.tasks.get_mut(&at).filter(|task| task.attempt == attempt) {
            (task.attempt, task.doing) = (0, doing);
        }
    }

    pub(super) fn restart_tasks(&mut self, ctx: &mut Ctx<'_>) {
        for (at, task) in &mut self.tasks.tasks {
            if matches!(task.doing, Doing::Failed) {
                task.doing = Doing::Resting;
                ctx.work(self.incarnation, 0, Work::Begin { at: *at });
            }
        }
    }

    pub(super) fn pause(&mut self, paused: bool, ctx: &mut Ctx<'_>) {
        let command = Command::SetPipelinePaused { name: PIPELINE.to_owned(), paused };
        if self.tasks.paused == paused || !self.submit(&command, ctx) {
            return;
        }
        ctx.say(format_args!("pipeline {}", if paused { "paused" } else { "resumed" }));
        ctx.history.note("pipeline paused");
        self.tasks.paused = paused;
        for at in self.inputs() {
            self.wake_task(at, ctx);
            if !paused {
                ctx.work(self.incarnation, 0, Work::Begin { at });
            }
        }
    }

    /// A new revision of the pipeline, whose plugin is another; running tasks take it over.
    pub(super) fn swap(&mut self, ctx: &mut Ctx<'_>) {
        if !self.submit(&put_pipeline(ctx.wall_ms), ctx) {
            return;
        }
        let state = self.state().clone();
        self.tasks.applied(&state);
        let (plan, version) = (Arc::clone(&self.tasks.plan), self.tasks.version);
        ctx.say(format_args!("plugin version {version}"));
        let attempts: Vec<_> = self.tasks.tasks.iter().map(|(at, task)| (*at, task.attempt)).collect();
        for key in attempts {
            let mut out = Vec::new();
            let Some(run) = self.run(key).filter(|run| run.core.takes_guests()) else { continue };
            run.core.swap(Arc::clone(&plan), vec![(0, Native::boxed(version))], &mut out);
            self.carry_out_task(key, out, ctx);
        }
    }

    /// Whether every task has done and committed everything there is.
    pub(crate) fn tasks_done(&self) -> bool {
        self.inputs().iter().all(|at| {
            let committed = self.committed(PIPELINE, *at).ok().flatten();
            committed.is_some_and(|committed| committed == self.high_watermark(*at))
        })
    }
}

/// Every result was made by the version that owns its record.
fn check_versions(columns: &Columns, versions: &[(i64, u32)], ctx: &mut Ctx<'_>) {
    for row in columns.rows() {
        let value = String::from_utf8_lossy(row.value.unwrap_or_default()).into_owned();
        let owner = versions.iter().rev().find(|(from, _)| *from <= row.offset).map_or(0, |(_, version)| *version);
        if !value.ends_with(&format!("|v{owner}")) {
            ctx.history.wrong(format!("{value} of record {} was not made by version {owner}", row.offset));
        }
        let input = value.rsplit_once('|').map_or("", |(input, _)| input);
        if Fare::of(input.as_bytes()).is_poison() {
            ctx.history.wrong(format!("a poison record has a result: {value}"));
        }
    }
}

fn commit_at(at: TopicPartition, offset: Offset) -> CommitOffsets {
    let offset = CommittedOffset { topic: at.topic, partition: at.partition, offset, metadata: String::new() };
    CommitOffsets { group: PIPELINE.to_owned(), member_id: String::new(), generation: 0, offsets: vec![offset] }
}
