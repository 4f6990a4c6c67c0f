//! What the log's tests share: batches, logs over any storage, and reading everything back.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use millstream_log::{Config, File, Log, MemoryStorage, Storage};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(7);
pub(crate) const CHECKPOINT: &str = "log-checkpoint";

/// A batch of records with these timestamps; values tell `tag` and their place.
pub(crate) fn batch(tag: u64, timestamps: &[i64]) -> (BatchHeader, Bytes) {
    build(tag, timestamps, None)
}

/// A batch of `records` of an idempotent producer.
pub(crate) fn sequenced(producer: i64, epoch: i16, sequence: i32, records: usize) -> (BatchHeader, Bytes) {
    build(u64::from(sequence.cast_unsigned()), &vec![1_000; records], Some((ProducerId(producer), epoch, sequence)))
}

fn build(tag: u64, timestamps: &[i64], producer: Option<(ProducerId, i16, i32)>) -> (BatchHeader, Bytes) {
    let mut builder = BatchBuilder::new(Compression::None);
    for (place, timestamp) in timestamps.iter().enumerate() {
        let value = format!("record {tag}/{place}");
        builder.push_simple(*timestamp, Some(format!("key {tag}").as_bytes()), Some(value.as_bytes()));
    }
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(id, epoch, sequence);
    }
    split_batches(&builder.build()).next().unwrap().unwrap()
}

/// Small segments, an index entry per batch or two.
pub(crate) fn small() -> Config {
    Config {
        segment_bytes: 1_000,
        index_interval_bytes: 100,
        retention_ms: None,
        preallocate_bytes: 256,
        ..Config::default()
    }
}

pub(crate) fn open<S: Storage>(storage: S) -> Log<S> {
    Log::open(storage, small(), 0).unwrap().0
}

pub(crate) fn append<S: Storage>(log: &mut Log<S>, batches: &[(BatchHeader, Bytes)]) -> Offset {
    log.append(batches, EPOCH, 0).unwrap().base_offset
}

/// Appends one batch of `records` for each tag.
pub(crate) fn fill<S: Storage>(log: &mut Log<S>, tags: Range<u64>, records: usize) {
    for tag in tags {
        append(log, &[batch(tag, &vec![1_000 + tag as i64; records])]);
    }
}

pub(crate) fn sync<S: Storage>(log: &mut Log<S>) -> Offset {
    match log.begin_sync() {
        Some(job) => log.finish_sync(job.run()).unwrap(),
        None => log.durable_end(),
    }
}

/// Every batch from the start to the end, read with a limit that makes several reads of it.
pub(crate) fn read_all<S: Storage>(log: &Log<S>) -> Vec<(BatchHeader, Bytes)> {
    let reader = log.reader();
    let mut all = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let bytes = reader.read(next, 300, log.end_offset()).unwrap();
        assert!(!bytes.is_empty(), "nothing at {next}, the end is {}", log.end_offset());
        for found in split_batches(&bytes) {
            let (header, batch) = found.unwrap();
            next = header.next_offset();
            all.push((header, batch));
        }
    }
    all
}

