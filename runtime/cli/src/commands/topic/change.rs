//! `topic create`, `alter`, `delete`, `delete-records`.

use anyhow::Result;
use millstream_pipeline::units;
use millstream_protocol::message::{AlterTopic, CreateTopic, DeleteRecords, DeleteTopic, Durability, TopicConfig};
use millstream_protocol::{Offset, PartitionIndex};
use serde_json::json;

use super::show::find;
use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::plural;
use crate::problem::Problem;
use crate::table::{Format, print_json};

/// Settings of a topic; those not given keep the broker's default.
#[derive(Debug, clap::Args)]
pub(crate) struct SettingArgs {
    /// Delete records older than this: `7d`, `12h`, `forever`
    #[arg(long, value_parser = time_or_forever, value_name = "TIME")]
    retention: Option<i64>,
    /// Delete the oldest records beyond this size per partition: `10GiB`, `unlimited`
    #[arg(long, value_parser = size_or_unlimited, value_name = "SIZE")]
    retention_bytes: Option<i64>,
    /// Begin a new segment file at this size
    #[arg(long, value_parser = units::size_bytes, value_name = "SIZE")]
    segment_bytes: Option<u64>,
    /// Begin a new segment file at this age
    #[arg(long, value_parser = time_or_forever, value_name = "TIME")]
    segment_age: Option<i64>,
    /// Largest record batch
    #[arg(long, value_parser = batch_size, value_name = "SIZE")]
    batch_bytes_max: Option<u32>,
    /// When a write is acknowledged: `disk` (after fdatasync) or `replicated` (from the page cache)
    #[arg(long, value_parser = durability, value_name = "WHEN")]
    durability: Option<Durability>,
}

impl SettingArgs {
    fn config(&self) -> TopicConfig {
        TopicConfig {
            retention_ms: self.retention,
            retention_bytes: self.retention_bytes,
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_age,
            batch_bytes_max: self.batch_bytes_max,
            durability: self.durability,
        }
    }
}

fn time_or_forever(text: &str) -> Result<i64, String> {
    if matches!(text, "forever" | "-1") { Ok(-1) } else { units::duration_ms(text).map(|ms| ms as i64) }
}

fn size_or_unlimited(text: &str) -> Result<i64, String> {
    if matches!(text, "unlimited" | "-1") { Ok(-1) } else { units::size_bytes(text).map(|bytes| bytes as i64) }
}

fn batch_size(text: &str) -> Result<u32, String> {
    u32::try_from(units::size_bytes(text)?).map_err(|_| "a batch has at most 4 GiB".to_owned())
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "disk" => Ok(Durability::Disk),
        "replicated" => Ok(Durability::Replicated),
        _ => Err("write `disk` or `replicated`".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic create access-log --partitions 3
  millstream topic create orders --retention 30d --if-not-exists")]
pub(crate) struct CreateArgs {
    /// The topic's name: letters, digits, `.`, `_`, `-`
    topic: String,
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    partitions: u32,
    /// Succeed when it exists already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn create(args: CreateArgs, context: &Context) -> Result<()> {
    let CreateArgs { topic: name, partitions, if_not_exists, settings, server } = args;
    let request = CreateTopic { name: name.clone(), partitions, config: settings.config(), if_not_exists };
    let ack = block_on(async { server.connect().await?.call(request).await })?;
    if context.format == Format::Json {
        let about =
            json!({ "name": name, "id": ack.id.to_string(), "created": ack.created, "partitions": ack.partitions });
        return Ok(print_json(&about)?);
    }
    let verb = if ack.created { "Created" } else { "Exists" };
    context.console.verb(verb, &format!("{name}  {}", plural(u64::from(ack.partitions), "partition")));
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic alter access-log --retention 2d
  millstream topic alter access-log --partitions 6")]
pub(crate) struct AlterArgs {
    topic: String,
    /// May only grow; keys move to other partitions when it does
    #[arg(short, long, value_name = "N")]
    partitions: Option<u32>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn alter(args: AlterArgs, context: &Context) -> Result<()> {
    let AlterArgs { topic: name, partitions, settings, server } = args;
    let config = settings.config();
    if partitions.is_none() && config == TopicConfig::default() {
        return Err(Problem::usage("nothing to change").help("name a setting: --partitions, --retention, …").into());
    }
    let request = AlterTopic { name: name.clone(), partitions, config };
    block_on(async { server.connect().await?.call(request).await })?;
    context.console.verb("Altered", &name);
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic delete access-log
  millstream topic delete scratch --yes")]
pub(crate) struct DeleteArgs {
    topic: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn delete(args: DeleteArgs, context: &Context) -> Result<()> {
    let DeleteArgs { topic: name, yes, server } = args;
    let records = block_on(async {
        let server = server.connect().await?;
        let topic = find(&server, &name).await?;
        let records: i64 = topic.partitions.iter().map(|p| p.high_watermark - p.log_start).sum();
        let what = format!("Delete topic `{name}` with its {}?", plural(records.max(0) as u64, "record"));
        crate::connect::confirm(yes, &what)?;
        server.call(DeleteTopic { name: name.clone() }).await?;
        Ok(records.max(0) as u64)
    })?;
    context.console.verb("Deleted", &format!("{name}  {}", plural(records, "record")));
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic delete-records access-log --partition 0 --before 1000
  millstream topic delete-records access-log --yes")]
pub(crate) struct DeleteRecordsArgs {
    topic: String,
    /// Only this partition; all of them otherwise
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Records before this offset; all of them otherwise
    #[arg(long, value_name = "OFFSET")]
    before: Option<i64>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn delete_records(args: DeleteRecordsArgs, context: &Context) -> Result<()> {
    let DeleteRecordsArgs { topic: name, partition, before, yes, server } = args;
    block_on(async {
        let server = server.connect().await?;
        let topic = find(&server, &name).await?;
        let upto = before.map_or("all records".to_owned(), |offset| format!("records before offset {offset}"));
        let place = partition.map_or(format!("`{name}`"), |partition| format!("`{name}/{partition}`"));
        crate::connect::confirm(yes, &format!("Delete {upto} of {place}?"))?;
        let chosen =
            topic.partitions.iter().filter(|p| partition.is_none_or(|wanted| p.partition == PartitionIndex(wanted)));
        for partition in chosen {
            let request = DeleteRecords { topic: topic.id, partition: partition.partition, before: before.map(Offset) };
            let ack = server.call(request).await?;
            context
                .console
                .verb("Deleted", &format!("{name}/{}  begins at {} now", partition.partition, ack.log_start));
        }
        Ok(())
    })
}
