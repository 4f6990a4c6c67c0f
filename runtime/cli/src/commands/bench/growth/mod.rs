//! How cost grows: a broker of its own with more and more of one thing, and at each size how long it takes to start and to
//! stop, what it holds in memory, what it does while nobody asks anything of it, and what the same small load costs.

mod load;
mod vitals;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_broker::Config;
use serde_json::{Value, json};

pub(super) use load::Dimension;

use super::Stage;
use super::broker::Broker;
use super::measure::{Sample, median, resident_bytes};
use super::scenes;
use crate::format::{bytes, count, nanoseconds};
use crate::table::{Listing, print_line};

/// After something was made and before the broker counts as idle: its own work on it is done by then.
const SETTLE: Duration = Duration::from_secs(2);
/// … and gave back what filling left in its memory.
const SETTLE_FILLED: Duration = Duration::from_secs(17);
/// How long idleness is watched: longer than any period of the broker's own.
const IDLE: Duration = Duration::from_secs(12);
/// Records per second of the load that is the same at every size.
const RATE: u64 = 20_000;
/// Starts of each kind; their median is shown.
const STARTS: usize = 3;

/// Bytes that each filled partition gets before the broker is killed.
const DIRTY: u64 = 64 * 1024;

/// One dimension's figures.
pub(super) struct Growth {
    dimension: Dimension,
    sizes: Vec<Size>,
}

/// What was measured at one size.
struct Size {
    n: u32,
    made: Duration,
    memory: u64,
    files: usize,
    /// Share of one core.
    idle: f64,
    load: Sample,
    stop: Duration,
    /// To the first answer: after a clean stop, after kill -9.
    start_clean: Duration,
    start_killed: Duration,
}

/// Every size of the dimensions that were asked for.
pub(super) async fn run(stage: &Stage<'_>) -> Result<Vec<Growth>> {
    let asked = &stage.args.of;
    let mut grown = Vec::new();
    for dimension in Dimension::ALL.into_iter().filter(|one| asked.is_empty() || asked.contains(one)) {
        let steps = if stage.args.steps.is_empty() { dimension.steps().to_vec() } else { stage.args.steps.clone() };
        let mut sizes = Vec::new();
        for n in steps {
            stage.bar.set_message(format!("growth: {} {}", count(u64::from(n)), dimension.name()));
            sizes.push(size(stage, dimension, n).await?);
        }
        grown.push(Growth { dimension, sizes });
    }
    Ok(grown)
}

/// The limits of a broker are not what is measured.
fn config(data: &Path) -> Config {
    let mut config = Config::embedded(data);
    config.limits.topics_max = 1 << 16;
    config.limits.partitions_max = 1 << 16;
    config.limits.connections_max = 1 << 14;
    config
}

async fn size(stage: &Stage<'_>, dimension: Dimension, n: u32) -> Result<Size> {
    let data = stage.folder.path().join("growth");
    let start = || Broker::own(config(&data), stage.folder.path());
    let broker = start().await?;
    let pid = broker.pid.context("its own broker has a process")?;
    let clock = Instant::now();
    let held = dimension.grow(&broker, n, (&stage.load, &stage.values, stage.args.fill)).await?;
    let made = clock.elapsed();
    tokio::time::sleep(if stage.args.fill > 0 { SETTLE_FILLED } else { SETTLE }).await;
    let memory = resident_bytes(pid).unwrap_or(0);
    let files = vitals::files(pid).unwrap_or(0);
    let before = vitals::cpu(pid).unwrap_or_default();
    tokio::time::sleep(IDLE).await;
    let idle = vitals::cpu(pid).unwrap_or_default().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64();
    let load = scenes::steady(&broker, &stage.load, &stage.values, RATE, None).await?;
    held.close().await;
    let clock = Instant::now();
    broker.stop().await?;
    let stop = clock.elapsed();
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        clean.push(timed(start()).await?);
        let broker = start().await?;
        if dimension == Dimension::Partitions && stage.args.fill > 0 {
            // So that there is something to recover.
            load::write(&broker, n, (&stage.load, &stage.values, u64::from(n) * DIRTY)).await?;
        }
        // Dropping a broker kills it.
        drop(broker);
        killed.push(timed(start()).await?);
    }
    std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    let middle = |times: Vec<f64>| Duration::from_secs_f64(median(times).unwrap_or(0.0));
    let (start_clean, start_killed) = (middle(clean), middle(killed));
    Ok(Size { n, made, memory, files, idle, load, stop, start_clean, start_killed })
}

/// Seconds to the first answer; the broker stops in order afterwards.
async fn timed(start: impl Future<Output = Result<Broker>>) -> Result<f64> {
    let clock = Instant::now();
    let broker = start.await?;
    let took = clock.elapsed();
    broker.stop().await?;
    Ok(took.as_secs_f64())
}

pub(super) fn print(grown: &[Growth]) -> Result<()> {
    for Growth { dimension, sizes } in grown {
        print_line("")?;
        print_line(&format!("growth: {}; under load: {} records/s", dimension.name(), count(RATE)))?;
        let mut listing = Listing::new(&[
            &format!(">{}", dimension.name()),
            ">made",
            ">memory",
            ">files",
            ">idle CPU",
            ">CPU/record",
            ">p50",
            ">p99",
            ">stop",
            ">start, clean",
            ">start, killed",
        ]);
        for size in sizes {
            let time = |time: Duration| nanoseconds(time.as_nanos() as f64);
            let latency =
                |quantile| size.load.latency_us(quantile).map_or_else(|| "-".to_owned(), |us| nanoseconds(us * 1e3));
            listing.row([
                count(u64::from(size.n)),
                time(size.made),
                bytes(size.memory),
                count(size.files as u64),
                format!("{:.2} %", 100.0 * size.idle),
                size.load.far_cpu_ns_per_record().map_or_else(|| "-".to_owned(), nanoseconds),
                latency(0.5),
                latency(0.99),
                time(size.stop),
                time(size.start_clean),
                time(size.start_killed),
            ]);
        }
        listing.print_indented("  ")?;
    }
    Ok(())
}

pub(super) fn json(grown: &[Growth]) -> Value {
    let size = |size: &Size| {
        json!({
            "n": size.n, "made_s": size.made.as_secs_f64(), "memory_bytes": size.memory, "files": size.files,
            "idle_share_of_core": size.idle, "cpu_ns_per_record": size.load.far_cpu_ns_per_record(),
            "latency_p50_us": size.load.latency_us(0.5), "latency_p99_us": size.load.latency_us(0.99),
            "stop_s": size.stop.as_secs_f64(), "start_clean_s": size.start_clean.as_secs_f64(),
            "start_killed_s": size.start_killed.as_secs_f64(),
        })
    };
    let one = |growth: &Growth| {
        let sizes: Vec<Value> = growth.sizes.iter().map(size).collect();
        json!({ "of": growth.dimension.name(), "rate": RATE, "sizes": sizes })
    };
    Value::Array(grown.iter().map(one).collect())
}
