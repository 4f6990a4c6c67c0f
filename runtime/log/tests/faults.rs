//! Disks that fill up and disks that fail; readers beside a busy writer.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and has its own threads")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use millstream_log::{Config, DiskStorage, Error, Log, MemoryStorage, Storage};
use millstream_protocol::Offset;
use millstream_protocol::batch::{check_batch, split_batches};
use support::{CHECKPOINT, EPOCH, Faulty, append, batch, fill, open, read_all, small, sync};

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    for room in (0..1_400).step_by(7) {
        let memory = MemoryStorage::new();
        let storage = Faulty::new(memory.clone());
        let mut log = open(storage.clone());
        fill(&mut log, 0..20, 2);
        storage.set_room(room);
        let mut tag = 20;
        // Several batches in one append: some of them may fit.
        while log.append(&[batch(tag, &[1, 2]), batch(tag + 1, &[3])], EPOCH, 0).is_ok() {
            tag += 2;
        }
        let error = log.append(&[batch(tag, &[1])], EPOCH, 0);
        assert!(matches!(error, Err(Error::DiskFull) | Ok(_)), "room {room}: {error:?}");
        let before = read_all(&log);
        assert_eq!(before.last().unwrap().0.next_offset(), log.end_offset());
        // What is there can be made durable and survives; nothing that was refused comes back.
        sync(&mut log);
        let left = memory.copy();
        let (reopened, recovery) = Log::open(left, small(), 0).unwrap();
        assert_eq!((read_all(&reopened), recovery.truncated_bytes), (before.clone(), 0), "room {room}");
        // Deleting makes room, and the log goes on.
        log.delete_records(Offset(30)).unwrap();
        storage.set_room(100_000);
        fill(&mut log, 50..60, 2);
        assert_eq!(read_all(&log).len(), 10 + before.iter().filter(|b| b.0.base_offset >= Offset(30)).count());
        drop(log);
        open(memory);
    }
}

#[test]
fn retention_works_on_a_full_disk() {
    let storage = Faulty::new(MemoryStorage::new());
    let config = Config { retention_ms: Some(10), ..small() };
    let (mut log, _) = Log::open(storage.clone(), config, 0).unwrap();
    fill(&mut log, 0..40, 2);
    storage.set_room(0);
    assert!(log.apply_retention(100).unwrap() > 0);
}

#[test]
fn a_failed_sync_fences_for_ever() {
    let storage = Faulty::new(MemoryStorage::new());
    let mut log = open(storage.clone());
    fill(&mut log, 0..5, 2);
    assert_eq!(sync(&mut log), Offset(10));
    fill(&mut log, 5..7, 2);
    storage.fail_syncs(true);
    let job = log.begin_sync().unwrap();
    // Appends go on meanwhile; the next sync waits.
    fill(&mut log, 7..8, 2);
    assert!(log.begin_sync().is_none());
    assert!(log.finish_sync(job.run()).is_err());
    storage.fail_syncs(false);
    let syncs = storage.syncs();
    let append = log.append(&[batch(9, &[1])], EPOCH, 0);
    assert!(matches!(append, Err(Error::Fenced { .. })), "{append:?}");
    assert!(log.begin_sync().is_none());
    assert!(matches!(log.delete_records(Offset(2)), Err(Error::Fenced { .. })));
    assert!(matches!(log.apply_retention(0), Err(Error::Fenced { .. })));
    assert_eq!((log.durable_end(), storage.syncs()), (Offset(10), syncs));
    // What was there is still served.
    assert_eq!(read_all(&log).len(), 8);
    assert!(matches!(log.close(), Err(Error::Fenced { .. })));
}

