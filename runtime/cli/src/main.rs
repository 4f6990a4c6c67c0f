//! The `millstream` command: one file per command under `commands/`, everything about how things are said
//! in `console`, `table`, `format` and `problem`. Data goes to stdout, everything else to stderr.

mod args;
mod commands;
mod connect;
mod console;
mod dev;
mod fixtures;
mod format;
mod json;
mod manifest;
mod plugin_crate;
mod problem;
mod records;
mod start;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Context};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = console::Console::new(cli.color, cli.quiet);
    start_logging(cli.verbose);
    let context = Context { console: console.clone(), format: cli.output };
    match commands::run(cli.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.clear_status();
            problem::conclude(&console, &error)
        }
    }
}

/// Logs go to stderr: warnings by default, more by `-v`, anything by `MILLSTREAM_LOG`.
fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug,quinn=info,quinn_proto=info,rustls=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(coloured).with_writer(std::io::stderr).finish();
    // Only a second call can fail, and there is none.
    tracing::subscriber::set_global_default(subscriber).ok();
}
