//! The broker's groups: the core's requests, appends and cuts, and who hears of them.

use millstream_broker::core::groups::{self, Call, Groups};
use millstream_broker::core::partition::{Append, failure_of, read};
use millstream_cluster::group::{Answer, Limits};
use millstream_protocol::message::{Acks, CommittedOffset};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicPartition};

use super::{Caller, Node, Waiter};
use crate::single::message::{Reply, Work};
use crate::single::schedule::OFFSETS;
use crate::single::world::Ctx;

/// Records after which the offsets topic is cut.
const OFFSETS_RECORDS_MAX: u64 = 40;

impl Node {
    pub(super) fn start_groups(&mut self, ctx: &mut Ctx<'_>) {
        let Some(served) = self.served.get(&self.offsets) else { return };
        let Some(reader) = served.reader.clone() else { return };
        let end = served.high_watermark;
        let replayed = groups::replay(reader.start_offset(), |offset, bytes_max| {
            read(&reader, offset, bytes_max, end).map_err(|e| failure_of(&e, OFFSETS, PartitionIndex(0)))
        });
        match replayed {
            Ok(entries) => {
                let limits = Limits { session_ms_min: 100, ..Limits::default() };
                self.groups = Some(Groups::new(limits, OFFSETS_RECORDS_MAX, entries));
                self.state_changed(ctx);
            }
            Err(failure) => ctx.say(format_args!("groups refuse service: {failure:?}")),
        }
    }

    pub(super) fn state_changed(&mut self, ctx: &mut Ctx<'_>) {
        let (now, mut out) = (self.groups_now(ctx), Vec::new());
        if let Some(groups) = &mut self.groups {
            groups.take_state(self.store.state(), now, &mut out);
        }
        self.carry_out_groups(out, ctx);
    }

    pub(super) fn groups_now(&self, ctx: &Ctx<'_>) -> i64 {
        self.started.0 + ((ctx.now_us - self.started.1) / 1_000) as i64
    }

    pub(in crate::single) fn call(&mut self, call: Call, waiter: Caller, ctx: &mut Ctx<'_>) {
        if self.groups.is_none() {
            return self.group_answered(waiter, Err(no_groups()), ctx);
        }
        self.tell_groups(groups::Event::Call { call, waiter }, ctx);
    }

    pub(super) fn tell_groups(&mut self, event: groups::Event<Caller>, ctx: &mut Ctx<'_>) {
        let (now, mut out) = (self.groups_now(ctx), Vec::new());
        let Some(groups) = &mut self.groups else { return };
        groups.handle(event, now, &mut out);
        if let Some(deadline) = groups.next_deadline()
            && self.tick_at.is_none_or(|at| deadline < at)
        {
            self.tick_at = Some(deadline);
            let delay = u64::try_from(deadline - now).unwrap_or(0) * 1_000;
            ctx.work(self.incarnation, delay, Work::GroupsTick);
        }
        self.carry_out_groups(out, ctx);
    }

    pub(super) fn carry_out_groups(&mut self, out: Vec<groups::Output<Caller>>, ctx: &mut Ctx<'_>) {
        self.groups_out.extend(out);
        if std::mem::replace(&mut self.carrying.1, true) {
            return;
        }
        while let Some(output) = self.groups_out.pop_front() {
            match output {
                groups::Output::Answer(caller, result) => self.group_answered(caller, result, ctx),
                groups::Output::Append(write, batches) => {
                    let append = Append { batches, acks: Acks::All, waiter: Waiter::Offsets(write) };
                    match self.online(self.offsets).map(drop) {
                        Ok(()) => self.append(self.offsets, append, ctx),
                        Err(failure) => self.answered(append.waiter, Err(failure), ctx),
                    }
                }
                groups::Output::Cut(before) => match self.shard.delete_records(self.offsets, before) {
                    Ok(start) => {
                        ctx.say(format_args!("offsets log cut to {start}"));
                        ctx.history.note("offsets log cut");
                    }
                    Err(failure) => ctx.say(format_args!("offsets log not cut: {failure:?}")),
                },
                groups::Output::Late(failure) => ctx.say(format_args!("no snapshot of offsets: {failure:?}")),
            }
        }
        self.carrying.1 = false;
    }

    pub(super) fn group_answered(&mut self, caller: Caller, result: Result<Answer, Failure>, ctx: &mut Ctx<'_>) {
        match caller {
            Caller::Client { to, number } => ctx.answer(to, number, Reply::Group(result)),
            Caller::Commit { to, number, request, stale } => {
                if stale && result.is_ok() {
                    ctx.history.wrong(format!("a commit for a deleted topic was taken: {request:?}"));
                }
                if result.is_ok() {
                    // In the broker's order: answers may overtake each other.
                    ctx.later(move |history| {
                        for own in request.offsets {
                            let at = TopicPartition { topic: own.topic, partition: own.partition };
                            let check = history.commits.acked(&request.group, at, own.offset.0);
                            history.check(check);
                        }
                    });
                }
                ctx.answer(to, number, Reply::Group(result));
            }
            Caller::Task { key, offset } => self.task_committed(key, offset, result.map(drop), ctx),
            Caller::Start { key, offset } => self.task_starts(key, offset, result.map(drop), ctx),
            Caller::Redrive { number, offset } => self.redrive_committed(number, offset, result.map(drop), ctx),
        }
    }

    pub(in crate::single) fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>, Failure> {
        let committed = self.groups.as_ref().ok_or_else(no_groups)?.coordinator().committed(group, &[]);
        let own = committed.iter().find(|known| known.topic == at.topic && known.partition == at.partition);
        Ok(own.map(|known| known.offset))
    }
}

/// Nothing that was acknowledged is missing.
pub(super) fn check_committed(group: &str, committed: &[CommittedOffset], ctx: &mut Ctx<'_>) {
    if let Some(own) = committed.iter().find(|own| ctx.history.lives.is_dead(own.topic)) {
        ctx.history.wrong(format!("group {group} still has {own:?}, of a deleted topic"));
    }
    for at in ctx.history.commits.partitions(group) {
        if ctx.history.lives.is_dead(at.topic) {
            continue;
        }
        let own = committed.iter().find(|known| known.topic == at.topic && known.partition == at.partition);
        let check = ctx.history.commits.seen(group, at, own.map(|known| known.offset.0));
        ctx.history.check(check);
    }
}

pub(super) fn no_groups() -> Failure {
    Failure::new(ErrorCode::StorageUnavailable, "groups refuse service")
}
