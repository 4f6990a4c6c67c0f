//! One partition's batches on their way, without IO: which may be sent now, under which sequence number,
//! and what an answer means for the others.
//!
//! Invariants: under a producer id that the partition does not know yet, one batch is in flight until it is stored: the
//! broker takes any sequence number from a producer that it does not know, so a second batch would be stored although the
//! first was refused, and the order be lost. After that, at most [`IN_FLIGHT_MAX`] batches are sent from the oldest unsettled one on, for the broker recognises the
//! repetition of no older one (answers may overtake each other); batches are sent in order of their numbers; a batch that may have been stored is sent again only with its producer id and sequence unchanged, and only
//! after everything in flight was settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millstream_protocol::batch::{self, BatchBuilder};
use millstream_protocol::message::InitProducerAck;
use millstream_protocol::{ErrorCode, ProducerId};

use super::receipt::{Completion, OFFSET_UNKNOWN};
use crate::Error;
use crate::link::is_stale;

/// A broker remembers this many batches per producer and partition to recognise repetitions.
pub(super) const IN_FLIGHT_MAX: usize = 5;

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: i16,
}

impl From<InitProducerAck> for Identity {
    fn from(ack: InitProducerAck) -> Self {
        Identity { id: ack.producer_id, epoch: ack.producer_epoch }
    }
}

/// A batch from its encoding to its acknowledgement.
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) encoded: Encoded,
    pub(super) records: i32,
    pub(super) completion: Arc<Completion>,
    pub(super) opened_at: Instant,
    /// How often it was sent under the sequence number that it has: from once on, the broker may have it.
    pub(super) sends: u32,
}

pub(super) enum Encoded {
    Not(Box<BatchBuilder>),
    Done(Bytes),
}

/// What the lane asks of its driver after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Stored,
    /// Pause, then go on; with `refresh`, ask for the topic first.
    Again {
        refresh: bool,
    },
    Failed(Error),
}

#[derive(Default)]
pub(super) struct Lane {
    queue: VecDeque<Batch>,
    /// Unsettled batches that came back, while others are still in flight.
    returned: Vec<Batch>,
    /// The numbers of the batches sent, from the oldest in flight on, and whether they were settled.
    in_flight: VecDeque<(u64, bool)>,
    identity: Option<Identity>,
    next_sequence: i32,
    /// A batch of the current identity was stored: the broker counts its sequence.
    known: bool,
    /// Batches from this number on belong to the current identity.
    identity_from: u64,
    /// The sequence has a gap after this batch: later ones need a new identity.
    gap_after: Option<u64>,
    /// The first of the returned batches that the broker called out of order.
    out_of_order: Option<u64>,
    /// A producer id was used here.
    started: bool,
}

impl Lane {
    pub(super) fn queue(&mut self, batch: Batch) {
        self.queue.push_back(batch);
    }

    /// Whether an open batch may be taken: it would be sent at once.
    pub(super) fn is_free(&self) -> bool {
        self.queue.is_empty() && self.returned.is_empty() && self.in_flight.len() < self.window()
    }

    /// Batches that may be in flight.
    fn window(&self) -> usize {
        if self.identity.is_some() && !self.known { 1 } else { IN_FLIGHT_MAX }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.returned.is_empty() && self.in_flight.is_empty()
    }

    /// The batch that may be sent now.
    pub(super) fn next(&self) -> Option<&Batch> {
        if !self.returned.is_empty() || self.in_flight.len() >= self.window() {
            return None;
        }
        self.queue.front()
    }

    /// Whether the next batch needs a producer id from the broker first.
    pub(super) fn wants_identity(&self) -> bool {
        let after_gap = |next: &Batch| self.gap_after.is_some_and(|gap| next.number > gap);
        self.next().is_some_and(|next| self.identity.is_none() || after_gap(next))
    }

