//! Measures append and read against the least that anybody could do: a checksum and a write, or a read and
//! a checksum, in a bare loop over the same bytes. CPU time of the thread counts, so that a busy machine
//! disturbs little: `cargo run --release -p millstream-log --example measure -- FOLDER`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement may panic, and does IO of its own")]

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream_log::{Config, DiskStorage, Log, Reader};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, check_batch, split_batches};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId};

const TOTAL_BYTES: usize = 512 << 20;
const ROUNDS: usize = 5;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("usage: measure FOLDER"));
    println!("CPU time per GiB, median of {ROUNDS}; share: bare loop / log");
    println!(
        "{:>12} {:>10} {:>10} {:>7}   {:>10} {:>10} {:>7}",
        "batch", "bare w", "append", "share", "bare r", "read", "share"
    );
    for records in [1, 10, 100, 1_000] {
        let batch = batch(records);
        let mut figures: [Vec<f64>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let bare = folder.join("bare");
            figures[0].push(timed(|| write_bare(&bare, &batch)));
            figures[2].push(timed(|| read_bare(&bare)));
            fs::remove_file(&bare).unwrap();
            let path = folder.join("log-0");
            figures[1].push(timed(|| append(&path, &batch)));
            let reader = open_reader(&path);
            figures[3].push(timed(|| read(reader)));
            fs::remove_dir_all(&path).unwrap();
        }
        let [write, append, bare_read, read] = figures.map(median);
        print!("{:>10} B {write:>8.3} s {append:>8.3} s {:>6.0}%", batch.len(), 100.0 * write / append);
        println!("   {bare_read:>8.3} s {read:>8.3} s {:>6.0}%", 100.0 * bare_read / read);
        std::io::stdout().flush().unwrap();
    }
}

fn batch(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for at in 0..records {
        builder.push_simple(1_700_000_000_000 + at as i64, None, Some(&[b'x'; 100]));
    }
    builder.set_producer(ProducerId::NONE, -1, -1);
    builder.build()
}

/// CPU seconds per GiB.
fn timed(work: impl FnOnce()) -> f64 {
    let before = cpu_ns();
    work();
    (cpu_ns() - before) as f64 / 1e9 * (1 << 30) as f64 / TOTAL_BYTES as f64
}

fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn write_bare(path: &Path, batch: &Bytes) {
    let file = fs::File::create(path).unwrap();
    let mut at = 0;
    while at < TOTAL_BYTES {
        black_box(crc32c::crc32c(&batch[21..]));
        file.write_all_at(batch, at as u64).unwrap();
        at += batch.len();
    }
}

fn append(path: &Path, batch: &Bytes) {
    let storage = DiskStorage::open(path).unwrap();
    let (mut log, _) = Log::open(storage, Config::default(), 0).unwrap();
    let mut at = 0;
    while at < TOTAL_BYTES {
        let header: BatchHeader = check_batch(batch).unwrap();
        log.append(&[(header, batch.clone())], LeaderEpoch(0), 0).unwrap();
        at += batch.len();
    }
    // Not closed: that would sync.
}

const READ_BYTES: usize = 256 << 10;

fn read_bare(path: &Path) {
    let file = fs::File::open(path).unwrap();
    let mut at = 0;
    loop {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        let read = rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut buffer), at).unwrap();
        if read == 0 {
            return;
        }
        black_box(crc32c::crc32c(&buffer));
        at += read as u64;
    }
}

/// Opening recovers the log, which is not what is measured.
fn open_reader(path: &Path) -> (Reader, Offset) {
    let (log, _) = Log::open(DiskStorage::open(path).unwrap(), Config::default(), 0).unwrap();
    (log.reader(), log.end_offset())
}

fn read((reader, end): (Reader, Offset)) {
    let mut next = Offset(0);
    while next < end {
        let bytes = reader.read(next, READ_BYTES, end).unwrap();
        next = split_batches(&bytes).last().unwrap().unwrap().0.next_offset();
    }
}
