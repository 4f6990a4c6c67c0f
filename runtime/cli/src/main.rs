//! The `millstream` command: one file per command under `commands/`, everything about how things are said
//! in `console`, `table`, `format` and `problem`. Data goes to stdout, everything else to stderr.

mod args;
mod bundle;
mod commands;
mod connect;
mod console;
mod dev;
mod ending;
mod fixtures;
mod format;
#[cfg(test)]
mod formats_tests;
mod framing;
mod json;
mod json_line;
mod manifest;
mod nearest;
mod plugin_source;
mod problem;
mod records;
mod select;
mod start;
mod table;

use std::process::ExitCode;

use clap::Parser;
use millstream_broker::LogFormat;

use crate::args::{Cli, Context};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.log_format();
    // Programs that read a server's log want nothing between its lines.
    let logs_only = format == LogFormat::Json && matches!(cli.command, args::Command::Serve(_));
    let console = console::Console::new(cli.color, cli.quiet || logs_only);
    start_logging(cli.verbose, format);
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
fn start_logging(verbose: u8, format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug,quinn=info,quinn_proto=info,rustls=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only a second call can fail, and there is none.
    match format {
        LogFormat::Text => tracing::subscriber::set_global_default(lines.with_ansi(coloured).finish()).ok(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(true);
            tracing::subscriber::set_global_default(lines.finish()).ok()
        }
    };
}
