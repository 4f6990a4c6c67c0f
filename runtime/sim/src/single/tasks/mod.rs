//! The pipelines' tasks on a simulated broker, one per input partition: attempts of `broker::core::task`, with the
//! broker's own appends and commits around them ([`output`]), and what operators do to them ([`operator`]).

mod operator;
mod output;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::core::groups::Call;
use millstream_broker::core::sink::Encoder;
use millstream_broker::core::task::{self, Attempt, Next, Start};
use millstream_cluster::group::Committer;
use millstream_cluster::metadata::State;
use millstream_log::Reader;
use millstream_pipeline::Plan;
use millstream_pipeline::runner::{self, Runner, Stop};
use millstream_protocol::{Failure, Offset, TopicPartition};

use super::guest::{Fare, Guests};
use super::message::Work;
use super::node::{Caller, Node};
use super::redrive::Redriving;
use super::schedule::{CHECKS, PIPELINES};
use super::world::Ctx;
pub(super) use output::{check_versions, commit_at};

/// Pause before a failed attempt is repeated.
const RETRY_US: u64 = 250_000;
const READ_BYTES: usize = 2_000;
pub(super) const BATCH_BYTES: usize = 1_200;

/// One attempt of one task; attempt 0 did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// By its place in the scenario.
    pub(crate) pipeline: usize,
    pub(crate) at: TopicPartition,
    pub(crate) attempt: u64,
}

/// All pipelines of a broker.
pub(crate) struct Tasks {
    pub(super) guests: Guests,
    pub(super) pipelines: Vec<Pipeline>,
    pub(super) redriving: Option<Redriving>,
    /// The first pipeline is to be paused when its next commit is on its way.
    pause_at_commit: bool,
    numbers: u64,
}

/// A pipeline as it is applied.
pub(super) struct Pipeline {
    pub(super) plan: Arc<Plan>,
    /// Of the plugin: the pipeline's revision.
    pub(super) version: u32,
    paused: bool,
    /// It skips what it would stop at.
    pub(super) lenient: bool,
    tasks: BTreeMap<TopicPartition, Task>,
}

#[derive(Default)]
struct Task {
    attempt: u64,
    doing: Doing,
    /// The record it stopped at last.
    stopped_at: Option<i64>,
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
    plan: Arc<Plan>,
    encoder: Encoder,
    /// Appends not yet durable: how many parts are open, and the first input record they are made of.
    open: BTreeMap<u64, (usize, i64)>,
    /// Since which offset which version of the plugin runs.
    versions: Vec<(i64, u32)>,
    /// What it skips was looked at up to here.
    passed: i64,
    lenient: bool,
    /// The newest input record that a result was made of.
    newest: i64,
    /// Other code than it may take over waits for it to end.
    outdated: bool,
    /// A step is on its way.
    woken: bool,
}

impl Tasks {
    pub(crate) fn new(guests: Guests) -> Self {
        Tasks { guests, pipelines: Vec::new(), redriving: None, pause_at_commit: false, numbers: 0 }
    }

    /// Takes over what the metadata say.
    pub(crate) fn applied(&mut self, state: &State) {
        for (place, name) in PIPELINES.iter().enumerate() {
            let Some(applied) = state.pipeline(name) else { continue };
            let revision = applied.current();
            let spec = millstream_pipeline::parse(&revision.yaml, name).expect("the scenario's pipelines parse");
            let plan = Arc::new(Plan::new(&spec, &Default::default()).expect("they have no variables"));
            let lenient = revision.yaml.contains("skip");
            let (version, paused) = (revision.revision, applied.paused);
            match self.pipelines.get_mut(place) {
                Some(own) => (own.plan, own.version, own.paused, own.lenient) = (plan, version, paused, lenient),
                None => {
                    self.pipelines.push(Pipeline { plan, version, paused, lenient, tasks: BTreeMap::new() });
                }
            }
        }
    }

    /// All attempts end as they are.
    pub(crate) fn abandon(&mut self) {
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.tasks.clear());
        self.redriving = None;
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The run of this attempt, if it still goes on.
    fn run(&mut self, key: Key) -> Option<&mut Run> {
        match self.pipelines.get_mut(key.pipeline)?.tasks.get_mut(&key.at) {
            Some(Task { attempt, doing: Doing::Running(run), .. }) if *attempt == key.attempt => Some(run),
            _ => None,
        }
    }
}

impl Node {
    /// Which of a pipeline's inputs a topic is, and its name.
    fn input_of(&self, pipeline: usize, at: TopicPartition) -> Option<(usize, String)> {
        let topic = self.state().topic_by_id(at.topic)?;
        let input = self.tasks.pipelines[pipeline].plan.inputs.iter().position(|own| own.topic == topic.name)?;
        Some((input, topic.name.clone()))
    }

