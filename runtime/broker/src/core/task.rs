//! One attempt of a task, a pipeline on one input partition, from a committed offset on: what is read next, what
//! goes to the guests as one batch, what is committed when, and when the attempt is over.
//!
//! Invariants: one commit is on its way at a time; an attempt ends only when everything it wrote is durable and
//! what that allows is committed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_pipeline::runner::{self, Runner, StepStats, Stop, Ticket};
use millstream_pipeline::{Guest, Plan};
use millstream_protocol::batch::{self, BatchHeader, DECOMPRESSED_BYTES_MAX, decode_batch, split_batches};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset, mutant};

/// Bytes read from the log at once.
pub const READ_BYTES: usize = 512 << 10;
/// A batch for guests is cut when it has so many bytes…
const GUEST_BATCH_BYTES: usize = 256 << 10;
/// … and never has more than this, except for a single larger record.
const GUEST_BATCH_BYTES_MAX: usize = 512 << 10;

/// What an attempt does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It takes records from this offset on: [`Attempt::read`], or wait at the end of the partition.
    Read(Offset),
    /// So many records are to be handed to the guests: [`Attempt::feed`], which may take long.
    Feed { records: usize },
    /// Only something that lands, or a control, helps.
    Wait,
    /// It was told to end, and has.
    Ended,
    /// A step stopped it. Everything before is committed.
    Stopped(Stop),
}

/// Where an attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    At(Offset),
    /// Records from the committed offset to this one were deleted before they were read.
    Deleted(Offset),
    /// The committed offset is beyond the end, which is this.
    Beyond(Offset),
    /// Nothing is committed: the plan says where to begin. That is to be committed at once, for a restart before
    /// the first record must not move it.
    AsPlanned,
}

/// The place of a committed offset in a log that may be read from `start` to `end`.
pub fn start(committed: Option<Offset>, (start, end): (Offset, Offset)) -> Start {
    match committed {
        Some(offset) if offset < start => Start::Deleted(start),
        Some(offset) if offset > end => Start::Beyond(end),
        Some(offset) => Start::At(offset),
        None => Start::AsPlanned,
    }
}

/// See the module's head.
pub struct Attempt {
    runner: Runner,
    /// `topic/partition`, for messages.
    place: String,
    /// Read and decoded, not yet handed over: records and the offset behind them.
    ready: VecDeque<(Columns, Offset)>,
    /// Read, not yet decoded.
    unread: VecDeque<(BatchHeader, Bytes)>,
    commit_wanted: Option<Offset>,
    committing: bool,
    stop: Option<Stop>,
    ending: bool,
}

impl Attempt {
    /// `place` names the input partition in messages.
    pub fn new(runner: Runner, place: String) -> Self {
        Attempt {
            runner,
            place,
            ready: VecDeque::new(),
            unread: VecDeque::new(),
            commit_wanted: None,
            committing: false,
            stop: None,
            ending: false,
        }
    }

    /// Takes no more records; over when what was read is done.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// A runner that has stopped takes no guests: they are for the next attempt.
    pub fn takes_guests(&self) -> bool {
        self.stop.is_none()
    }

    /// The offset of the next record it wants.
    pub fn position(&self) -> Offset {
        self.runner.next()
    }

    pub fn stats(&self) -> &[StepStats] {
        self.runner.stats()
    }

    /// What is to be done now. Outputs of earlier calls must have been carried out.
    ///
    /// # Errors
    /// Records that can't be decoded.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: what it asks for decides how it goes on")]
    pub fn next(&mut self) -> Result<Next, Failure> {
        let committed = !self.committing && self.commit_wanted.is_none();
        let quiet = self.runner.is_settled() && (committed || mutant!("task-ends-uncommitted"));
        // Asked to end first: a stop may only say that the guest was not restarted for it.
        if quiet && self.ending {
            return Ok(Next::Ended);
        }
        if quiet && let Some(stop) = self.stop.take() {
            return Ok(Next::Stopped(stop));
        }
        if self.ending || self.runner.is_full() {
            return Ok(Next::Wait);
        }
        if self.ready.is_empty() {
            self.decode()?;
        }
        match self.ready.front() {
            Some((columns, _)) => Ok(Next::Feed { records: columns.len() }),
            None => Ok(Next::Read(self.runner.next())),
        }
    }

    /// Hands over the records that [`Next::Feed`] announced.
    pub fn feed(&mut self, out: &mut Vec<runner::Output>) {
        if let Some((columns, next)) = self.ready.pop_front() {
            self.hand_over(columns, next, out);
        }
    }

    fn hand_over(&mut self, columns: Columns, next: Offset, out: &mut Vec<runner::Output>) {
        let mut made = Vec::new();
        self.runner.handle(runner::Event::Fetched { columns, next }, &mut made);
        self.pass_on(made, out);
    }

    /// Batches read from the offset that [`Next::Read`] asked for.
    ///
    /// # Errors
    /// They are not batches.
    pub fn read(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        for batch in split_batches(bytes) {
            self.unread.push_back(batch.map_err(|e| self.damaged(self.runner.next(), &e))?);
        }
        Ok(())
    }

    /// The records up to `start` are gone: it goes on from there.
    pub fn skip_to(&mut self, start: Offset, out: &mut Vec<runner::Output>) {
        self.hand_over(Columns::default(), start, out);
    }

    /// An append is durable.
    pub fn appended(&mut self, ticket: Ticket, out: &mut Vec<runner::Output>) {
        let mut made = Vec::new();
        self.runner.handle(runner::Event::Durable { ticket }, &mut made);
        self.pass_on(made, out);
    }

    /// The last commit that was output is durable.
    pub fn committed(&mut self, out: &mut Vec<runner::Output>) {
        self.committing = false;
        self.commit(out);
    }

    /// From the next record on, these guests run the plugin steps of their numbers. Gives that record's offset.
    pub fn swap(
        &mut self,
        plan: Arc<Plan>,
        fresh: Vec<(usize, Box<dyn Guest>)>,
        out: &mut Vec<runner::Output>,
    ) -> Offset {
        let mut made = Vec::new();
        for (plugin, guest) in fresh {
            self.runner.handle(runner::Event::Swap { plugin, guest }, &mut made);
        }
        self.runner.replace_plan(plan);
        self.pass_on(made, out);
        self.runner.next()
    }

    /// Keeps back what isn't to be done yet: commits beyond the one on its way, and the goodbye.
    fn pass_on(&mut self, made: Vec<runner::Output>, out: &mut Vec<runner::Output>) {
        for output in made {
            match output {
                runner::Output::Commit { offset } => {
                    self.commit_wanted = Some(offset);
                    self.commit(out);
                }
                runner::Output::Stop(stop) => self.stop = Some(stop),
                other => out.push(other),
            }
        }
    }

    /// Commits the newest offset there is; one commit at a time, so that they arrive in order and a slow
    /// disk makes them fewer.
    fn commit(&mut self, out: &mut Vec<runner::Output>) {
        if self.committing {
            return;
        }
        let Some(offset) = self.commit_wanted.take() else { return };
        self.committing = true;
        out.push(runner::Output::Commit { offset });
    }

    /// Decodes unread batches until there is enough for a guest.
    fn decode(&mut self) -> Result<(), Failure> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let from = self.runner.next();
        let (mut columns, mut next) = (Columns::default(), from);
        while let Some((header, batch)) = self.unread.pop_front() {
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

    fn damaged(&self, offset: Offset, error: &batch::Error) -> Failure {
        let message = format!("records at {}@{offset} can't be decoded: {error}", self.place);
        Failure::new(ErrorCode::CorruptData, message)
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
