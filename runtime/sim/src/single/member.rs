//! A member of a group: it beats, reads what it is given from where the group left off, commits now and then, and
//! lets go what it is asked to. It may stop for a while and come back without knowing what happened.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_broker::core::partition::Fetched;
use millstream_cluster::group::Answer;
use millstream_protocol::batch::decode_batches;
use millstream_protocol::message::{
    CommitOffsets, CommittedOffset, GroupHeartbeat, GroupHeartbeatAck, LeaveGroup, TopicPartitions,
};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset, TopicPartition};

use super::checks::Seen;
use super::message::{Body, Reply};
use super::world::Ctx;

const SESSION_MS: u32 = 2_000;
const TIMEOUT_US: u64 = 700_000;
const COMMIT_US: u64 = 250_000;

#[derive(Default)]
pub(crate) struct Member {
    number: usize,
    group: &'static str,
    topics: Vec<String>,
    id: String,
    generation: u32,
    owned: BTreeMap<TopicPartition, Reading>,
    /// Its session lasts at least so long.
    session_until: u64,
    next_beat: u64,
    next_commit: u64,
    next_request: u64,
    waiting: BTreeMap<u64, (u64, Asked)>,
}

/// How far it reads a partition; without a position until it knows where the group left off.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    next: Option<i64>,
    committed: Option<i64>,
    log_start: i64,
}

enum Asked {
    Beat,
    Committed,
    Commit(Vec<(TopicPartition, i64)>),
    Fetch(TopicPartition),
    LogStart(TopicPartition),
}

impl Member {
    /// `first` numbers its requests, so that it does not hear answers to one that sat here before.
    pub(crate) fn new((number, first): (usize, u64), group: &'static str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Member { number, group, topics, next_request: first, ..Member::default() }
    }

    fn ask(&mut self, asked: Asked, body: Body, ctx: &mut Ctx<'_>) {
        self.next_request += 1;
        self.waiting.insert(self.next_request, (ctx.now_us, asked));
        ctx.send(self.number, self.next_request, body);
    }

    fn waits(&self, which: impl Fn(&Asked) -> bool) -> bool {
        self.waiting.values().any(|(_, asked)| which(asked))
    }

    pub(crate) fn wake(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now_us;
        self.waiting.retain(|_, (at, _)| now < *at + TIMEOUT_US);
        if !self.id.is_empty() && now >= self.session_until {
            ctx.history.note("session ran out");
            // A zombie would commit what it holds; the broker must not take it from one whose place was given away.
            if ctx.chance.one_in(2) {
                self.commit(ctx);
            }
            self.lose(ctx);
        }
        if now >= self.next_beat && !self.waits(|asked| matches!(asked, Asked::Beat)) {
            self.beat(ctx);
        }
        if now >= self.next_commit && !self.waits(|asked| matches!(asked, Asked::Commit(_))) {
            self.next_commit = now + COMMIT_US;
            self.commit(ctx);
        }
        if self.owned.values().any(|reading| reading.next.is_none())
            && !self.waits(|asked| matches!(asked, Asked::Committed))
        {
            self.ask(Asked::Committed, Body::Committed { group: self.group.to_owned() }, ctx);
        }
        let readings: Vec<_> = self.owned.iter().filter_map(|(at, reading)| Some((*at, reading.next?))).collect();
        for (at, next) in readings {
            if !self.waits(|asked| matches!(asked, Asked::Fetch(of) | Asked::LogStart(of) if *of == at)) {
                self.ask(Asked::Fetch(at), Body::Fetch { at, offset: Offset(next) }, ctx);
            }
        }
    }

    fn beat(&mut self, ctx: &mut Ctx<'_>) {
        // Lost heartbeats are tried again before the session ends.
        self.next_beat = ctx.now_us + 200_000;
        let request = GroupHeartbeat {
            group: self.group.to_owned(),
            member_id: self.id.clone(),
            generation: self.generation,
            client_name: format!("c{}", self.number),
            topics: self.topics.clone(),
            session_timeout_ms: SESSION_MS,
            owned: by_topic(self.owned.keys()),
        };
        self.ask(Asked::Beat, Body::Heartbeat(request), ctx);
    }

