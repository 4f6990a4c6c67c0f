//! Bit rot: each byte of a set of files of each kind is changed in turn, and what the product makes of it is checked.
//! Damage must be found, with file and position, or do no harm; it is never served, and never spreads.
//!
//! A set is many small folders or files rather than a large one, so that looking at a change is cheap.

use std::sync::Arc;

use millstream_broker::folder::{self, Place};
use millstream_broker::metadata::Store;
use millstream_broker::{data_dir, plugins};
use millstream_cluster::metadata::{Command, Digest, State, TopicConfig};
use millstream_log::{Config, Error, Log, Storage, repair, verify};
use millstream_plugin_host::{digest, is_whole_code};
use millstream_protocol::batch::{BatchBuilder, Compression, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition};

use crate::chance::Chance;
use crate::disk::SimDisk;
use crate::faults::Faults;

/// Which files are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Segment,
    Index,
    TimeIndex,
    Snapshot,
    Checkpoint,
    Epochs,
    Metadata,
    MetadataMark,
    Identity,
    Plugin,
    CompiledCode,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Segment,
        Kind::Index,
        Kind::TimeIndex,
        Kind::Snapshot,
        Kind::Checkpoint,
        Kind::Epochs,
        Kind::Metadata,
        Kind::MetadataMark,
        Kind::Identity,
        Kind::Plugin,
        Kind::CompiledCode,
    ];

    fn of_a_log(self) -> Option<&'static str> {
        match self {
            Kind::Segment => Some(".log"),
            Kind::Index => Some(".index"),
            Kind::TimeIndex => Some(".timeindex"),
            Kind::Snapshot => Some(".snapshot"),
            Kind::Checkpoint => Some("log-checkpoint"),
            Kind::Epochs => Some("leader-epochs"),
            _ => None,
        }
    }
}

/// What came of one kind.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Size of the set that was gone through.
    pub bytes: u64,
    pub flips: u64,
    /// Found, and said where.
    pub detected: u64,
    /// Not found, and everything read was as it was written.
    pub harmless: u64,
    /// Made again without being told to.
    pub healed: u64,
    /// Neither, with the place. At most a few are kept.
    pub failures: Vec<String>,
}

/// What a change came to.
enum Fate {
    Detected,
    Healed,
    Harmless,
}

const FAILURES_MAX: usize = 5;

/// Changes every `stride`-th byte of a set of at least `bytes` bytes, beginning with the seed's remainder.
pub fn run(kind: Kind, bytes: u64, stride: usize, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut chance = Chance::new(seed);
    let mut skip = chance.index(stride);
    while outcome.bytes < bytes {
        let (files, mut look) = set(kind, chance.next());
        for (path, size) in files {
            outcome.bytes += size as u64;
            while skip < size {
                let bits = 1 + chance.below(255) as u8;
                outcome.change(kind, &mut look, (&path, skip, bits));
                skip += stride;
            }
            skip -= size;
        }
    }
    outcome
}

/// Changes each bit of the first `bytes` bytes of every file of so many sets: a head is short, and much hangs on it.
pub fn run_heads(kind: Kind, bytes: usize, sets: u64, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for set_seed in seed..seed + sets {
        let (files, mut look) = set(kind, set_seed);
        for (path, size) in files {
            outcome.bytes += size.min(bytes) as u64;
            for bit in 0..8 * size.min(bytes) {
                outcome.change(kind, &mut look, (&path, bit / 8, 1 << (bit % 8)));
            }
        }
    }
    outcome
}

impl Outcome {
    fn change(&mut self, kind: Kind, look: &mut Look, (path, at, bits): (&str, usize, u8)) {
        self.flips += 1;
        match look(path, at, bits) {
            Ok(Fate::Detected) => self.detected += 1,
            Ok(Fate::Healed) => self.healed += 1,
            Ok(Fate::Harmless) => self.harmless += 1,
            Err(reason) if self.failures.len() < FAILURES_MAX => {
                self.failures.push(format!("{kind:?}: {path} byte {at} with {bits:02x}: {reason}"));
            }
            Err(_) => {}
        }
    }
}

