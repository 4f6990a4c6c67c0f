//! The log without broker or network. Batches into the page cache, against a loop of CRC32C and write; the same
//! with a sync after each, against write and fdatasync; and producers of single records that share syncs,
//! against one that does not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use millstream_broker::{Broker, Config};
use millstream_log::{Config as LogConfig, DiskStorage, Log};
use millstream_protocol::batch::{BatchBuilder, Compression, check_new_batch};
use millstream_protocol::message::{Acks, CreateTopic, Durability, TopicConfig};
use millstream_protocol::{LeaderEpoch, PartitionIndex};

use super::parts;
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::measure::{Latency, Sample, Stopwatch};
use crate::commands::bench::rounds::{Compare, Scene};
use crate::format::{bytes, count, now_ms};

/// Target size of a batch unless the user gives its records.
const BATCH_BYTES: usize = 64 * 1024;
/// Synced appends of a run, at most.
const SYNCS_MAX: u64 = 1_000;
/// Producers that share syncs, and the records each of them sends at most.
const SHARING: u64 = 16;
const SHARED_RECORDS_MAX: u64 = 250;
/// What the reference of synced appends is called.
pub(super) const BARE_SYNC: &str = "bare write + fdatasync";

#[derive(Clone, Copy)]
enum Part {
    Log,
    Bare,
}

pub(in super::super) async fn log(stage: &mut Stage<'_>) -> Result<Vec<Scene>> {
    let load = stage.load.clone();
    let records = match load.batch {
        1 => (BATCH_BYTES / load.record_bytes.max(1)).max(1),
        records => records,
    };
    let batch = stage.values.batch(records, &load);
    let folder = stage.folder.path().to_owned();
    let in_bytes = bytes(batch.len() as u64);
    let turns = (load.runs, &stage.bar);

    let title = format!("batches of {in_bytes} into the page cache, checked and appended");
    let cached = Scene { what: "log", title, compare: Compare::Throughput, series: Vec::new() };
    let appends = (load.records / records as u64).max(1);
    let all = [(Part::Log, "millstream-log"), (Part::Bare, "bare CRC32C + write")];
    let play = async |part| {
        let (folder, batch) = (folder.clone(), batch.clone());
        let run = move || match part {
            Part::Log => append(&folder.join("log-0"), &batch, (appends, records), false),
            Part::Bare => bare_write(&folder.join("bare"), &batch, (appends, records)),
        };
        tokio::task::spawn_blocking(run).await?
    };
    let cached = cached.play(turns, &parts(&load, &all), play).await?;

    let title = format!("batches of {in_bytes}, each synced before the next");
    let synced = Scene { what: "log synced", title, compare: Compare::Latency, series: Vec::new() };
    let all = [(Part::Log, "millstream-log"), (Part::Bare, BARE_SYNC)];
    let play = async |part| {
        let (folder, batch) = (folder.clone(), batch.clone());
        let run = move || match part {
            Part::Log => append(&folder.join("log-0"), &batch, (appends.min(SYNCS_MAX), records), true),
            Part::Bare => bare_sync(&folder.join("bare"), &batch, (appends.min(SYNCS_MAX), records)),
        };
        tokio::task::spawn_blocking(run).await?
    };
    let synced = synced.play(turns, &parts(&load, &all), play).await?;

    let title = format!(
        "records of {} one per batch, each awaited from disk, in this process",
        bytes(load.record_bytes as u64)
    );
    let shared = Scene { what: "log group commit", title, compare: Compare::Throughput, series: Vec::new() };
    let many = format!("{} producers", count(SHARING));
    let all = [(SHARING, &*many), (1, "1 producer")];
    let all = &all[..if load.references { 2 } else { 1 }];
    let shared = shared.play(turns, all, async |producers| share(&folder, &load, producers).await).await?;
    Ok(vec![cached, synced, shared])
}

/// Appends a batch again and again, checking it as a broker does; deletes the log.
fn append(path: &Path, batch: &Bytes, (times, records): (u64, usize), sync: bool) -> Result<Sample> {
    let (mut log, _) = Log::open(DiskStorage::open(path)?, LogConfig::default(), now_ms())?;
    let mut latency = Latency::new();
    let watch = Stopwatch::start(None);
    for _ in 0..times {
        let begun = Instant::now();
        let header = check_new_batch(batch)?;
        log.append(&[(header, batch.clone())], LeaderEpoch(0), now_ms())?;
        if sync {
            if let Some(job) = log.begin_sync() {
                log.finish_sync(job.run())?;
            }
            latency.record(begun.elapsed());
        }
    }
    let sample = watch.stop(times * records as u64, times * batch.len() as u64);
    drop(log);
    std::fs::remove_dir_all(path)?;
    Ok(if sync { sample.with_latency(latency) } else { sample })
}

fn bare_write(path: &Path, batch: &Bytes, (times, records): (u64, usize)) -> Result<Sample> {
    let file = File::create(path)?;
    let watch = Stopwatch::start(None);
    for i in 0..times {
        std::hint::black_box(crc32c::crc32c(&batch[21..]));
        file.write_all_at(batch, i * batch.len() as u64)?;
    }
    let sample = watch.stop(times * records as u64, times * batch.len() as u64);
    std::fs::remove_file(path)?;
    Ok(sample)
}

/// Writes the same bytes, each time followed by fdatasync.
pub(super) fn bare_sync(path: &Path, batch: &Bytes, (times, records): (u64, usize)) -> Result<Sample> {
    let file = File::create(path)?;
    let mut latency = Latency::new();
    let watch = Stopwatch::start(None);
    for i in 0..times {
        let begun = Instant::now();
        std::hint::black_box(crc32c::crc32c(&batch[21..]));
        file.write_all_at(batch, i * batch.len() as u64)?;
        file.sync_data()?;
        latency.record(begun.elapsed());
    }
    let sample = watch.stop(times * records as u64, times * batch.len() as u64);
    std::fs::remove_file(path)?;
    Ok(sample.with_latency(latency))
}

/// Producers of single records on one partition of a broker in this process.
async fn share(folder: &Path, load: &Load, producers: u64) -> Result<Sample> {
    let data = folder.join("embedded");
    let broker = Broker::start(Config::embedded(&data)).await.map_err(crate::commands::serve::refused)?;
    let config = TopicConfig { durability: Some(Durability::Disk), ..TopicConfig::default() };
    let request = CreateTopic { name: "bench".to_owned(), partitions: 1, config, if_not_exists: false };
    let topic = broker.service().create_topic(&request).await?.id;
    let partition = broker.service().partition(topic, PartitionIndex(0))?;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push_simple(now_ms(), None, Some(&vec![7; load.record_bytes]));
    let batch = builder.build();
    let each = load.records.min(SHARED_RECORDS_MAX);
    let watch = Stopwatch::start(None);
    let tasks = (0..producers).map(|_| {
        let (partition, batch) = (partition.clone(), batch.clone());
        tokio::spawn(async move {
            let mut latency = Latency::new();
            for _ in 0..each {
                let begun = Instant::now();
                partition.append(&batch, Acks::All).await?;
                latency.record(begun.elapsed());
            }
            Ok::<_, millstream_protocol::Failure>(latency)
        })
    });
    let mut latency = Latency::new();
    for task in try_join_all(tasks).await? {
        latency.merge(&task?);
    }
    let records = producers * each;
    let sample = watch.stop(records, records * load.record_bytes as u64).with_latency(latency);
    broker.shutdown().await;
    std::fs::remove_dir_all(&data)?;
    Ok(sample)
}
