//! The group coordinator and its log: which requests become records of the offsets topic, when they are answered,
//! and when a snapshot replaces what the log says. The rules of groups themselves are `cluster::group`'s.
//!
//! Invariants: an offset is answered for, and shown, only when its record is durable; the log is cut only to a
//! snapshot that is durable and holds everything before it.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_cluster::group::{self, Answer, Committer, Coordinator, Entry, Limits, Ticket, TopicInfo, WriteId};
use millstream_cluster::metadata::{State, Topic};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, decode_batches, split_batches};
use millstream_protocol::message::{CommitOffsets, DeleteGroup, GroupHeartbeat, LeaveGroup};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset, mutant};

use super::partition::{Appended, Batches, Fetched};

/// Kafka's name for the topic of committed offsets.
pub const TOPIC: &str = "__consumer_offsets";
/// Records are put into batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes read at a time during replay.
const READ_BYTES: usize = 1024 * 1024;
/// No batch of this topic is compressed or larger.
const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What changes groups.
#[derive(Debug)]
pub enum Call {
    /// `fresh` names the member if it is new; no two calls may give the same.
    Heartbeat {
        request: GroupHeartbeat,
        fresh: u64,
    },
    Leave(LeaveGroup),
    Commit(CommitOffsets, Committer),
    Delete(DeleteGroup),
}

/// What a finished append was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Commit(WriteId),
    /// Everything before its first offset is superfluous.
    Snapshot,
}

/// What happens to groups. `W` is whoever waits for an answer.
#[derive(Debug)]
pub enum Event<W> {
    Call {
        call: Call,
        waiter: W,
    },
    /// An append is over; reported in the order of the appends. `log` is where the topic begins and may be read to.
    Written {
        write: Write,
        outcome: Result<Appended, Failure>,
        log: (Offset, Offset),
    },
    Tick,
}

#[derive(Debug)]
pub enum Output<W> {
    Answer(W, Result<Answer, Failure>),
    /// Append durably, after what was output before, and report [`Event::Written`].
    Append(Write, Batches),
    /// Delete the topic's records before this offset. Failing is harmless: it is tried again later.
    Cut(Offset),
    /// The snapshot could not be written; it is tried again later.
    Late(Failure),
}

/// See the module's head.
pub struct Groups<W> {
    coordinator: Coordinator,
    waiting: HashMap<Ticket, W>,
    next_ticket: u64,
    snapshot_in_flight: bool,
    /// Records after which the log is cut back to a snapshot.
    records_max: u64,
    outputs: Vec<group::Output>,
}

impl<W> Groups<W> {
    /// Groups as the entries of the offsets topic tell them.
    pub fn new(limits: Limits, records_max: u64, entries: Vec<Entry>) -> Self {
        let mut coordinator = Coordinator::new(limits);
        entries.into_iter().for_each(|entry| coordinator.replay(entry));
        Groups {
            coordinator,
            waiting: HashMap::new(),
            next_ticket: 0,
            snapshot_in_flight: false,
            records_max,
            outputs: Vec::new(),
        }
    }

    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// When to call with [`Event::Tick`] unless another event comes before.
    pub fn next_deadline(&self) -> Option<i64> {
        self.coordinator.next_deadline()
    }

    /// Takes the metadata as they are now; before the first event and at each change.
    pub fn take_state(&mut self, state: &State, now_ms: i64, out: &mut Vec<Output<W>>) {
        let info = |topic: &Topic| TopicInfo { name: topic.name.clone(), id: topic.id, partitions: topic.partitions };
        let topics = state.topics().filter(|topic| !topic.internal).map(info).collect();
        let pipelines = state.pipelines().map(|pipeline| pipeline.name.clone()).collect();
        self.feed(group::Event::TopicsChanged { topics }, now_ms, out);
        self.feed(group::Event::PipelinesChanged { pipelines }, now_ms, out);
    }

