//! A producer: batches per partition, at most five on their way, repeated until they are acknowledged. An idempotent
//! one keeps their order and numbers, and takes a new identity only when the broker lost count.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, Compression, HEADER_LEN, restamp};
use millstream_protocol::message::Acks;
use millstream_protocol::{ErrorCode, PartitionIndex, ProducerId, TopicId, TopicPartition};

use super::guest::Fare;
use super::message::{Body, Reply};
use super::schedule::{BRIEF, FAST, PAYMENTS};
use super::world::Ctx;

const IN_FLIGHT_MAX: usize = 5;
/// An answer that takes longer is not waited for.
const TIMEOUT_US: u64 = 900_000;
const BACKOFF_US: u64 = 100_000;

pub(crate) struct Producer {
    number: usize,
    idempotent: bool,
    identity: Option<i64>,
    asked_identity: Option<(u64, u64)>,
    lanes: Vec<Lane>,
    next_request: u64,
    /// Records still to be produced.
    left: u64,
}

struct Lane {
    topic: &'static str,
    partition: PartitionIndex,
    /// The topic's id, as far as the producer knows; nothing is sent before.
    id: Option<TopicId>,
    /// Request that asks for it, and when.
    asked_id: Option<(u64, u64)>,
    next_number: u64,
    next_ordinal: u64,
    next_sequence: i32,
    identity: Option<i64>,
    /// Not acknowledged, in order.
    open: VecDeque<Batch>,
    resume_at: u64,
    /// The identity has stored something: batches may be sent without waiting for each other.
    proven: bool,
}

struct Batch {
    /// Counts the lane's batches.
    ordinal: u64,
    first: u64,
    records: u64,
    bytes: Bytes,
    identity: Option<i64>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    /// Request and when.
    Sent(u64, u64),
    /// It came back; whether the broker called it out of order.
    Returned {
        out_of_order: bool,
    },
}

impl Lane {
    fn at(&self) -> Option<TopicPartition> {
        self.id.map(|topic| TopicPartition { topic, partition: self.partition })
    }
}

impl Producer {
    pub(crate) fn new(number: usize, idempotent: bool, partitions: &[(&'static str, u32)], left: u64) -> Self {
        let lane = |topic: &'static str, partition: u32| Lane {
            topic,
            partition: PartitionIndex(partition),
            id: None,
            asked_id: None,
            next_number: 0,
            next_ordinal: 0,
            next_sequence: 0,
            identity: None,
            open: VecDeque::new(),
            resume_at: 0,
            proven: false,
        };
        let lanes = partitions.iter().flat_map(|(topic, count)| (0..*count).map(move |index| lane(topic, index)));
        let lanes = lanes.collect();
        Producer { number, idempotent, identity: None, asked_identity: None, lanes, next_request: 0, left }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.lanes.iter().all(|lane| lane.open.is_empty())
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    pub(crate) fn wake(&mut self, ctx: &mut Ctx<'_>) {
        if self.idempotent && self.identity.is_none() {
            if self.asked_identity.is_none_or(|(_, asked)| ctx.now_us > asked + TIMEOUT_US) {
                let request = self.request();
                self.asked_identity = Some((request, ctx.now_us));
                ctx.send(self.number, request, Body::InitProducer);
            }
            return;
        }
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].id.is_none() {
                self.ask_id(lane, ctx);
                continue;
            }
            self.expire(lane, ctx);
            if self.left > 0 && self.lanes[lane].open.len() < IN_FLIGHT_MAX && ctx.chance.one_in(2) {
                self.build(lane, ctx);
            }
            self.send(lane, ctx);
        }
    }

    /// Which topic has the name now.
    fn ask_id(&mut self, lane: usize, ctx: &mut Ctx<'_>) {
        if self.lanes[lane].asked_id.is_none_or(|(_, asked)| ctx.now_us > asked + TIMEOUT_US) {
            let request = self.request();
            self.lanes[lane].asked_id = Some((request, ctx.now_us));
            ctx.send(self.number, request, Body::Topic { name: self.lanes[lane].topic });
        }
    }