#[test]
fn what_is_not_in_the_page_cache_is_not_waited_for() {
    let storage = Faulty::new(MemoryStorage::new());
    let mut log = open(storage.clone());
    fill(&mut log, 0..40, 2);
    let (reader, end) = (log.reader(), log.end_offset());
    let first_of_active = log.end_offset().0 - 2;
    // As much of each file is cached; whether the batch at `offset` is read without waiting.
    let check = |cached: i64, offset: i64, expected: bool| {
        storage.set_cached(cached);
        let read = reader.read_cached(Offset(offset), 1, end).unwrap();
        assert_eq!(read.is_some(), expected, "{cached} bytes, offset {offset}");
        if let Some(read) = read {
            assert_eq!(read, reader.read(Offset(offset), 1, end).unwrap());
        }
    };
    // The segment that is written is open; of another nobody knows before it was read.
    check(i64::MAX, first_of_active, true);
    check(i64::MAX, 0, false);
    reader.read(Offset(0), 1, end).unwrap();
    check(i64::MAX, 0, true);
    // Nothing, a part of the header, a part of the batch.
    let len = reader.read(Offset(0), 1, end).unwrap().len() as i64;
    for cached in [0, 30, len - 1] {
        check(cached, 0, false);
    }
    check(len, 2, false);
    check(small().segment_bytes as i64, 2, true);
    assert!(reader.read_cached(end, 1, end).unwrap().expect("there is nothing to wait for").is_empty());
    let beyond = reader.read_cached(Offset(end.0 + 1), 1, end);
    assert!(matches!(beyond, Err(Error::OutOfRange { .. })), "{beyond:?}");
    // Nobody was misled: the index stays what it is.
    assert!(reader.take_mended().is_empty());
    // To make one again is for somebody who may wait.
    let index = storage.open("00000000000000000000.index").unwrap();
    let entries = usize::try_from(index.size().unwrap()).unwrap();
    index.write_at(&[std::io::IoSlice::new(&vec![0; entries])], 0).unwrap();
    check(i64::MAX, 6, false);
    assert!(reader.take_mended().is_empty());
    reader.read(Offset(6), 1, end).unwrap();
    assert_eq!(reader.take_mended().len(), 1);
    check(i64::MAX, 6, true);
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_tells_what_is_in_the_page_cache() {
    // Not in memory, where nothing ever leaves.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = DiskStorage::open(folder.path()).unwrap();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let file = storage.create("file").unwrap();
    file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
    file.sync_data().unwrap();
    let check = |at: u64, len: usize, expected: &[u8]| {
        let mut read = b"before ".to_vec();
        assert_eq!(file.read_cached_at(at, len, &mut read).unwrap(), expected.len());
        assert_eq!(read, [b"before ", expected].concat());
    };
    check(0, 1_000_000, &bytes);
    check(999_990, 1_000, &bytes[999_990..]);
    check(5_000_000, 10, &[]);
    check(7, 0, &[]);
    let own = std::fs::File::open(folder.path().join("file")).unwrap();
    rustix::fs::fadvise(&own, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut read = Vec::new();
    let refused = file.read_cached_at(500_000, 10, &mut read).map_err(|error| error.kind());
    assert_eq!((refused, read.len()), (Err(std::io::ErrorKind::WouldBlock), 0));
    file.read_at(500_000, 10, &mut read).unwrap();
    check(500_000, 10, &bytes[500_000..500_010]);
}

#[test]
fn a_sync_that_nobody_waits_for_goes_in_steps() {
    const STEP: u64 = 256 << 10;
    let storage = Faulty::new(MemoryStorage::new());
    let config = Config { segment_bytes: 3 << 20, ..small() };
    let (mut log, _) = Log::open(storage.clone(), config.clone(), 0).unwrap();
    let mut size = 0;
    let mut grow = |log: &mut Log<Faulty>, bytes: u64| {
        while size < bytes {
            let batch = batch(0, &[1; 2_000]);
            size += batch.1.len() as u64;
            append(log, &[batch]);
        }
        size
    };
    // Runs the sync, and gives what was written out before it.
    let sync = |log: &mut Log<Faulty>, waited_for: bool| {
        let mut job = log.begin_sync().unwrap();
        job.waited_for = waited_for;
        let before = storage.syncs();
        log.finish_sync(job.run()).unwrap();
        let steps = storage.take_written_out();
        assert!(steps.iter().all(|(_, syncs)| *syncs == before), "written out before the sync");
        steps.into_iter().map(|(range, _)| range).collect::<Vec<_>>()
    };
    let check = |steps: &[std::ops::Range<u64>], from: u64, to: u64| {
        assert_eq!((steps[0].start, steps.last().unwrap().end), (from, to));
        assert!(steps.windows(2).all(|pair| pair[0].end == pair[1].start), "{steps:?}");
        assert!(steps.iter().all(|step| !step.is_empty() && step.end - step.start <= STEP), "{steps:?}");
    };
    let first = grow(&mut log, 1 << 20);
    check(&sync(&mut log, false), 0, first);
    let second = grow(&mut log, 3 << 19);
    assert!(sync(&mut log, true).is_empty(), "whoever waits has it at once");
    let third = grow(&mut log, 2 << 20);
    check(&sync(&mut log, false), second, third);
    // The next segment begins at its own start.
    let end = grow(&mut log, 13 << 18);
    let steps = sync(&mut log, false);
    assert_eq!(steps[0].start, 0);
    assert!(steps.last().unwrap().end < end - third, "{steps:?}");
    // What a log begins with is on the disk.
    log.close().unwrap();
    let (mut log, _) = Log::open(storage.clone(), config, 0).unwrap();
    let size = steps.last().unwrap().end;
    append(&mut log, &[batch(0, &[1])]);
    let steps = sync(&mut log, false);
    assert_eq!(steps[0].start, size);
}

#[test]
fn group_commit_covers_what_was_appended_before_it() {
    let storage = Faulty::new(MemoryStorage::new());
    let mut log = open(storage);
    assert!(log.begin_sync().is_none());
    // Over several segments.
    fill(&mut log, 0..40, 2);
    let job = log.begin_sync().unwrap();
    assert_eq!(job.end(), Offset(80));
    fill(&mut log, 40..60, 2);
    let done = std::thread::spawn(|| job.run()).join().unwrap();
    assert_eq!(log.finish_sync(done).unwrap(), Offset(80));
    assert_eq!(log.durable_end(), Offset(80));
    assert_eq!(sync(&mut log), Offset(120));
    assert!(log.begin_sync().is_none());
}

#[test]
fn without_syncs_from_outside_files_do_not_pile_up() {
    let storage = Faulty::new(MemoryStorage::new());
    let mut log = open(storage.clone());
    let before = storage.syncs();
    fill(&mut log, 0..400, 2);
    assert!(log.describe().segments > 30);
    assert!(storage.syncs() > before + 60);
}

#[test]
fn a_failed_write_fences() {
    let storage = Faulty::new(MemoryStorage::new());
    let mut log = open(storage.clone());
    fill(&mut log, 0..5, 2);
    storage.fail_changes_after(0);
    assert!(log.append(&[batch(9, &[1])], EPOCH, 0).is_err());
    storage.fail_changes_after(1_000);
    assert!(matches!(log.append(&[batch(9, &[1])], EPOCH, 0), Err(Error::Fenced { .. })));
}

/// An `Io` error that leaves the log writable.
fn check_unfenced<T: std::fmt::Debug>(log: &Log<Faulty>, outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Io { .. })) && !log.is_fenced(), "{outcome:?}, {log:?}");
}

