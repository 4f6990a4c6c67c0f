//! What a log promises, over memory and over a real disk alike.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use millstream_log::{DiskStorage, Error, MemoryStorage, Storage};
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
    });
}
