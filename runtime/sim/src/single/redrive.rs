//! The redrive of the first pipeline's dead letters on a simulated broker: `broker::core::redrive`, with the broker's
//! own reads, appends and commits around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::core::groups::Call;
use millstream_broker::core::redrive::{self, Next, Redrive};
use millstream_broker::core::sink::Encoder;
use millstream_cluster::group::Committer;
use millstream_log::Reader;
use millstream_pipeline::dead_letter::provenance;
use millstream_pipeline::plan::Role;
use millstream_pipeline::runner::{Output, Ticket};
use millstream_protocol::batch::decode_batches;
use millstream_protocol::{Columns, Failure, Offset, TopicPartition};

use super::message::Work;
use super::node::{Caller, Node, Waiter};
use super::schedule::{LETTERS, PIPELINES, PRICES};
use super::tasks::{BATCH_BYTES, check_versions, commit_at};
use super::world::Ctx;

const READ_BYTES: usize = 1_500;

/// A redrive at work; one at a time.
pub(crate) struct Redriving {
    number: u64,
    core: Redrive,
    /// The partition of dead letters.
    at: TopicPartition,
    /// Letters that were read and are this pipeline's, and those that went through it.
    read: usize,
    begun: usize,
    encoder: Encoder,
    /// Appends not yet durable: how many parts are open.
    open: BTreeMap<u64, usize>,
    /// Of the plugin.
    version: u32,
    /// Where it ends.
    end: Offset,
    committing: bool,
}

/// The group that remembers it.
pub(crate) fn group() -> String {
    redrive::group(PIPELINES[PRICES])
}

impl Node {
    /// Somebody asks for a redrive.
    pub(super) fn begin_redrive(&mut self, ctx: &mut Ctx<'_>) {
        let Some(at) = self.partitions(LETTERS).first().copied() else { return };
        let place = self.online(at).map(Reader::start_offset);
        let place = place.and_then(|start| Ok((start, self.committed(&group(), at)?)));
        let Ok((start, committed)) = place else { return };
        if self.tasks.redriving.is_some() {
            return;
        }
        let (from, end) = (redrive::start(committed, start), self.high_watermark(at));
        ctx.say(format_args!("redrive from {from} to {end}"));
        let check = ctx.history.commits.seen(&group(), at, Some(from.0));
        ctx.history.check(check);
        let number = self.tasks.number();
        let own = &self.tasks.pipelines[PRICES];
        self.tasks.redriving = Some(Redriving {
            number,
            core: Redrive::new(Arc::clone(&own.plan), (from, end)),
            at,
            read: 0,
            begun: 0,
            encoder: Encoder::new(0),
            open: BTreeMap::new(),
            version: own.version,
            end,
            committing: false,
        });
        ctx.work(self.incarnation, 100, Work::Redrive(number));
    }

    fn redriving(&mut self, number: u64) -> Option<&mut Redriving> {
        self.tasks.redriving.as_mut().filter(|own| own.number == number)
    }

    fn wake_redrive(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let delay = 20 + ctx.chance.below(500);
        ctx.work(self.incarnation, delay, Work::Redrive(number));
    }

    pub(super) fn step_redrive(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(own) = self.redriving(number).filter(|own| !own.committing) else { return };
        let at = own.at;
        match own.core.next() {
            Next::Read(offset) => self.read_letters(number, offset, ctx),
            Next::Begin { partition, records, .. } => self.redrive_records(number, (partition, records), ctx),
            // An append that lands wakes it.
            Next::Wait => {}
            Next::Commit(offset) => {
                let (read, begun, open) = (own.read, own.begun, own.open.len());
                own.committing = true;
                if read != begun || open > 0 {
                    let left = read - begun;
                    ctx.history.wrong(format!("letters to {offset} are remembered; {left} did not begin, {open} wait"));
                }
                // As the broker's edge does it: the group has no members.
                let commit = Call::Commit(commit_at(&group(), at, offset), Committer::Client);
                self.call(commit, Caller::Redrive { number, offset }, ctx);
            }
            Next::Done => {
                let (redriven, failed) = own.core.counts();
                ctx.say(format_args!("redrive is done: {redriven}, {failed} of them failed again"));
                if redriven > 0 {
                    ctx.history.note("dead letters redriven");
                }
                if failed > 0 {
                    ctx.history.note("redriven record failed again");
                }
                self.tasks.redriving = None;
            }
            Next::Stopped(stop) => ctx.history.wrong(format!("a redrive stopped, which it is not told to: {stop}")),
        }
    }