    /// Takes one event; what is to be done is appended to `out`. `now_ms` never goes back.
    pub fn handle(&mut self, event: Event<W>, now_ms: i64, out: &mut Vec<Output<W>>) {
        match event {
            Event::Call { call, waiter } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.waiting.insert(ticket, waiter);
                self.feed(event_of(call, ticket), now_ms, out);
            }
            Event::Written { write: Write::Commit(write), outcome: Ok(_), log } => {
                self.feed(group::Event::Persisted { write }, now_ms, out);
                self.bound_log(log, now_ms, out);
            }
            Event::Written { write: Write::Commit(write), outcome: Err(failure), .. } => {
                self.feed(group::Event::PersistFailed { write, failure }, now_ms, out);
            }
            Event::Written { write: Write::Snapshot, outcome, .. } => {
                self.snapshot_in_flight = false;
                out.push(match outcome {
                    Ok(appended) if mutant!("cut-beyond-the-snapshot") => Output::Cut(appended.end),
                    Ok(appended) => Output::Cut(appended.base_offset),
                    Err(failure) => Output::Late(failure),
                });
            }
            Event::Tick => self.feed(group::Event::Tick, now_ms, out),
        }
    }

    fn feed(&mut self, event: group::Event, now_ms: i64, out: &mut Vec<Output<W>>) {
        self.coordinator.handle(event, now_ms, &mut self.outputs);
        for output in self.outputs.drain(..) {
            match output {
                group::Output::Answer { ticket, result } => {
                    out.extend(self.waiting.remove(&ticket).map(|waiter| Output::Answer(waiter, result)));
                }
                group::Output::Persist { write, entries } => {
                    out.push(Output::Append(Write::Commit(write), encode(&entries, now_ms)));
                }
            }
        }
    }

    /// Writes a snapshot when the log has become much longer than what it says.
    fn bound_log(&mut self, (start, end): (Offset, Offset), now_ms: i64, out: &mut Vec<Output<W>>) {
        let records = u64::try_from(end - start).unwrap_or(0);
        if self.snapshot_in_flight || records < self.records_max {
            return;
        }
        let entries = self.coordinator.snapshot();
        if entries.is_empty() || records < 4 * entries.len() as u64 {
            return;
        }
        self.snapshot_in_flight = true;
        if mutant!("cut-before-the-snapshot-lasts") {
            out.push(Output::Cut(end));
        }
        out.push(Output::Append(Write::Snapshot, encode(&entries, now_ms)));
    }
}

fn event_of(call: Call, ticket: Ticket) -> group::Event {
    match call {
        Call::Heartbeat { request, fresh } => {
            let fresh_id = format!("{}-{fresh:016x}", request.client_name);
            group::Event::Heartbeat { ticket, request, fresh_id }
        }
        Call::Leave(request) => group::Event::Leave { ticket, request },
        Call::Commit(request, committer) => group::Event::Commit { ticket, request, committer },
        Call::Delete(request) => group::Event::Delete { ticket, request },
    }
}

/// Everything in the offsets topic, in order; `read` gives batches from an offset on.
///
/// # Errors
/// The topic can't be read or is damaged.
pub fn replay(
    start: Offset,
    mut read: impl FnMut(Offset, usize) -> Result<Fetched, Failure>,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut columns = Columns::default();
    let mut position = start;
    loop {
        let fetched = read(position, READ_BYTES)?;
        let Some(last) = split_batches(&fetched.bytes).last() else { return Ok(entries) };
        let (last, _) = last.map_err(|e| damaged(position, e))?;
        columns.clear();
        let decoded = decode_batches(&fetched.bytes, position, DECODED_BYTES_MAX, &mut columns);
        decoded.map_err(|e| damaged(position, e))?;
        for row in columns.rows() {
            let entry = Entry::decode(row.key.unwrap_or_default(), row.value);
            entries.push(entry.map_err(|e| damaged(Offset(row.offset), e))?);
        }
        position = last.next_offset();
    }
}

/// Entries as batches, ready to append.
fn encode(entries: &[Entry], now_ms: i64) -> Batches {
    let mut batches = Batches::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for entry in entries {
        builder.push_simple(now_ms, Some(&entry.encode_key()), entry.encode_value().as_deref());
        if builder.bytes() >= BATCH_BYTES {
            batches.push(parsed(builder.build()));
        }
    }
    if !builder.is_empty() {
        batches.push(parsed(builder.build()));
    }
    batches
}

fn parsed(batch: Bytes) -> (BatchHeader, Bytes) {
    (BatchHeader::decode(&batch).expect("a batch that was just built"), batch)
}

/// The offsets topic can't be used.
fn damaged(at: Offset, reason: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::CorruptData, format!("topic `{TOPIC}` is damaged at offset {at}: {reason}"))
}
