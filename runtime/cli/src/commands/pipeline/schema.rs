//! `pipeline schema`: for editors that complete and check YAML.

use anyhow::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline schema > pipeline.schema.json
  # first line of a pipeline file, for the YAML language server:
  # yaml-language-server: $schema=../pipeline.schema.json")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    Ok(crate::table::print_json(&millstream_pipeline::json_schema())?)
}
