//! `bench`: what this machine does. Figures are printed with what they were measured on; an embedded broker
//! syncs to the same disk a real one would.

mod measure;
mod stage;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::commands::produce::Tuning;
use crate::connect::ServerArgs;
use crate::format::{count, nanoseconds};
use crate::table::{Format, Listing, print_json};
use measure::Figures;
use stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Records through the SDK into the log
    Produce,
    /// Records from the log through the SDK
    Consume,
    /// Latency from send to receipt by a consumer, at a fixed rate
    EndToEnd,
    /// Records from the log through a plugin into the log
    Pipeline,
    /// All of these
    All,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream bench all
  millstream bench produce --records 5000000 --record-bytes 1000 -z lz4
  millstream bench pipeline --plugin plugins/parse-access-log
  millstream bench consume --server 127.0.0.1:9094

Without --server a broker runs in this process, so that the CPU column counts client and broker together;
with it only the client is counted.")]
pub(crate) struct Args {
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Records of each measurement
    #[arg(short = 'n', long, default_value_t = 2_000_000, value_name = "N")]
    records: u64,
    /// Bytes of a record's value
    #[arg(short = 's', long, default_value_t = 100, value_name = "N")]
    record_bytes: usize,
    #[arg(short, long, default_value_t = 2, value_name = "N")]
    partitions: u32,
    /// Records per second of the latency measurement
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    rate: u64,
    /// Plugin of the pipeline: a crate's folder or a component [default: plugins/identity, else a native step]
    #[arg(long, value_name = "DIR|FILE.wasm")]
    plugin: Option<PathBuf>,
    /// Folder for the embedded broker's data, on the disk to be measured; it must not exist, and is deleted
    #[arg(long, default_value = ".millstream-bench", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    tuning: Tuning,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let figures = block_on(bench(&args, context))?;
    if context.format == Format::Json {
        return Ok(print_json(&figures.iter().map(to_json).collect())?);
    }
    print(&figures)
}

async fn bench(args: &Args, context: &Context) -> Result<Vec<Figures>> {
    let stage = Stage::set(args, context).await?;
    let wanted = |what: What| args.what == what || args.what == What::All;
    let mut figures = Vec::new();
    if wanted(What::Produce) {
        figures.push(stage.produce().await?);
    }
    if wanted(What::Consume) {
        figures.push(stage.consume().await?);
    }
    if wanted(What::EndToEnd) {
        figures.push(stage.end_to_end().await?);
    }
    if wanted(What::Pipeline) {
        figures.push(stage.pipeline().await?);
    }
    stage.clear().await?;
    Ok(figures)
}

fn to_json(figures: &Figures) -> serde_json::Value {
    json!({
        "what": figures.what, "records": figures.records, "bytes": figures.bytes, "seconds": figures.took.as_secs_f64(),
        "records_per_second": figures.records_per_second(), "mb_per_second": figures.mb_per_second(),
        "cpu_ns_per_record": figures.cpu_ns_per_record(), "latency_us_p50": figures.latency_us(0.5),
        "latency_us_p99": figures.latency_us(0.99), "latency_us_max": figures.latency_us(1.0),
    })
}

fn print(figures: &[Figures]) -> Result<()> {
    let mut listing =
        Listing::new(&["what", ">records", ">records/s", ">MB/s", ">CPU per record", ">p50", ">p99", ">max"]);
    for figures in figures {
        let latency = |quantile| figures.latency_us(quantile).map_or(String::new(), |us| nanoseconds(us * 1e3));
        listing.row([
            figures.what.clone(),
            count(figures.records),
            count(figures.records_per_second() as u64),
            format!("{:.1}", figures.mb_per_second()),
            nanoseconds(figures.cpu_ns_per_record()),
            latency(0.5),
            latency(0.99),
            latency(1.0),
        ]);
    }
    Ok(listing.print("")?)
}
