//! Idempotent producers: what is taken, what is recognised, what is refused; and that a log remembers it
//! over every kind of restart.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use millstream_log::{Config, Error, Log, MemoryStorage};
use millstream_protocol::Offset;
use support::{EPOCH, batch, open, read_all, sequenced, small, sync};

#[derive(Debug, PartialEq)]
enum Outcome {
    At(i64),
    Duplicate(i64),
    OutOfOrder(i32),
    Repeated,
    Fenced,
}
use Outcome::{At, Duplicate, Fenced, OutOfOrder, Repeated};

/// Producer, epoch, base sequence, records.
type Sent = (i64, i16, i32, usize);

fn send(log: &mut Log<MemoryStorage>, (producer, epoch, sequence, records): Sent) -> Outcome {
    let before = log.end_offset();
    match log.append(&[sequenced(producer, epoch, sequence, records)], EPOCH, 0) {
        Ok(appended) => match appended.duplicate_of {
            Some(first) => {
                assert_eq!((first, appended.end_offset), (appended.base_offset, first + records as i64));
                assert_eq!(log.end_offset(), before);
                Duplicate(first.0)
            }
            None => At(appended.base_offset.0),
        },
        Err(Error::OutOfOrderSequence { expected, .. }) => OutOfOrder(expected),
        Err(Error::DuplicateSequence { .. }) => Repeated,
        Err(Error::FencedProducer { .. }) => Fenced,
        Err(e) => panic!("{e}"),
    }
}

/// Sends in order and compares the outcomes: without restart, after each crash, and after each clean close.
fn check(sent: &[(Sent, Outcome)]) {
    for restart in ["never", "crash", "close"] {
        let storage = MemoryStorage::new();
        let mut log = open(storage.clone());
        for (at, (batch, expected)) in sent.iter().enumerate() {
            assert_eq!(send(&mut log, *batch), *expected, "step {at}, restart: {restart}");
            match restart {
                "crash" => drop(log),
                "close" => log.close().unwrap(),
                _ => continue,
            }
            log = open(storage.clone());
        }
    }
}

#[test]
fn sequences() {
    check(&[((1, 0, 0, 3), At(0)), ((1, 0, 3, 1), At(3)), ((1, 0, 3, 1), Duplicate(3)), ((1, 0, 0, 3), Duplicate(0))]);
    check(&[((1, 0, 0, 3), At(0)), ((1, 0, 5, 1), OutOfOrder(3)), ((1, 0, 3, 1), At(3))]);
    // Other records under a known sequence are not the same batch.
    check(&[((1, 0, 0, 3), At(0)), ((1, 0, 0, 2), Repeated), ((1, 0, 2, 2), Repeated)]);
    // Producers do not disturb each other, nor does a first sequence other than 0.
    check(&[((1, 0, 0, 2), At(0)), ((2, 0, 7, 2), At(2)), ((1, 0, 2, 1), At(4)), ((2, 0, 9, 1), At(5))]);
    // A new epoch begins at 0 and shuts the old one out.
    check(&[((1, 0, 0, 2), At(0)), ((1, 1, 5, 1), OutOfOrder(0)), ((1, 1, 0, 1), At(2)), ((1, 0, 2, 1), Fenced)]);
    // Five batches are remembered.
    let mut six: Vec<_> = (0..6).map(|sequence| ((1, 0, sequence, 1), At(i64::from(sequence)))).collect();
    six.extend([((1, 0, 0, 1), Repeated), ((1, 0, 1, 1), Duplicate(1)), ((1, 0, 5, 1), Duplicate(5))]);
    check(&six);
    // Sequences wrap.
    let last = i32::MAX;
    check(&[
        ((1, 0, last - 1, 1), At(0)),
        ((1, 0, last, 3), At(1)),
        ((1, 0, 2, 1), At(4)),
        ((1, 0, last, 3), Duplicate(1)),
    ]);
}

#[test]
fn memory_survives_many_segments() {
    for close in [false, true] {
        let storage = MemoryStorage::new();
        let mut log = open(storage.clone());
        send(&mut log, (1, 3, 0, 2));
        support::fill(&mut log, 0..60, 2);
        send(&mut log, (2, 0, 0, 1));
        sync(&mut log);
        if close {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let mut log = open(storage);
        assert!(log.describe().segments > 3);
        assert_eq!(send(&mut log, (1, 3, 0, 2)), Duplicate(0));
        assert_eq!(send(&mut log, (2, 0, 0, 1)), Duplicate(122));
        assert_eq!(send(&mut log, (1, 3, 3, 1)), OutOfOrder(2));
    }
}

#[test]
fn batches_of_one_append_follow_each_other() {
    let mut log = open(MemoryStorage::new());
    let three = [sequenced(1, 0, 0, 2), batch(9, &[1]), sequenced(1, 0, 2, 2)];
    assert_eq!(log.append(&three, EPOCH, 0).unwrap().end_offset, Offset(5));
    // All or none.
    let gap = [sequenced(1, 0, 4, 1), sequenced(1, 0, 6, 1)];
    assert!(matches!(log.append(&gap, EPOCH, 0), Err(Error::OutOfOrderSequence { expected: 5, got: 6, .. })));
    assert_eq!(log.end_offset(), Offset(5));
    assert_eq!(send(&mut log, (1, 0, 4, 1)), At(5));
    // A repeated one beside a new one: only the new one is written.
    let mixed = [sequenced(1, 0, 4, 1), sequenced(1, 0, 5, 1)];
    let appended = log.append(&mixed, EPOCH, 0).unwrap();
    assert_eq!((appended.base_offset, appended.end_offset, appended.duplicate_of), (Offset(5), Offset(7), None));
    assert_eq!(read_all(&log).len(), 5);
}

#[test]
fn the_number_of_producers_is_limited() {
    let config = Config { producers_max: 10, producer_expiry_ms: 100, ..small() };
    let (mut log, _) = Log::open(MemoryStorage::new(), config, 0).unwrap();
    for producer in 0..50 {
        assert!(matches!(send(&mut log, (producer, 0, 0, 1)), At(_)));
        assert!(log.describe().producers <= 10);
    }
    // The newest are remembered; a forgotten one may go on from anywhere.
    assert_eq!(send(&mut log, (49, 0, 0, 1)), Duplicate(49));
    assert_eq!(send(&mut log, (3, 0, 8, 1)), At(50));
    log.apply_retention(100).unwrap();
    assert!(log.describe().producers > 0);
    log.apply_retention(101).unwrap();
    assert_eq!(log.describe().producers, 0);
}
