//! `consume`.

use anyhow::Result;

use crate::args::Context;

#[derive(Debug, clap::Args)]
#[command(after_help = "millstream consume")]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _context: &Context) -> Result<()> {
    anyhow::bail!("not wired")
}
