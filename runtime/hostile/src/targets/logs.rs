//! A log's files as a disk gives them back: everything beside the segments, which is only ever a hint or a
//! checksummed mark, and the segments themselves.

use std::sync::LazyLock;

use bytes::Bytes;
use millstream_log::{Config, Log, MemoryStorage, Storage};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, check_batch, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId};

use super::Target;
use crate::allocation::bounded;

const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// Bytes that opening and reading a log take beside a multiple of the input: the files of the pristine log.
const LOG_ALLOWANCE: usize = 256 << 10;

pub(super) const INDEXES: Target = Target {
    name: "indexes",
    run: indexes,
    words: &[b"\0\0\0\0", b"\xff\xff\xff\xff", b"MSCK\0\x01", b"MSPS\0\x01"],
    bytes_max: 16 << 10,
    seeds: index_seeds,
};

pub(super) const RECOVERY: Target = Target {
    name: "recovery",
    run: recovery,
    words: &[b"\0\0\0\0\0\0\0\0", b"\x02", b"\xff\xff\xff\xff\xff\xff\xff\xff"],
    bytes_max: 16 << 10,
    seeds: recovery_seeds,
};

fn config() -> Config {
    Config {
        segment_bytes: 1_000,
        index_interval_bytes: 100,
        retention_ms: None,
        preallocate_bytes: 0,
        decompressed_bytes_max: 64 << 10,
        ..Config::default()
    }
}

type Batches = Vec<(BatchHeader, Bytes)>;

/// A log of several segments, as it was closed, and what is in it.
struct Pristine {
    storage: MemoryStorage,
    batches: Batches,
}

static PRISTINE: LazyLock<Pristine> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    let (mut log, _) = Log::open(storage.clone(), config(), 0).expect("an empty folder opens");
    for tag in 0..24_i64 {
        let mut builder = BatchBuilder::new(if tag % 5 == 4 { Compression::Lz4 } else { Compression::None });
        for place in 0..3 {
            builder.push_simple(
                1_000 + tag * 10 + place,
                Some(b"key"),
                Some(format!("record {tag}/{place}").as_bytes()),
            );
        }
        if tag % 2 == 0 {
            builder.set_producer(ProducerId(7), 0, (tag / 2 * 3) as i32);
        }
        let batch = split_batches(&builder.build()).next().and_then(Result::ok).expect("one batch just made");
        log.append(&[batch], EPOCH, 1_000 + tag).expect("memory takes it");
        if let Some(job) = log.begin_sync() {
            log.finish_sync(job.run()).expect("memory syncs");
        }
    }
    let batches = read_all(&log).expect("what was just written");
    log.close().expect("memory closes");
    Pristine { storage, batches }
});

fn read_all(log: &Log<MemoryStorage>) -> Result<Batches, millstream_log::Error> {
    let reader = log.reader();
    let mut all = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let bytes = reader.read(next, 300, log.end_offset())?;
        assert!(!bytes.is_empty(), "nothing at {next}, the end is {}", log.end_offset());
        for found in split_batches(&bytes) {
            let (header, batch) = found.expect("reads give whole batches");
            check_batch(&batch).expect("reads give whole batches");
            assert!(header.next_offset() > next, "reads go on");
            next = header.next_offset();
            all.push((header, batch));
        }
    }
    Ok(all)
}

fn names(storage: &MemoryStorage) -> Vec<String> {
    storage.list().expect("memory lists")
}

/// Names of the pristine log's files that are not segments.
fn side_files() -> Vec<String> {
    let mut names = names(&PRISTINE.storage);
    names.retain(|name| !name.ends_with(".log"));
    names
}

/// The first byte chooses a file beside the segments, the rest are its contents. Whatever they are, the log opens
/// and reads as it was written, or it refuses; it never reads as something else.
fn indexes(data: &[u8]) {
    let Some((choice, contents)) = data.split_first() else { return };
    let names = side_files();
    let name = &names[usize::from(*choice & 0x7f) % names.len()];
    let mut contents = contents.to_vec();
    let storage = PRISTINE.storage.copy();
    if choice & 0x80 != 0 {
        seal(name, &mut contents);
        storage.put(name, contents);
        lies(data.len(), &storage);
        return;
    }
    let believed = is_cut_short(name, &contents);
    storage.put(name, contents);
    let hint = name.ends_with("index") || name.ends_with("snapshot");
    bounded(data.len(), LOG_ALLOWANCE, || {
        let (log, _) = match Log::open(storage.clone(), config(), 2_000) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(!hint, "{name} is only a hint, and yet: {error}");
                return;
            }
        };
        let read = read_all(&log).unwrap_or_else(|error| panic!("{name}: {error}"));
        let kept = PRISTINE.batches.len() - read.len();
        assert_eq!(read[..], PRISTINE.batches[kept..], "{name}");
        assert!(kept == 0 || !hint, "{name} is only a hint, and yet records are gone");
        for (at, (header, _)) in read.iter().enumerate().filter(|_| !believed) {
            let found = log.reader().offset_for_timestamp(header.base_timestamp, log.end_offset());
            let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found, Some(header.base_offset), "{name}: batch {at} by its time");
        }
    });
}

