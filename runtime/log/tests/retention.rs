//! How a log gets shorter at its front, when segments are closed, and how offsets are found by time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use millstream_log::{Config, Error, Log, MemoryStorage, Storage};
use millstream_protocol::Offset;
use millstream_protocol::batch::{BatchBuilder, Compression, split_batches};
use support::{EPOCH, append, batch, fill, open, read_all, small, sync};

fn log_files(storage: &MemoryStorage) -> usize {
    storage.list().unwrap().iter().filter(|name| name.ends_with(".log")).count()
}

fn configured(storage: &MemoryStorage, config: Config, now_ms: i64) -> Log<MemoryStorage> {
    Log::open(storage.clone(), config, now_ms).unwrap().0
}

#[test]
fn records_deleted_stay_deleted() {
    for before in [0, 1, 2, 39, 40, 79, 80] {
        for close in [false, true] {
            let storage = MemoryStorage::new();
            let mut log = open(storage.clone());
            fill(&mut log, 0..40, 2);
            sync(&mut log);
            log.delete_records(Offset(before)).unwrap();
            assert_eq!(log.start_offset(), Offset(before));
            let rest = read_all(&log);
            assert_eq!(rest.len() as i64, 40 - before / 2);
            let reader = log.reader();
            let earlier = reader.read(Offset(before - 1), 10, log.end_offset());
            assert!(matches!(earlier, Err(Error::OutOfRange { start, .. }) if start == Offset(before)));
            let files = log_files(&storage);
            assert!(before < 80 || files == 1, "the last segment goes, too, when nothing in it is left");
            if close {
                log.close().unwrap()
            } else {
                drop(log)
            }
            let mut log = open(storage.clone());
            assert_eq!((log.start_offset(), log.end_offset()), (Offset(before), Offset(80)));
            assert_eq!((read_all(&log), log_files(&storage)), (rest, files));
            // It never comes back, and goes only forward.
            log.delete_records(Offset(0)).unwrap();
            assert_eq!(log.start_offset(), Offset(before));
            assert!(matches!(log.delete_records(Offset(81)), Err(Error::OutOfRange { .. })));
            assert_eq!(append(&mut log, &[batch(1, &[1])]), Offset(80));
        }
    }
}

#[test]
fn files_left_by_an_interrupted_deletion_go_at_the_next_opening() {
    let storage = MemoryStorage::new();
    let mut log = open(storage.clone());
    fill(&mut log, 0..40, 2);
    sync(&mut log);
    let before = storage.copy();
    log.delete_records(Offset(50)).unwrap();
    let rest = read_all(&log);
    drop(log);
    before.put("log-checkpoint", storage.get("log-checkpoint").unwrap());
    assert!(log_files(&before) > log_files(&storage));
    let log = open(before.clone());
    assert_eq!((log.start_offset(), read_all(&log)), (Offset(50), rest));
    assert_eq!(log_files(&before), log_files(&storage));
}

#[test]
fn by_size() {
    let storage = MemoryStorage::new();
    let config = Config { retention_bytes: Some(3_000), ..small() };
    let mut log = configured(&storage, config, 0);
    fill(&mut log, 0..200, 2);
    let (before, end) = (log.describe(), log.end_offset());
    let deleted = log.apply_retention(0).unwrap();
    let after = log.describe();
    assert_eq!(after.segments, before.segments - deleted as usize);
    assert!((3_000..4_000).contains(&after.bytes), "{after:?}");
    assert_eq!(log.apply_retention(0).unwrap(), 0);
    assert_eq!(read_all(&log).last().unwrap().0.next_offset(), end);
    let start = log.start_offset();
    drop(log);
    assert_eq!(open(storage).start_offset(), start);
}

#[test]
fn by_age_of_the_append_not_of_the_records() {
    let storage = MemoryStorage::new();
    let config = Config { retention_ms: Some(100), segment_ms: 1_000, ..small() };
    let mut log = configured(&storage, config.clone(), 0);
    // Records from long ago, appended now.
    for (tag, now) in (0..40).zip(1_000_000..) {
        log.append(&[batch(tag, &[5, 6])], EPOCH, now).unwrap();
    }
    assert_eq!(log.apply_retention(1_000_050).unwrap(), 0);
    let deleted = log.apply_retention(1_000_120).unwrap();
    assert!(deleted > 0 && log.start_offset() > Offset(0) && log.start_offset() < log.end_offset());
    // Appends' times survive a restart, and in the end even the segment being written goes.
    let start = log.start_offset();
    log.close().unwrap();
    let mut log = configured(&storage, config, 1_000_121);
    assert_eq!(log.apply_retention(1_000_121).unwrap(), 0);
    assert!(log.apply_retention(1_000_130).unwrap() > 0 && log.start_offset() > start);
    log.apply_retention(1_000_300).unwrap();
    assert_eq!((log.start_offset(), log.describe().bytes), (Offset(80), 0));
    assert_eq!(append(&mut log, &[batch(1, &[1])]), Offset(80));
}

