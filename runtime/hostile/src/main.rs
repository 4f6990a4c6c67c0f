//! `millstream-hostile`: the long runs. What each must show is in CONTRIBUTING.md; a run that finds a fault ends with
//! an error.

mod commands;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use millstream_hostile::allocation::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Long runs against hostile bytes, plugins and clients.
#[derive(Debug, Parser)]
enum Command {
    /// Feed fuzz targets with changed seeds, without coverage
    Fuzz {
        /// Targets; all of them when none is named
        targets: Vec<String>,
        /// Processor minutes for each
        #[arg(long, default_value_t = 20.0)]
        minutes: f64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Crash guests over and over, and see what is left of them
    Traps {
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
    },
    /// Open idle connections to a broker of its own, and see what each costs it
    Idle {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Compare the latency of producing beside a hostile pipeline with that beside none
    Neighbours {
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// A broker with high limits, until its stdin ends
    #[command(hide = true)]
    Broker { data_dir: std::path::PathBuf },
    /// QUIC as a broker sets it up, and no broker
    #[command(hide = true)]
    Bare { data_dir: std::path::PathBuf },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Fuzz { targets, minutes, seed } => {
            commands::fuzz::run(&targets, Duration::from_secs_f64(minutes * 60.0), seed)
        }
        Command::Traps { count } => commands::traps::run(count),
        Command::Idle { connections } => runtime()?.block_on(commands::idle::run(connections)),
        Command::Neighbours { seconds } => runtime()?.block_on(commands::neighbours::run(Duration::from_secs(seconds))),
        Command::Broker { data_dir } => runtime()?.block_on(commands::child::serve(data_dir)),
        Command::Bare { data_dir } => runtime()?.block_on(commands::child::serve_bare(data_dir)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