/// Whether this is a time index that ends with a right entry which is not the last one. Nothing in it tells that more
/// should follow, so lookups by time may miss the segment.
fn is_cut_short(name: &str, contents: &[u8]) -> bool {
    let whole = PRISTINE.storage.get(name).expect("a file just listed");
    let entries = |bytes: &[u8]| bytes.chunks(12).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (entries, whole) = (entries(contents), entries(&whole));
    name.ends_with("timeindex")
        && entries.last() != whole.last()
        && entries.last().is_some_and(|last| whole.contains(last))
}

/// Files whose checksums are right and whose contents need not be: no promise holds but that nothing breaks.
fn lies(input_bytes: usize, storage: &MemoryStorage) {
    bounded(input_bytes, LOG_ALLOWANCE, || {
        let Ok((log, _)) = Log::open(storage.clone(), config(), 2_000) else { return };
        let reader = log.reader();
        for offset in [log.start_offset(), log.end_offset(), Offset::ZERO, Offset(40), Offset(i64::MAX)] {
            // Either is right for a folder that nobody wrote.
            let _ = (reader.read(offset, 300, log.end_offset()), reader.offset_for_timestamp(offset.0, offset));
        }
        let _ = log.close();
    });
}

/// Makes the checksums right of what may be a checkpoint, a snapshot or a list of epochs.
fn seal(name: &str, contents: &mut [u8]) {
    let mut sum = |from: usize, until: usize| {
        if let Some(part) = contents.get_mut(from..until + 4) {
            let (summed, sum) = part.split_at_mut(until - from);
            sum.copy_from_slice(&crc32c::crc32c(summed).to_be_bytes());
        }
    };
    if name == "log-checkpoint" {
        sum(0, 48);
        sum(4096, 4096 + 48);
        return;
    }
    if name.ends_with("snapshot") {
        sum(0, 22);
    }
    if let Some(until) = contents.len().checked_sub(4) {
        let crc = crc32c::crc32c(&contents[..until]);
        contents[until..].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The first byte says how much of the pristine log stands before the bytes: 0 to 7 whole segments, then none; its
/// high bit whether the checkpoint stays. The rest is the next segment's file.
fn recovery(data: &[u8]) {
    let Some((choice, contents)) = data.split_first() else { return };
    let mut segments: Vec<String> =
        names(&PRISTINE.storage).into_iter().filter(|name| name.ends_with(".log")).collect();
    segments.sort();
    let kept = usize::from(choice & 7).min(segments.len() - 1);
    let storage = MemoryStorage::new();
    for name in &segments[..kept] {
        storage.put(name, PRISTINE.storage.get(name).expect("a file just listed"));
    }
    storage.put(&segments[kept], contents.to_vec());
    if choice & 0x80 != 0 {
        let checkpoint = PRISTINE.storage.get("log-checkpoint").expect("a closed log has one");
        storage.put("log-checkpoint", checkpoint);
    }
    bounded(data.len(), LOG_ALLOWANCE, || {
        let before = storage.copy();
        let Ok((log, _)) = Log::open(storage.clone(), config(), 2_000) else {
            // Refused: then nothing was changed.
            for name in names(&before) {
                assert_eq!(storage.get(&name), before.get(&name), "{name} was changed by an open that failed");
            }
            return;
        };
        let read = read_all(&log).expect("what was checked at the open reads");
        let whole: Batches =
            PRISTINE.batches.iter().filter(|(header, _)| is_before(header, &segments[kept])).cloned().collect();
        assert!(read.starts_with(&whole), "segments before the damaged one are all there");
        let end = log.end_offset();
        drop(log);
        let (again, found) = Log::open(storage.clone(), config(), 2_000).expect("what opened once opens again");
        assert_eq!((again.end_offset(), found.truncated_bytes), (end, 0), "nothing is left to mend");
        assert_eq!(read_all(&again).expect("as before"), read);
    });
}

fn is_before(header: &BatchHeader, segment: &str) -> bool {
    let base = segment.split('.').next().and_then(|digits| digits.parse().ok());
    header.base_offset < Offset(base.expect("a segment's name is its first offset"))
}

fn index_seeds() -> Vec<(String, Vec<u8>)> {
    let file = |(at, name): (usize, String)| {
        let contents = PRISTINE.storage.get(&name).expect("a file just listed");
        (name, [&[at as u8][..], &contents].concat())
    };
    let mut seeds: Vec<_> = side_files().into_iter().enumerate().map(file).collect();
    let sealed = |(name, seed): &(String, Vec<u8>)| {
        let sealed = [&[seed[0] | 0x80][..], &seed[1..]].concat();
        (!name.ends_with("index")).then(|| (format!("{name}-sealed"), sealed))
    };
    let sealed: Vec<_> = seeds.iter().filter_map(sealed).collect();
    seeds.extend(sealed);
    seeds
}

fn recovery_seeds() -> Vec<(String, Vec<u8>)> {
    let mut segments: Vec<String> =
        names(&PRISTINE.storage).into_iter().filter(|name| name.ends_with(".log")).collect();
    segments.sort();
    let mut seeds = Vec::new();
    for (at, name) in segments.iter().enumerate().take(3) {
        let contents = PRISTINE.storage.get(name).expect("a file just listed");
        seeds.push((format!("{at}"), [&[at as u8][..], &contents].concat()));
        seeds.push((format!("{at}-marked"), [&[at as u8 | 0x80][..], &contents].concat()));
    }
    seeds
}
