//! `dev`: a project while it is worked on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use millstream_broker::HttpDoor;

use crate::args::Context;
use crate::commands::block_on;
use crate::dev::{self, Feed, Options};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream dev examples/web-traffic
  millstream dev --quic 127.0.0.1:9194 --feed again
  millstream dev --once                     # feed the samples, wait for the results, exit

Records of the topics under `tail` go to stdout, everything else to stderr. Other commands on this
machine reach the same broker: `millstream topic list`, `millstream consume TOPIC --from earliest`.")]
pub(crate) struct Args {
    /// Folder with a millstream.yaml
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Where the project's broker listens; port 0 takes a free one
    #[arg(long, env = "MILLSTREAM_QUIC", value_name = "ADDRESS", default_value = "127.0.0.1:9094")]
    quic: SocketAddr,
    /// Where metrics and health are, by HTTP, or `off`
    #[arg(long, env = "MILLSTREAM_HTTP", value_name = "ADDRESS", default_value = "127.0.0.1:9096")]
    http: HttpDoor,
    /// The broker's data [default: DIR/.millstream]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whether inputs are fed that this data folder was fed before
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    feed: Feed,
    /// Forget the data of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Stop by itself after this time, counted from when everything runs
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    stop_after: Option<Duration>,
    /// Feed the inputs, wait until the pipelines have handled them, print what came out, and exit
    #[arg(long, conflicts_with = "stop_after")]
    once: bool,
    /// Download nothing: build with the crates and the WebAssembly target that are here
    #[arg(long)]
    offline: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    millstream_pipeline::units::duration_ms(text).map(Duration::from_millis)
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let Args { folder, quic, http, data_dir, feed, fresh, stop_after, once, offline } = args;
    let data_dir = data_dir.unwrap_or_else(|| folder.join(".millstream"));
    let options = Options { folder, quic, http, data_dir, feed, fresh, stop_after, once, offline };
    block_on(dev::run(options, context.console.clone()))
}
