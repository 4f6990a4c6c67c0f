//! `consume`: records of topics on standard output.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use millstream_client::{Batch, Client};

use crate::args::Context;
use crate::commands::block_on;
use crate::commands::serve::stop_signal;
use crate::connect::ServerArgs;
use crate::records::{Place, Style};
use crate::start::Start;
use crate::table::Format;

/// With a group and without `--follow`: nothing more came for so long.
const GROUP_IDLE: Duration = Duration::from_millis(1_000);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream consume web-errors --max 5
  millstream consume access-log --from 2015-05-17T12:00Z --format '%t/%p@%o %k %v'
  millstream consume orders --follow --output json | jq .value
  millstream consume orders --group billing --follow

Format: %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp (ms), %d time, %% a `%`;
\\n \\t \\0 \\\\.")]
pub(crate) struct Args {
    /// Topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// earliest, latest, an offset, a time (2015-05-17T12:00Z), or an age (-15m) [default: earliest; latest with --follow]
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    from: Option<Start>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<u64>,
    /// Stay at the end, and print new records as they come
    #[arg(short, long)]
    follow: bool,
    /// Only these partitions
    #[arg(short, long, value_name = "N", conflicts_with = "group")]
    partition: Vec<u32>,
    /// Read as a member of this group: share partitions, start at its positions, commit
    #[arg(short, long)]
    group: Option<String>,
    /// How a record is written
    #[arg(long, default_value = "%v", value_name = "FORMAT")]
    format: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Writes records until there are enough of them.
struct Printer {
    style: Style,
    left: u64,
    /// Something was printed.
    started: bool,
    /// The offset after the last record printed.
    next: i64,
    buffer: Vec<u8>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let style = if context.format == Format::Json { Style::Json } else { Style::parse(&args.format)? };
    let printer = Printer { style, left: args.max.unwrap_or(u64::MAX), started: false, next: 0, buffer: Vec::new() };
    if args.max == Some(0) {
        return Ok(());
    }
    block_on(async {
        let mut stop = Box::pin(stop_signal());
        let consume = async {
            let client = args.server.connect().await?.client;
            match args.group.clone() {
                Some(group) => consume_as_member(&client, &group, &args, printer).await,
                None => consume_alone(&client, &args, printer).await,
            }
        };
        tokio::select! {
            outcome = consume => outcome,
            signal = &mut stop => signal,
        }
    })
}

fn start(args: &Args) -> millstream_client::Start {
    match args.from {
        Some(start) => start.into(),
        None if args.follow => millstream_client::Start::Latest,
        None => millstream_client::Start::Earliest,
    }
}

async fn consume_alone(client: &Client, args: &Args, mut printer: Printer) -> Result<()> {
    let mut readers = Vec::new();
    for topic in &args.topics {
        let mut reader = client.reader(topic).from(start(args));
        if !args.partition.is_empty() {
            reader = reader.partitions(args.partition.iter().copied());
        }
        if !args.follow {
            reader = reader.to_end();
        }
        readers.push(Box::pin(reader.open().await?.into_stream()));
    }
    let mut batches: SelectAll<_> = select_all(readers);
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => {
                if printer.print(&batch)? {
                    return Ok(());
                }
            }
            // The reader tries again by itself; a person should know why nothing comes.
            Err(error) if error.is_retriable() => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn consume_as_member(client: &Client, group: &str, args: &Args, mut printer: Printer) -> Result<()> {
    let from = args.from.map_or(millstream_client::Start::Earliest, Into::into);
    let mut consumer = client.consumer(group).topics(args.topics.clone()).from(from).subscribe().await?;
    loop {
        let next = if args.follow {
            consumer.next().await
        } else {
            // What the other members hold is not ours to wait for.
            match tokio::time::timeout(GROUP_IDLE, consumer.next()).await {
                Ok(next) => next,
                Err(_) if consumer.assignment().is_empty() && !printer.started => continue,
                Err(_) => break,
            }
        };
        let Some(batch) = next else { break };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) if error.is_retriable() => {
                tracing::warn!("{error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if printer.print(&batch)? {
            consumer.close().await?;
            // Only what was printed counts as read; committing would take the rest of the batch too.
            let next = (batch.partition(), printer.next);
            return Ok(client.admin().set_offsets(group, batch.topic(), &[next]).await?);
        }
        // After printing: a crash in between prints again, and loses nothing.
        consumer.commit().await?;
    }
    consumer.close().await?;
    Ok(())
}

impl Printer {
    /// Writes a batch; whether that was enough.
    fn print(&mut self, batch: &Batch) -> Result<bool> {
        let place = Place { topic: batch.topic(), partition: batch.partition() };
        self.buffer.clear();
        self.started = true;
        for row in batch.columns().rows() {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.next = row.offset + 1;
            self.style.write(place, &row, &mut self.buffer);
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&self.buffer)?;
        out.flush()?;
        Ok(self.left == 0)
    }
}
