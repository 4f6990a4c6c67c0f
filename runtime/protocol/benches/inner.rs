//! The inner loops of the formats: batches, checksums, frames, columns, partitions. Per batch of 1,000 records of
//! 100 B unless the name says otherwise: `cargo bench -p millstream-protocol`.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use millstream_protocol::batch::{
    BatchBuilder, BatchHeader, Compression, check_batch, check_new_batch, decode_batch, patch_header, split_batches,
};
use millstream_protocol::frame::{self, FRAME_BYTES_MAX};
use millstream_protocol::partitioner::partition_for_key;
use millstream_protocol::{Columns, LeaderEpoch, Offset};

const RECORDS: usize = 1_000;
const VALUE: [u8; 100] = [b'x'; 100];
const DECOMPRESSED_MAX: usize = 1 << 20;

fn push(builder: &mut BatchBuilder) {
    for i in 0..RECORDS as i64 {
        builder.push_simple(1_700_000_000_000 + i / 100, None, Some(black_box(&VALUE)));
    }
}

fn batch(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    push(&mut builder);
    builder.build()
}

fn columns() -> Columns {
    let mut columns = Columns::default();
    decode_batch(&batch(Compression::None), Offset(0), DECOMPRESSED_MAX, &mut columns).unwrap();
    columns
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        group.bench_function(format!("encode {compression}"), |bencher| {
            bencher.iter(|| {
                push(&mut builder);
                builder.build()
            });
        });
        let (batch, mut columns) = (batch(compression), Columns::default());
        group.bench_function(format!("decode {compression}"), |bencher| {
            bencher.iter(|| {
                columns.clear();
                decode_batch(black_box(&batch), Offset(0), DECOMPRESSED_MAX, &mut columns).unwrap();
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("checks");
    let batch = batch(Compression::None);
    group.throughput(Throughput::Bytes(batch.len() as u64));
    group.bench_function("crc32c", |bencher| bencher.iter(|| crc32c::crc32c(black_box(&batch))));
    group.bench_function("check_batch", |bencher| bencher.iter(|| check_batch(black_box(&batch)).unwrap()));
    group.bench_function("check_new_batch", |bencher| bencher.iter(|| check_new_batch(black_box(&batch)).unwrap()));
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let batch = batch(Compression::None);
    let run: Bytes = batch.repeat(10).into();
    criterion.bench_function("header decode", |bencher| {
        bencher.iter(|| BatchHeader::decode(black_box(&batch)).unwrap());
    });
    criterion.bench_function("split 10 batches", |bencher| bencher.iter(|| split_batches(black_box(&run)).count()));
    let mut head = batch[..61].to_vec();
    criterion.bench_function("header patch", |bencher| {
        bencher.iter(|| patch_header(black_box(&mut head), Offset(17), LeaderEpoch(3)));
    });
    let header = frame::Header { api: 20, version: 1, correlation: 7, flags: 0, body_len: 64, payload_len: 100_000 };
    let bytes = frame::encode_header(&header);
    criterion.bench_function("frame header encode", |bencher| {
        bencher.iter(|| frame::encode_header(black_box(&header)));
    });
    criterion.bench_function("frame header decode", |bencher| {
        bencher.iter(|| frame::decode_header(black_box(&bytes), FRAME_BYTES_MAX).unwrap());
    });
}

fn rows(criterion: &mut Criterion) {
    let columns = columns();
    let mut group = criterion.benchmark_group("columns");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("visit", |bencher| {
        bencher.iter(|| columns.rows().map(|row| row.value.map_or(0, <[u8]>::len)).sum::<usize>());
    });
    let mut copy = Columns::default();
    group.bench_function("push_row", |bencher| {
        bencher.iter(|| {
            copy.clear();
            columns.rows().for_each(|row| copy.push_row(&row));
        });
    });
    group.bench_function("push_row into new columns", |bencher| {
        bencher.iter_batched_ref(
            Columns::default,
            |copy| columns.rows().for_each(|row| copy.push_row(&row)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("validate", |bencher| bencher.iter(|| black_box(&columns).validate().unwrap()));
    group.finish();
    criterion.bench_function("partition of a key", |bencher| {
        bencher.iter(|| partition_for_key(black_box(b"k-0000000017"), 16));
    });
}

criterion_group!(benches, batches, headers, rows);
criterion_main!(benches);
