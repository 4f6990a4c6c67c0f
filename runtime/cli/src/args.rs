//! The command line's top: global options, the list of commands, and the help that is about all of them.

use clap::{Parser, Subcommand};
use millstream_broker::LogFormat;

use crate::commands::{
    bench, broker, cluster, completions, consume, dev, group, man, new, pipeline, plugin, produce, serve, token, top,
    topic,
};
use crate::console::{Colour, Console};
use crate::table::Format;

/// What every command gets.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) console: Console,
    pub(crate) format: Format,
}

/// Stream processing in one binary: durable topics, pipelines in YAML, plugins in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How lists are printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,

    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: Colour,

    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// How log lines look on stderr: for people, or one JSON object a line [default: text]
    #[arg(long, global = true, env = "MILLSTREAM_LOG_FORMAT", value_parser = log_format, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Log more to stderr (-vv for debug); MILLSTREAM_LOG takes filters by module
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a broker
    Serve(serve::Args),
    /// Run a project: broker, topics, plugins, pipelines, sample input; swap code on save
    Dev(dev::Args),
    /// Make a project: plugin, pipeline, sample data, tests
    New(new::Args),
    /// Create, list, describe, alter, delete and dump topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Send lines of standard input as records
    Produce(produce::Args),
    /// Print records of topics
    Consume(consume::Args),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Build, test, measure, upload and list plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Check, apply and look after pipelines
    #[command(subcommand)]
    Pipeline(pipeline::Command),
    /// Create, list, rotate and delete tokens: who may do what
    #[command(subcommand)]
    Token(token::Command),
    /// Look at a broker's settings
    #[command(subcommand)]
    Broker(broker::Command),
    /// Show what goes through topics and pipelines right now
    Top(top::Args),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Measure throughput and cost on this machine
    Bench(bench::Args),
    /// Print shell completions
    Completions(completions::Args),
    /// Write manual pages into a folder
    #[command(hide = true)]
    Man(man::Args),
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write `text` or `json`".to_owned()),
    }
}

impl Cli {
    /// From the flag or the environment, then from the configuration file, then text.
    pub(crate) fn log_format(&self) -> LogFormat {
        let of_file = || match &self.command {
            Command::Serve(args) => args.log_format(),
            _ => None,
        };
        self.log_format.or_else(of_file).unwrap_or_default()
    }
}

const AFTER_HELP: &str = "\
Settings come from the flag, then the environment (MILLSTREAM_…), then the file, then the default.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found, 4 refused (exists, in use, not valid),
5 unavailable (no answer or not now: may work later).

Examples:
  millstream dev examples/web-traffic
  millstream serve --data-dir data
  zcat access.log.gz | millstream produce access-log
  millstream consume web-errors --from earliest --max 5
  millstream pipeline apply pipelines/orders.yaml";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command that does something shows how, in its help.
    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| check(sub, &path, missing));
            } else if !command.get_after_help().is_some_and(|help| help.to_string().contains("millstream ")) {
                missing.push(path);
            }
        }
        let mut missing = Vec::new();
        check(&Cli::command(), "", &mut missing);
        assert!(missing.is_empty(), "no examples: {missing:?}");
    }
}