type Look = Box<dyn FnMut(&str, usize, u8) -> Result<Fate, String>>;
type Files = Vec<(String, usize)>;

fn set(kind: Kind, seed: u64) -> (Files, Look) {
    match kind {
        Kind::Metadata => metadata_set("metadata.redb", seed),
        Kind::MetadataMark => metadata_set("metadata.mark", seed),
        Kind::Identity => identity_set(),
        Kind::Plugin | Kind::CompiledCode => plugin_set(kind, seed),
        _ => log_set(kind.of_a_log().unwrap_or_default(), seed),
    }
}

fn files_of(disk: &SimDisk, wanted: impl Fn(&str) -> bool) -> Files {
    let files = disk.files().into_iter().filter(|path| wanted(path));
    files.map(|path| (path.clone(), disk.get(&path).map_or(0, |bytes| bytes.len()))).collect()
}

/// Small segments, so that a log has several.
fn config() -> Config {
    Config {
        segment_bytes: 1_200,
        index_interval_bytes: 100,
        retention_ms: None,
        preallocate_bytes: 0,
        ..Config::default()
    }
}

/// What a log holds.
struct Written {
    /// Offset, and the batch as it lies in the file.
    batches: Vec<(Offset, Vec<u8>)>,
    end: Offset,
    /// A timestamp and where it is found.
    times: Vec<(i64, Option<Offset>)>,
}

fn log_set(ending: &'static str, seed: u64) -> (Files, Look) {
    let disk = SimDisk::new(Faults::default(), seed);
    let mut chance = Chance::new(seed);
    let clean = chance.one_in(2);
    let mut log = Log::open(disk.root(), config(), 0).expect("an empty disk opens").0;
    for number in 0..24 {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..1 + chance.index(3) {
            builder.push_simple(number * 10 + chance.below(15) as i64, None, Some(b"a value of some length"));
        }
        // A new epoch each time, so that sequences begin again.
        builder.set_producer(ProducerId(chance.below(3) as i64), number as i16, 0);
        let batch = split_batches(&builder.build()).next().expect("one was built").expect("it was built well");
        let epoch = LeaderEpoch(if number < 12 { 1 } else { 3 });
        log.append(&[batch], epoch, number * 10).expect("a disk without faults takes it");
    }
    let job = log.begin_sync().expect("something was appended");
    log.finish_sync(job.run()).expect("a disk without faults syncs");
    let written = read(&log).expect("nothing is damaged yet");
    if clean {
        log.close().expect("a disk without faults syncs");
    } else {
        drop(log);
    }
    let files = files_of(&disk, |path| path.ends_with(ending));
    let look = move |path: &str, at: usize, bits: u8| {
        let damaged = disk.fork();
        damaged.flip(path, at, bits);
        look_at_log(&damaged, path, at, &written)
    };
    (files, Box::new(look))
}

fn read(log: &Log<crate::SimStorage>) -> Result<Written, Error> {
    let (reader, end) = (log.reader(), log.end_offset());
    let mut batches = Vec::new();
    let mut next = log.start_offset();
    while next < end {
        let bytes = reader.read(next, 1, end)?;
        let (header, batch) = split_batches(&bytes).next().expect("something is read before the end")?;
        batches.push((next, batch.to_vec()));
        next = header.next_offset();
    }
    let mut times = Vec::new();
    for time in (0..260).step_by(7) {
        times.push((time, reader.offset_for_timestamp(time, end)?));
    }
    Ok(Written { batches, end, times })
}

