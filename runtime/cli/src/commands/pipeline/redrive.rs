//! `pipeline redrive`: after a fix, dead letters get their second chance.

use anyhow::Result;
use millstream_protocol::message::RedrivePipeline;
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{ServerArgs, confirm_at_terminal};
use crate::format::{count, plural};
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline redrive orders")]
pub(crate) struct Args {
    pipeline: String,
    /// Do not ask; asked is only at a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    confirm_at_terminal(args.yes, &format!("Send the dead letters of `{}` through it again?", args.pipeline))?;
    let request = RedrivePipeline { name: args.pipeline.clone() };
    let spinner = context.console.spinner("Redriving", &args.pipeline);
    let ack = block_on(async { args.server.connect().await?.call(request).await });
    spinner.finish_and_clear();
    let ack = ack?;
    if context.format == Format::Json {
        return Ok(print_json(&json!({ "redriven": ack.redriven, "failed": ack.failed }))?);
    }
    let what =
        format!("{}  {}, {} failed again", args.pipeline, plural(ack.redriven, "dead letter"), count(ack.failed));
    context.console.verb("Redriven", &what);
    Ok(())
}
