//! Power losses in random histories: a disk that keeps any mixture of what was not synced, sector by sector
//! and name by name, and exactly what was. What the log called durable must be there after every one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../log/tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use millstream_log::{Config, Log};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{LeaderEpoch, Offset};
use millstream_sim::{Chance, Faults, SimDisk, SimStorage};
use support::{read_all, sequenced, small};

/// What must hold, beside the log.
#[derive(Clone, Default)]
struct Model {
    /// Everything appended and not lost yet.
    batches: Vec<(BatchHeader, Bytes)>,
    start: Offset,
    /// A deletion up to here was under way.
    start_wanted: Offset,
    durable: Offset,
    sequence: i32,
    epoch: i32,
}

impl Model {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |(header, _)| header.next_offset())
    }

    /// One append, sync, deletion or retention run.
    fn step(&mut self, log: &mut Log<SimStorage>, chance: &mut Chance, now_ms: i64) {
        match chance.below(12) {
            0..8 => {
                let sent = sequenced(1, 0, self.sequence, 1 + chance.below(9) as usize);
                let epoch = LeaderEpoch(self.epoch);
                let appended = log.append(std::slice::from_ref(&sent), epoch, now_ms).unwrap();
                assert_eq!(appended.duplicate_of, None);
                self.sequence += sent.0.record_count;
                let base_offset = appended.base_offset;
                self.batches.push((BatchHeader { base_offset, leader_epoch: epoch, ..sent.0 }, sent.1));
            }
            8 => self.epoch += 1,
            9 | 10 => self.durable = support::sync(log),
            _ => {
                if chance.below(2) == 0 {
                    let before = log.start_offset() + chance.below(10) as i64;
                    log.delete_records(before.min(log.durable_end())).unwrap();
                } else {
                    log.apply_retention(now_ms).unwrap();
                }
                self.start = log.start_offset();
                self.start_wanted = self.start;
            }
        }
    }

    /// Compares with a log that came back, and forgets what was lost.
    fn check(&mut self, log: &mut Log<SimStorage>, seed: u64) {
        assert!(log.end_offset() >= self.durable, "seed {seed}: end {} of {}", log.end_offset(), self.durable);
        let start = log.start_offset();
        assert!((self.start..=self.start_wanted).contains(&start), "seed {seed}: start {start} of {}", self.start);
        (self.start, self.start_wanted) = (start, start);
        let found: Vec<_> = read_all(log);
        let end = log.end_offset();
        self.batches.retain(|(header, _)| header.last_offset() < end);
        let expected = self.batches.iter().filter(|(header, _)| header.last_offset() >= self.start);
        let expected: Vec<_> = expected.map(|(header, batch)| (*header, &batch[61..])).collect();
        let found: Vec<_> = found.iter().map(|(header, batch)| (*header, &batch[61..])).collect();
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(self.end().max(self.start), end, "seed {seed}");
        self.durable = end;
        // The last batch is recognised when it comes again, and the next one is in order.
        let last = self.batches.last();
        self.sequence = last.map_or(self.sequence, |(header, _)| header.base_sequence + header.record_count);
        if let Some((header, batch)) = last {
            let again = log.append(&[(*header, batch.clone())], LeaderEpoch(self.epoch), 0).unwrap();
            assert_eq!(again.duplicate_of, Some(header.base_offset), "seed {seed}");
        }
    }
}

fn run(seed: u64) {
    let mut chance = Chance::new(seed);
    let config = Config {
        retention_bytes: (chance.below(2) == 0).then_some(3_000),
        mark_bytes: [0, 2_000, 1 << 30][chance.below(3) as usize],
        segment_ms: 200,
        ..small()
    };
    let mut model = Model::default();
    let mut disk = SimDisk::new(Faults::default(), seed);
    let mut now_ms = 0;
    for _ in 0..6 {
        let changes = chance.below(250);
        disk.lose_power_at(disk.changes() + changes, chance.split());
        let (mut log, _) = Log::open(disk.root(), config.clone(), now_ms)
            .unwrap_or_else(|e| panic!("seed {seed}: an innocent crash was taken for damage: {e}"));
        let (mut before, mut closed) = (model.clone(), None);
        model.check(&mut log, seed);
        while disk.left().is_none() {
            before = model.clone();
            now_ms += 10;
            model.step(&mut log, &mut chance, now_ms);
            if disk.left().is_none() && chance.below(60) == 0 {
                before = model.clone();
                log.close().unwrap();
                if disk.left().is_none() {
                    // Closed in order, and the power goes later.
                    before.durable = model.end().max(model.start);
                    closed = Some(disk.crash(&mut chance));
                }
                break;
            }
        }
        // What was under way may have happened or not.
        let under_way = (model.batches, model.start, model.epoch);
        model = Model { batches: under_way.0, start_wanted: under_way.1, epoch: under_way.2, ..before };
        disk = closed.or(disk.left()).expect("the power went in one of these ways");
    }
}

#[test]
fn what_was_durable_survives_every_power_loss() {
    for seed in 0..600 {
        run(seed);
    }
}
