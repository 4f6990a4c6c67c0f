//! What is printed: the machine, then a table per measurement, medians of the paired runs; or all of it,
//! every run, as JSON.

use anyhow::Result;
use serde_json::{Value, json};

use super::measure::{QUANTILES, Sample};
use super::rounds::{Compare, Scene, Series};
use super::{Played, growth};
use crate::format::{bytes, count, nanoseconds};
use crate::table::{Listing, print_json, print_line};

/// Where and how this was measured.
pub(super) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    pub(super) optimised: bool,
    /// Work that others had for the machine when this began: the mean of a minute.
    load: f64,
    date: String,
    command: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        let timestamp = crate::format::timestamp(crate::format::now_ms());
        Machine {
            processor: model.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            optimised: !cfg!(debug_assertions),
            load: load.split(' ').next().and_then(|mean| mean.parse().ok()).unwrap_or(0.0),
            date: timestamp.get(..16).unwrap_or_default().replace('T', " "),
            command: command(),
        }
    }

    fn profile(&self) -> &'static str {
        if self.optimised { "release" } else { "debug" }
    }
}

/// As it was typed, without the program's folder.
fn command() -> String {
    std::env::args().skip(1).fold("millstream".to_owned(), |command, word| command + " " + &word)
}

pub(super) fn print(machine: &Machine, played: &Played) -> Result<()> {
    let Machine { processor, cores, kernel, load, date, command, .. } = machine;
    print_line(&format!("{date} UTC, {processor}, {cores} cores, Linux {kernel}, {} build", machine.profile()))?;
    print_line(&format!("load of the machine at the start: {load:.2}"))?;
    print_line(&format!("$ {command}"))?;
    for scene in &played.scenes {
        print_line("")?;
        let runs = scene.subject().samples.len();
        print_line(&format!("{}: {}; median of {runs}", scene.what, scene.title))?;
        throughput(scene)?;
        if scene.series.iter().any(|series| series.samples.iter().any(|sample| sample.latency.is_some())) {
            latencies(scene)?;
        }
    }
    growth::print(&played.grown)
}

fn throughput(scene: &Scene) -> Result<()> {
    let mut listing = Listing::new(&[
        "",
        ">records/s",
        ">MB/s",
        ">CPU here/record",
        ">CPU there/record",
        ">CPU there/GB",
        ">memory there",
        ">ratio",
    ]);
    for (place, series) in scene.series.iter().enumerate() {
        let per_record = series.median_of(Sample::far_cpu_ns_per_record);
        let per_gb = series.median_of(Sample::far_cpu_s_per_gb);
        let memory = series.median_of(|sample| sample.far_memory.map(|bytes| bytes as f64));
        listing.row([
            series.name.clone(),
            count(series.median(Sample::records_per_second) as u64),
            format!("{:.1}", series.median(Sample::mb_per_second)),
            nanoseconds(series.median(Sample::cpu_ns_per_record)),
            per_record.map_or_else(dash, nanoseconds),
            per_gb.map_or_else(dash, |seconds| format!("{seconds:.2} s")),
            memory.map_or_else(dash, |memory| bytes(memory as u64)),
            if place == 0 { String::new() } else { ratio(scene, series) },
        ]);
    }
    Ok(listing.print_indented("  ")?)
}

fn dash() -> String {
    "-".to_owned()
}

/// The subject's share of, or times, this reference.
fn ratio(scene: &Scene, reference: &Series) -> String {
    let Some(ratio) = scene.ratio(reference) else { return dash() };
    match scene.compare {
        Compare::Throughput => {
            format!("{:.0} % ({:.0}-{:.0})", 100.0 * ratio.median, 100.0 * ratio.least, 100.0 * ratio.most)
        }
        Compare::Cost => format!("{:.2}x ({:.2}-{:.2})", ratio.median, ratio.least, ratio.most),
        Compare::Latency => format!("p99 {:.2}x ({:.2}-{:.2})", ratio.median, ratio.least, ratio.most),
    }
}

fn latencies(scene: &Scene) -> Result<()> {
    let mut columns = vec!["latency".to_owned()];
    columns.extend(QUANTILES.iter().map(|(name, _)| format!(">{name}")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut listing = Listing::new(&columns);
    let row = |name: String, us: Vec<f64>| {
        let cells = us.into_iter().map(|us| match us < 0.0 {
            true => format!("-{}", nanoseconds(-us * 1e3)),
            false => nanoseconds(us * 1e3),
        });
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    for series in &scene.series {
        let quantile = |(_, quantile)| series.median_of(|sample: &Sample| sample.latency_us(quantile));
        let us: Option<Vec<f64>> = QUANTILES.into_iter().map(quantile).collect();
        if let Some(us) = us {
            listing.row(row(series.name.clone(), us));
        }
    }
    for reference in &scene.series[1..] {
        if let Some(over) = scene.over(reference) {
            listing.row(row(format!("over {}", reference.name), over.to_vec()));
        }
    }
    Ok(listing.print_indented("  ")?)
}

pub(super) fn print_as_json(machine: &Machine, played: &Played) -> Result<()> {
    let Machine { processor, cores, kernel, load, date, command, .. } = machine;
    let document = json!({
        "date_utc": date, "processor": processor, "cores": cores, "kernel": kernel, "profile": machine.profile(),
        "load_at_start": load, "command": command, "scenes": played.scenes.iter().map(scene).collect::<Vec<_>>(),
        "growth": growth::json(&played.grown),
    });
    Ok(print_json(&document)?)
}

fn scene(scene: &Scene) -> Value {
    let comparisons: Vec<Value> = scene.series[1..]
        .iter()
        .map(|reference| {
            let ratio = scene.ratio(reference);
            let over = scene.over(reference).map(|over| quantiles(|place| over[place]));
            json!({
                "reference": reference.name,
                "ratio_median": ratio.map(|ratio| ratio.median),
                "ratio_least": ratio.map(|ratio| ratio.least),
                "ratio_most": ratio.map(|ratio| ratio.most),
                "latency_over_us": over,
            })
        })
        .collect();
    let compare = match scene.compare {
        Compare::Throughput => "throughput",
        Compare::Cost => "cost",
        Compare::Latency => "latency_p99",
    };
    let series: Vec<Value> = scene
        .series
        .iter()
        .map(|series| json!({ "name": series.name, "runs": series.samples.iter().map(sample).collect::<Vec<_>>() }))
        .collect();
    json!({
        "what": scene.what, "title": scene.title, "series": series, "ratio_of": compare, "ratios": comparisons,
    })
}

fn sample(sample: &Sample) -> Value {
    let latency = sample.latency.as_ref().map(|latency| quantiles(|place| latency.us(QUANTILES[place].1)));
    json!({
        "records": sample.records, "bytes": sample.bytes, "seconds": sample.took.as_secs_f64(),
        "records_per_second": sample.records_per_second(), "mb_per_second": sample.mb_per_second(),
        "cpu_here_ns_per_record": sample.cpu_ns_per_record(),
        "cpu_there_ns_per_record": sample.far_cpu_ns_per_record(),
        "cpu_there_s_per_gb": sample.far_cpu_s_per_gb(), "memory_there_bytes": sample.far_memory,
        "latency_us": latency,
    })
}

fn quantiles(figure: impl Fn(usize) -> f64) -> Value {
    let pairs = QUANTILES.iter().enumerate().map(|(place, (name, _))| ((*name).to_owned(), json!(figure(place))));
    Value::Object(pairs.collect())
}
