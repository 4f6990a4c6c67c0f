//! The broker: the cores of `millstream-broker` on a simulated disk, without a thread. What its edges do with
//! channels, this does with events of the world.

mod coordinator;
mod opening;
mod requests;
mod topics;

use coordinator::{check_committed, no_groups};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_broker::core::groups::{self, Groups, Write};
use millstream_broker::core::partition::Append;
use millstream_broker::core::shard::{self, Shard};
use millstream_cluster::metadata::{Command, State, Topic};
use millstream_log::{Reader, Storage};
use millstream_protocol::message::{CommitOffsets, Durability};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicPartition};

use super::message::{Admin, Event, Reply, Work};
use super::schedule::{self, BRIEF, PIPELINES, PRICES, RETAINED};
use super::store::Store;
use super::tasks::{Key, Tasks};
use super::world::Ctx;
use crate::disk::SimDisk;

/// How often retention runs.
const TICK_US: u64 = 1_000_000;
/// How long anything may stay in the page cache of a disk that works, a slow one included.
const UNSYNCED_US_MAX: u64 = 5_000_000;

/// Who waits for an append.
#[derive(Debug)]
pub(crate) enum Waiter {
    Client { to: usize, number: u64 },
    Offsets(Write),
    Task { key: Key, ticket: u64 },
    Redrive { number: u64, ticket: u64 },
}

/// Who waits for the groups.
#[derive(Debug)]
pub(crate) enum Caller {
    Client {
        to: usize,
        number: u64,
    },
    /// `stale`: it is about a topic that was deleted before it was asked.
    Commit {
        to: usize,
        number: u64,
        request: CommitOffsets,
        stale: bool,
    },
    Task {
        key: Key,
        offset: Offset,
    },
    Start {
        key: Key,
        offset: Offset,
    },
    Redrive {
        number: u64,
        offset: Offset,
    },
}

/// A partition's handle.
struct Served {
    topic: Arc<str>,
    reader: Option<Reader>,
    high_watermark: Offset,
    offline: Option<Failure>,
    durability: Durability,
    /// Since when more than this is there, and not on the disk.
    unsynced: Option<(u64, Offset)>,
}

pub(crate) struct Node {
    pub(crate) incarnation: u64,
    disk: SimDisk,
    store: Store,
    shard: Shard<Arc<dyn Storage>, Waiter>,
    served: BTreeMap<TopicPartition, Served>,
    offsets: TopicPartition,
    groups: Option<Groups<Caller>>,
    pub(super) tasks: Tasks,
    shard_out: VecDeque<shard::Output<Waiter>>,
    groups_out: VecDeque<groups::Output<Caller>>,
    /// Whether the outputs of the shard, and of the groups, are being carried out.
    carrying: (bool, bool),
    /// When the next [`Work::GroupsTick`] comes.
    tick_at: Option<i64>,
    /// A [`Work::Drained`] is on its way.
    draining: bool,
    closing: bool,
    pub(super) closed: bool,
    /// Wall clock and time at the start: the groups' clock does not jump.
    started: (i64, u64),
}

impl Node {
    pub(super) fn state(&self) -> &State {
        self.store.state()
    }

    fn topics(&self) -> Vec<Topic> {
        self.state().topics().cloned().collect()
    }

    pub(super) fn high_watermark(&self, at: TopicPartition) -> Offset {
        self.served.get(&at).map_or(Offset::ZERO, |served| served.high_watermark)
    }

    pub(crate) fn has_offline(&self) -> bool {
        self.groups.is_none() || self.served.values().any(|served| served.offline.is_some()) || self.store.is_failed()
    }

    /// Work of its own.
    pub(crate) fn work(&mut self, work: Work, ctx: &mut Ctx<'_>) {
        match work {
            Work::Drained => {
                self.draining = false;
                self.feed(shard::Event::Drained, ctx);
            }
            Work::Sync { at, job } => {
                let done = job.run();
                self.feed(shard::Event::Synced { id: at, done }, ctx);
                self.note_synced(at, ctx);
            }
            Work::Task(key) => self.step_task(key, ctx),
            Work::Begin { pipeline, at } => self.begin_task(pipeline, at, ctx),
            Work::Redrive(number) => self.step_redrive(number, ctx),
            Work::RemoveFiles(id) => self.remove_files(id, ctx),
            Work::GroupsTick => {
                self.tick_at = None;
                self.tell_groups(groups::Event::Tick, ctx);
            }
            Work::Tick => {
                self.tick(ctx);
                ctx.work(self.incarnation, TICK_US, Work::Tick);
            }
            Work::Close => self.close(ctx),
        }
    }