fn look_at_log(disk: &SimDisk, path: &str, at: usize, written: &Written) -> Result<Fate, String> {
    let report = verify(&disk.root()).map_err(|e| e.to_string())?;
    let named = report.findings.iter().find(|finding| finding.file == path);
    let named = named.ok_or_else(|| format!("verify did not find it: {:?}", report.findings))?;
    if named.position > at as u64 {
        return Err(format!("verify found it at {}", named.position));
    }
    let is_record = path.ends_with(".log");
    match Log::open(disk.root(), config(), 0) {
        Err(Error::Corrupt { file, position, .. }) => {
            let told = is_record && file == path && position <= at as u64;
            return if told { Ok(Fate::Detected) } else { Err(format!("opening blames {file} at {position}")) };
        }
        Err(e) => return Err(format!("opening fails: {e}")),
        Ok((log, recovery)) => {
            let told = recovery.mended.iter().any(|finding| finding.file == path);
            let noticed = check_reads(&log, written, is_record)?;
            if is_record {
                return if noticed { Ok(Fate::Detected) } else { Err("it was read, and not noticed".to_owned()) };
            }
            let told = told || log.reader().take_mended().iter().any(|finding| same_index(&finding.file, path));
            drop(log);
            if told && !verify(&disk.root()).map_err(|e| e.to_string())?.findings.iter().any(|f| f.file == path) {
                return Ok(Fate::Healed);
            }
        }
    }
    // What nothing came upon is mended when that is asked for.
    let repaired = repair(disk.root(), &config(), 0).map_err(|e| e.to_string())?;
    if let Some(left) = repaired.left.findings.first() {
        return Err(format!("repair leaves {left}"));
    }
    let (log, _) = Log::open(disk.root(), config(), 0).map_err(|e| e.to_string())?;
    check_reads(&log, written, false)?;
    Ok(Fate::Detected)
}

/// Both indexes of a segment are made again together.
fn same_index(told: &str, path: &str) -> bool {
    told.split('.').next() == path.split('.').next()
}

/// Everything is read, each offset by itself. Whether damage was noticed on the way; wrong bytes are an error.
fn check_reads(log: &Log<crate::SimStorage>, written: &Written, may_fail: bool) -> Result<bool, String> {
    let (reader, end) = (log.reader(), log.end_offset());
    if end != written.end {
        return Err(format!("the log ends at {end}, not at {}", written.end));
    }
    let mut noticed = 0;
    for (offset, batch) in &written.batches {
        match reader.read(*offset, 1, end) {
            Ok(bytes) if bytes == batch[..] => {}
            Ok(_) => return Err(format!("other bytes were served at {offset}")),
            Err(Error::Corrupt { .. }) if may_fail => noticed += 1,
            Err(e) => return Err(format!("reading {offset}: {e}")),
        }
    }
    for (time, expected) in &written.times {
        match reader.offset_for_timestamp(*time, end) {
            Ok(found) if found == *expected => {}
            Ok(found) => return Err(format!("timestamp {time} is found at {found:?}, not at {expected:?}")),
            Err(Error::Corrupt { .. }) if may_fail => noticed += 1,
            Err(e) => return Err(format!("looking for {time}: {e}")),
        }
    }
    Ok(noticed > 0)
}

fn metadata_set(file: &'static str, seed: u64) -> (Files, Look) {
    let disk = SimDisk::new(Faults::default(), seed);
    let storage: Arc<dyn Storage> = Arc::new(disk.root());
    let mut store = Store::open(&storage).expect("an empty disk opens").with_log_max(10);
    for number in 0..16 {
        let name = format!("topic-{number}");
        let (id, config) = (TopicId(number), TopicConfig::default());
        let command = Command::CreateTopic { name, id, partitions: 3, config, internal: false, at_ms: 5 };
        let _ = store.commit(&[&command]).expect("a disk without faults takes it");
    }
    let state = store.state().clone();
    // Stopped in order, or by a power loss after the last commit.
    let disk = if seed.is_multiple_of(2) {
        disk.crash(&mut Chance::new(seed))
    } else {
        drop(store);
        disk
    };
    let files = files_of(&disk, |path| path == file);
    let look = move |path: &str, at: usize, bits: u8| {
        let damaged = disk.fork();
        damaged.flip(path, at, bits);
        look_at_metadata(&damaged, &state)
    };
    (files, Box::new(look))
}