/// Storage that begins to fail on command, in front of another.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: MemoryStorage,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// Changes (writes, syncs, renames ...) that still succeed.
    changes: AtomicI64,
    /// Bytes that still fit on the disk.
    room: AtomicI64,
    /// Of each file, so many bytes are in the page cache.
    cached: AtomicI64,
    sync_fails: AtomicBool,
    syncs: AtomicI64,
    /// What was asked to be written out, and how many syncs there had been.
    written_out: Mutex<Vec<(Range<u64>, i64)>>,
    /// Files with this in their names can't be opened or created.
    unopenable: Mutex<Option<&'static str>>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn File>,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(crate) fn new(inner: MemoryStorage) -> Self {
        let faults = Faults {
            changes: AtomicI64::new(i64::MAX),
            room: AtomicI64::new(i64::MAX),
            cached: AtomicI64::new(i64::MAX),
            sync_fails: AtomicBool::new(false),
            syncs: AtomicI64::new(0),
            written_out: Mutex::default(),
            unopenable: Mutex::new(None),
        };
        Faulty { inner, faults: Arc::new(faults) }
    }

    pub(crate) fn fail_changes_after(&self, changes: i64) {
        self.faults.changes.store(changes, Ordering::Relaxed);
    }

    /// The disk takes `bytes` more.
    pub(crate) fn set_room(&self, bytes: i64) {
        self.faults.room.store(bytes, Ordering::Relaxed);
    }

    /// Of each file, the first `bytes` are in the page cache, and what comes behind is not.
    pub(crate) fn set_cached(&self, bytes: i64) {
        self.faults.cached.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.faults.sync_fails.store(fail, Ordering::Relaxed);
    }

    /// Opening or creating a file with `part` in its name fails, as without file descriptors; with `None` all can be
    /// opened again.
    pub(crate) fn fail_opens(&self, part: Option<&'static str>) {
        *self.faults.unopenable.lock().unwrap() = part;
    }

    /// Since it was asked last.
    pub(crate) fn take_written_out(&self) -> Vec<(Range<u64>, i64)> {
        std::mem::take(&mut *self.faults.written_out.lock().unwrap())
    }

    pub(crate) fn syncs(&self) -> i64 {
        self.faults.syncs.load(Ordering::Relaxed)
    }
}

impl Faults {
    fn change(&self) -> io::Result<()> {
        if self.changes.fetch_sub(1, Ordering::Relaxed) > 0 { Ok(()) } else { Err(io::Error::other("injected")) }
    }

    fn open(&self, name: &str) -> io::Result<()> {
        const EMFILE: i32 = 24;
        match *self.unopenable.lock().unwrap() {
            Some(part) if name.contains(part) => Err(io::Error::from_raw_os_error(EMFILE)),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.sync_fails.load(Ordering::Relaxed) { Err(io::Error::other("injected")) } else { self.change() }
    }
}

impl Faulty {
    fn file(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile { inner, faults: Arc::clone(&self.faults) })
    }
}

impl Storage for Faulty {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.faults.open(name)?;
        Ok(self.file(self.inner.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.faults.open(name)?;
        self.faults.change()?;
        Ok(self.file(self.inner.create(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.change()?;
        self.inner.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.faults.change()?;
        self.inner.delete(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.faults.sync()
    }
}

impl File for FaultyFile {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.inner.read_at(at, len, into)
    }

    fn read_cached_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let cached = self.faults.cached.load(Ordering::Relaxed).saturating_sub_unsigned(at);
        match self.inner.read_at(at, len.min(usize::try_from(cached).unwrap_or(0)), into)? {
            0 if at < self.inner.size()? => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }

    /// Writes what fits, as a disk does that fills up.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.faults.change()?;
        let size = self.inner.size()?;
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let grows = (at + whole.len() as u64).saturating_sub(size) as i64;
        let room = self.faults.room.load(Ordering::Relaxed).max(0);
        let fits = if grows <= room { whole.len() } else { whole.len() - (grows - room) as usize };
        self.faults.room.fetch_sub(grows.min(room), Ordering::Relaxed);
        if fits == 0 && !whole.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_at(&[IoSlice::new(&whole[..fits])], at)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.faults.change()?;
        let freed = self.inner.size()?.saturating_sub(size) as i64;
        let room = &self.faults.room;
        let _ = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| Some(room.saturating_add(freed)));
        self.inner.truncate(size)
    }

    fn allocate(&self, _from: u64, len: u64) -> io::Result<()> {
        let full = self.faults.room.load(Ordering::Relaxed) < len as i64;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn write_out(&self, range: Range<u64>) {
        self.faults.written_out.lock().unwrap().push((range, self.faults.syncs.load(Ordering::Relaxed)));
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.sync()
    }
}