    /// Everything that was not acknowledged goes to the topic that has the name now, which knows nothing of it.
    fn move_to(&mut self, lane: usize, id: TopicId, ctx: &mut Ctx<'_>) {
        let (number, idempotent) = (self.number, self.idempotent);
        let lane = &mut self.lanes[lane];
        (lane.id, lane.asked_id, lane.identity, lane.proven) = (Some(id), None, None, false);
        let sent = ctx.history.sent.entry(TopicPartition { topic: id, partition: lane.partition }).or_default();
        for batch in &mut lane.open {
            (batch.identity, batch.state) = (None, State::Unsent);
            (batch.first..batch.first + batch.records).for_each(|record| sent.sent(number, idempotent, record));
        }
    }

    fn build(&mut self, lane: usize, ctx: &mut Ctx<'_>) {
        let records = self.left.min(1 + ctx.chance.below(5));
        self.left -= records;
        let lane = &mut self.lanes[lane];
        let mut builder = BatchBuilder::new(Compression::None);
        for number in lane.next_number..lane.next_number + records {
            // The pipeline that stops at poison gets less of it.
            let choices = if matches!(lane.topic, PAYMENTS | BRIEF) { 90 } else { 40 };
            let fare = match ctx.chance.below(choices) {
                0 => Fare::Rejected,
                1 => Fare::Named,
                2 => Fare::Traps,
                3 => Fare::Once,
                4 | 5 => Fare::Twice,
                6 => Fare::Dropped,
                7 => Fare::Late,
                _ => Fare::Well,
            };
            if fare.is_poison() {
                ctx.history.note("poison record");
            }
            let value = format!("p{}-{number}{}", self.number, fare.mark());
            let key = format!("k{}", number % 5);
            builder.push_simple(ctx.wall_ms, Some(key.as_bytes()), Some(value.as_bytes()));
            let sent = lane.at().map(|at| ctx.history.sent.entry(at).or_default());
            sent.into_iter().for_each(|sent| sent.sent(self.number, self.idempotent, number));
        }
        let (first, state) = (lane.next_number, State::Unsent);
        lane.next_number += records;
        let ordinal = lane.next_ordinal;
        lane.next_ordinal += 1;
        lane.open.push_back(Batch { ordinal, first, records, bytes: builder.build(), identity: None, state });
    }

    /// Whatever was on its way comes back, stored or not.
    pub(crate) fn disconnected(&mut self) {
        self.asked_identity = None;
        self.lanes.iter_mut().for_each(|lane| lane.asked_id = None);
        for batch in self.lanes.iter_mut().flat_map(|lane| &mut lane.open) {
            if let State::Sent(..) = batch.state {
                batch.state = State::Returned { out_of_order: false };
            }
        }
    }

    /// What was not answered in time came back, as far as the producer knows.
    fn expire(&mut self, lane: usize, ctx: &Ctx<'_>) {
        for batch in &mut self.lanes[lane].open {
            if let State::Sent(_, at) = batch.state
                && ctx.now_us > at + TIMEOUT_US
            {
                batch.state = State::Returned { out_of_order: false };
            }
        }
    }

    fn send(&mut self, lane: usize, ctx: &mut Ctx<'_>) {
        if !self.settle(lane, ctx) {
            return;
        }
        for place in 0..self.lanes[lane].open.len() {
            let lane = &mut self.lanes[lane];
            let oldest = lane.open[0].ordinal;
            let batch = &mut lane.open[place];
            if batch.ordinal >= oldest + IN_FLIGHT_MAX as u64 {
                // The broker would forget the oldest one, which it may have.
                return;
            }
            if batch.state != State::Unsent {
                continue;
            }
            if self.idempotent && !lane.proven && place > 0 {
                // Until the broker knows the identity it takes any number for its first.
                return;
            }
            if self.idempotent && batch.identity.is_none() {
                let identity = lane.identity.expect("settled above");
                batch.bytes = restamp(&batch.bytes, ProducerId(identity), 0, lane.next_sequence);
                batch.identity = Some(identity);
                lane.next_sequence += batch.records as i32;
            }
            self.next_request += 1;
            batch.state = State::Sent(self.next_request, ctx.now_us);
            let mut bytes = batch.bytes.clone();
            if ctx.chance.one_in(60) {
                // Not what it was when it arrives: it must be refused, and comes again.
                let mut damaged = bytes.to_vec();
                let at = HEADER_LEN + ctx.chance.index(damaged.len() - HEADER_LEN);
                damaged[at] ^= 1 << ctx.chance.below(8);
                bytes = Bytes::from(damaged);
                ctx.history.note("request damaged");
            }
            let Some(at) = lane.at() else { return };
            let body = Body::Produce { at, bytes, acks: Acks::All };
            ctx.send(self.number, self.next_request, body);
        }
    }