fn look_at_metadata(disk: &SimDisk, state: &State) -> Result<Fate, String> {
    let storage: Arc<dyn Storage> = Arc::new(disk.root());
    let mut store = match Store::open(&storage) {
        Err(failure) if failure.message.contains("metadata.redb is damaged") => return Ok(Fate::Detected),
        Err(failure) => return Err(format!("it is told as something else: {failure}")),
        Ok(store) => store,
    };
    if store.state() != state {
        return Err(format!("it holds {} commands of {}, unnoticed", store.state().applied(), state.applied()));
    }
    let _ =
        store.commit(&[&Command::AllocateProducerIds { count: 1 }]).map_err(|e| format!("it goes on badly: {e}"))?;
    let expected = store.state().clone();
    drop(store);
    let again = Store::open(&storage).map_err(|e| format!("it does not open again: {e}"))?;
    if *again.state() == expected { Ok(Fate::Harmless) } else { Err("the damage spread".to_owned()) }
}

/// The identities of a data folder and of a partition's.
fn identity_set() -> (Files, Look) {
    let disk = SimDisk::new(Faults::default(), 1);
    let id = TopicPartition { topic: TopicId(5), partition: PartitionIndex(0) };
    let path = folder::path_of("orders", id.partition);
    data_dir::prepare(&disk, || "0123456789abcdef".to_owned()).expect("an empty disk opens");
    let place = Place { id, topic: "orders", folder: &path, must_exist: false };
    folder::claim(&disk, place).expect("the folder is free");
    let files = files_of(&disk, |path| path.ends_with(".json"));
    let look = move |path: &str, at: usize, bits: u8| {
        let damaged = disk.fork();
        damaged.flip(path, at, bits);
        let place = Place { id, topic: "orders", folder: &folder::path_of("orders", id.partition), must_exist: true };
        let opened = data_dir::prepare(&damaged, || "another".to_owned()).map_err(|e| e.to_string());
        let claimed = folder::claim(&damaged, place).map_err(|e| e.to_string());
        match opened.map(drop).and(claimed) {
            Err(reason) if reason.contains(path.rsplit('/').next().unwrap_or(path)) => Ok(Fate::Detected),
            Err(reason) if reason.contains("has format version") => Ok(Fate::Detected),
            Err(reason) => Err(format!("the file is not named: {reason}")),
            Ok(()) => Err("it was not noticed".to_owned()),
        }
    };
    (files, Box::new(look))
}

fn plugin_set(kind: Kind, seed: u64) -> (Files, Look) {
    let disk = SimDisk::new(Faults::default(), seed);
    data_dir::prepare(&disk, || "0123456789abcdef".to_owned()).expect("an empty disk opens");
    let mut chance = Chance::new(seed);
    let contents: Vec<u8> = (0..16 << 10).map(|_| chance.next() as u8).collect();
    let name = Digest(digest(&contents));
    let store = plugins::Store::open(&disk).expect("it was prepared");
    store.put(&name, &contents).expect("a disk without faults takes it");
    let compiled = [&digest(&contents)[..], &contents].concat();
    disk.put("compiled.cwasm", compiled);
    let ending = if kind == Kind::Plugin { ".wasm" } else { ".cwasm" };
    let files = files_of(&disk, |path| path.ends_with(ending));
    let look = move |path: &str, at: usize, bits: u8| {
        disk.flip(path, at, bits);
        let noticed = match kind {
            Kind::Plugin => store.read(&name).is_err_and(|e| e.message.contains("is damaged")),
            _ => !is_whole_code(&disk.get(path).unwrap_or_default()),
        };
        disk.flip(path, at, bits);
        if noticed { Ok(Fate::Detected) } else { Err("it was not noticed".to_owned()) }
    };
    (files, Box::new(look))
}