    /// Whether no producer id was used here yet.
    pub(super) fn is_new(&self) -> bool {
        self.identity.is_none() && self.gap_after.is_none() && !self.started
    }

    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.started = true;
        self.next_sequence = 0;
        self.known = false;
        self.gap_after = None;
        self.identity_from = self.queue.front().map_or(self.identity_from, |next| next.number);
    }

    /// Takes the batch to be sent and counts it as in flight. The builder comes back for reuse.
    pub(super) fn take(&mut self, idempotent: bool) -> Option<(Batch, Option<BatchBuilder>)> {
        self.next()?;
        let mut batch = self.queue.pop_front()?;
        self.in_flight.push_back((batch.number, false));
        let identity = self.identity.filter(|_| idempotent);
        let mut spent = None;
        let bytes = match std::mem::replace(&mut batch.encoded, Encoded::Done(Bytes::new())) {
            Encoded::Not(mut builder) => {
                if let Some(identity) = identity {
                    builder.set_producer(identity.id, identity.epoch, self.sequence(batch.records));
                }
                let bytes = builder.build();
                spent = Some(*builder);
                bytes
            }
            // Under an identity that was given up; not stored, or it would not be sent again.
            Encoded::Done(bytes) => match identity.filter(|identity| self.is_foreign(&batch, &bytes, *identity)) {
                Some(identity) => {
                    batch.sends = 0;
                    batch::restamp(&bytes, identity.id, identity.epoch, self.sequence(batch.records))
                }
                None => bytes,
            },
        };
        batch.encoded = Encoded::Done(bytes);
        batch.sends += 1;
        Some((batch, spent))
    }

    fn is_foreign(&self, batch: &Batch, bytes: &Bytes, identity: Identity) -> bool {
        let stamped = batch::BatchHeader::decode(bytes).map(|header| header.producer_id);
        batch.number >= self.identity_from && stamped != Ok(identity.id)
    }

    fn sequence(&mut self, records: i32) -> i32 {
        let sequence = self.next_sequence;
        // After i32::MAX comes 0, as in Kafka.
        let next = (i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX);
        self.next_sequence = i32::try_from(next).expect("masked to 31 bits");
        sequence
    }

    /// What the answer to `batch` means. A batch that is not done comes back in order.
    pub(super) fn settle(&mut self, batch: Batch, answer: Result<i64, Error>) -> Settled {
        self.land(batch.number);
        let settled = match answer {
            Ok(offset) => {
                self.known |= batch.number >= self.identity_from;
                batch.completion.complete(Ok(offset));
                Settled::Stored
            }
            // An earlier sending of it was stored, and its answer lost.
            Err(error) if error.code() == ErrorCode::DuplicateSequence && batch.sends > 1 => {
                batch.completion.complete(Ok(OFFSET_UNKNOWN));
                Settled::Stored
            }
            Err(error) if error.code() == ErrorCode::OutOfOrderSequence => {
                self.out_of_order = Some(self.out_of_order.map_or(batch.number, |first| first.min(batch.number)));
                self.returned.push(batch);
                Settled::Again { refresh: false }
            }
            Err(error) if error.is_retriable() || is_stale(error.code()) => {
                let refresh = is_stale(error.code());
                self.returned.push(batch);
                Settled::Again { refresh }
            }
            Err(error) => {
                self.fail(&batch, &error);
                Settled::Failed(error)
            }
        };
        if self.in_flight.is_empty() {
            self.returned.sort_by_key(|batch| std::cmp::Reverse(batch.number));
            let first = self.returned.last().map(|batch| batch.number);
            if first.is_some() && first == self.out_of_order.take() {
                // Nothing before it is missing, so the broker lost count; it says that it did not store it.
                self.identity = None;
            }
            self.returned.drain(..).for_each(|batch| self.queue.push_front(batch));
        }
        settled
    }

    /// The batch is no longer in flight.
    fn land(&mut self, number: u64) {
        for (_, settled) in self.in_flight.iter_mut().filter(|(sent, _)| *sent == number) {
            *settled = true;
        }
        while self.in_flight.pop_front_if(|(_, settled)| *settled).is_some() {}
    }

    fn fail(&mut self, batch: &Batch, error: &Error) {
        if batch.sends > 0 {
            self.gap_after = self.gap_after.max(Some(batch.number));
        }
        batch.completion.complete(Err(error.clone()));
    }

    /// Fails the batches that wait since before `deadline`.
    pub(super) fn expire(&mut self, deadline: Instant, error: &Error) -> Vec<u64> {
        self.fail_front(error, |batch| batch.opened_at < deadline)
    }

    /// Fails all batches that are not in flight.
    pub(super) fn fail_all(&mut self, error: &Error) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.returned.iter().map(|batch| batch.number).collect();
        for batch in std::mem::take(&mut self.returned) {
            self.fail(&batch, error);
        }
        numbers.extend(self.fail_front(error, |_| true));
        numbers
    }

    fn fail_front(&mut self, error: &Error, fails: impl Fn(&Batch) -> bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        while self.queue.front().is_some_and(&fails) {
            let Some(batch) = self.queue.pop_front() else { break };
            self.fail(&batch, error);
            numbers.push(batch.number);
        }
        numbers
    }

    /// The topic was deleted and created again: nothing sent before is there.
    pub(super) fn start_over(&mut self) {
        self.identity = None;
        self.gap_after = None;
    }
}

#[cfg(test)]
mod tests;
