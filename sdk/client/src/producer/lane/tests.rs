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
                sends: 0,
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
            // A new producer id closes the window.
            let Some((batch, _)) = self.lane.take(true) else { break };
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

/// What a partition answers to a batch that it knows to be stored long since.
const STORED: Result<(), ErrorCode> = Err(ErrorCode::DuplicateSequence);

impl Script {
    /// As [`Script::new`], its first batch stored: the window is open.
    fn known(batches: u64) -> Self {
        let mut script = Script::new(batches);
        script.sends("0:1/0").answers(&[Ok(())], "s");
        script
    }
}

#[test]
fn five_batches_are_in_flight() {
    let mut script = Script::known(8);
    script.sends("1:1/2 2:1/4 3:1/6 4:1/8 5:1/10").answers(&[Ok(()), Ok(())], "ss").sends("6:1/12 7:1/14");
    assert!(!script.lane.is_free() && !script.lane.is_idle());
    script.answers(&[Ok(()); 5], "sssss");
    assert!(script.lane.is_free() && script.lane.is_idle());
}

/// A broker takes any sequence from a producer that it does not know: were the second batch in flight while the first is
/// refused, it would be stored, and the first after it.
#[test]
fn a_producer_that_is_not_known_yet_sends_one_batch_at_a_time() {
    let mut script = Script::new(4);
    script.sends("0:1/0");
    assert!(!script.lane.is_free(), "what would wait in the lane is better filled up");
    script.answers(&[Err(ErrorCode::Busy)], "a").sends("0:1/0").answers(&[Err(ErrorCode::DiskFull)], "a");
    script.sends("0:1/0").answers(&[LOST], "a").sends("0:1/0").answers(&[Ok(())], "s").sends("1:1/2 2:1/4 3:1/6");
    // A new id is not known either, whatever the old one was.
    script.answers(&[BAD, GAP, GAP], "faa").sends("2:2/0").answers(&[Ok(())], "s").sends("3:2/2");
    // What is stored under the old id says nothing about the new one.
    Script::known(5)
        .sends("1:1/2 2:1/4 3:1/6 4:1/8")
        .answers(&[LOST, BAD, GAP, GAP], "afaa")
        .sends("1:1/2")
        .answers(&[Ok(())], "s")
        .sends("3:2/0");
    // Without a producer id nothing is counted, and the window is open at once.
    let mut plain = Script::new(6);
    while let Some((batch, _)) = plain.lane.take(false) {
        plain.sent.push_back(batch);
    }
    assert_eq!(plain.sent.len(), IN_FLIGHT_MAX);
}

/// The broker remembers five batches. Were a sixth sent while the first is unsettled, its repetition would not be
/// recognised, and stored once more.
#[test]
fn no_batch_is_sent_more_than_five_after_one_that_is_unsettled() {
    let mut script = Script::known(10);
    script.sends("1:1/2 2:1/4 3:1/6 4:1/8 5:1/10");
    // The answer to the first comes last: its request had a slower partition in it, too.
    let first = script.sent.pop_front().unwrap();
    script.answers(&[Ok(()), Ok(())], "ss").sends("");
    script.sent.push_front(first);
    script.answers(&[Ok(())], "s").sends("6:1/12 7:1/14 8:1/16");
}

#[test]
fn what_may_be_stored_is_repeated_as_it_was() {
    // All lost: again in order, the same sequences.
    Script::known(4).sends("1:1/2 2:1/4 3:1/6").answers(&[LOST; 3], "aaa").sends("1:1/2 2:1/4 3:1/6");
    // Nothing is sent before everything in flight was settled.
    Script::known(4)
        .sends("1:1/2 2:1/4 3:1/6")
        .answers(&[Err(ErrorCode::Busy)], "a")
        .sends("")
        .answers(&[GAP, GAP], "aa")
        .sends("1:1/2 2:1/4 3:1/6");
    // The topic moved.
    Script::new(1).sends("0:1/0").answers(&[Err(ErrorCode::NotLeader)], "r").sends("0:1/0");
}

#[test]
fn a_gap_needs_a_new_producer_id() {
    // Refused for good: the followers, which the broker called out of order, start anew.
    Script::known(4).sends("1:1/2 2:1/4 3:1/6").answers(&[Ok(()), BAD, GAP], "sfa").sends("3:2/0");
    // One before the gap may be stored: it keeps its id, and the next waits for it.
    let mut script = Script::known(4);
    script.sends("1:1/2 2:1/4 3:1/6").answers(&[LOST, BAD, GAP], "afa").sends("1:1/2").answers(&[Ok(())], "s");
    script.sends("3:2/0");
    // The broker lost count of the first one.
    let mut script = Script::known(3);
    script.sends("1:1/2 2:1/4").answers(&[GAP, GAP], "aa").sends("1:2/0").answers(&[Ok(())], "s").sends("2:2/2");
}

/// The broker says that it has the batch, and no longer where: it is stored when it was sent before, and something is
/// wrong when it was not.
#[test]
fn a_repetition_that_was_stored_is_done() {
    let mut script = Script::known(3);
    script.sends("1:1/2 2:1/4").answers(&[LOST, Ok(())], "as").sends("1:1/2");
    let receipt = script.sent[0].completion.receipt(1);
    script.answers(&[STORED], "s");
    assert_eq!(receipt.try_result().unwrap().unwrap().offset, -1);
    assert!(script.lane.is_idle());
    Script::known(2).sends("1:1/2").answers(&[STORED], "f");
    // Under another id it was sent never before.
    Script::known(2).sends("1:1/2").answers(&[GAP], "a").sends("1:2/0").answers(&[STORED], "f");
}

#[test]
fn what_waits_too_long_fails() {
    let mut script = Script::known(8);
    script.sends("1:1/2 2:1/4 3:1/6 4:1/8 5:1/10").answers(&[LOST; 5], "aaaaa");
    let failed = script.lane.expire(Instant::now() + std::time::Duration::from_secs(1), &Error::Closed("producer"));
    assert_eq!(failed, [1, 2, 3, 4, 5, 6, 7]);
    assert!(script.lane.is_idle());
}