#[test]
fn a_checkpoint_that_cannot_be_opened_refuses_an_append_and_no_later_one() {
    let memory = MemoryStorage::new();
    let mut log = open(memory.clone());
    fill(&mut log, 0..5, 2);
    log.close().unwrap();
    let storage = Faulty::new(memory.clone());
    let (mut log, recovery) = Log::open(storage.clone(), small(), 0).unwrap();
    assert!(recovery.clean);
    storage.fail_opens(Some(CHECKPOINT));
    let files = || memory.list().unwrap().into_iter().map(|name| (memory.get(&name), name)).collect::<Vec<_>>();
    let (before, syncs) = (files(), storage.syncs());
    let refused = log.append(&[batch(9, &[1])], EPOCH, 0);
    check_unfenced(&log, refused);
    assert_eq!((files(), storage.syncs(), log.end_offset()), (before, syncs, Offset(10)), "something was written");
    storage.fail_opens(None);
    let closed = memory.get(CHECKPOINT);
    assert_eq!(append(&mut log, &[batch(9, &[1])]), Offset(10));
    assert_ne!(memory.get(CHECKPOINT), closed, "the flag of the clean end stays");
    drop(log);
    let (log, recovery) = Log::open(memory.copy(), small(), 0).unwrap();
    assert_eq!((recovery.clean, log.end_offset()), (false, Offset(11)));
}

/// The first append of a leader epoch takes note of it in a file.
#[test]
fn an_epoch_that_cannot_be_noted_refuses_an_append_and_no_later_one() {
    let storage = Faulty::new(MemoryStorage::new());
    let (mut log, _) = Log::open(storage.clone(), small(), 0).unwrap();
    storage.fail_opens(Some("leader-epochs"));
    let refused = log.append(&[batch(0, &[1])], EPOCH, 0);
    check_unfenced(&log, refused);
    storage.fail_opens(None);
    assert_eq!(append(&mut log, &[batch(0, &[1])]), Offset(0));
}

#[test]
fn a_checkpoint_that_cannot_be_opened_lags() {
    // With a mark that is due to be synced, and without.
    for mark_bytes in [0, u64::MAX] {
        let memory = MemoryStorage::new();
        let storage = Faulty::new(memory.clone());
        let config = Config { mark_bytes, ..small() };
        let (mut log, _) = Log::open(storage.clone(), config.clone(), 0).unwrap();
        fill(&mut log, 0..5, 2);
        assert_eq!(sync(&mut log), Offset(10));
        let marked = memory.get(CHECKPOINT);
        storage.fail_opens(Some(CHECKPOINT));
        fill(&mut log, 5..15, 2);
        assert_eq!(sync(&mut log), Offset(30));
        assert_eq!(memory.get(CHECKPOINT), marked);
        // What is beyond the mark is scanned.
        let (reopened, recovery) = Log::open(memory.copy(), config, 0).unwrap();
        assert_eq!((reopened.end_offset(), recovery.truncated_bytes), (Offset(30), 0));
        storage.fail_opens(None);
        fill(&mut log, 15..16, 2);
        assert_eq!(sync(&mut log), Offset(32));
        assert_ne!(memory.get(CHECKPOINT), marked);
    }
}