    fn read_letters(&mut self, number: u64, offset: Offset, ctx: &mut Ctx<'_>) {
        let Some(at) = self.redriving(number).map(|own| own.at) else { return };
        let fetched = match self.fetch(at, offset, READ_BYTES, ctx) {
            Ok(fetched) => fetched,
            Err(failure) => return self.redrive_fails(number, &failure, ctx),
        };
        let mut letters = Columns::default();
        decode_batches(&fetched.bytes, offset, 1 << 20, &mut letters).expect("what a reader gives was checked");
        let Some(own) = self.redriving(number) else { return };
        let end = own.end.0;
        let is_own = |row: &millstream_protocol::Row<'_>| row.offset < end && provenance(row).is_some();
        own.read += letters.rows().filter(is_own).count();
        own.core.read(&fetched.bytes).expect("what a reader gives was checked");
        self.wake_redrive(number, ctx);
    }

    fn redrive_records(&mut self, number: u64, (partition, records): (u32, usize), ctx: &mut Ctx<'_>) {
        let guests = Arc::clone(&self.tasks.guests);
        let Some(own) = self.redriving(number) else { return };
        own.begun += records;
        own.encoder = Encoder::new(partition);
        let (version, mut out) = (own.version, Vec::new());
        own.core.begin(vec![guests(version)], Box::new(|| 0), &mut out);
        for output in out {
            if let Output::Append { ticket, sink, columns } = output
                && let Err(failure) = self.append_redriven(number, (ticket, sink), &columns, ctx)
            {
                return self.redrive_fails(number, &failure, ctx);
            }
        }
        self.wake_redrive(number, ctx);
    }

    fn append_redriven(
        &mut self,
        number: u64,
        (ticket, sink): (Ticket, usize),
        columns: &Columns,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), Failure> {
        let sink = self.tasks.pipelines[PRICES].plan.sinks[sink].clone();
        let topic = self.state().topic(&sink.topic).cloned().expect("the scenario's topics are there");
        let Some(own) = self.redriving(number) else { return Ok(()) };
        if sink.role == Role::Output {
            check_versions(columns, &[(i64::MIN, own.version)], ctx);
            ctx.history.note("record mended by a redrive");
        }
        let encoded = own.encoder.encode(columns, topic.partitions, BATCH_BYTES)?;
        own.open.insert(ticket.0, encoded.len());
        self.append_encoded(topic.id, encoded, || Waiter::Redrive { number, ticket: ticket.0 }, ctx)
    }

    pub(super) fn redrive_appended(
        &mut self,
        number: u64,
        ticket: u64,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Err(failure) = outcome {
            return self.redrive_fails(number, &failure, ctx);
        }
        let Some(own) = self.redriving(number) else { return };
        let Some(parts) = own.open.get_mut(&ticket) else { return };
        *parts -= 1;
        if *parts == 0 {
            own.open.remove(&ticket);
            own.core.appended(Ticket(ticket), &mut Vec::new());
            self.wake_redrive(number, ctx);
        }
    }

    pub(super) fn redrive_committed(
        &mut self,
        number: u64,
        offset: Offset,
        outcome: Result<(), Failure>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(at) = self.redriving(number).map(|own| own.at) else { return };
        if let Err(failure) = outcome {
            return self.redrive_fails(number, &failure, ctx);
        }
        ctx.later(move |history| {
            let check = history.commits.acked(&group(), at, offset.0);
            history.check(check);
        });
        if let Some(own) = self.redriving(number) {
            own.committing = false;
            own.core.committed();
        }
        self.wake_redrive(number, ctx);
    }

    /// Whoever asked is told, and may ask again.
    fn redrive_fails(&mut self, number: u64, failure: &Failure, ctx: &mut Ctx<'_>) {
        if self.redriving(number).is_some() {
            ctx.say(format_args!("redrive fails: {failure:?}"));
            ctx.history.note("redrive cut short");
            self.tasks.redriving = None;
        }
    }
}
