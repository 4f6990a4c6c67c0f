//! Power losses in random histories: a disk that keeps any mixture of what was not synced, sector by sector
//! and name by name, and exactly what was. What the log called durable must be there after every one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use millstream_log::{Config, File, Log, MemoryStorage, Storage};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{LeaderEpoch, Offset};
use support::{read_all, sequenced, small};

const SECTOR: usize = 512;

/// A small generator of our own: a seed is a history.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX constants.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Names = BTreeMap<String, Arc<LossyFile>>;

#[derive(Clone, Debug, Default)]
struct Lossy {
    /// Names now, and as of the last sync of the folder.
    names: Arc<Mutex<(Names, Names)>>,
    trap: Arc<Mutex<Trap>>,
}

/// The power goes before a certain change; what happens afterwards happens to nobody.
#[derive(Debug, Default)]
struct Trap {
    changes_left: u64,
    seed: u64,
    left: Option<MemoryStorage>,
}

/// An open file.
#[derive(Debug)]
struct Handle {
    file: Arc<LossyFile>,
    disk: Lossy,
}

/// Contents now, and as of the last sync.
#[derive(Debug, Default)]
struct LossyFile(Mutex<(Vec<u8>, Vec<u8>)>);

impl Lossy {
    /// A disk that loses power before its `changes`-th change.
    fn from_disk(disk: &MemoryStorage, changes: u64, seed: u64) -> Self {
        let mut names = Names::new();
        for name in disk.list().unwrap() {
            let bytes = disk.get(&name).unwrap();
            names.insert(name, Arc::new(LossyFile(Mutex::new((bytes.clone(), bytes)))));
        }
        let trap = Trap { changes_left: changes, seed, left: None };
        Lossy { names: Arc::new(Mutex::new((names.clone(), names))), trap: Arc::new(Mutex::new(trap)) }
    }

    fn change(&self) {
        let mut trap = self.trap.lock().unwrap();
        match trap.changes_left.checked_sub(1) {
            Some(left) => trap.changes_left = left,
            None if trap.left.is_none() => trap.left = Some(self.crash(&mut Chance(trap.seed))),
            None => {}
        }
    }

    /// What the power loss left, once it happened.
    fn left(&self) -> Option<MemoryStorage> {
        self.trap.lock().unwrap().left.clone()
    }

    fn handle(&self, file: Arc<LossyFile>) -> Arc<dyn File> {
        Arc::new(Handle { file, disk: self.clone() })
    }

    /// What is on the disk after the power went.
    fn crash(&self, chance: &mut Chance) -> MemoryStorage {
        let disk = MemoryStorage::new();
        let (now, synced) = &*self.names.lock().unwrap();
        let all: std::collections::BTreeSet<&String> = now.keys().chain(synced.keys()).collect();
        for name in all {
            let survivor = if chance.below(2) == 0 { now.get(name) } else { synced.get(name) };
            if let Some(file) = survivor {
                disk.put(name, file.crash(chance));
            }
        }
        disk
    }
}

impl LossyFile {
    fn crash(&self, chance: &mut Chance) -> Vec<u8> {
        let (now, synced) = &*self.0.lock().unwrap();
        if now == synced || chance.below(4) == 0 {
            return synced.clone();
        }
        let (least, most) = (now.len().min(synced.len()), now.len().max(synced.len()));
        let length = match chance.below(3) {
            0 => now.len(),
            1 => synced.len(),
            _ => least + chance.below((most - least + 1) as u64) as usize,
        };
        let mut left = vec![0; length];
        for from in (0..length).step_by(SECTOR) {
            let until = length.min(from + SECTOR);
            let source = if chance.below(2) == 0 { now } else { synced };
            // A sector that was never written holds zeros.
            let there = &source[source.len().min(from)..source.len().min(until)];
            left[from..from + there.len()].copy_from_slice(there);
        }
        left
    }
}

impl Storage for Lossy {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.names.lock().unwrap().0.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.change();
        let file = Arc::clone(self.names.lock().unwrap().0.entry(name.to_owned()).or_default());
        file.0.lock().unwrap().0.clear();
        Ok(self.handle(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().unwrap().0.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change();
        let (now, _) = &mut *self.names.lock().unwrap();
        let file = now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        now.insert(to.to_owned(), file);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.change();
        self.names.lock().unwrap().0.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change();
        let (now, synced) = &mut *self.names.lock().unwrap();
        *synced = now.clone();
        Ok(())
    }
}

impl File for Handle {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let (now, _) = &*self.file.0.lock().unwrap();
        let from = now.len().min(at as usize);
        let until = now.len().min(from + len);
        into.extend_from_slice(&now[from..until]);
        Ok(until - from)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.disk.change();
        let (now, _) = &mut *self.file.0.lock().unwrap();
        let mut to = at as usize;
        for part in parts {
            if now.len() < to + part.len() {
                now.resize(to + part.len(), 0);
            }
            now[to..to + part.len()].copy_from_slice(part);
            to += part.len();
        }
        Ok(to - at as usize)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.0.lock().unwrap().0.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.change();
        self.file.0.lock().unwrap().0.resize(size as usize, 0);
        Ok(())
    }

    fn allocate(&self, _from: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change();
        let (now, synced) = &mut *self.file.0.lock().unwrap();
        synced.clone_from(now);
        Ok(())
    }
}

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
    fn step(&mut self, log: &mut Log<Lossy>, chance: &mut Chance, now_ms: i64) {
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
    fn check(&mut self, log: &mut Log<Lossy>, seed: u64) {
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
    let mut chance = Chance(seed);
    let config = Config {
        retention_bytes: (chance.below(2) == 0).then_some(3_000),
        mark_bytes: [0, 2_000, 1 << 30][chance.below(3) as usize],
        segment_ms: 200,
        ..small()
    };
    let mut model = Model::default();
    let mut disk = MemoryStorage::new();
    let mut now_ms = 0;
    for _ in 0..6 {
        let changes = chance.below(250);
        let storage = Lossy::from_disk(&disk, changes, chance.below(u64::from(u32::MAX)));
        let (mut log, _) = Log::open(storage.clone(), config.clone(), now_ms)
            .unwrap_or_else(|e| panic!("seed {seed}: an innocent crash was taken for damage: {e}"));
        let mut before = model.clone();
        model.check(&mut log, seed);
        while storage.left().is_none() {
            before = model.clone();
            now_ms += 10;
            model.step(&mut log, &mut chance, now_ms);
            if storage.left().is_none() && chance.below(60) == 0 {
                before = model.clone();
                log.close().unwrap();
                if storage.left().is_none() {
                    // Closed in order, and the power goes later.
                    before.durable = model.end().max(model.start);
                    disk = storage.crash(&mut chance);
                }
                break;
            }
        }
        // What was under way may have happened or not.
        let under_way = (model.batches, model.start, model.epoch);
        model = Model { batches: under_way.0, start_wanted: under_way.1, epoch: under_way.2, ..before };
        disk = storage.left().unwrap_or(disk);
    }
}

#[test]
fn what_was_durable_survives_every_power_loss() {
    for seed in 0..600 {
        run(seed);
    }
}
