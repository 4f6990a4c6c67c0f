//! `pipeline describe`: tasks and steps of one pipeline.

use anyhow::Result;
use millstream_protocol::message::{DescribePipeline, DescribePipelineAck};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::{ago, count, nanoseconds, now_ms, short_digest};
use crate::json;
use crate::table::{Format, Listing, print_json, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline describe orders
  millstream pipeline describe orders --output json")]
pub(crate) struct Args {
    pipeline: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let about = block_on(async { args.server.connect().await?.call(DescribePipeline { name: args.pipeline }).await })?;
    if context.format == Format::Json {
        return Ok(print_json(&json::pipeline(&about))?);
    }
    print(&about)
}

fn print(about: &DescribePipelineAck) -> Result<()> {
    let plugins = about.plugins.iter().map(|p| format!("   {}@{} ({})", p.name, p.version, short_digest(&p.digest)));
    print_line(&format!(
        "{}   {}, started {}   revision {}   {}{}",
        about.name,
        json::pipeline_state(about.state),
        ago(about.started_at_ms, now_ms()),
        about.revision,
        about.guarantee,
        plugins.collect::<String>()
    ))?;
    let mut tasks = Listing::new(&["input", ">position", ">lag", ">in", ">in/s", ">per record", "state"]);
    for task in &about.tasks {
        tasks.row([
            format!("{}/{}", task.topic, task.partition),
            count(task.position.0.max(0) as u64),
            count(task.lag),
            count(task.records_in),
            count(task.rate),
            nanoseconds(task.cost_ns as f64),
            task.state.clone(),
        ]);
    }
    tasks.print_indented("  ")?;
    let columns =
        ["step", ">in", ">out", ">failed", ">dead letters", ">skipped", ">restarts", ">p99 batch", "counters"];
    let mut steps = Listing::new(&columns);
    for step in &about.steps {
        let counters: Vec<String> = step.counters.iter().map(|(name, sum)| format!("{name} {}", count(*sum))).collect();
        steps.row([
            step.step.clone(),
            count(step.records_in),
            count(step.records_out),
            count(step.failed),
            count(step.dead_letters),
            count(step.skipped),
            count(step.restarts),
            nanoseconds(step.batch_us_p99 as f64 * 1e3),
            counters.join(", "),
        ]);
    }
    Ok(steps.print_indented("  ")?)
}
