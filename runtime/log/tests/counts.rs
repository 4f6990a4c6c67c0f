//! What an append, a sync and a read cost, in counts that no machine changes: allocations of this thread, and
//! calls and bytes that reach the storage. They may fall; when one grows, a hot path has got worse.

#![allow(unsafe_code, reason = "an allocator that counts is one that hands everything on")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_log::{Config, File, Log, MemoryStorage, Storage};
use millstream_protocol::{LeaderEpoch, Offset};
use support::{EPOCH, batch};

/// Counts what it hands on to the system's allocator: those of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate after its counter is gone.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Calls and bytes of one kind.
#[derive(Debug, Default)]
struct Calls {
    writes: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    read: AtomicU64,
    syncs: AtomicU64,
    /// Among the others.
    folder_syncs: AtomicU64,
    others: AtomicU64,
}

/// Memory that counts what is asked of it.
#[derive(Clone, Debug, Default)]
struct Counted {
    memory: MemoryStorage,
    calls: Arc<Calls>,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn File>,
    calls: Arc<Calls>,
}

impl Counted {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        self.other();
        Arc::new(CountedFile { file, calls: Arc::clone(&self.calls) })
    }

    fn other(&self) {
        self.calls.others.fetch_add(1, Ordering::Relaxed);
    }
}

