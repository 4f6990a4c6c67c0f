//! A broker process under a steady load for a stated time: producers, a group, readers, a pipeline whose plugin is
//! swapped again and again, clients that come and go. Prints what the process holds and how long records take, and
//! by how much each of these grows in an hour.
//!
//! Latency is counted from the time at which a record was meant to be sent, so a stall shows in every record that
//! it held up.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::message::TopicConfig;
use millstream_client::prelude::*;
use tokio::time::{Instant, sleep, sleep_until};

use super::drive::{self, Stop, Stopping};
use super::history::Mark;
use super::pipeline;
use super::support::Server;
use super::{setting, tell};

const TOPIC: &str = "soak";
const COPY: &str = "soak-copy";
const PARTITIONS: u32 = 4;
/// Records to one partition before it is the next one's turn.
const STRIDE: u64 = 64;
/// Small, so that the log soon has its final size.
const RETENTION: TopicConfig = TopicConfig {
    retention_ms: None,
    retention_bytes: Some(4 << 20),
    segment_bytes: Some(1 << 20),
    segment_ms: None,
    batch_bytes_max: None,
    durability: None,
};
/// Samples of a run.
const SAMPLES: u64 = 60;
/// Of these, the first are left out of the slopes: caches fill, the log grows to its retention.
const WARM_UP: usize = 10;

#[test]
fn a_steady_load_stays_steady() {
    let seconds = setting("MILLSTREAM_SOAK_SECONDS", 6);
    drive::run(run(Duration::from_secs(seconds), setting("MILLSTREAM_SOAK_RATE", 1_000)));
}

/// Latencies in µs: sixteen buckets for each power of two.
struct Histogram(Vec<u64>);

impl Histogram {
    fn new() -> Histogram {
        Histogram(vec![0; 64 * 16])
    }

    fn note(&mut self, us: u64) {
        let us = us.max(16);
        let power = us.ilog2();
        self.0[(power * 16 + ((us >> (power - 4)) & 15) as u32) as usize] += 1;
    }

    /// Upper end of the bucket in ms.
    fn percentile_ms(&self, percent: u64) -> f64 {
        let wanted = (self.0.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let (power, part) = (bucket / 16, bucket % 16);
                return ((17 + part as u64) << power >> 4) as f64 / 1e3;
            }
        }
        0.0
    }
}

/// What readers of one topic found.
struct Seen {
    latency: Mutex<Histogram>,
    records: AtomicU64,
    missing: AtomicU64,
    repeated: AtomicU64,
}

impl Seen {
    fn new() -> Arc<Seen> {
        Arc::new(Seen {
            latency: Mutex::new(Histogram::new()),
            records: AtomicU64::default(),
            missing: AtomicU64::default(),
            repeated: AtomicU64::default(),
        })
    }
}

/// The process at one moment.
#[derive(Clone, Copy, Default)]
struct Sample {
    at_s: f64,
    rss_mib: f64,
    open_files: f64,
    threads: f64,
    disk_mib: f64,
    cpu_percent: f64,
    direct_ms: (f64, f64),
    pipeline_ms: (f64, f64),
}

async fn run(time: Duration, rate: u64) {
    let mut server = Server::start();
    let client = drive::client(&server).await;
    for topic in [TOPIC, COPY] {
        client.admin().create_topic_with(topic, PARTITIONS, RETENTION).await.unwrap();
    }
    let plugins = [pipeline::component(), pipeline::variant(pipeline::component(), b'e')];
    pipeline::upload(&client, "pass", plugins[0].clone()).await;
    pipeline::apply(&client, "pass", TOPIC, COPY).await;

    let (stop, stopping) = Stop::new();
    let zero = Instant::now();
    let (direct, copied, grouped) = (Seen::new(), Seen::new(), Seen::new());
    let swaps = Arc::new(AtomicU64::new(0));
    let sent = tokio::spawn(produce(drive::client(&server).await, rate, zero, stopping.clone()));
    let mut others = vec![
        tokio::spawn(follow(drive::client(&server).await, TOPIC, Arc::clone(&direct), zero, stopping.clone())),
        tokio::spawn(follow(drive::client(&server).await, COPY, Arc::clone(&copied), zero, stopping.clone())),
        tokio::spawn(swap(drive::client(&server).await, plugins, time / 180, Arc::clone(&swaps), stopping.clone())),
        tokio::spawn(come_and_go(drive::builder(&server), time / 360, stopping.clone())),
    ];
    for _ in 0..2 {
        let client = drive::client(&server).await;
        others.push(tokio::spawn(member(client, Arc::clone(&grouped), stopping.clone())));
    }

    let samples = sample(&server, time, &direct, &copied).await;
    stop.stop();
    let sent = sent.await.unwrap();
    for other in others {
        other.await.unwrap();
    }
    report(&samples, rate);
    let seen = |seen: &Seen| {
        let [records, missing, repeated] =
            [&seen.records, &seen.missing, &seen.repeated].map(|count| count.load(Ordering::Relaxed));
        format!("{records} ({missing} missing, {repeated} repeated)")
    };
    let swaps = swaps.load(Ordering::Relaxed);
    tell(&format!(
        "sent {sent}, read {}, by the group {}, behind the pipeline {}; {swaps} plugin swaps",
        seen(&direct),
        grouped.records.load(Ordering::Relaxed),
        seen(&copied)
    ));
    for (seen, what) in [(&direct, "read"), (&copied, "behind the pipeline")] {
        assert!(seen.records.load(Ordering::Relaxed) > 0, "nothing was {what}");
        assert_eq!(seen.missing.load(Ordering::Relaxed), 0, "{what}");
    }
    assert_eq!(direct.repeated.load(Ordering::Relaxed) + copied.repeated.load(Ordering::Relaxed), 0);
    assert!(samples.iter().all(|sample| sample.rss_mib > 1.0 && sample.open_files > 1.0));
    assert!(swaps > 0, "no plugin was swapped");
    server.stop();
}