    fn commit(&mut self, ctx: &mut Ctx<'_>) {
        let fresh = self.owned.iter().filter_map(|(at, reading)| {
            let next = reading.next?;
            (reading.committed != Some(next)).then_some((*at, next))
        });
        let offsets: Vec<(TopicPartition, i64)> = fresh.collect();
        if offsets.is_empty() || self.id.is_empty() {
            return;
        }
        let row = |(at, offset): &(TopicPartition, i64)| CommittedOffset {
            topic: at.topic,
            partition: at.partition,
            offset: Offset(*offset),
            metadata: String::new(),
        };
        let request = CommitOffsets {
            group: self.group.to_owned(),
            member_id: self.id.clone(),
            generation: self.generation,
            offsets: offsets.iter().map(row).collect(),
        };
        self.ask(Asked::Commit(offsets), Body::Commit(request), ctx);
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self, ctx: &mut Ctx<'_>) {
        let request = LeaveGroup { group: self.group.to_owned(), member_id: self.id.clone() };
        self.lose(ctx);
        self.ask(Asked::Beat, Body::Leave(request), ctx);
    }

    /// Thrown out, or cut off: nothing is read until the group gives it anew.
    pub(crate) fn lose(&mut self, ctx: &mut Ctx<'_>) {
        for at in self.owned.keys() {
            ctx.history.owners.lets_go(self.group, *at, self.number);
        }
        self.owned.clear();
        self.id.clear();
        self.generation = 0;
        self.next_beat = ctx.now_us;
        self.waiting.retain(|_, (_, asked)| matches!(asked, Asked::Commit(_)));
    }

