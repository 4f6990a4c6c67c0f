//! What a task writes and commits, and what must hold of it at that moment.

use millstream_broker::core::groups::Call;
use millstream_broker::core::partition::{Append, Batches};
use millstream_cluster::group::Committer;
use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::{self, Ticket};
use millstream_protocol::message::{Acks, CommitOffsets, CommittedOffset};
use millstream_protocol::{Columns, Failure, Offset, PartitionIndex, TopicId, TopicPartition};

use super::{BATCH_BYTES, Key};
use crate::single::guest::{Fare, is_redriven};
use crate::single::message::{Admin, Event};
use crate::single::node::{Caller, Node, Waiter};
use crate::single::schedule::{CHECKS, PIPELINES, PRICES};
use crate::single::world::Ctx;

impl Node {
    pub(super) fn carry_out_task(&mut self, key: Key, out: Vec<runner::Output>, ctx: &mut Ctx<'_>) {
        for output in out {
            match output {
                runner::Output::Append { ticket, sink, columns } => {
                    self.append_outputs(key, (ticket, sink), &columns, ctx);
                }
                runner::Output::Commit { offset } => self.commit_task(key, offset, ctx),
                runner::Output::Swapped { offset, .. } => {
                    ctx.say(format_args!("task {} swapped at {offset}", key.at.partition));
                    ctx.history.note("plugin swapped");
                    let version = self.tasks.pipelines[key.pipeline].version;
                    if let Some(run) = self.tasks.run(key) {
                        run.versions.push((offset.0, version));
                    }
                }
                runner::Output::Log { .. } | runner::Output::Stop(_) => {}
            }
        }
    }

    fn append_outputs(&mut self, key: Key, (ticket, sink): (Ticket, usize), columns: &Columns, ctx: &mut Ctx<'_>) {
        let Some(run) = self.tasks.run(key) else { return };
        let sink = run.plan.sinks[sink].clone();
        if sink.role == Role::Output {
            let newest = columns.offsets.iter().copied().max().unwrap_or(-1);
            run.newest = run.newest.max(newest);
            let versions = run.versions.clone();
            check_versions(columns, &versions, ctx);
        } else {
            ctx.history.note("dead letter");
        }
        let topic = self.state().topic(&sink.topic).cloned().expect("the scenario's topics are there");
        let Some(run) = self.tasks.run(key) else { return };
        let encoded = run.encoder.encode(columns, topic.partitions, BATCH_BYTES).expect("what was just built decodes");
        let first = columns.offsets.iter().copied().min().unwrap_or(0);
        run.open.insert(ticket.0, (encoded.len(), first));
        let waiter = || Waiter::Task { key, ticket: ticket.0 };
        if let Err(failure) = self.append_encoded(topic.id, encoded, waiter, ctx) {
            self.task_fails(key, &failure, ctx);
        }
    }

    /// Appends rows that were encoded for a topic, a part for each partition; stops at one that is not served.
    pub(in crate::single) fn append_encoded(
        &mut self,
        topic: TopicId,
        encoded: Vec<(PartitionIndex, Batches)>,
        waiter: impl Fn() -> Waiter,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), Failure> {
        for (partition, batches) in encoded {
            let to = TopicPartition { topic, partition };
            self.online(to).map(drop)?;
            self.append(to, Append { batches, acks: Acks::All, waiter: waiter() }, ctx);
        }
        Ok(())
    }

    pub(in crate::single) fn task_appended(
        &mut self,
        key: Key,
        ticket: u64,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Err(failure) = outcome {
            return self.task_fails(key, &failure, ctx);
        }
        let Some(run) = self.tasks.run(key) else { return };
        let Some((parts, _)) = run.open.get_mut(&ticket) else { return };
        *parts -= 1;
        if *parts == 0 {
            run.open.remove(&ticket);
            let mut out = Vec::new();
            run.core.appended(Ticket(ticket), &mut out);
            self.carry_out_task(key, out, ctx);
            self.wake_task((key.pipeline, key.at), ctx);
        }
    }

    fn commit_task(&mut self, key: Key, offset: Offset, ctx: &mut Ctx<'_>) {
        let Some(run) = self.tasks.run(key) else { return };
        if let Some((_, first)) = run.open.values().find(|(_, first)| *first < offset.0) {
            let first = *first;
            ctx.history.wrong(format!("input {offset} is committed while results of record {first} are not durable"));
        }
        let (passed, lenient) = (std::mem::replace(&mut run.passed, offset.0), run.lenient);
        if key.pipeline == CHECKS && self.poison_in(key.at, (passed, offset.0), ctx) == Some(true) {
            if lenient {
                ctx.history.note("record skipped");
            } else {
                let at = key.at;
                ctx.history.wrong(format!("{at:?} {passed} to {offset} holds what should have stopped the pipeline"));
            }
        }
        if key.pipeline == PRICES && std::mem::take(&mut self.tasks.pause_at_commit) {
            ctx.history.note("paused while a commit was on its way");
            ctx.out.push((0, Event::Admin(Admin::Pause)));
        }
        let commit = Call::Commit(commit_at(PIPELINES[key.pipeline], key.at, offset), Committer::Pipeline);
        self.call(commit, Caller::Task { key, offset }, ctx);
    }

    pub(in crate::single) fn task_committed(
        &mut self,
        key: Key,
        offset: Offset,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Err(failure) = outcome {
            return self.task_fails(key, &failure, ctx);
        }
        let Key { pipeline, at, .. } = key;
        ctx.later(move |history| {
            let check = history.commits.acked(PIPELINES[pipeline], at, offset.0);
            history.check(check);
        });
        let Some(run) = self.tasks.run(key) else { return };
        let mut out = Vec::new();
        run.core.committed(&mut out);
        self.carry_out_task(key, out, ctx);
        self.wake_task((pipeline, at), ctx);
    }
}

/// Every result was made by the version that owns its record.
pub(in crate::single) fn check_versions(columns: &Columns, versions: &[(i64, u32)], ctx: &mut Ctx<'_>) {
    for row in columns.rows() {
        let value = String::from_utf8_lossy(row.value.unwrap_or_default()).into_owned();
        let owner = versions.iter().rev().find(|(from, _)| *from <= row.offset).map_or(0, |(_, version)| *version);
        if !value.ends_with(&format!("|v{owner}")) {
            ctx.history.wrong(format!("{value} of record {} was not made by version {owner}", row.offset));
        }
        let input = value.rsplit_once('|').map_or("", |(input, _)| input);
        let fare = Fare::of(input.as_bytes());
        if fare.is_poison() && !(fare == Fare::Late && is_redriven(&row)) {
            ctx.history.wrong(format!("a poison record has a result: {value}"));
        }
    }
}

pub(in crate::single) fn commit_at(group: &str, at: TopicPartition, offset: Offset) -> CommitOffsets {
    let offset = CommittedOffset { topic: at.topic, partition: at.partition, offset, metadata: String::new() };
    CommitOffsets { group: group.to_owned(), member_id: String::new(), generation: 0, offsets: vec![offset] }
}
