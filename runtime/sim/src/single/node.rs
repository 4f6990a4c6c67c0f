//! The broker: the cores of `millstream-broker` on a simulated disk, without a thread. What its edges do with
//! channels, this does with events of the world.

mod coordinator;
mod opening;

use coordinator::{check_committed, no_groups};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_broker::core::groups::{self, Call, Groups, Write};
use millstream_broker::core::partition::{Append, check_new, failure_of, read};
use millstream_broker::core::shard::{self, Shard};
use millstream_cluster::group::Committer;
use millstream_cluster::metadata::{Command, Event as Changed, State, Topic};
use millstream_log::{Reader, Storage};
use millstream_protocol::message::{Acks, CommitOffsets};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicPartition};

use super::message::{Admin, Body, Event, Reply, Work};
use super::schedule::{self, PIPELINE, RETAINED};
use super::store::Store;
use super::tasks::Tasks;
use super::world::Ctx;
use crate::disk::SimDisk;

/// How often retention runs.
const TICK_US: u64 = 1_000_000;
const FETCH_BYTES: usize = 700;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Who waits for an append.
#[derive(Debug)]
pub(crate) enum Waiter {
    Client { to: usize, number: u64 },
    Offsets(Write),
    Task { at: TopicPartition, attempt: u64, ticket: u64 },
}

/// Who waits for the groups.
#[derive(Debug)]
pub(crate) enum Caller {
    Client { to: usize, number: u64 },
    Commit { to: usize, number: u64, request: CommitOffsets },
    Task { at: TopicPartition, attempt: u64, offset: Offset },
    Start { at: TopicPartition, attempt: u64, offset: Offset },
}

/// A partition's handle.
struct Served {
    topic: Arc<str>,
    reader: Option<Reader>,
    high_watermark: Offset,
    offline: Option<Failure>,
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

    /// The pipeline's input partitions.
    pub(super) fn inputs(&self) -> Vec<TopicPartition> {
        let topic = self.state().topic(schedule::ORDERS).expect("created at the start");
        let partition = |index| TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
        (0..topic.partitions).map(partition).collect()
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, (from, number): (usize, u64), body: Body, ctx: &mut Ctx<'_>) {
        if self.closing {
            return;
        }
        match body {
            Body::InitProducer => {
                let applied = self.store.submit(&Command::AllocateProducerIds { count: 1 });
                let id = applied.map(|applied| match applied.event {
                    Changed::ProducerIds { ids } => ids.start,
                    _ => -1,
                });
                ctx.answer(from, number, Reply::Producer(id));
            }
            Body::Produce { at, bytes, acks } => self.produce((from, number), at, &bytes, acks, ctx),
            Body::Fetch { at, offset } => {
                let fetched = self.fetch(at, offset, FETCH_BYTES, ctx);
                ctx.answer(from, number, Reply::Fetched(fetched));
            }
            Body::LogStart { at } => {
                let start = self.online(at).map(Reader::start_offset);
                ctx.answer(from, number, Reply::LogStart(start));
            }
            Body::Heartbeat(request) => {
                let fresh = ctx.chance.next();
                self.call(Call::Heartbeat { request, fresh }, Caller::Client { to: from, number }, ctx);
            }
            Body::Leave(request) => self.call(Call::Leave(request), Caller::Client { to: from, number }, ctx),
            Body::Commit(request) => {
                let caller = Caller::Commit { to: from, number, request: request.clone() };
                self.call(Call::Commit(request, Committer::Client), caller, ctx);
            }
            Body::Committed { group } => {
                let committed = self.groups.as_ref().ok_or_else(no_groups);
                let committed = committed.map(|groups| groups.coordinator().committed(&group, &[]));
                if let Ok(committed) = &committed {
                    check_committed(&group, committed, ctx);
                }
                ctx.answer(from, number, Reply::Committed(committed));
            }
        }
    }

    fn produce(
        &mut self,
        (to, number): (usize, u64),
        at: TopicPartition,
        bytes: &Bytes,
        acks: Acks,
        ctx: &mut Ctx<'_>,
    ) {
        let checked = self.online(at).map(drop).and_then(|()| {
            let topic = &self.served[&at].topic;
            check_new(bytes, BATCH_BYTES_MAX, (topic, at.partition))
        });
        match checked {
            Ok(batches) => {
                let append = Append { batches, acks, waiter: Waiter::Client { to, number } };
                let end = |node: &Node| node.shard.partition(at).map(|partition| partition.log_end());
                let before = end(self);
                self.feed(shard::Event::Append { id: at, append }, ctx);
                let refused = matches!(ctx.out.last(), Some((_, Event::Answer { reply: Reply::Produced(Err(_)), .. })));
                if !refused && end(self) == before {
                    ctx.history.note("duplicate recognised");
                }
            }
            Err(failure) => ctx.answer(to, number, Reply::Produced(Err(failure))),
        }
    }

    /// Reads as a handle does.
    pub(super) fn fetch(
        &self,
        at: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        ctx: &mut Ctx<'_>,
    ) -> Result<millstream_broker::core::partition::Fetched, Failure> {
        let reader = self.online(at)?;
        let served = &self.served[&at];
        read(reader, offset, bytes_max, served.high_watermark).map_err(|e| {
            let failure = failure_of(&e, &served.topic, at.partition);
            if failure.code == ErrorCode::StorageUnavailable {
                ctx.history.note("reads failed");
            }
            if failure.code == ErrorCode::CorruptData {
                ctx.history.wrong(format!("a read met damage where there is none: {failure:?}"));
            }
            failure
        })
    }

    pub(super) fn online(&self, at: TopicPartition) -> Result<&Reader, Failure> {
        let unknown = || Failure::new(ErrorCode::UnknownPartition, "no such partition");
        let served = self.served.get(&at).ok_or_else(unknown)?;
        match (&served.offline, &served.reader) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(reader)) => Ok(reader),
            (None, None) => Err(unknown()),
        }
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
            }
            Work::Task { at, attempt } => self.step_task(at, attempt, ctx),
            Work::Begin { at } => self.begin_task(at, ctx),
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
            && offset > partition.durable_end()
        {
            let durable = partition.durable_end();
            ctx.history.wrong(format!("{at:?} may be read to {offset} and is durable to {durable}"));
        }
        self.wake_task(at, ctx);
    }

    fn answered(
        &mut self,
        waiter: Waiter,
        outcome: Result<millstream_broker::core::partition::Appended, Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        match waiter {
            Waiter::Client { to, number } => ctx.answer(to, number, Reply::Produced(outcome)),
            Waiter::Offsets(write) => {
                let start = self.online(self.offsets).map_or(Offset::ZERO, Reader::start_offset);
                let log = (start, self.high_watermark(self.offsets));
                self.tell_groups(groups::Event::Written { write, outcome, log }, ctx);
            }
            Waiter::Task { at, attempt, ticket } => self.task_appended((at, attempt), ticket, outcome.map(drop), ctx),
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
            Admin::RestartTasks => self.restart_tasks(ctx),
            Admin::DeleteRecords => {
                for at in self.inputs() {
                    self.delete_records(at, ctx);
                }
            }
        }
    }

    /// What everybody has read.
    fn delete_records(&mut self, at: TopicPartition, ctx: &mut Ctx<'_>) {
        let readers = schedule::GROUPS.iter().map(|(group, _)| *group).chain([PIPELINE]);
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

pub(super) fn put_pipeline(at_ms: i64) -> Command {
    Command::PutPipeline {
        name: PIPELINE.to_owned(),
        yaml: schedule::YAML.to_owned(),
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
