//! What a log promises, over memory and over a real disk alike.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use millstream_log::{DiskStorage, Dumped, Error, MemoryStorage, Storage, dump};
use millstream_protocol::Offset;
use millstream_protocol::batch::check_batch;
use support::{append, batch, fill, open, read_all, sync};

/// Runs one scenario over every storage, in an empty folder.
fn check(scenario: impl Fn(&dyn Fn() -> std::sync::Arc<dyn Storage>)) {
    let memory = MemoryStorage::new();
    scenario(&|| std::sync::Arc::new(memory.clone()));
    let folder = tempfile::tempdir().unwrap();
    scenario(&|| std::sync::Arc::new(DiskStorage::open(folder.path().join("topic-0")).unwrap()));
}

#[test]
fn appended_batches_are_read_back() {
    check(|storage| {
        let mut log = open(storage());
        assert_eq!(append(&mut log, &[batch(1, &[5, 6]), batch(2, &[7])]), Offset(0));
        assert_eq!(append(&mut log, &[batch(3, &[8, 8, 8])]), Offset(3));
        fill(&mut log, 4..60, 2);
        assert_eq!(log.end_offset(), Offset(118));
        assert!(log.describe().segments > 3);
        let all = read_all(&log);
        assert_eq!(all.len(), 59);
        for (header, bytes) in &all {
            assert_eq!(check_batch(bytes).unwrap(), *header);
            assert_eq!(header.leader_epoch, support::EPOCH);
        }
        // Every offset is found by itself, in the batch that has it; none past the given end.
        let reader = log.reader();
        for offset in 0..118 {
            let found = reader.read(Offset(offset), 1, log.end_offset()).unwrap();
            let header = check_batch(&found).unwrap();
            assert!(header.base_offset <= Offset(offset) && Offset(offset) < header.next_offset());
            assert!(
                reader.read(Offset(offset), 1, header.last_offset()).is_ok_and(|bytes| bytes.is_empty())
                    || header.base_offset == header.last_offset()
                    || Offset(offset) > header.last_offset()
            );
        }
        assert!(reader.read(Offset(118), 100, Offset(118)).unwrap().is_empty());
        let beyond = reader.read(Offset(119), 100, Offset(118));
        assert!(matches!(beyond, Err(Error::OutOfRange { end: Offset(118), .. })), "{beyond:?}");
    });
}

#[test]
fn a_closed_log_opens_clean_and_a_dropped_one_is_recovered() {
    check(|storage| {
        let mut log = open(storage());
        fill(&mut log, 0..40, 2);
        let before = read_all(&log);
        sync(&mut log);
        log.close().unwrap();
        let (log, recovery) = millstream_log::Log::open(storage(), support::small(), 0).unwrap();
        assert!(recovery.clean, "{recovery:?}");
        assert_eq!(read_all(&log), before);
        drop(log);
        let mut log = open(storage());
        fill(&mut log, 40..50, 3);
        let before = read_all(&log);
        drop(log);
        let (log, recovery) = millstream_log::Log::open(storage(), support::small(), 0).unwrap();
        assert!(!recovery.clean);
        assert_eq!((recovery.truncated_bytes, recovery.truncated_at), (0, None));
        assert_eq!(read_all(&log), before);
        assert_eq!(log.durable_end(), Offset(110));
        // The mark of one closing does not stand for the next: what came between is closed in order, too.
        log.close().unwrap();
        let mut log = open(storage());
        fill(&mut log, 50..51, 2);
        sync(&mut log);
        log.close().unwrap();
        let (log, recovery) = millstream_log::Log::open(storage(), support::small(), 0).unwrap();
        assert!(recovery.clean, "{recovery:?}");
        assert_eq!(log.end_offset(), Offset(112));
    });
}

/// Kafka's layouts, as its own dump tool checks them: an offset entry names the last offset of the batch at
/// its position, a time entry the largest timestamp so far and the last offset of the batch that has it.
#[test]
fn index_files_say_what_the_dump_shows() {
    check(|storage| {
        let mut log = open(storage());
        for tag in 0..40 {
            append(&mut log, &[batch(tag, &[1_000 + (tag as i64 * 37) % 100, 900])]);
        }
        sync(&mut log);
        log.close().unwrap();
        let storage = storage();
        let read = |base: i64, extension: &str| {
            let file = storage.open(&format!("{base:020}.{extension}")).unwrap();
            let mut bytes = Vec::new();
            file.read_at(0, 1 << 20, &mut bytes).unwrap();
            bytes
        };
        // Position, last offset and largest timestamp of each batch, by the segment's base.
        let mut segments: Vec<(i64, Vec<_>)> = Vec::new();
        for found in dump(&*storage).unwrap() {
            match found.unwrap() {
                Dumped::Segment { base, .. } => segments.push((base.0, Vec::new())),
                Dumped::Batch { position, header, invalid, .. } => {
                    assert_eq!(invalid, None);
                    let batch = (position, header.last_offset().0, header.max_timestamp);
                    segments.last_mut().unwrap().1.push(batch);
                }
                damage @ Dumped::Damage { .. } => panic!("{damage:?}"),
            }
        }
        assert!(segments.len() > 3);
        for (base, batches) in segments {
            let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
            let index = read(base, "index");
            assert!(index.len() >= 8 || batches.len() < 3);
            for entry in index.chunks(8) {
                let (last_offset, position) = (base + number(&entry[..4]), number(&entry[4..]) as u64);
                assert!(batches.iter().any(|batch| (batch.0, batch.1) == (position, last_offset)));
            }
            let mut largest = -1;
            for entry in read(base, "timeindex").chunks(12) {
                let timestamp = i64::from_be_bytes(entry[..8].try_into().unwrap());
                let last_offset = base + number(&entry[8..]);
                assert!(timestamp > largest);
                assert!(batches.iter().any(|batch| (batch.1, batch.2) == (last_offset, timestamp)));
                largest = timestamp;
            }
            assert_eq!(Some(largest), batches.iter().map(|batch| batch.2).max());
        }
    });
}

#[test]
fn a_dump_shows_damage_and_goes_on() {
    let storage = MemoryStorage::new();
    let mut log = open(storage.clone());
    fill(&mut log, 0..40, 2);
    drop(log);
    let name = "00000000000000000000.log";
    let mut bytes = storage.get(name).unwrap();
    let length = bytes.len();
    bytes[70] ^= 1;
    bytes.truncate(length - 3);
    storage.put(name, bytes);
    let found: Vec<Dumped> = dump(&storage).unwrap().map(Result::unwrap).collect();
    assert!(matches!(&found[1], Dumped::Batch { invalid: Some(reason), .. } if reason.contains("checksum")));
    let at = found.iter().position(|found| matches!(found, Dumped::Damage { .. })).unwrap();
    assert!(matches!(found[at + 1], Dumped::Segment { .. }) && found.len() > 40);
}
