//! `plugin delete`.

use anyhow::Result;
use millstream_protocol::message::DeletePlugin;

use super::list::split;
use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{ServerArgs, confirm};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin delete redact@0.1.0 --yes")]
pub(crate) struct Args {
    #[arg(value_name = "NAME@VERSION")]
    plugin: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let (name, version) = split(&args.plugin)?;
    let request = DeletePlugin { name: name.to_owned(), version: version.to_owned() };
    confirm(args.yes, &format!("Delete plugin `{}`?", args.plugin))?;
    block_on(async { args.server.connect().await?.call(request).await })?;
    context.console.verb("Deleted", &args.plugin);
    Ok(())
}