/// Sends records with the time they were due; the number sent.
async fn produce(client: Client, rate: u64, zero: Instant, stopping: Stopping) -> u64 {
    let producer = client.producer(TOPIC).linger(ms(5)).build();
    let mut numbers = vec![0; PARTITIONS as usize];
    let start = Instant::now();
    for count in 0u64.. {
        let due = start + Duration::from_micros(count * 1_000_000 / rate);
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if stopping.is_set() {
            producer.close().await.unwrap();
            return count;
        }
        let partition = (count / STRIDE) as usize % numbers.len();
        let value = Mark::new(0, numbers[partition]).value((due - zero).as_micros() as u64);
        numbers[partition] += 1;
        drop(producer.send(Record::new(value).partition(partition as u32)).await.unwrap());
    }
    unreachable!("the numbers don't end")
}

/// Reads along and compares numbers and times.
async fn follow(client: Client, topic: &'static str, seen: Arc<Seen>, zero: Instant, mut stopping: Stopping) {
    let mut reader = client.reader(topic).from(Earliest).open().await.unwrap();
    let mut next: BTreeMap<u32, usize> = BTreeMap::new();
    loop {
        let batch = tokio::select! {
            batch = reader.next() => batch.unwrap().unwrap(),
            () = stopping.wait() => return,
        };
        let now = zero.elapsed().as_micros() as u64;
        let mut latency = seen.latency.lock().unwrap();
        for record in &batch {
            let (mark, due) = Mark::of(record.value());
            assert_ne!(mark, Mark::FOREIGN, "{topic} has a record that nobody sent");
            latency.note(now.saturating_sub(due));
            let next = next.entry(record.partition()).or_default();
            if mark.number() < *next {
                seen.repeated.fetch_add(1, Ordering::Relaxed);
            } else {
                seen.missing.fetch_add((mark.number() - *next) as u64, Ordering::Relaxed);
                *next = mark.number() + 1;
            }
        }
        seen.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// A member of a group that commits what it got.
async fn member(client: Client, seen: Arc<Seen>, mut stopping: Stopping) {
    let mut consumer =
        client.consumer("soak").topics([TOPIC]).from(Earliest).auto_commit(ms(200)).subscribe().await.unwrap();
    loop {
        let batch = tokio::select! {
            batch = consumer.next() => batch.unwrap().unwrap(),
            () = stopping.wait() => break,
        };
        seen.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
    consumer.close().await.unwrap();
}

/// Swaps the pipeline's plugin back and forth.
async fn swap(client: Client, plugins: [Vec<u8>; 2], every: Duration, swaps: Arc<AtomicU64>, mut stopping: Stopping) {
    for plugin in plugins.iter().cycle().skip(1) {
        tokio::select! {
            () = sleep(every) => {}
            () = stopping.wait() => return,
        }
        pipeline::upload(&client, "pass", plugin.clone()).await;
        let swapped = pipeline::apply(&client, "pass", TOPIC, COPY).await;
        assert_eq!(swapped, PARTITIONS as usize, "every task was swapped");
        swaps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects, joins a group, looks around, and leaves.
async fn come_and_go(builder: millstream_client::ClientBuilder, every: Duration, mut stopping: Stopping) {
    loop {
        tokio::select! {
            () = sleep(every) => {}
            () = stopping.wait() => return,
        }
        let client = builder.clone().connect().await.unwrap();
        let consumer = client.consumer("passing").topics([TOPIC]).subscribe().await.unwrap();
        client.admin().cluster_status().await.unwrap();
        client.admin().describe_group("passing").await.unwrap();
        consumer.close().await.unwrap();
        client.close().await;
    }
}

async fn sample(server: &Server, time: Duration, direct: &Seen, copied: &Seen) -> Vec<Sample> {
    let start = Instant::now();
    let mut samples = Vec::new();
    let mut cpu_before = cpu_seconds(server.pid());
    for number in 1..=SAMPLES {
        sleep_until(start + time * number as u32 / SAMPLES as u32).await;
        let latency = |seen: &Seen| {
            let window = std::mem::replace(&mut *seen.latency.lock().unwrap(), Histogram::new());
            (window.percentile_ms(50), window.percentile_ms(99))
        };
        let cpu = cpu_seconds(server.pid());
        let mut sample = process(server.pid());
        sample.at_s = start.elapsed().as_secs_f64();
        sample.disk_mib = folder_bytes(&server.data_dir()) as f64 / 1048576.0;
        sample.cpu_percent = 100.0 * (cpu - cpu_before) / (time.as_secs_f64() / SAMPLES as f64);
        (sample.direct_ms, sample.pipeline_ms) = (latency(direct), latency(copied));
        cpu_before = cpu;
        if number % (SAMPLES / 12) == 0 {
            tell(&row(&sample));
        }
        samples.push(sample);
    }
    samples
}

fn process(pid: u32) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    let open_files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as f64;
    Sample { rss_mib: field("VmRSS:") / 1024.0, threads: field("Threads:"), open_files, ..Sample::default() }
}

/// Time on the processor, of the process and for it in the kernel.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn folder_bytes(folder: &Path) -> u64 {
    // Files come and go while they are counted.
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => folder_bytes(&entry.path()),
        Ok(about) => std::os::unix::fs::MetadataExt::blocks(&about) * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

const HEAD: &str = "| minute | RSS MiB | open files | threads | disk MiB | CPU % | direct p50 / p99 ms | pipeline p50 / p99 ms |\n\
                    |---|---|---|---|---|---|---|---|";

fn row(sample: &Sample) -> String {
    let Sample { at_s, rss_mib, open_files, threads, disk_mib, cpu_percent, direct_ms, pipeline_ms } = sample;
    format!(
        "| {:.1} | {rss_mib:.1} | {open_files} | {threads} | {disk_mib:.1} | {cpu_percent:.0} | {:.1} / {:.1} | {:.1} / {:.1} |",
        at_s / 60.0,
        direct_ms.0,
        direct_ms.1,
        pipeline_ms.0,
        pipeline_ms.1
    )
}

fn report(samples: &[Sample], rate: u64) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let minutes = samples.last().map_or(0.0, |last| last.at_s / 60.0);
    tell(&format!("{minutes:.1} minutes at {rate} records/s, {cores} cores\n{HEAD}"));
    for sample in samples.iter().step_by(5).chain(samples.last()) {
        tell(&row(sample));
    }
    let steady = &samples[WARM_UP..];
    let slope = |of: fn(&Sample) -> f64| slope_per_hour(steady, of);
    tell(&format!(
        "per hour, after the first {WARM_UP} of {} samples: RSS {:+.2} MiB, open files {:+.2}, threads {:+.2}, disk {:+.2} \
         MiB, direct p50 {:+.2} ms, p99 {:+.2} ms, pipeline p50 {:+.2} ms, p99 {:+.2} ms",
        samples.len(),
        slope(|sample| sample.rss_mib),
        slope(|sample| sample.open_files),
        slope(|sample| sample.threads),
        slope(|sample| sample.disk_mib),
        slope(|sample| sample.direct_ms.0),
        slope(|sample| sample.direct_ms.1),
        slope(|sample| sample.pipeline_ms.0),
        slope(|sample| sample.pipeline_ms.1),
    ));
}

/// Of the straight line with the least squares.
fn slope_per_hour(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (hour, value) = (mean(&|sample| sample.at_s / 3600.0), mean(&of));
    let apart = |sample: &Sample| sample.at_s / 3600.0 - hour;
    let squares: f64 = samples.iter().map(|sample| apart(sample).powi(2)).sum();
    samples.iter().map(|sample| apart(sample) * (of(sample) - value)).sum::<f64>() / squares
}

#[test]
fn latencies_and_slopes_are_computed() {
    let mut histogram = Histogram::new();
    (1..=1000).for_each(|us| histogram.note(us * 100));
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.07, "{found}, expected {expected}");
    near(histogram.percentile_ms(50), 50.0);
    near(histogram.percentile_ms(99), 99.0);
    let samples: Vec<Sample> = (0..10)
        .map(|n| Sample { at_s: f64::from(n) * 36.0, rss_mib: 7.0 + f64::from(n), ..Sample::default() })
        .collect();
    near(slope_per_hour(&samples, |sample| sample.rss_mib), 100.0);
}