    pub(crate) fn answer(&mut self, number: u64, reply: Reply, ctx: &mut Ctx<'_>) {
        let Some((sent_at, asked)) = self.waiting.remove(&number) else { return };
        match (asked, reply) {
            (Asked::Beat, Reply::Group(Ok(Answer::Heartbeat(ack)))) => self.take(sent_at, &ack, ctx),
            (Asked::Beat, Reply::Group(Err(failure))) if failure.code == ErrorCode::UnknownMember => {
                ctx.history.note("member expelled");
                self.lose(ctx);
            }
            (Asked::Commit(offsets), Reply::Group(outcome)) => self.committed(&offsets, outcome, ctx),
            (Asked::Committed, Reply::Committed(Ok(offsets))) => self.begin(&offsets),
            (Asked::Fetch(at), Reply::Fetched(Ok(fetched))) => self.fetched(at, &fetched, ctx),
            (Asked::Fetch(at), Reply::Fetched(Err(failure))) if failure.code == ErrorCode::OffsetOutOfRange => {
                self.ask(Asked::LogStart(at), Body::LogStart { at }, ctx);
            }
            (Asked::LogStart(at), Reply::LogStart(Ok(start))) => {
                if let Some(reading) = self.owned.get_mut(&at) {
                    reading.next = reading.next.map(|next| next.max(start.0));
                    reading.log_start = start.0;
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, sent_at: u64, ack: &GroupHeartbeatAck, ctx: &mut Ctx<'_>) {
        (self.id, self.generation) = (ack.member_id.clone(), ack.generation);
        self.session_until = sent_at + u64::from(SESSION_MS) * 1_000;
        if ctx.now_us >= self.session_until {
            // It heard of this too late: others may have been given what it says.
            return self.lose(ctx);
        }
        self.next_beat = ctx.now_us + u64::from(ack.heartbeat_interval_ms) * 1_000;
        let given: Vec<TopicPartition> = ack
            .assignment
            .iter()
            .flat_map(|list| {
                list.partitions.iter().map(|partition| TopicPartition { topic: list.topic, partition: *partition })
            })
            .collect();
        let gone: Vec<_> = self.owned.keys().filter(|at| !given.contains(at)).copied().collect();
        if !gone.is_empty() {
            // What was read is committed while it still may be, then it is let go, and the group hears of it.
            self.commit(ctx);
            for at in gone {
                ctx.history.note("partition changed its reader");
                ctx.history.owners.lets_go(self.group, at, self.number);
                self.owned.remove(&at);
            }
            self.next_beat = ctx.now_us;
        }
        for at in given {
            self.owned.entry(at).or_default();
            let key = (self.group, at);
            let check = ctx.history.owners.owns(key, self.number, ctx.now_us, self.session_until);
            ctx.history.check(check);
        }
    }

    fn committed(&mut self, offsets: &[(TopicPartition, i64)], outcome: Result<Answer, Failure>, ctx: &mut Ctx<'_>) {
        match outcome {
            Ok(_) => {
                for (at, offset) in offsets {
                    let start = self.owned.get(at).map_or(0, |reading| reading.log_start);
                    let check = ctx.history.coverage.committed((self.group, *at), start, *offset);
                    ctx.history.check(check);
                    if let Some(reading) = self.owned.get_mut(at) {
                        reading.committed = Some(*offset);
                    }
                }
            }
            Err(failure) if matches!(failure.code, ErrorCode::StaleGeneration | ErrorCode::UnknownMember) => {
                ctx.history.note("stale commit refused");
            }
            Err(_) => {}
        }
    }

    /// Where the group left off.
    fn begin(&mut self, offsets: &[CommittedOffset]) {
        for (at, reading) in self.owned.iter_mut().filter(|(_, reading)| reading.next.is_none()) {
            let own = offsets.iter().find(|known| known.topic == at.topic && known.partition == at.partition);
            let offset = own.map(|known| known.offset.0);
            (reading.next, reading.committed) = (Some(offset.unwrap_or(0)), offset);
        }
    }

    fn fetched(&mut self, at: TopicPartition, fetched: &Fetched, ctx: &mut Ctx<'_>) {
        let Some(reading) = self.owned.get_mut(&at) else { return };
        let Some(from) = reading.next else { return };
        reading.log_start = reading.log_start.max(fetched.log_start.0);
        let records = decode(&fetched.bytes, from);
        let Some(last) = records.last() else { return };
        let to = last.offset + 1;
        if to > fetched.high_watermark.0 {
            let (end, group) = (fetched.high_watermark, self.group);
            ctx.history.wrong(format!("group {group} was given {at:?} to {to}, beyond the high watermark {end}"));
        }
        if records[0].offset != from || records.windows(2).any(|pair| pair[1].offset != pair[0].offset + 1) {
            ctx.history.wrong(format!("a read of {at:?} at {from} gave offsets from {}", records[0].offset));
        }
        for record in &records {
            let check = ctx.history.offsets.read(at, record);
            ctx.history.check(check);
        }
        let start = reading.log_start;
        let check = ctx.history.coverage.read((self.group, at), start, (from, to));
        ctx.history.check(check);
        reading.next = Some(to);
    }

    pub(crate) fn describe(&self) -> String {
        format!("member {} of {}: id {:?}, reads {:?}", self.number, self.group, self.id, self.owned)
    }
}

/// The records of whole batches, from an offset on.
pub(crate) fn decode(bytes: &Bytes, from: i64) -> Vec<Seen> {
    let mut columns = Columns::default();
    decode_batches(bytes, Offset(from), 1 << 20, &mut columns).expect("what a reader gives was checked");
    let seen =
        |row: millstream_protocol::Row<'_>| Seen { offset: row.offset, value: row.value.unwrap_or_default().to_vec() };
    columns.rows().map(seen).collect()
}

fn by_topic<'a>(keys: impl Iterator<Item = &'a TopicPartition>) -> Vec<TopicPartitions> {
    let mut lists: Vec<TopicPartitions> = Vec::new();
    for key in keys {
        match lists.last_mut() {
            Some(list) if list.topic == key.topic => list.partitions.push(key.partition),
            _ => lists.push(TopicPartitions { topic: key.topic, partitions: vec![key.partition] }),
        }
    }
    lists
}