    /// Batches that came back go again, in order, when nothing is on its way. Whether anything may be sent.
    fn settle(&mut self, lane: usize, ctx: &mut Ctx<'_>) -> bool {
        let own = &mut self.lanes[lane];
        let returned = own.open.iter().any(|batch| matches!(batch.state, State::Returned { .. }));
        let in_flight = own.open.iter().any(|batch| matches!(batch.state, State::Sent(..)));
        if (returned && in_flight) || ctx.now_us < own.resume_at {
            return false;
        }
        if own.open.front().is_some_and(|first| first.state == State::Returned { out_of_order: true }) {
            // Nothing before it is missing, so the broker lost count, and says that it did not store it.
            ctx.history.note("new producer identity");
            own.identity = None;
            own.open.iter_mut().for_each(|batch| batch.identity = None);
        }
        if returned {
            own.open.iter_mut().for_each(|batch| batch.state = State::Unsent);
        }
        if own.identity.is_none() && self.idempotent {
            // One identity is not used twice on a lane.
            own.identity = self.identity.take();
            (own.next_sequence, own.proven) = (0, false);
            return own.identity.is_some();
        }
        true
    }

    pub(crate) fn answer(&mut self, number: u64, reply: Reply, ctx: &mut Ctx<'_>) {
        match reply {
            Reply::Producer(Ok(id)) if self.asked_identity.is_some_and(|(asked, _)| asked == number) => {
                self.identity = Some(id);
                self.asked_identity = None;
            }
            Reply::Topic(found) => {
                let asked = |lane: &Lane| lane.asked_id.is_some_and(|(asked, _)| asked == number);
                let Some(lane) = self.lanes.iter().position(asked) else { return };
                self.lanes[lane].asked_id = None;
                if let Some(id) = found {
                    self.move_to(lane, id, ctx);
                }
            }
            Reply::Produced { outcome, power } => {
                let of =
                    |lane: &Lane| lane.open.iter().position(|b| matches!(b.state, State::Sent(n, _) if n == number));
                let Some((lane, place)) = self.lanes.iter().enumerate().find_map(|(lane, own)| Some((lane, of(own)?)))
                else {
                    return;
                };
                let lane = &mut self.lanes[lane];
                match outcome {
                    Ok(appended) => {
                        let batch = lane.open.remove(place).expect("found a moment ago");
                        lane.proven = true;
                        let Some(at) = lane.at() else { return };
                        if lane.topic == FAST && power != ctx.history.power {
                            // The power went since: it may be lost.
                            return;
                        }
                        ctx.history.offsets.promised(at, appended.end.0);
                        let sent = ctx.history.sent.entry(at).or_default();
                        for record in 0..batch.records {
                            let offset = appended.base_offset.0 + record as i64;
                            sent.acked(self.number, self.idempotent, batch.first + record, offset);
                        }
                    }
                    Err(failure) if failure.code == ErrorCode::DuplicateSequence => {
                        // It is stored, and nobody remembers where: a repetition older than the window.
                        lane.open.remove(place);
                        lane.proven = true;
                    }
                    Err(failure) if failure.code == ErrorCode::UnknownTopic => {
                        // Of what went there, nothing is anywhere any more.
                        lane.id = None;
                    }
                    Err(failure) => {
                        let out_of_order = failure.code == ErrorCode::OutOfOrderSequence;
                        lane.open[place].state = State::Returned { out_of_order };
                        lane.resume_at = ctx.now_us + BACKOFF_US;
                    }
                }
            }
            _ => {}
        }
    }

    /// What it has open, for a run that does not end.
    pub(crate) fn describe(&self) -> String {
        let open: Vec<_> = self.lanes.iter().map(|lane| (lane.topic, lane.partition.0, lane.open.len())).collect();
        format!("producer {}: {} records left, open batches {open:?}", self.number, self.left)
    }
}
