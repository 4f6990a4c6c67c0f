//! A crash may leave any prefix of what wasn't synced; bad luck may change any byte of what was. The first
//! is cut to whole batches, the second is refused or noticed, and neither is ever served.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use millstream_log::{Error, Log, MemoryStorage, Storage};
use millstream_protocol::batch::{BatchHeader, split_batches};
use millstream_protocol::{LeaderEpoch, Offset};
use support::{append, batch, fill, open, read_all, small, sync};

type Batches = Vec<(BatchHeader, Bytes)>;

/// All files, to see whether anything was changed.
fn files(storage: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    storage.list().unwrap().into_iter().map(|name| (name.clone(), storage.get(&name).unwrap())).collect()
}

fn logs(storage: &MemoryStorage) -> Vec<String> {
    storage.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// A log of several segments and leader epochs, dropped without closing it, synced after `synced` of its batches.
fn written(batches: u64, synced: u64) -> (MemoryStorage, Batches) {
    let storage = MemoryStorage::new();
    let mut log = open(storage.clone());
    for tag in 0..batches {
        if tag == synced {
            sync(&mut log);
        }
        let epoch = LeaderEpoch(if tag < batches / 2 { 2 } else { 5 });
        log.append(&[batch(tag, &[tag as i64, 3])], epoch, 0).unwrap();
    }
    if synced == batches {
        sync(&mut log);
    }
    let all = read_all(&log);
    (storage, all)
}

/// Opens what a crash left and checks that it is a prefix of `all` with at least `kept` batches, that the
/// rest was reported, that the log goes on, and that the next opening finds the same.
fn check_prefix(left: &MemoryStorage, all: &Batches, kept: usize, what: &str) {
    let bytes_before: usize = logs(left).iter().map(|name| left.get(name).unwrap().len()).sum();
    let (mut log, recovery) = Log::open(left.clone(), small(), 0).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = read_all(&log);
    assert!(found.len() >= kept, "{what}: {} batches of {kept} synced ones", found.len());
    assert_eq!(found[..], all[..found.len()], "{what}");
    let bytes: usize = found.iter().map(|(_, batch)| batch.len()).sum();
    assert_eq!(recovery.truncated_bytes as usize, bytes_before - bytes, "{what}");
    assert_eq!(recovery.truncated_at.is_some(), recovery.truncated_bytes > 0 || recovery.truncated_at.is_some());
    let epoch = LeaderEpoch(9);
    let placed = log.append(&[batch(77, &[1])], epoch, 0).unwrap();
    assert_eq!(placed.base_offset, found.last().map_or(Offset(0), |(header, _)| header.next_offset()), "{what}");
    let expected = read_all(&log);
    drop(log);
    let (log, recovery) = Log::open(left.clone(), small(), 0).unwrap();
    assert_eq!((recovery.truncated_bytes, read_all(&log)), (0, expected), "{what}");
}

#[test]
fn cut_at_any_byte_recovers_to_whole_batches() {
    let (storage, all) = written(24, u64::MAX);
    let names = logs(&storage);
    assert!(names.len() > 2);
    for (at, name) in names.iter().enumerate() {
        let bytes = storage.get(name).unwrap();
        for cut in 0..bytes.len() {
            let before: usize = names[..at].iter().map(|name| storage.get(name).unwrap().len()).sum();
            let mut whole = 0;
            let mut end = 0;
            for (_, batch) in &all {
                end += batch.len();
                whole += usize::from(end <= before + cut);
            }
            // Later segments lost, or there in spite of the gap.
            for keep_later in [false, true] {
                let left = storage.copy();
                left.put(name, bytes[..cut].to_vec());
                for later in names[at + 1..].iter().filter(|_| !keep_later) {
                    left.delete(later).unwrap();
                }
                let what = format!("{name} cut at {cut}, later segments kept: {keep_later}");
                check_prefix(&left, &all, whole, &what);
            }
        }
    }
}

#[test]
fn garbage_behind_the_synced_part_is_cut() {
    for (synced, garbage) in [(0, vec![0; 100]), (24, vec![0xff; 61]), (10, b"\0\0\0\0\0\0\0\x30junk".to_vec())] {
        let (storage, all) = written(24, synced);
        let last = logs(&storage).pop().unwrap();
        let mut bytes = storage.get(&last).unwrap();
        bytes.extend_from_slice(&garbage);
        storage.put(&last, bytes);
        check_prefix(&storage, &all, all.len(), &format!("garbage after {synced} synced batches"));
    }
}

#[test]
fn a_cut_below_the_mark_is_refused_and_nothing_is_changed() {
    let (storage, all) = written(24, 24);
    for name in logs(&storage) {
        let bytes = storage.get(&name).unwrap();
        for cut in 0..bytes.len() {
            let left = storage.copy();
            left.put(&name, bytes[..cut].to_vec());
            check_refused(&left, &name);
        }
        let left = storage.copy();
        left.delete(&name).unwrap();
        assert!(matches!(Log::open(left.clone(), small(), 0), Err(Error::Corrupt { .. })), "{name} lost");
    }
    // Some of the batches synced: everything up to there is kept, what follows may be cut.
    let (storage, _) = written(24, 20);
    let last = logs(&storage).pop().unwrap();
    let bytes = storage.get(&last).unwrap();
    for cut in 0..bytes.len() {
        let left = storage.copy();
        left.put(&last, bytes[..cut].to_vec());
        match Log::open(left.copy(), small(), 0) {
            Ok(_) => check_prefix(&left, &all, 20, &format!("cut at {cut}")),
            Err(_) => check_refused(&left, &last),
        }
    }
}

fn check_refused(left: &MemoryStorage, name: &str) {
    let before = files(left);
    match Log::open(left.clone(), small(), 0) {
        Err(Error::Corrupt { file, .. }) => assert_eq!(file, name),
        other => panic!("{name}: {other:?}"),
    }
    assert_eq!(files(left), before, "{name}: something was changed");
}

/// Reads everything; `None` when damage was noticed on the way, which must be before any wrong byte.
fn read_checked(log: &Log<MemoryStorage>, all: &Batches) -> Option<()> {
    let reader = log.reader();
    for (header, batch) in all {
        for offset in [header.base_offset, header.last_offset()] {
            match reader.read(offset, 1, log.end_offset()) {
                Ok(bytes) => assert_eq!(bytes, batch),
                Err(Error::Corrupt { .. }) => return None,
                Err(e) => panic!("{e}"),
            }
        }
    }
    Some(())
}

/// What became of a log in which one byte was flipped.
fn check_flip(left: &MemoryStorage, name: &str, all: &Batches) -> bool {
    let before = files(left);
    match Log::open(left.clone(), small(), 0) {
        Ok((log, _)) => {
            assert_eq!(log.end_offset(), all.last().unwrap().0.next_offset(), "{name}: cut silently");
            read_checked(&log, all).is_none()
        }
        Err(Error::Corrupt { .. }) => {
            assert_eq!(files(left), before, "{name}: something was changed");
            true
        }
        Err(e) => panic!("{name}: {e}"),
    }
}

#[test]
fn any_flipped_byte_below_the_mark_is_noticed() {
    for clean in [false, true] {
        let (storage, all) = written(24, 24);
        if clean {
            open(storage.clone()).close().unwrap();
        }
        for (name, bytes) in files(&storage) {
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                let left = storage.copy();
                left.put(&name, flipped);
                let noticed = check_flip(&left, &name, &all);
                // Other files only help; whatever they say, what is served is right.
                assert!(noticed || !name.ends_with(".log"), "{name}: byte {at} flipped, clean {clean}, not noticed");
            }
        }
    }
}

