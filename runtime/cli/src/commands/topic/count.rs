//! `topic count`: how many records there are, between offsets or times, and that a filter takes.

use anyhow::Result;
use millstream_client::{Client, Start};
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::count;
use crate::nearest;
use crate::select::SelectArgs;
use crate::table::{Format, Listing, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic count orders
  millstream topic count orders --from 2015-05-17T00:00Z --until 2015-05-18T00:00Z
  millstream topic count access-log --where 'value.status >= 500'

Without --grep and --where nothing is read: records are counted from offset to offset, where a time stands for the first
record with it or a later one.")]
pub(crate) struct Args {
    /// The topic
    topic: String,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let mut filter = args.select.filter()?;
    let reads = args.select.grep.is_some() || args.select.condition.is_some();
    let counts = block_on(async {
        let client = args.server.connect().await?.client;
        let counts = match reads {
            true => by_reading(&client, &args, &mut filter).await,
            false => by_offsets(&client, &args).await,
        };
        match counts {
            Ok(counts) => Ok(counts),
            Err(error) => Err(nearest::explain(&client, error).await),
        }
    })?;
    if let Some(complaint) = filter.complaint() {
        context.console.warn(&complaint);
    }
    let all: u64 = counts.iter().map(|(_, records)| records).sum();
    if context.format == Format::Json {
        let partitions: Vec<_> =
            counts.iter().map(|(partition, records)| json!({ "partition": partition, "records": records })).collect();
        return Ok(print_json(&json!({ "topic": args.topic, "records": all, "partitions": partitions }))?);
    }
    let mut listing = Listing::new(&["partition", ">records"]);
    for (partition, records) in &counts {
        listing.row([format!("{}/{partition}", args.topic), count(*records)]);
    }
    listing.row(["all".to_owned(), count(all)]);
    Ok(listing.print("")?)
}

async fn by_offsets(client: &Client, args: &Args) -> Result<Vec<(u32, u64)>> {
    let admin = client.admin();
    let firsts = admin.offsets(&args.topic, Start::Earliest).await?;
    let lasts = admin.offsets(&args.topic, Start::Latest).await?;
    let from = admin.offsets(&args.topic, args.select.start(false)).await?;
    let until = admin.offsets(&args.topic, args.select.until.map_or(Start::Latest, Into::into)).await?;
    let mut counts = Vec::new();
    for (partition, ((first, last), (from, until))) in
        (0..).zip(firsts.into_iter().zip(lasts).zip(from.into_iter().zip(until)))
    {
        if args.select.wants(partition) {
            let until = until.min(last);
            let records = until.saturating_sub(from.max(first)).max(0) as u64;
            counts.push((partition, args.select.last.map_or(records, |most| records.min(most))));
        }
    }
    Ok(counts)
}

async fn by_reading(client: &Client, args: &Args, filter: &mut crate::select::Filter) -> Result<Vec<(u32, u64)>> {
    let partitions = client.admin().offsets(&args.topic, Start::Latest).await?.len() as u32;
    let mut counts: Vec<(u32, u64)> =
        (0..partitions).filter(|partition| args.select.wants(*partition)).map(|partition| (partition, 0)).collect();
    let mut reader = args.select.reader(client, &args.topic, false).await?.open().await?;
    while let Some(batch) = reader.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        let taken = batch.columns().rows().filter(|row| filter.takes(batch.topic(), batch.partition(), row)).count();
        if let Some((_, records)) = counts.iter_mut().find(|(partition, _)| *partition == batch.partition()) {
            *records += taken as u64;
        }
    }
    Ok(counts)
}