    fn tick(&mut self, ctx: &mut Ctx<'_>) {
        let before = self.sizes();
        self.feed(shard::Event::Tick, ctx);
        self.schedule_drain(ctx);
        for (at, (start, bytes, segments)) in self.sizes() {
            let Some((start_before, ..)) = before.get(&at) else { continue };
            if start > *start_before {
                ctx.history.note("segment deleted by retention");
                ctx.later(move |history| history.starts_at(at, start.0));
                if at.topic != schedule::topic_id(RETAINED) {
                    ctx.history.wrong(format!("retention deleted records of {at:?}, which has none"));
                } else if bytes < schedule::RETENTION_BYTES {
                    ctx.history.wrong(format!("retention left {bytes} bytes of {}", schedule::RETENTION_BYTES));
                }
            }
            if segments > 1 {
                ctx.history.note("segment rolled");
            }
        }
        self.look_for_unsynced(ctx);
        // Partitions may be there that were not.
        self.start_missing(ctx);
    }

    /// What is acknowledged from the page cache must not stay there.
    fn look_for_unsynced(&mut self, ctx: &mut Ctx<'_>) {
        for (at, served) in self.served.iter_mut().filter(|(_, served)| served.offline.is_none()) {
            let Some(partition) = self.shard.partition(*at) else { continue };
            let durable = partition.durable_end();
            served.unsynced = match served.unsynced {
                _ if durable == partition.log_end() => None,
                Some((since, known)) if known == durable => Some((since, known)),
                _ => Some((ctx.now_us, durable)),
            };
            if let Some((since, _)) = served.unsynced.filter(|(since, _)| ctx.now_us > since + UNSYNCED_US_MAX) {
                ctx.history.wrong(format!("{at:?} has records from {durable} on that are not synced since {since} us"));
            }
        }
    }

    /// What the power can't take any more.
    fn note_synced(&self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        let fast = self.served.get(&at).is_some_and(|served| served.durability == Durability::Replicated);
        if let Some(partition) = self.shard.partition(at).filter(|_| fast) {
            let durable = partition.durable_end().0;
            ctx.later(move |history| history.synced_to(at, durable));
        }
    }

    fn sizes(&self) -> BTreeMap<TopicPartition, (Offset, u64, u32)> {
        let size = |at: &TopicPartition| {
            let (described, reader) = (self.shard.describe(*at).ok()?, self.online(*at).ok()?);
            Some((*at, (reader.start_offset(), described.bytes, described.segments)))
        };
        self.served.keys().filter_map(size).collect()
    }

    fn schedule_drain(&mut self, ctx: &mut Ctx<'_>) {
        if !self.draining {
            self.draining = true;
            let delay = ctx.chance.below(300);
            ctx.work(self.incarnation, delay, Work::Drained);
        }
    }

    pub(super) fn append(&mut self, at: TopicPartition, append: Append<Waiter>, ctx: &mut Ctx<'_>) {
        self.feed(shard::Event::Append { id: at, append }, ctx);
    }

    fn feed(&mut self, event: shard::Event<Arc<dyn Storage>, Waiter>, ctx: &mut Ctx<'_>) {
        let drained = matches!(event, shard::Event::Drained);
        let mut out = Vec::new();
        self.shard.handle(event, ctx.wall_ms, &mut out);
        if !drained {
            self.schedule_drain(ctx);
        }
        self.carry_out(out, ctx);
    }

    fn carry_out(&mut self, out: Vec<shard::Output<Waiter>>, ctx: &mut Ctx<'_>) {
        self.shard_out.extend(out);
        if std::mem::replace(&mut self.carrying.0, true) {
            // Further up: outputs are carried out in their order, not inside each other.
            return;
        }
        while let Some(output) = self.shard_out.pop_front() {
            match output {
                shard::Output::Answer(waiter, outcome) => self.answered(waiter, outcome, ctx),
                shard::Output::LogEnd(..) => {}
                shard::Output::HighWatermark(at, offset) => self.readable(at, offset, ctx),
                shard::Output::Sync(at, job) => {
                    let delay = 100 + ctx.chance.below(4_000) + self.disk.take_latency_us();
                    ctx.work(self.incarnation, delay, Work::Sync { at, job });
                }
                shard::Output::Offline(at, failure) => {
                    ctx.say(format_args!("{at:?} goes offline: {failure:?}"));
                    ctx.history.note("partition offline");
                    if let Some(served) = self.served.get_mut(&at) {
                        served.offline = Some(failure);
                    }
                }
                shard::Output::Late(at, error) => ctx.say(format_args!("retention of {at:?} failed: {error}")),
            }
        }
        self.carrying.0 = false;
    }

    fn readable(&mut self, at: TopicPartition, offset: Offset, ctx: &mut Ctx<'_>) {
        let Some(served) = self.served.get_mut(&at) else { return };
        if offset < served.high_watermark {
            ctx.history.wrong(format!("the high watermark of {at:?} fell to {offset} from {}", served.high_watermark));
        }
        served.high_watermark = offset;
        if let Some(partition) = self.shard.partition(at)
            && served.durability == Durability::Disk
            && offset > partition.durable_end()
        {
            let durable = partition.durable_end();
            ctx.history.wrong(format!("{at:?} may be read to {offset} and is durable to {durable}"));
        }
        self.wake_tasks(at, ctx);
    }

