//! The two sparse indexes of a segment, in Kafka's layouts (big-endian):
//!
//! ```text
//! .index      u32 offset - base | u32 position        offset: the last one of the batch at position
//! .timeindex  i64 timestamp | u32 offset - base       timestamp: the largest up to here; offset: the last
//!                                                     one of the batch that has it
//! ```
//!
//! The active segment's live in memory and are written when it is closed; those of closed segments are
//! searched in their files. Indexes are hints: whoever follows one checks what is there, and a bad index
//! only costs time.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, mutant};

use crate::names::Kind;
use crate::storage::{File, Storage, read_file, read_full_at, write_all_at};

pub(crate) const OFFSET_ENTRY_LEN: usize = 8;
pub(crate) const TIME_ENTRY_LEN: usize = 12;

/// A batch's last offset and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) last_offset: Offset,
    pub(crate) position: u64,
}

/// The largest timestamp so far and the last offset of the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) last_offset: Offset,
}

impl TimeEntry {
    /// Whether this is an entry for that batch.
    pub(crate) fn names(&self, header: &BatchHeader) -> bool {
        (self.timestamp, self.last_offset) == (header.max_timestamp, header.last_offset())
    }
}

/// Items that one thread appends while any number read, without locks. `W` words each.
#[derive(Debug)]
struct Growing<const W: usize> {
    chunks: ArcSwap<Vec<Arc<Chunk<W>>>>,
    /// Items that may be read.
    len: AtomicUsize,
}

type Chunk<const W: usize> = [[AtomicU64; W]; CHUNK_LEN];
const CHUNK_LEN: usize = 256;

impl<const W: usize> Growing<W> {
    fn new() -> Self {
        Growing { chunks: ArcSwap::from_pointee(Vec::new()), len: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Only the owner of the log calls this.
    fn push(&self, item: [u64; W]) {
        let at = self.len.load(Ordering::Relaxed);
        if at.is_multiple_of(CHUNK_LEN) {
            let mut chunks = Vec::clone(&self.chunks.load());
            chunks.push(Arc::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)))));
            self.chunks.store(Arc::new(chunks));
        }
        let chunks = self.chunks.load();
        for (word, value) in chunks[at / CHUNK_LEN][at % CHUNK_LEN].iter().zip(item) {
            word.store(value, Ordering::Relaxed);
        }
        self.len.store(at + 1, Ordering::Release);
    }

    fn get(&self, at: usize) -> [u64; W] {
        let chunks = self.chunks.load();
        let words = &chunks[at / CHUNK_LEN][at % CHUNK_LEN];
        std::array::from_fn(|word| words[word].load(Ordering::Relaxed))
    }
}

/// The indexes of the segment that is being written.
#[derive(Debug)]
pub(crate) struct LiveIndex {
    base: Offset,
    offsets: Growing<1>,
    times: Growing<2>,
}

impl LiveIndex {
    pub(crate) fn new(base: Offset) -> Self {
        LiveIndex { base, offsets: Growing::new(), times: Growing::new() }
    }

    /// Takes over the files of a closed log. `None` when they can't be indexes.
    pub(crate) fn load(storage: &dyn Storage, base: Offset) -> io::Result<Option<Self>> {
        let offsets = read_file(storage, &Kind::Index.name(base))?;
        let times = read_file(storage, &Kind::TimeIndex.name(base))?;
        let (Some(offsets), Some(times)) = (offsets, times) else { return Ok(None) };
        if !offsets.len().is_multiple_of(OFFSET_ENTRY_LEN) || !times.len().is_multiple_of(TIME_ENTRY_LEN) {
            return Ok(None);
        }
        let index = LiveIndex::new(base);
        for entry in offsets.chunks_exact(OFFSET_ENTRY_LEN) {
            index.offsets.push([u64::from_be_bytes(*entry.first_chunk().expect("an entry has 8 bytes"))]);
        }
        for entry in times.chunks_exact(TIME_ENTRY_LEN) {
            let timestamp = u64::from_be_bytes(*entry.first_chunk().expect("an entry has 12 bytes"));
            let relative = u32::from_be_bytes(*entry[8..].first_chunk().expect("an entry has 12 bytes"));
            index.times.push([timestamp, u64::from(relative)]);
        }
        Ok(Some(index))
    }