impl Storage for Counted {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.memory.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.memory.create(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.other();
        self.memory.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.other();
        self.memory.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.other();
        self.memory.delete(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.other();
        self.calls.folder_syncs.fetch_add(1, Ordering::Relaxed);
        self.memory.sync_dir()
    }
}

impl File for CountedFile {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let read = self.file.read_at(at, len, into)?;
        self.calls.reads.fetch_add(1, Ordering::Relaxed);
        self.calls.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let written = self.file.write_at(parts, at)?;
        self.calls.writes.fetch_add(1, Ordering::Relaxed);
        self.calls.written.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn size(&self) -> io::Result<u64> {
        self.calls.others.fetch_add(1, Ordering::Relaxed);
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.calls.others.fetch_add(1, Ordering::Relaxed);
        self.file.truncate(size)
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        self.calls.others.fetch_add(1, Ordering::Relaxed);
        self.file.allocate(from, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.calls.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
}

/// What a piece of work cost: allocations, and calls to the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    allocations: u64,
    writes: u64,
    written: u64,
    reads: u64,
    read: u64,
    syncs: u64,
    others: u64,
}

fn cost<T>(calls: &Calls, work: impl FnOnce() -> T) -> (T, Cost) {
    let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let all = || {
        let files = [&calls.writes, &calls.written, &calls.reads, &calls.read, &calls.syncs, &calls.others].map(now);
        (ALLOCATIONS.with(Cell::get), files)
    };
    let before = all();
    let done = work();
    let after = all();
    let [writes, written, reads, read, syncs, others] = std::array::from_fn(|at| after.1[at] - before.1[at]);
    (done, Cost { allocations: after.0 - before.0, writes, written, reads, read, syncs, others })
}

/// A log that has seen all it sets up at first, and its storage's counts.
fn warm() -> (Log<Counted>, Arc<Calls>) {
    let storage = Counted::default();
    let calls = Arc::clone(&storage.calls);
    let mut log = Log::open(storage, Config::default(), 0).unwrap().0;
    let one = batch(1, &[1_000; 100]);
    for _ in 0..8 {
        log.append(std::slice::from_ref(&one), EPOCH, 0).unwrap();
    }
    let job = log.begin_sync().unwrap();
    log.finish_sync(job.run()).unwrap();
    (log, calls)
}

#[test]
fn an_append_is_one_write_of_exactly_its_bytes() {
    let check = |batches: usize, allocations: u64| {
        let (mut log, calls) = warm();
        let many = vec![batch(2, &[1_000; 100]); batches];
        let bytes: usize = many.iter().map(|(_, batch)| batch.len()).sum();
        let (_, cost) = cost(&calls, || log.append(&many, EPOCH, 0).unwrap());
        let expected = Cost { writes: 1, written: bytes as u64, reads: 0, read: 0, syncs: 0, others: 0, ..cost };
        assert_eq!(cost, expected, "{batches} batches");
        assert!(cost.allocations <= allocations, "{batches} batches: {cost:?}, at most {allocations} allocations");
    };
    // The places of the batches and the parts of the write; more batches of a write add the growth of scratch room.
    check(1, 3);
    check(20, 10);
}

#[test]
fn an_append_that_has_room_only_writes() {
    let small = Config { segment_bytes: 100_000, preallocate_bytes: 20_000, ..Config::default() };
    // Of `appends`, how often there is no room.
    let check = |config: &Config, appends: u64, (epochs, aged): (u64, u64), no_room: usize| {
        let storage = Counted::default();
        let calls = Arc::clone(&storage.calls);
        let mut log = Log::open(storage.clone(), config.clone(), 0).unwrap().0;
        log.append(std::slice::from_ref(&batch(0, &[1_000])), EPOCH, 0).unwrap();
        log.close().unwrap();
        let mut log = Log::open(storage, config.clone(), 0).unwrap().0;
        let mut found = 0;
        for i in 0..appends {
            let (epoch, now) = (LeaderEpoch(EPOCH.0 + (i / epochs) as i32), (i / aged) as i64 * config.segment_ms);
            let one = batch(i, &vec![1_000; 1 + (i * 7 % 40) as usize]);
            let room = log.has_room(one.1.len() as u64, epoch, now);
            let (_, cost) = cost(&calls, || log.append(std::slice::from_ref(&one), epoch, now).unwrap());
            let only_writes = (cost.writes, cost.reads, cost.syncs, cost.others) == (1, 0, 0, 0);
            assert_eq!(room, only_writes, "append {i}: {cost:?}");
            found += usize::from(!room);
        }
        assert_eq!(found, no_room);
    };
    // The first after a clean end says that it is one no more.
    check(&Config::default(), 100, (100, 100), 1);
    check(&Config::default(), 100, (50, 100), 2);
    check(&Config::default(), 100, (100, 50), 2);
    check(&Config { preallocate_bytes: 0, ..Config::default() }, 100, (100, 100), 1);
    // Two segments begin, and room is reserved nine times.
    check(&small, 400, (400, 400), 12);
}

#[test]
fn appends_share_one_sync() {
    let (mut log, calls) = warm();
    let one = batch(2, &[1_000; 10]);
    let (_, appended) = cost(&calls, || {
        for _ in 0..16 {
            log.append(std::slice::from_ref(&one), EPOCH, 0).unwrap();
        }
    });
    assert_eq!((appended.writes, appended.syncs), (16, 0));
    let (_, synced) = cost(&calls, || {
        let job = log.begin_sync().unwrap();
        log.finish_sync(job.run()).unwrap();
    });
    // The mark beside the log is opened and written, too, but synced only now and then.
    assert_eq!((synced.syncs, synced.writes, synced.others), (1, 1, 1), "{synced:?}");
    assert!(synced.allocations <= 4, "{synced:?}");
    assert!(log.begin_sync().is_none(), "nothing is left to sync");
}

#[test]
fn a_read_is_a_look_at_the_index_and_one_read_of_what_it_gives() {
    let (mut log, calls) = warm();
    let one = batch(2, &[1_000; 100]);
    for _ in 0..1_000 {
        log.append(std::slice::from_ref(&one), EPOCH, 0).unwrap();
    }
    let (reader, end) = (log.reader(), log.end_offset());
    let check = |offset: i64, bytes_max: usize| {
        let (bytes, cost) = cost(&calls, || reader.read(Offset(offset), bytes_max, end).unwrap());
        assert!(!bytes.is_empty());
        assert!(cost.reads <= 3 && cost.writes + cost.syncs + cost.others == 0, "{offset}: {cost:?}");
        // What is read beside the answer: headers on the way to the batch, and half a batch at the end.
        let beside = cost.read - bytes.len() as u64;
        assert!(beside <= (16 << 10) + one.1.len() as u64, "{offset}: {beside} bytes too many, {cost:?}");
        assert!(cost.allocations <= 4, "{offset}: {cost:?}");
    };
    check(0, 256 << 10);
    check(50_050, 256 << 10);
    check(50_050, 1);
    check(100_700, 1 << 20);
}

#[test]
fn opening_waits_for_the_disk_no_more_often_than_it_must() {
    let storage = Counted::default();
    let syncs = |storage: &Counted| {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (now(&storage.calls.syncs), now(&storage.calls.folder_syncs))
    };
    let mut before = syncs(&storage);
    let mut check = |what: &str, expected: (u64, u64)| {
        let (files, folders) = syncs(&storage);
        assert_eq!((files - before.0, folders - before.1), expected, "{what}");
        before = (files, folders);
    };
    let open = || Log::open(storage.clone(), Config::default(), 0).unwrap().0;
    let log = open();
    check("a new log: its checkpoint, and the folder with both names", (1, 1));
    drop(log);
    let mut log = open();
    check("one that nobody closed: the segment and the checkpoint again, and the folder", (2, 1));
    log.append(std::slice::from_ref(&batch(1, &[1_000; 10])), EPOCH, 0).unwrap();
    log.close().unwrap();
    check("an append and a closing: epochs, batches, indexes, producers, checkpoint", (6, 2));
    let log = open();
    check("one that was closed", (0, 0));
    log.close().unwrap();
    check("and closed again", (0, 0));
}