    /// A task begins an attempt, if it rests.
    pub(super) fn begin_task(&mut self, pipeline: usize, at: TopicPartition, ctx: &mut Ctx<'_>) {
        let own = &mut self.tasks.pipelines[pipeline];
        if own.paused || !own.tasks.get(&at).is_some_and(|task| matches!(task.doing, Doing::Resting)) {
            return;
        }
        let key = Key { pipeline, at, attempt: self.tasks.number() };
        let place = self.online(at).map(Reader::start_offset);
        let place = place.and_then(|start| Ok((start, self.committed(PIPELINES[pipeline], at)?)));
        let (start, committed) = match place {
            Ok(place) => place,
            Err(failure) => return self.task_fails(Key { attempt: 0, ..key }, &failure, ctx),
        };
        let end = self.high_watermark(at);
        let check = ctx.history.commits.seen(PIPELINES[pipeline], at, committed.map(|offset| offset.0));
        ctx.history.check(check);
        let from = task::start(committed, (start, end));
        ctx.say(format_args!("task {pipeline}/{}: attempt {} from {from:?}", at.partition, key.attempt));
        let task = self.tasks.pipelines[pipeline].tasks.entry(at).or_default();
        task.attempt = key.attempt;
        match from {
            Start::At(offset) | Start::Deleted(offset) => self.run_task(key, offset, ctx),
            Start::Beyond(end) => {
                ctx.history.wrong(format!("the pipeline committed {at:?} at {committed:?}, beyond its end {end}"));
                self.run_task(key, end, ctx);
            }
            Start::AsPlanned => {
                task.doing = Doing::Starting;
                let commit = commit_at(PIPELINES[pipeline], at, start);
                self.call(Call::Commit(commit, Committer::Pipeline), Caller::Start { key, offset: start }, ctx);
            }
        }
    }

    /// The offset it starts from is committed, or is not.
    pub(super) fn task_starts(&mut self, key: Key, offset: Offset, outcome: Result<(), Failure>, ctx: &mut Ctx<'_>) {
        match outcome {
            Ok(()) => self.run_task(key, offset, ctx),
            Err(failure) => self.task_fails(key, &failure, ctx),
        }
    }

    fn run_task(&mut self, key: Key, start: Offset, ctx: &mut Ctx<'_>) {
        let Key { pipeline, at, attempt } = key;
        let Some((input, topic)) = self.input_of(pipeline, at) else { return };
        let guests = Arc::clone(&self.tasks.guests);
        let own = &mut self.tasks.pipelines[pipeline];
        let (plan, version, lenient) = (Arc::clone(&own.plan), own.version, own.lenient);
        let Some(task) = own.tasks.get_mut(&at).filter(|task| task.attempt == attempt) else { return };
        let place = runner::Task { plan: Arc::clone(&plan), input, partition: at.partition.0, start };
        let runner = Runner::new(place, vec![guests(version)], Box::new(|| 0));
        task.doing = Doing::Running(Box::new(Run {
            core: Attempt::new(runner, format!("{topic}/{}", at.partition)),
            plan,
            encoder: Encoder::new(at.partition.0),
            open: BTreeMap::new(),
            versions: vec![(start.0, version)],
            passed: start.0,
            lenient,
            newest: -1,
            outdated: false,
            woken: false,
        }));
        self.wake_task((pipeline, at), ctx);
    }

    /// Something happened to a partition that tasks may be waiting for.
    pub(super) fn wake_tasks(&mut self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        (0..self.tasks.pipelines.len()).for_each(|pipeline| self.wake_task((pipeline, at), ctx));
    }

    fn wake_task(&mut self, (pipeline, at): (usize, TopicPartition), ctx: &mut Ctx<'_>) {
        let incarnation = self.incarnation;
        let Some(task) = self.tasks.pipelines[pipeline].tasks.get_mut(&at) else { return };
        let Doing::Running(run) = &mut task.doing else { return };
        if !run.woken {
            run.woken = true;
            let delay = 20 + ctx.chance.below(2_000);
            ctx.work(incarnation, delay, Work::Task(Key { pipeline, at, attempt: task.attempt }));
        }
    }

    pub(super) fn step_task(&mut self, key: Key, ctx: &mut Ctx<'_>) {
        let paused = self.tasks.pipelines[key.pipeline].paused;
        let Some(run) = self.tasks.run(key) else { return };
        run.woken = false;
        if paused || run.outdated {
            run.core.end();
        }
        match run.core.next() {
            Ok(Next::Ended) => self.task_ended(key, ctx),
            Ok(Next::Stopped(stop)) => self.task_stopped(key, &stop, ctx),
            Ok(Next::Feed { .. }) => {
                let mut out = Vec::new();
                run.core.feed(&mut out);
                self.carry_out_task(key, out, ctx);
                self.wake_task((key.pipeline, key.at), ctx);
            }
            Ok(Next::Read(offset)) => self.read_task(key, offset, ctx),
            Ok(Next::Wait) => {}
            Err(failure) => self.task_fails(key, &failure, ctx),
        }
    }

    /// Told to end, it has: nothing it did is uncommitted.
    fn task_ended(&mut self, key: Key, ctx: &mut Ctx<'_>) {
        let Key { pipeline, at, .. } = key;
        ctx.say(format_args!("task {pipeline}/{} ended", at.partition));
        self.check_committed_all(key, ctx);
        self.end_task(key, Doing::Resting);
        if !self.tasks.pipelines[pipeline].paused {
            ctx.work(self.incarnation, 0, Work::Begin { pipeline, at });
        }
    }