#[test]
fn every_helping_file_may_be_lost() {
    for clean in [false, true] {
        let (storage, all) = written(24, 24);
        if clean {
            open(storage.clone()).close().unwrap();
        }
        for (name, bytes) in files(&storage).into_iter().filter(|(name, _)| !name.ends_with(".log")) {
            for left_of_it in [None, Some(0), Some(bytes.len() / 2)] {
                let left = storage.copy();
                match left_of_it {
                    None => left.delete(&name).unwrap(),
                    Some(length) => left.put(&name, bytes[..length].to_vec()),
                }
                check_prefix(&left, &all, all.len(), &format!("{name} cut to {left_of_it:?}"));
            }
        }
    }
}

#[test]
fn a_log_without_a_checkpoint_is_taken_whole_or_not_at_all() {
    let (storage, all) = written(24, 24);
    storage.delete("log-checkpoint").unwrap();
    check_prefix(&storage.copy(), &all, all.len(), "whole");
    let last = logs(&storage).pop().unwrap();
    let mut bytes = storage.get(&last).unwrap();
    bytes.pop();
    storage.put(&last, bytes);
    check_refused(&storage, &last);
}

#[test]
fn recovery_may_itself_be_interrupted_at_any_step() {
    let (storage, all) = written(24, 4);
    let names = logs(&storage);
    let torn = storage.get(&names[1]).unwrap();
    storage.put(&names[1], torn[..torn.len() - 1].to_vec());
    for steps in 0..30 {
        let left = storage.copy();
        let faulty = support::Faulty::new(left.clone());
        faulty.fail_changes_after(steps);
        let _ = Log::open(faulty, small(), 0);
        let (log, _) = Log::open(left, small(), 0).unwrap();
        let found = read_all(&log);
        assert!(found.len() >= 4);
        assert_eq!(found[..], all[..found.len()], "after {steps} steps");
    }
}

#[test]
fn segments_and_positions_are_named() {
    let storage = MemoryStorage::new();
    let mut log = open(storage.clone());
    append(&mut log, &[batch(1, &[1])]);
    append(&mut log, &[batch(2, &[1])]);
    sync(&mut log);
    fill(&mut log, 3..4, 1);
    drop(log);
    let name = "00000000000000000000.log";
    let mut bytes = storage.get(name).unwrap();
    let second = bytes.len() / 3;
    bytes[second + 70] ^= 1;
    storage.put(name, bytes);
    let error = Log::open(storage, small(), 0).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{name}: damaged at byte {second}: checksum mismatch")), "{error}");
}

#[test]
fn a_header_that_rots_does_not_make_its_own_index() {
    let (storage, _) = written(40, 40);
    let name = &logs(&storage)[0];
    let mut bytes = storage.get(name).unwrap();
    let batches = split_batches(&Bytes::from(bytes.clone())).map(|split| split.unwrap().1.len()).collect::<Vec<_>>();
    let last: usize = batches[..batches.len() - 1].iter().sum();
    // The largest timestamp of the segment's last batch, which the time index names, becomes older than the others.
    bytes[last + 35..last + 43].copy_from_slice(&0_i64.to_be_bytes());
    storage.put(name, bytes);
    check_refused(&storage, name);
}
