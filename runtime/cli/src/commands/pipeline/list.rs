//! `pipeline list`.

use anyhow::Result;
use millstream_protocol::message::ListPipelines;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::count;
use crate::json;
use crate::table::{Format, Listing, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline list
  millstream pipeline list --output json")]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let pipelines = block_on(async { Ok(args.server.connect().await?.call(ListPipelines).await?.pipelines) })?;
    if context.format == Format::Json {
        return Ok(print_json(&pipelines.iter().map(json::pipeline_summary).collect())?);
    }
    let mut listing =
        Listing::new(&["pipeline", "state", ">revision", ">tasks", ">lag", ">in", ">out", ">dead letters"]);
    for pipeline in pipelines {
        listing.row([
            pipeline.name,
            json::pipeline_state(pipeline.state).to_owned(),
            pipeline.revision.to_string(),
            pipeline.tasks.to_string(),
            count(pipeline.lag),
            count(pipeline.records_in),
            count(pipeline.records_out),
            count(pipeline.dead_letters),
        ]);
    }
    Ok(listing.print("there are no pipelines: make one with `millstream pipeline apply FILE`")?)
}