    pub(crate) fn last(&self) -> (Option<OffsetEntry>, Option<TimeEntry>) {
        let offset = self.offsets.len().checked_sub(1).map(|at| self.offset_entry(at));
        (offset, self.times.len().checked_sub(1).map(|at| self.time_entry(at)))
    }

    pub(crate) fn push_offset(&self, entry: OffsetEntry) {
        let relative = relative(self.base, entry.last_offset);
        let position = u32::try_from(entry.position).expect("a segment's positions fit 32 bits");
        self.offsets.push([u64::from(relative) << 32 | u64::from(position)]);
    }

    pub(crate) fn push_time(&self, entry: TimeEntry) {
        self.times.push([entry.timestamp.cast_unsigned(), u64::from(relative(self.base, entry.last_offset))]);
    }

    fn offset_entry(&self, at: usize) -> OffsetEntry {
        let [packed] = self.offsets.get(at);
        OffsetEntry { last_offset: self.base + (packed >> 32) as i64, position: packed & 0xffff_ffff }
    }

    fn time_entry(&self, at: usize) -> TimeEntry {
        let [timestamp, relative] = self.times.get(at);
        TimeEntry { timestamp: timestamp.cast_signed(), last_offset: self.base + relative as i64 }
    }

    /// The last entry at or before `offset`.
    pub(crate) fn lookup(&self, offset: Offset) -> Option<OffsetEntry> {
        let found = last_where(self.offsets.len(), |at| Ok(self.offset_entry(at).last_offset <= offset));
        found.expect("memory does not fail").map(|at| self.offset_entry(at))
    }

    /// The last entry with a timestamp before `timestamp`.
    pub(crate) fn lookup_time(&self, timestamp: i64) -> Option<TimeEntry> {
        let found = last_where(self.times.len(), |at| Ok(self.time_entry(at).timestamp < timestamp));
        found.expect("memory does not fail").map(|at| self.time_entry(at))
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// The contents of both files.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut offsets = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_LEN);
        for at in 0..self.offsets.len() {
            let [packed] = self.offsets.get(at);
            offsets.extend_from_slice(&packed.to_be_bytes());
        }
        let mut times = Vec::with_capacity(self.times.len() * TIME_ENTRY_LEN);
        for at in 0..self.times.len() {
            let [timestamp, relative] = self.times.get(at);
            times.extend_from_slice(&timestamp.to_be_bytes());
            times.extend_from_slice(&(relative as u32).to_be_bytes());
        }
        (offsets, times)
    }

    /// Writes both files whole and gives them back for a sync.
    pub(crate) fn write(&self, storage: &dyn Storage) -> io::Result<[Arc<dyn File>; 2]> {
        let (offsets, times) = self.encode();
        let put = |kind: Kind, bytes: &[u8]| {
            let file = storage.create(&kind.name(self.base))?;
            write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
            Ok::<_, io::Error>(file)
        };
        Ok([put(Kind::Index, &offsets)?, put(Kind::TimeIndex, &times)?])
    }
}

fn relative(base: Offset, offset: Offset) -> u32 {
    u32::try_from(offset - base).expect("a segment holds at most 2^31 offsets")
}

/// Decides when an entry is due. Owned by whoever appends or scans.
#[derive(Clone, Debug)]
pub(crate) struct Indexer {
    interval: u64,
    since_entry: u64,
    /// Largest timestamp so far.
    pub(crate) largest: TimeEntry,
    /// Timestamp of the last time entry.
    indexed: i64,
}

impl Indexer {
    pub(crate) fn new(base: Offset, interval: u64) -> Self {
        let none = TimeEntry { timestamp: NO_TIMESTAMP, last_offset: base };
        Indexer { interval, since_entry: 0, largest: none, indexed: NO_TIMESTAMP }
    }

    /// Goes on after the entries of an index, whose last ones are these.
    pub(crate) fn resume(base: Offset, interval: u64, last: Option<TimeEntry>) -> Self {
        let mut indexer = Indexer::new(base, interval);
        if let Some(last) = last {
            (indexer.largest, indexer.indexed) = (last, last.timestamp);
        }
        indexer
    }