    fn check_committed_all(&mut self, key: Key, ctx: &mut Ctx<'_>) {
        let committed = self.committed(PIPELINES[key.pipeline], key.at).ok().flatten();
        let Some(run) = self.tasks.run(key) else { return };
        let position = run.core.position();
        // Of a topic that is gone nothing is remembered.
        if committed != Some(position) && self.online(key.at).is_ok() {
            let name = PIPELINES[key.pipeline];
            ctx.history.wrong(format!("{name} ended on {:?} at {position} and committed {committed:?}", key.at));
        }
    }

    /// A record stopped it: it is one that may, and nothing at or behind it was done.
    fn task_stopped(&mut self, key: Key, stop: &Stop, ctx: &mut Ctx<'_>) {
        ctx.say(format_args!("task {}/{} stopped: {stop}", key.pipeline, key.at.partition));
        self.check_committed_all(key, ctx);
        let Some(run) = self.tasks.run(key) else { return };
        let (newest, lenient, position) = (run.newest, run.lenient, run.core.position());
        if key.pipeline != CHECKS || lenient {
            ctx.history.wrong(format!("a pipeline stopped, which it is not told to: {stop}"));
        }
        if newest >= stop.offset.0 || position != stop.offset {
            ctx.history.wrong(format!("it stopped at {position}, with results of {newest}: {stop}"));
        }
        if self.poison_in(key.at, (stop.offset.0, stop.offset.0 + 1), ctx) == Some(false) {
            ctx.history.wrong(format!("a good record stopped it: {stop}"));
        }
        ctx.history.note("pipeline stopped by a record");
        self.end_task(key, Doing::Failed);
        let task = self.tasks.pipelines[key.pipeline].tasks.entry(key.at).or_default();
        if task.stopped_at.replace(stop.offset.0) == Some(stop.offset.0) {
            ctx.history.note("pipeline stopped by the same record again");
        }
    }

    /// Whether one of the records `from` to `to` fails in the plugin; `None` when they can't be read.
    fn poison_in(&self, at: TopicPartition, (from, to): (i64, i64), ctx: &Ctx<'_>) -> Option<bool> {
        let seen = ctx.history.offsets.seen(at, (from, to));
        if seen.len() as i64 == to - from {
            return Some(seen.iter().any(|value| Fare::of(value).is_poison()));
        }
        let (reader, end) = self.reader(at)?;
        let mut next = Offset(from.max(reader.start_offset().0));
        while next.0 < to.min(end.0) {
            let bytes = reader.read(next, READ_BYTES, end).ok()?;
            let records = super::member::decode(&bytes, next.0);
            if records.iter().any(|record| record.offset < to && Fare::of(&record.value).is_poison()) {
                return Some(true);
            }
            next = Offset(records.last()?.offset + 1);
        }
        Some(false)
    }

    fn read_task(&mut self, key: Key, offset: Offset, ctx: &mut Ctx<'_>) {
        let start = match self.online(key.at).map(Reader::start_offset) {
            Ok(start) => start,
            Err(failure) => return self.task_fails(key, &failure, ctx),
        };
        if offset < start {
            let mut out = Vec::new();
            if let Some(run) = self.tasks.run(key) {
                run.core.skip_to(start, &mut out);
            }
            self.carry_out_task(key, out, ctx);
            return self.wake_task((key.pipeline, key.at), ctx);
        }
        let read = match self.fetch(key.at, offset, READ_BYTES, ctx) {
            // The high watermark wakes it.
            Ok(fetched) if fetched.bytes.is_empty() => return,
            Ok(fetched) => self.tasks.run(key).map_or(Ok(()), |run| run.core.read(&fetched.bytes)),
            Err(failure) => Err(failure),
        };
        match read {
            Ok(()) => self.wake_task((key.pipeline, key.at), ctx),
            Err(failure) => self.task_fails(key, &failure, ctx),
        }
    }

    /// Tried again from what is committed, or when somebody acts.
    fn task_fails(&mut self, key: Key, failure: &Failure, ctx: &mut Ctx<'_>) {
        let Key { pipeline, at, attempt } = key;
        let Some(task) = self.tasks.pipelines[pipeline].tasks.get_mut(&at) else { return };
        // 0: it did not begin.
        if attempt != 0 && task.attempt != attempt {
            return;
        }
        ctx.say(format_args!("task {pipeline}/{} fails: {failure:?}", at.partition));
        task.attempt = 0;
        if failure.code.is_retriable() {
            ctx.history.note("task tried again");
            task.doing = Doing::Resting;
            ctx.work(self.incarnation, RETRY_US, Work::Begin { pipeline, at });
        } else {
            task.doing = Doing::Failed;
        }
    }

    fn end_task(&mut self, key: Key, doing: Doing) {
        let task = self.tasks.pipelines[key.pipeline].tasks.get_mut(&key.at);
        if let Some(task) = task.filter(|task| task.attempt == key.attempt) {
            (task.attempt, task.doing) = (0, doing);
        }
    }
}
