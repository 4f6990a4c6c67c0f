//! `man`: a manual page for each command, from the same definitions as the help. Packages carry them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::CommandFactory;

use crate::args::{Cli, Context};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Where the pages go; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let named = || args.folder.display().to_string();
    std::fs::create_dir_all(&args.folder).with_context(named)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).with_context(named)?;
    context.console.verb("Written", &format!("{}  manual pages", named()));
    Ok(())
}