    /// Takes note of a batch whose header already has its place in the log.
    pub(crate) fn note(&mut self, index: &LiveIndex, header: &BatchHeader, position: u64) {
        if header.max_timestamp > self.largest.timestamp {
            self.largest = TimeEntry { timestamp: header.max_timestamp, last_offset: header.last_offset() };
        }
        if self.since_entry > self.interval {
            let position = if mutant!("index-entry-wrong") { position.saturating_sub(1) } else { position };
            index.push_offset(OffsetEntry { last_offset: header.last_offset(), position });
            self.finish(index);
            self.since_entry = 0;
        }
        self.since_entry += header.total_len() as u64;
    }

    /// Writes the largest timestamp, as Kafka does before it closes a segment.
    pub(crate) fn finish(&mut self, index: &LiveIndex) {
        if self.largest.timestamp > self.indexed {
            index.push_time(self.largest);
            self.indexed = self.largest.timestamp;
        }
    }
}

/// What a segment without records has as its largest timestamp.
pub(crate) const NO_TIMESTAMP: i64 = -1;

/// An index file of a closed segment.
pub(crate) struct FileIndex {
    file: Arc<dyn File>,
    base: Offset,
    entry_len: usize,
    len: usize,
}

impl FileIndex {
    /// `NotFound` when there is none, `InvalidData` when it can't be one.
    pub(crate) fn open(storage: &dyn Storage, kind: Kind, base: Offset) -> io::Result<Self> {
        let entry_len = if kind == Kind::Index { OFFSET_ENTRY_LEN } else { TIME_ENTRY_LEN };
        let file = storage.open(&kind.name(base))?;
        let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::InvalidData)?;
        if !size.is_multiple_of(entry_len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(FileIndex { file, base, entry_len, len: size / entry_len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Byte at which an entry begins.
    pub(crate) fn position(&self, at: usize) -> u64 {
        (at * self.entry_len) as u64
    }

    fn entry(&self, at: usize) -> io::Result<[u8; TIME_ENTRY_LEN]> {
        let mut bytes = Vec::with_capacity(TIME_ENTRY_LEN);
        read_full_at(&*self.file, (at * self.entry_len) as u64, self.entry_len, &mut bytes)?;
        bytes.resize(TIME_ENTRY_LEN, 0);
        Ok(bytes.try_into().expect("resized to this length"))
    }

    pub(crate) fn offset_entry(&self, at: usize) -> io::Result<OffsetEntry> {
        let entry = self.entry(at)?;
        let relative = u32::from_be_bytes(*entry.first_chunk().expect("an entry has 8 bytes"));
        let position = u32::from_be_bytes(*entry[4..].first_chunk().expect("an entry has 8 bytes"));
        Ok(OffsetEntry { last_offset: self.base + i64::from(relative), position: u64::from(position) })
    }

    pub(crate) fn time_entry(&self, at: usize) -> io::Result<TimeEntry> {
        let entry = self.entry(at)?;
        let timestamp = i64::from_be_bytes(*entry.first_chunk().expect("an entry has 12 bytes"));
        let relative = u32::from_be_bytes(*entry[8..].first_chunk().expect("an entry has 12 bytes"));
        Ok(TimeEntry { timestamp, last_offset: self.base + i64::from(relative) })
    }

    /// As [`LiveIndex::lookup`].
    pub(crate) fn lookup(&self, offset: Offset) -> io::Result<Option<OffsetEntry>> {
        let found = last_where(self.len, |at| Ok(self.offset_entry(at)?.last_offset <= offset))?;
        found.map(|at| self.offset_entry(at)).transpose()
    }

    /// As [`LiveIndex::lookup_time`].
    pub(crate) fn lookup_time(&self, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        let found = last_where(self.len, |at| Ok(self.time_entry(at)?.timestamp < timestamp))?;
        found.map(|at| self.time_entry(at)).transpose()
    }
}

/// The last of `len` ascending items that satisfies what the first ones do.
fn last_where(len: usize, mut satisfies: impl FnMut(usize) -> io::Result<bool>) -> io::Result<Option<usize>> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = usize::midpoint(low, high);
        if satisfies(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low.checked_sub(1))
}