#[test]
fn files_that_cannot_be_opened_make_deletions_and_closing_fail_once() {
    // The producers' state before the new start, where it is in another segment; the checkpoint.
    for (file, before) in [(CHECKPOINT, Offset(2)), (CHECKPOINT, Offset(60)), (".snapshot", Offset(60))] {
        let memory = MemoryStorage::new();
        let storage = Faulty::new(memory.clone());
        let (mut log, _) = Log::open(storage.clone(), Config { retention_bytes: Some(2_000), ..small() }, 0).unwrap();
        fill(&mut log, 0..40, 2);
        sync(&mut log);
        let segments = log.describe().segments;
        storage.fail_opens(Some(file));
        let refused = log.delete_records(before);
        check_unfenced(&log, refused);
        let late = log.apply_retention(0);
        check_unfenced(&log, late);
        assert_eq!((log.start_offset(), log.describe().segments), (Offset(0), segments));
        fill(&mut log, 40..41, 2);
        storage.fail_opens(None);
        log.delete_records(before).unwrap();
        assert_eq!(log.start_offset(), before);
        assert_eq!(open(memory.copy()).start_offset(), before);
        log.apply_retention(0).unwrap();
        assert!(log.start_offset() >= before && log.describe().segments < segments);
        storage.fail_opens(Some(CHECKPOINT));
        assert!(matches!(log.close(), Err(Error::Io { .. })));
        let (log, recovery) = Log::open(memory.copy(), small(), 0).unwrap();
        assert_eq!((recovery.clean, log.end_offset()), (false, Offset(82)));
    }
}

#[test]
fn what_is_too_large_or_stale_is_refused() {
    let (mut log, _) = Log::open(MemoryStorage::new(), Config { batch_bytes_max: 200, ..small() }, 0).unwrap();
    append(&mut log, &[batch(1, &[1])]);
    let error = log.append(&[batch(1, &[1; 20])], EPOCH, 0);
    assert!(matches!(error, Err(Error::TooLarge { max: 200, .. })), "{error:?}");
    let error = log.append(&[batch(1, &[1])], millstream_protocol::LeaderEpoch(EPOCH.0 - 1), 0);
    assert!(matches!(error, Err(Error::StaleEpoch { .. })), "{error:?}");
    assert_eq!(log.end_offset(), Offset(1));
}

/// Readers run through the log again and again while it grows, rolls and loses its oldest segments.
#[test]
fn readers_follow_rolls_and_deletions() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { retention_bytes: Some(5_000), ..small() };
    let (mut log, _) = Log::open(DiskStorage::open(folder.path()).unwrap(), config, 0).unwrap();
    fill(&mut log, 0..10, 2);
    let end = Arc::new(AtomicI64::new(log.end_offset().0));
    let done = Arc::new(AtomicBool::new(false));
    let read = || {
        let (reader, end, done) = (log.reader(), Arc::clone(&end), Arc::clone(&done));
        std::thread::spawn(move || {
            let (mut next, mut seen) = (Offset(0), 0);
            while !done.load(Ordering::Acquire) || next.0 < end.load(Ordering::Acquire) {
                match reader.read(next, 700, Offset(end.load(Ordering::Acquire))) {
                    Ok(bytes) => {
                        for found in split_batches(&bytes) {
                            let (header, batch) = found.unwrap();
                            check_batch(&batch).unwrap();
                            assert_eq!(header.base_offset, next);
                            next = header.next_offset();
                            seen += 1;
                        }
                    }
                    Err(Error::OutOfRange { start, .. }) => next = start,
                    Err(e) => panic!("{e}"),
                }
                let found = reader.offset_for_timestamp(1_000 + next.0 / 2, next).unwrap();
                assert!(found.is_none_or(|found| found < next));
            }
            seen
        })
    };
    let readers = [read(), read()];
    for tag in 10..2_000 {
        fill(&mut log, tag..tag + 1, 2);
        end.store(log.end_offset().0, Ordering::Release);
        if tag % 20 == 0 {
            log.apply_retention(0).unwrap();
            sync(&mut log);
        }
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    assert!(log.start_offset() > Offset(3_000));
}