    fn answered(
        &mut self,
        waiter: Waiter,
        outcome: Result<millstream_broker::core::partition::Appended, Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        match waiter {
            Waiter::Client { to, number } => {
                let power = ctx.history.power;
                ctx.answer(to, number, Reply::Produced { outcome, power });
            }
            Waiter::Offsets(write) => {
                let start = self.online(self.offsets).map_or(Offset::ZERO, Reader::start_offset);
                let log = (start, self.high_watermark(self.offsets));
                self.tell_groups(groups::Event::Written { write, outcome, log }, ctx);
            }
            Waiter::Task { key, ticket } => self.task_appended(key, ticket, outcome.map(drop), ctx),
            Waiter::Redrive { number, ticket } => self.redrive_appended(number, ticket, outcome.map(drop), ctx),
        }
    }

    /// Somebody with rights acts.
    pub(crate) fn admin(&mut self, admin: Admin, ctx: &mut Ctx<'_>) {
        if self.closing {
            return;
        }
        match admin {
            Admin::Swap => self.swap(ctx),
            Admin::Pause | Admin::Resume => self.pause(admin == Admin::Pause, ctx),
            Admin::PauseAtCommit => self.pause_at_commit(),
            Admin::RestartTasks => self.restart_tasks(ctx),
            Admin::Lenient(lenient) => self.set_lenient(lenient, ctx),
            Admin::Redrive => self.begin_redrive(ctx),
            Admin::CreateTopic => self.create_topic(BRIEF, ctx),
            Admin::DeleteTopic => self.delete_topic(BRIEF, ctx),
            Admin::DeleteRecords => {
                for at in self.inputs(PRICES) {
                    self.delete_records(at, ctx);
                }
            }
        }
    }

    /// What everybody has read.
    fn delete_records(&mut self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        let readers = schedule::GROUPS.iter().map(|(group, _)| *group).chain([PIPELINES[PRICES]]);
        let committed: Option<Vec<Offset>> = readers.map(|group| self.committed(group, at).ok().flatten()).collect();
        let Some(before) = committed.and_then(|committed| committed.into_iter().min()) else { return };
        let before = Offset(before.0.saturating_sub(ctx.chance.below(20) as i64).max(0));
        match self.shard.delete_records(at, before) {
            Ok(start) => {
                ctx.say(format_args!("records of {at:?} deleted to {start}"));
                ctx.later(move |history| {
                    history.note("records deleted");
                    history.starts_at(at, start.0);
                });
            }
            Err(failure) => ctx.say(format_args!("records of {at:?} not deleted: {failure:?}")),
        }
    }

    pub(super) fn submit(&mut self, command: &Command, ctx: &mut Ctx<'_>) -> bool {
        match self.store.submit(command) {
            Ok(_) => {
                self.state_changed(ctx);
                true
            }
            Err(failure) => {
                ctx.say(format_args!("refused: {failure:?}"));
                false
            }
        }
    }

    pub(crate) fn begin_close(&mut self, ctx: &mut Ctx<'_>) {
        self.closing = true;
        self.tasks.abandon();
        ctx.work(self.incarnation, 0, Work::Close);
    }

    fn close(&mut self, ctx: &mut Ctx<'_>) {
        if self.shard.is_syncing() {
            return ctx.work(self.incarnation, 500, Work::Close);
        }
        let mut out = Vec::new();
        let reason = Failure::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        let closed = self.shard.take().into_iter().map(|partition| shard::close(partition, &reason, &mut out));
        let unclean = closed.filter(Result::is_err).count();
        ctx.say(format_args!("closed, {unclean} logs not cleanly"));
        self.carry_out(out, ctx);
        self.closed = true;
    }

    /// Everything that may be read of a partition, undisturbed.
    pub(crate) fn reader(&self, at: TopicPartition) -> Option<(Reader, Offset)> {
        let served = self.served.get(&at)?;
        Some((served.reader.clone()?, served.high_watermark))
    }

    pub(crate) fn partitions(&self, topic: &str) -> Vec<TopicPartition> {
        let Some(topic) = self.state().topic(topic) else { return Vec::new() };
        let partition = |index| TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
        (0..topic.partitions).map(partition).collect()
    }
}

pub(super) fn put_pipeline(pipeline: usize, lenient: bool, at_ms: i64) -> Command {
    Command::PutPipeline {
        name: PIPELINES[pipeline].to_owned(),
        yaml: schedule::yaml(pipeline, lenient),
        variables: BTreeMap::new(),
        plugins: Vec::new(),
        at_ms,
    }
}

/// An event of its own for a later time.
impl Ctx<'_> {
    pub(super) fn work(&mut self, incarnation: u64, delay_us: u64, work: Work) {
        self.out.push((delay_us, Event::Work { incarnation, work }));
    }
}
