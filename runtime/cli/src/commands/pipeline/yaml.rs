//! `pipeline show`: the file that a pipeline runs, as it was applied.

use std::io::Write;

use anyhow::Result;
use millstream_protocol::message::DescribePipeline;
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::hex;
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline show orders > pipelines/orders.yaml
  millstream pipeline show orders | diff - pipelines/orders.yaml")]
pub(crate) struct Args {
    pipeline: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let about = block_on(async { args.server.connect().await?.call(DescribePipeline { name: args.pipeline }).await })?;
    if context.format == Format::Json {
        let plugins = about.plugins.iter().map(|plugin| {
            json!({ "step": plugin.step, "name": plugin.name, "version": plugin.version, "digest": hex(&plugin.digest) })
        });
        let plugins: Vec<_> = plugins.collect();
        return Ok(print_json(
            &json!({ "name": about.name, "revision": about.revision, "yaml": about.yaml, "plugins": plugins }),
        )?);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(about.yaml.as_bytes())?;
    out.flush()?;
    for plugin in &about.plugins {
        let runs = format!("{} of step {} is {}", plugin.name, plugin.step, hex(&plugin.digest));
        context.console.verb("Runs", &runs);
    }
    Ok(())
}
