//! What a record costs whoever sends it, with a broker in the same process taking what comes:
//! `cargo bench -p millstream-client`.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream_broker::{Broker, Config};
use millstream_client::{Acks, Client};
use tokio::runtime::Runtime;

const RECORDS: u64 = 100_000;
const BATCH: u64 = 1_000;
const VALUE: [u8; 100] = [b'x'; 100];

fn producer(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broker = runtime.block_on(Broker::start(Config::embedded(folder.path()))).unwrap();
    let client = runtime.block_on(async {
        let builder = Client::builder().server(&broker.quic_addr().to_string());
        let client = builder.profile(folder.path().join("profile.yaml")).connect().await.unwrap();
        client.admin().create_topic("t", 1).await.unwrap();
        client
    });
    let producer = client.producer("t").acks(Acks::Leader).build();
    let mut group = criterion.benchmark_group("producer");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    group.bench_function("send_bytes 100 B, one by one", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for _ in 0..RECORDS {
                    drop(producer.send_bytes(None, black_box(&VALUE)).await.unwrap());
                }
                producer.flush().await.unwrap();
            })
        });
    });
    group.bench_function("ready batches of 1,000", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for _ in 0..RECORDS / BATCH {
                    let mut batch = producer.batch(0).await.unwrap();
                    for _ in 0..BATCH {
                        batch.push_bytes(None, black_box(&VALUE)).unwrap();
                    }
                    drop(producer.send_batch(batch).await.unwrap());
                }
                producer.flush().await.unwrap();
            })
        });
    });
    group.finish();
    runtime.block_on(broker.shutdown());
}

criterion_group!(benches, producer);
criterion_main!(benches);
