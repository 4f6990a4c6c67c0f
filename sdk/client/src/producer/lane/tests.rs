//! Scripts of answers against one lane: what is sent next, under which producer id and sequence.

use std::collections::VecDeque;

use millstream_protocol::batch::{BatchHeader, Compression, check_new_batch};
use millstream_protocol::{Failure, ProducerId};

use super::*;

/// A lane with batches 0.. of two records each, and a broker that hands out producer ids from 1.
struct Script {
    lane: Lane,
    sent: VecDeque<Batch>,
    next_id: i64,
}

impl Script {
    fn new(batches: u64) -> Self {
        let mut lane = Lane::default();
        for number in 0..batches {
            let mut builder = BatchBuilder::new(Compression::None);
            (0..2).for_each(|_| builder.push_simple(1, None, Some(b"value")));
            lane.queue(Batch {
                number,
                encoded: Encoded::Not(Box::new(builder)),
                records: 2,
                completion: Arc::new(Completion::new(0)),
                opened_at: Instant::now(),
                sent: false,
            });
        }
        Script { lane, sent: VecDeque::new(), next_id: 1 }
    }

    /// Sends all that may be sent; compares `number:id/sequence` of each.
    #[track_caller]
    fn sends(&mut self, expected: &str) -> &mut Self {
        let mut found = Vec::new();
        while self.lane.next().is_some() {
            if self.lane.wants_identity() {
                self.lane.set_identity(Identity { id: ProducerId(self.next_id), epoch: 0 });
                self.next_id += 1;
            }
            let (batch, _) = self.lane.take(true).unwrap();
            let Encoded::Done(bytes) = &batch.encoded else { panic!("sent without being encoded") };
            let header: BatchHeader = check_new_batch(bytes).unwrap();
            found.push(format!("{}:{}/{}", batch.number, header.producer_id.0, header.base_sequence));
            self.sent.push_back(batch);
        }
        assert_eq!(found.join(" "), expected);
        self
    }

    /// Answers the requests in the order they were sent: `Ok` or a code each.
    #[track_caller]
    fn answers(&mut self, answers: &[Result<(), ErrorCode>], expected: &str) -> &mut Self {
        let mut settled = String::new();
        for answer in answers {
            let batch = self.sent.pop_front().expect("an answer has a request");
            let answer = answer.map(|()| 0).map_err(|code| Error::Broker(Failure::new(code, "no")));
            settled.push(match self.lane.settle(batch, answer) {
                Settled::Stored => 's',
                Settled::Again { refresh: false } => 'a',
                Settled::Again { refresh: true } => 'r',
                Settled::Failed(_) => 'f',
            });
        }
        assert_eq!(settled, expected);
        self
    }
}

const LOST: Result<(), ErrorCode> = Err(ErrorCode::Disconnected);
const GAP: Result<(), ErrorCode> = Err(ErrorCode::OutOfOrderSequence);
const BAD: Result<(), ErrorCode> = Err(ErrorCode::InvalidBatch);

#[test]
fn five_batches_are_in_flight() {
    let mut script = Script::new(7);
    script.sends("0:1/0 1:1/2 2:1/4 3:1/6 4:1/8").answers(&[Ok(()), Ok(())], "ss").sends("5:1/10 6:1/12");
    assert!(!script.lane.is_free() && !script.lane.is_idle());
    script.answers(&[Ok(()); 5], "sssss");
    assert!(script.lane.is_free() && script.lane.is_idle());
}

/// The broker remembers five batches. Were a sixth sent while the first is unsettled, its repetition would not be
/// recognised, and stored once more.
#[test]
fn no_batch_is_sent_more_than_five_after_one_that_is_unsettled() {
    let mut script = Script::new(9);
    script.sends("0:1/0 1:1/2 2:1/4 3:1/6 4:1/8");
    // The answer to the first comes last: its request had a slower partition in it, too.
    let first = script.sent.pop_front().unwrap();
    script.answers(&[Ok(()), Ok(())], "ss").sends("");
    script.sent.push_front(first);
    script.answers(&[Ok(())], "s").sends("5:1/10 6:1/12 7:1/14");
}

#[test]
fn what_may_be_stored_is_repeated_as_it_was() {
    // All lost: again in order, the same sequences.
    Script::new(3).sends("0:1/0 1:1/2 2:1/4").answers(&[LOST; 3], "aaa").sends("0:1/0 1:1/2 2:1/4");
    // Nothing is sent before everything in flight was settled.
    Script::new(3)
        .sends("0:1/0 1:1/2 2:1/4")
        .answers(&[Err(ErrorCode::Busy)], "a")
        .sends("")
        .answers(&[GAP, GAP], "aa")
        .sends("0:1/0 1:1/2 2:1/4");
    // The topic moved.
    Script::new(1).sends("0:1/0").answers(&[Err(ErrorCode::NotLeader)], "r").sends("0:1/0");
}

#[test]
fn a_gap_needs_a_new_producer_id() {
    // Refused for good: the followers, which the broker called out of order, start anew.
    Script::new(3).sends("0:1/0 1:1/2 2:1/4").answers(&[Ok(()), BAD, GAP], "sfa").sends("2:2/0");
    // One before the gap may be stored: it keeps its id.
    Script::new(3).sends("0:1/0 1:1/2 2:1/4").answers(&[LOST, BAD, GAP], "afa").sends("0:1/0 2:2/0");
    // The broker lost count of the first one.
    Script::new(2).sends("0:1/0 1:1/2").answers(&[GAP, GAP], "aa").sends("0:2/0 1:2/2");
}

#[test]
fn what_waits_too_long_fails() {
    let mut script = Script::new(7);
    script.sends("0:1/0 1:1/2 2:1/4 3:1/6 4:1/8").answers(&[LOST; 5], "aaaaa");
    let failed = script.lane.expire(Instant::now() + std::time::Duration::from_secs(1), &Error::Closed("producer"));
    assert_eq!(failed, [0, 1, 2, 3, 4, 5, 6]);
    assert!(script.lane.is_idle());
}