#[test]
fn segments_are_closed_by_age() {
    let mut log = configured(&MemoryStorage::new(), Config { segment_ms: 100, ..small() }, 0);
    for (now, segments) in [(0, 1), (99, 1), (100, 2), (150, 2), (199, 2), (200, 3)] {
        log.append(&[batch(1, &[1])], EPOCH, now).unwrap();
        assert_eq!(log.describe().segments, segments, "at {now}");
    }
    log.apply_retention(299).unwrap();
    assert_eq!(log.describe().segments, 3);
    log.apply_retention(300).unwrap();
    assert_eq!(log.describe().segments, 4);
}

/// Timestamps that mostly rise, with stragglers and jumps ahead.
fn timestamps() -> Vec<[i64; 3]> {
    (0..70)
        .map(|at| {
            let base = 1_000 + at * 10;
            match at % 7 {
                3 => [base - 400, base, base - 200],
                5 => [base, base + 300, base + 1],
                _ => [base, base + 3, base + 3],
            }
        })
        .collect()
}

#[test]
fn by_timestamp() {
    for (restart, compression) in
        [("never", Compression::None), ("crash", Compression::Lz4), ("close", Compression::Zstd)]
    {
        let storage = MemoryStorage::new();
        let mut log = open(storage.clone());
        for records in timestamps() {
            let mut builder = BatchBuilder::new(compression);
            records.iter().for_each(|at| builder.push_simple(*at, None, Some(b"some value")));
            append(&mut log, &[split_batches(&builder.build()).next().unwrap().unwrap()]);
        }
        sync(&mut log);
        match restart {
            "crash" => drop(log),
            "close" => log.close().unwrap(),
            _ => std::mem::forget(log),
        }
        let mut log = open(storage);
        assert!(log.describe().segments > 5);
        let flat: Vec<i64> = timestamps().into_iter().flatten().collect();
        for start in [0, 50, 101] {
            log.delete_records(Offset(start)).unwrap();
            let reader = log.reader();
            for wanted in 500..2_100 {
                let found = flat.iter().enumerate().position(|(at, stamp)| at as i64 >= start && *stamp >= wanted);
                let expected = found.map(|at| Offset(at as i64));
                let got = reader.offset_for_timestamp(wanted, log.end_offset()).unwrap();
                assert_eq!(got, expected, "{wanted} from {start}, restart: {restart}");
            }
        }
        let reader = log.reader();
        assert_eq!(reader.offset_for_timestamp(1_500, Offset(120)).unwrap(), None, "the end is respected");
    }
}

/// A time index that ends early, at the end of an entry, looks whole: nothing may be concluded from what it lacks. Every
/// third batch is old, so that the last one of a segment may be, and does not tell.
#[test]
fn by_timestamp_without_the_last_entries_of_an_index() {
    const ENTRY: u64 = 12;
    let storage = MemoryStorage::new();
    let mut log = open(storage.clone());
    let stamps: Vec<i64> = (0..70).map(|at| if at % 3 == 2 { 500 } else { 1_000 + at * 10 }).collect();
    for at in &stamps {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_simple(*at, None, Some(&[7; 40]));
        append(&mut log, &[split_batches(&builder.build()).next().unwrap().unwrap()]);
    }
    sync(&mut log);
    log.close().unwrap();
    let mut tried = 0;
    for name in storage.list().unwrap().iter().filter(|name| name.ends_with(".timeindex")) {
        let whole = storage.open(name).unwrap().size().unwrap();
        for kept in 0..whole / ENTRY {
            let cut = storage.copy();
            cut.open(name).unwrap().truncate(kept * ENTRY).unwrap();
            let log = open(cut);
            let reader = log.reader();
            for wanted in (495..1_800).step_by(5) {
                let expected = stamps.iter().position(|stamp| *stamp >= wanted).map(|at| Offset(at as i64));
                let found = reader.offset_for_timestamp(wanted, log.end_offset()).unwrap();
                assert_eq!(found, expected, "{wanted} with {kept} entries of {name}");
            }
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried} ways to cut");
}
