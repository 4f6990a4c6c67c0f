//! `topic copy`: records of one topic into another, with keys, headers and times.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::Result;
use millstream_client::{Client, Receipt, Record};
use millstream_protocol::Row;
use millstream_protocol::message::CreateTopic;

use crate::args::Context;
use crate::commands::block_on;
use crate::commands::produce::{Tuning, per_second};
use crate::commands::topic::find;
use crate::connect::{Server, ServerArgs};
use crate::console::Console;
use crate::ending::Ending;
use crate::format::{count, duration, plural};
use crate::nearest;
use crate::problem::Problem;
use crate::select::{Filter, SelectArgs};

/// Records between two looks at what became of those before.
const LOOK_EVERY: u64 = 512;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic copy orders orders-copy --create
  millstream topic copy access-log web-errors --where 'value.status >= 500' --from -1d

Records keep their partition where both topics have as many, and go by their key otherwise. A copy that is told to end
says where it goes on.")]
pub(crate) struct Args {
    /// Read from here
    from_topic: String,
    /// Write to here
    to_topic: String,
    /// Make the other topic, with the partitions and settings of the first, if it is not there
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    tuning: Tuning,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    if args.from_topic == args.to_topic {
        return Err(Problem::usage("a topic can't be copied into itself: it would never end")
            .help("name another")
            .into());
    }
    let mut filter = args.select.filter()?;
    let outcome = block_on(async {
        let server = args.server.connect().await?;
        match copy(&args, &server, &mut filter, &context.console).await {
            Ok(copied) => Ok(copied),
            Err(error) => Err(nearest::explain(&server.client, error).await),
        }
    });
    if let Some(complaint) = filter.complaint() {
        context.console.warn(&complaint);
    }
    let (records, took) = outcome?;
    let what = format!(
        "{} -> {}  {}, {}, {}/s",
        args.from_topic,
        args.to_topic,
        plural(records, "record"),
        duration(took),
        count(per_second(records, took))
    );
    context.console.verb("Copied", &what);
    Ok(())
}

async fn copy(
    args: &Args,
    server: &Server,
    filter: &mut Filter,
    console: &Console,
) -> Result<(u64, std::time::Duration)> {
    let mut ending = Ending::new()?;
    let from = find(server, &args.from_topic).await?;
    if args.create {
        let partitions = from.partitions.len() as u32;
        let config = from.config.clone();
        server.call(CreateTopic { name: args.to_topic.clone(), partitions, config, if_not_exists: true }).await?;
    }
    let to = find(server, &args.to_topic).await?;
    let keep = from.partitions.len() == to.partitions.len();
    let start = Instant::now();
    let client: &Client = &server.client;
    let producer = args.tuning.producer(client, &args.to_topic);
    let mut reader = args.select.reader(client, &args.from_topic, false).await?.open().await?;
    let bar = console.bar("Copying", None);
    let (mut copied, mut open) = (0_u64, VecDeque::<Receipt>::new());
    while let Some(batch) = ending.unless(reader.next()).await.flatten() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        for row in batch.columns().rows() {
            if !filter.takes(batch.topic(), batch.partition(), &row) {
                continue;
            }
            let record = record(&row);
            let record = if keep { record.partition(batch.partition()) } else { record };
            let receipt = producer.send(record).await?;
            copied += 1;
            if copied.is_multiple_of(LOOK_EVERY) {
                open.push_back(receipt);
            }
        }
        while let Some(result) = open.front().and_then(Receipt::try_result) {
            result?;
            open.pop_front();
        }
        bar.set_message(plural(copied, "record"));
    }
    producer.close().await?;
    bar.finish_and_clear();
    let left: Vec<String> = reader
        .positions()
        .into_iter()
        .map(|(partition, next)| format!("--partition {partition} --from {next}"))
        .collect();
    if !left.is_empty() {
        console.warn(&format!("not all was copied; it goes on with {}", left.join(", then ")));
    }
    Ok((copied, start.elapsed()))
}

fn record(row: &Row<'_>) -> Record {
    let mut record =
        row.value.map_or_else(Record::default, |value| Record::new(value.to_vec())).timestamp(row.timestamp);
    if let Some(key) = row.key {
        record = record.key(key.to_vec());
    }
    for (name, value) in row.headers.iter() {
        record = match value {
            Some(value) => record.header(name.to_vec(), value.to_vec()),
            None => record.null_header(name.to_vec()),
        };
    }
    record
}
