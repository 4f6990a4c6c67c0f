//! `plugin bench`: what a plugin's own code costs per record, on the records of its fixtures.

use std::time::Duration;

use anyhow::Result;
use millstream_plugin_host::{Cost, InstanceConfig, cost};
use millstream_protocol::Columns;
use serde_json::json;

use super::{FixtureArgs, SourceArgs, compile};
use crate::args::Context;
use crate::fixtures::{Case, Fixture};
use crate::format::{bytes, count, nanoseconds};
use crate::plugin_source::Show;
use crate::problem::Problem;
use crate::table::{Format, print_json, print_line};

/// Payload of one measured batch, about what the broker hands to a guest.
const BATCH_BYTES: usize = 128 * 1024;
/// Records of one measured batch, at most.
const BATCH_RECORDS_MAX: usize = 4_096;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin bench plugins/parse-access-log
  millstream plugin bench --seconds 10 --output json
  millstream plugin bench shout.wasm --fixtures fixtures")]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    fixtures: FixtureArgs,
    /// How long to measure each case
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    seconds: f64,
}

/// A case and what it cost.
struct Figures {
    case: String,
    record_bytes: usize,
    cost: Cost,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let fixtures = args.fixtures.load(&args.source.plugin)?;
    let source = args.source.open(&context.console)?;
    let built = source.build(&context.console, Show::Calm)?;
    let plugin = compile(&source, &built, &context.console)?;
    let time = Duration::from_secs_f64(args.seconds.clamp(0.01, 3_600.0));
    let mut measured = Vec::new();
    for (_, fixture) in &fixtures {
        for case in fixture.cases.iter().filter(|case| !case.input.is_empty() && case.refused.is_none()) {
            let spinner = context.console.spinner("Measuring", &case.name);
            let mut outputs = vec![String::new()];
            outputs.extend(plugin.manifest().outputs.iter().cloned());
            outputs.extend(case.outputs.keys().filter(|name| !plugin.manifest().outputs.contains(name)).cloned());
            let setup = InstanceConfig { config_json: config(fixture, case), outputs, ..InstanceConfig::default() };
            let batch = fill(case);
            let cost = cost(&plugin, setup, &batch, time);
            spinner.finish_and_clear();
            let cost = cost.map_err(|failure| Problem::failure(format!("{}: {failure}", case.name)))?;
            let record_bytes = batch.payload_bytes() / batch.len();
            measured.push(Figures { case: case.name.clone(), record_bytes, cost });
        }
    }
    print(&format!("{}@{}", built.name, built.version), &measured, context.format)
}

fn config(fixture: &Fixture, case: &Case) -> String {
    case.config.as_ref().unwrap_or(&fixture.config).to_string()
}

/// The case's records, repeated to the size of a real batch.
fn fill(case: &Case) -> Columns {
    let own = case.batch();
    let mut batch = Columns::default();
    while batch.payload_bytes() < BATCH_BYTES && batch.len() < BATCH_RECORDS_MAX {
        for mut row in own.rows() {
            row.offset = batch.len() as i64;
            batch.push_row(&row);
        }
    }
    batch
}

fn print(plugin: &str, measured: &[Figures], format: Format) -> Result<()> {
    if measured.is_empty() {
        return Err(Problem::not_found("no case of the fixtures has input records").into());
    }
    if format == Format::Json {
        let rows = measured.iter().map(|Figures { case, record_bytes, cost }| {
            json!({ "plugin": plugin, "case": case, "record_bytes": record_bytes, "batch_records": cost.batch_records,
                "batches": cost.batches, "total_ns": cost.total_ns, "host_ns": cost.host_ns,
                "boundary_ns": cost.boundary_ns, "guest_ns": cost.guest_ns, "outputs": cost.outputs,
                "rejected": cost.rejected, "memory_high_water": cost.memory_high_water, "memory_limit": cost.memory_limit })
        });
        return Ok(print_json(&rows.collect())?);
    }
    for Figures { case, record_bytes, cost } in measured {
        let speed = count((1e9 / cost.total_ns) as u64);
        let total = nanoseconds(cost.total_ns);
        print_line(&format!("{plugin}   {case}, {record_bytes} B   {total} per record   {speed} records/s per core"))?;
        print_line(&format!(
            "  host {}  boundary {}  guest {}   memory high-water {} of {}, outputs {:.2} per record, rejected {:.2}",
            nanoseconds(cost.host_ns),
            nanoseconds(cost.boundary_ns),
            nanoseconds(cost.guest_ns),
            bytes(cost.memory_high_water as u64),
            bytes(cost.memory_limit as u64),
            cost.outputs,
            cost.rejected,
        ))?;
    }
    Ok(())
}
