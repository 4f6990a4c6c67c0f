//! `pipeline apply`: shows the plan, asks, applies. `pipeline upgrade` applies what runs again, so that its
//! plugin references pick up newer versions.

use std::path::PathBuf;

use anyhow::Result;
use millstream_protocol::message::{ApplyPipeline, ApplyPipelineAck, DescribePipeline};

use super::{parse_file, report_swaps, show, variables};
use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs, confirm};
use crate::console::Console;
use crate::format::plural;
use crate::json;
use crate::problem::{Exit, Problem, Shown};
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline apply pipelines/orders.yaml
  millstream pipeline apply pipelines/*.yaml --yes
  millstream pipeline apply pipelines/orders.yaml --dry-run")]
pub(crate) struct Args {
    /// Pipeline files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Partitions of topics that have to be created [default: as many as the first input has]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    partitions: u32,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin push plugins/price && millstream pipeline upgrade orders
  millstream pipeline upgrade orders --dry-run")]
pub(crate) struct UpgradeArgs {
    pipeline: String,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What the user decided before anything was sent.
#[derive(Clone, Copy)]
struct Consent {
    dry_run: bool,
    yes: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    // All files are checked before the first is applied.
    let mut requests = Vec::new();
    for file in &args.files {
        let spec = match parse_file(file)? {
            Ok(spec) => spec,
            Err(diagnostics) => {
                show(&context.console, &diagnostics);
                return Err(Shown(Exit::Refused).into());
            }
        };
        show(&context.console, &spec.warnings);
        requests.push(ApplyPipeline {
            yaml: spec.text().to_owned(),
            variables: variables(&spec)?,
            create_partitions: args.partitions,
            dry_run: false,
        });
    }
    let consent = Consent { dry_run: args.dry_run, yes: args.yes };
    block_on(async {
        let server = args.server.connect().await?;
        for request in requests {
            apply(&server, request, consent, context).await?;
        }
        Ok(())
    })
}

pub(crate) fn upgrade(args: UpgradeArgs, context: &Context) -> Result<()> {
    let consent = Consent { dry_run: args.dry_run, yes: args.yes };
    block_on(async {
        let server = args.server.connect().await?;
        let yaml = server.call(DescribePipeline { name: args.pipeline }).await?.yaml;
        let spec = millstream_pipeline::parse(&yaml, "the running revision")
            .map_err(|diagnostics| Problem::refused(diagnostics.to_string()))?;
        let request = ApplyPipeline { variables: variables(&spec)?, yaml, create_partitions: 0, dry_run: false };
        apply(&server, request, consent, context).await
    })
}

async fn apply(server: &Server, request: ApplyPipeline, consent: Consent, context: &Context) -> Result<()> {
    let plan = server.call(ApplyPipeline { dry_run: true, ..request.clone() }).await?;
    for line in &plan.plan {
        context.console.verb(if consent.dry_run { "Would" } else { "Plan" }, line);
    }
    if plan.plan.is_empty() {
        context.console.verb("Plan", &format!("{}: nothing changes", plan.pipeline));
    }
    if consent.dry_run {
        if context.format == Format::Json {
            print_json(&json::applied(&plan))?;
        }
        return Ok(());
    }
    confirm(consent.yes || plan.plan.is_empty(), &format!("Apply this to pipeline `{}`?", plan.pipeline))?;
    let ack = server.call(request).await?;
    if context.format == Format::Json {
        return Ok(print_json(&json::applied(&ack))?);
    }
    report(&context.console, &ack);
    Ok(())
}

fn report(console: &Console, ack: &ApplyPipelineAck) {
    let tasks = plural(u64::from(ack.tasks), "task");
    console.verb("Pipeline", &format!("{}  revision {}, {tasks}", ack.pipeline, ack.revision));
    report_swaps(console, &ack.swaps);
}
