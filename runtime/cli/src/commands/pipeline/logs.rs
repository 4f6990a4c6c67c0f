//! `pipeline logs`: lines of plugins and tasks, from the broker's bounded buffer.

use std::time::Duration;

use anyhow::Result;
use millstream_protocol::message::{LogLine, PipelineLogs};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::ending::stdout_closed;
use crate::format::timestamp;
use crate::json;
use crate::table::{Format, print_line};

/// Lines asked for at once.
const PAGE: u32 = 1_000;
/// Pause between two looks with `--follow`.
const POLL: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline logs orders
  millstream pipeline logs orders --follow")]
pub(crate) struct Args {
    pipeline: String,
    /// Stay, and print new lines as they come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let print_all = async {
        let server = args.server.connect().await?;
        let mut after = 0;
        loop {
            let request = PipelineLogs { name: args.pipeline.clone(), after, lines_max: PAGE };
            let lines = server.call(request).await?.lines;
            for line in &lines {
                print(line, context.format)?;
                after = after.max(line.sequence);
            }
            if lines.len() == PAGE as usize {
                continue;
            }
            if !args.follow {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    block_on(async {
        tokio::select! {
            result = print_all => result,
            () = stdout_closed() => Ok(()),
        }
    })
}

fn print(line: &LogLine, format: Format) -> Result<()> {
    if format == Format::Json {
        return Ok(print_line(&json::log_line(line).to_string())?);
    }
    let place = if line.topic.is_empty() { String::new() } else { format!(" {}/{}", line.topic, line.partition) };
    Ok(print_line(&format!("{} {:<5} {}{place}  {}", timestamp(line.at_ms), line.level, line.step, line.message))?)
}
