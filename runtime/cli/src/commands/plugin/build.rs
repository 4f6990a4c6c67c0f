//! `plugin build`: from sources in any language to a component.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::SourceArgs;
use crate::args::Context;
use crate::format::{bytes, hex, short_digest};
use crate::plugin_source::Show;
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin build
  millstream plugin build plugins/redact --out redact.wasm
  millstream plugin build examples/plugin-python")]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Also write the component here
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let plugin = args.source.open(&context.console)?;
    let built = plugin.build(&context.console, Show::All)?;
    let path = match &args.out {
        Some(out) => {
            std::fs::write(out, &built.component).with_context(|| out.display().to_string())?;
            out.clone()
        }
        None => plugin.component_path(),
    };
    let digest = millstream_plugin_host::digest(&built.component);
    if context.format == Format::Json {
        let about = json!({ "name": built.name, "version": built.version, "digest": hex(&digest),
            "bytes": built.component.len(), "path": path });
        return Ok(print_json(&about)?);
    }
    let what =
        format!("{}@{}  {}  {}", built.name, built.version, short_digest(&digest), bytes(built.component.len() as u64));
    context.console.timed("Component", &what, built.took);
    context.console.verb("Written", &path.display().to_string());
    Ok(())
}
