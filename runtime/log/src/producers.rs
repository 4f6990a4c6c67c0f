//! What idempotent producers sent last, by producer id: recognises a batch that was sent twice, a gap, and
//! a producer that was replaced by a newer one. The rules are Kafka's (KIP-98, KIP-360).

use std::collections::{BTreeMap, VecDeque};

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, ProducerId, mutant};

use crate::error::Error;

/// Batches remembered per producer, which is how many a producer may have in flight.
pub(crate) const BATCHES_KEPT: usize = 5;

/// One appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
}

/// One producer. Invariant: `sent` has 1 to [`BATCHES_KEPT`] items, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// Broker's clock at its last append.
    pub(crate) seen_ms: i64,
    pub(crate) sent: VecDeque<Sent>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    pub(crate) known: BTreeMap<i64, Producer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fresh,
    /// Appended before, at this place.
    Duplicate(Sent),
}

impl Producers {
    /// Judges a batch that would be appended after the batches `before`, which were judged fresh and are
    /// part of the same append.
    pub(crate) fn judge<'a>(
        &self,
        header: &BatchHeader,
        before: impl Iterator<Item = &'a BatchHeader>,
    ) -> Result<Verdict, Error> {
        let id = header.producer_id;
        if id == ProducerId::NONE {
            return Ok(Verdict::Fresh);
        }
        let known = self.known.get(&id.0);
        // The newest batch of this producer, in this append or before it.
        let within = before.filter(|earlier| earlier.producer_id == id).last();
        let last = match (within, known) {
            (Some(earlier), _) => (earlier.producer_epoch, last_sequence(earlier)),
            (None, Some(known)) => (known.epoch, known.last_sequence()),
            // Forgotten or never seen: it may go on from anywhere.
            (None, None) => return Ok(Verdict::Fresh),
        };
        let (current, last) = last;
        let (epoch, got) = (header.producer_epoch, header.base_sequence);
        if epoch < current {
            return Err(Error::FencedProducer { producer: id, epoch, current });
        }
        if epoch > current {
            return in_order(id, 0, got);
        }
        if let Some(sent) = known.filter(|known| known.epoch == epoch).and_then(|known| known.find(header)) {
            return Ok(Verdict::Duplicate(sent));
        }
        let expected = next_sequence(last);
        // Sequence numbers wrap, so half of them count as before the expected one.
        let behind = expected.wrapping_sub(got) & i32::MAX;
        if (1..1 << 30).contains(&behind) {
            return Err(Error::DuplicateSequence { producer: id, got });
        }
        in_order(id, expected, got)
    }

    /// Takes note of a batch that was appended; its header has its place in the log.
    pub(crate) fn note(&mut self, header: &BatchHeader, now_ms: i64) {
        if header.producer_id == ProducerId::NONE || header.base_sequence < 0 {
            return;
        }
        let fresh = || Producer { epoch: header.producer_epoch, seen_ms: now_ms, sent: VecDeque::with_capacity(1) };
        let producer = self.known.entry(header.producer_id.0).or_insert_with(fresh);
        if producer.epoch != header.producer_epoch {
            producer.sent.clear();
            producer.epoch = header.producer_epoch;
        }
        producer.seen_ms = now_ms;
        if producer.sent.len() == BATCHES_KEPT - usize::from(mutant!("dedup-window-of-4")) {
            producer.sent.pop_front();
        }
        producer.sent.push_back(Sent {
            base_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
        });
    }

    /// Forgets the producers idle longest while there are more than `max`. Leaves some room below, so
    /// that the work is not done again for the next one.
    pub(crate) fn limit(&mut self, max: usize) {
        if self.known.len() <= max {
            return;
        }
        let excess = self.known.len() - max + max / 10;
        let mut by_age: Vec<(Offset, i64)> = self.known.iter().map(|(id, p)| (p.last_offset(), *id)).collect();
        by_age.sort_unstable();
        for (_, id) in by_age.into_iter().take(excess) {
            self.known.remove(&id);
        }
    }

    /// Forgets producers not seen since `before_ms`.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.known.retain(|_, producer| producer.seen_ms >= before_ms);
    }
}

impl Producer {
    fn newest(&self) -> &Sent {
        self.sent.back().expect("a known producer has sent something")
    }

    fn last_sequence(&self) -> i32 {
        self.newest().last_sequence
    }

    fn last_offset(&self) -> Offset {
        self.newest().last_offset
    }

    fn find(&self, header: &BatchHeader) -> Option<Sent> {
        let same =
            |sent: &&Sent| sent.base_sequence == header.base_sequence && sent.last_sequence == last_sequence(header);
        self.sent.iter().find(same).copied()
    }
}

fn in_order(producer: ProducerId, expected: i32, got: i32) -> Result<Verdict, Error> {
    if got == expected { Ok(Verdict::Fresh) } else { Err(Error::OutOfOrderSequence { producer, expected, got }) }
}

/// Sequence numbers go from 0 to `i32::MAX` and begin again.
fn last_sequence(header: &BatchHeader) -> i32 {
    header.base_sequence.wrapping_add(header.last_offset_delta) & i32::MAX
}

fn next_sequence(last: i32) -> i32 {
    last.wrapping_add(1) & i32::MAX
}
