//! The inner loops of the log, over memory so that no disk is measured: append, read, the look-up of an offset:
//! `cargo bench -p millstream-log`. Against a real disk: `cargo run --release -- bench log`.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use millstream_log::{Config, Log, MemoryStorage, Reader};
use millstream_protocol::batch::{BatchBuilder, Compression, check_new_batch};
use millstream_protocol::{LeaderEpoch, Offset};

const RECORDS: usize = 100;
/// Batches of the log that is read.
const BATCHES: i64 = 4_000;
const READ_BYTES: usize = 256 << 10;

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for i in 0..RECORDS as i64 {
        builder.push_simple(1_700_000_000_000 + i, None, Some(&[b'x'; 100]));
    }
    builder.build()
}

fn log() -> Log<MemoryStorage> {
    Log::open(MemoryStorage::new(), Config { preallocate_bytes: 0, ..Config::default() }, 0).unwrap().0
}

fn filled() -> Log<MemoryStorage> {
    let (mut log, batch) = (log(), batch());
    let header = check_new_batch(&batch).unwrap();
    for _ in 0..BATCHES {
        log.append(&[(header, batch.clone())], LeaderEpoch(0), 0).unwrap();
    }
    log
}

fn append(criterion: &mut Criterion) {
    let batch = batch();
    let header = check_new_batch(&batch).unwrap();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(batch.len() as u64 * 100));
    group.bench_function("append 100 batches of 100 records", |bencher| {
        bencher.iter_batched_ref(
            log,
            |log| {
                for _ in 0..100 {
                    log.append(&[(header, batch.clone())], LeaderEpoch(0), 0).unwrap();
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let log = filled();
    let (reader, end): (Reader, Offset) = (log.reader(), log.end_offset());
    let mut offset = 0;
    // Strides that visit the log out of order.
    let mut next = move || {
        offset = (offset + 7_919 * RECORDS as i64) % (BATCHES * RECORDS as i64);
        Offset(offset)
    };
    criterion.bench_function("look an offset up and read one batch", |bencher| {
        bencher.iter(|| reader.read(black_box(next()), 1, end).unwrap());
    });
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(READ_BYTES as u64));
    group.bench_function("read 256 KiB", |bencher| {
        bencher.iter(|| reader.read(black_box(Offset(0)), READ_BYTES, end).unwrap());
    });
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
