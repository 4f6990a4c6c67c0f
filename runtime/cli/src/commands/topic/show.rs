//! `topic list`, `topic describe`.

use anyhow::Result;
use millstream_protocol::message::{DescribeTopics, TopicDescription};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs};
use crate::format::{ago, bytes, count, milliseconds, now_ms, plural};
use crate::json;
use crate::problem::Problem;
use crate::table::{Format, Listing, print_json, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic list
  millstream topic list --internal --output json")]
pub(crate) struct ListArgs {
    /// Internal topics too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic describe access-log
  millstream topic describe access-log --output json")]
pub(crate) struct DescribeArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn list(args: ListArgs, context: &Context) -> Result<()> {
    let topics = block_on(async {
        let server = args.server.connect().await?;
        let request = DescribeTopics { names: Vec::new(), include_internal: args.internal };
        Ok(server.call(request).await?.topics)
    })?;
    if context.format == Format::Json {
        return Ok(print_json(&topics.iter().map(json::topic).collect())?);
    }
    let columns = ["topic", ">partitions", ">records", ">bytes", ">oldest", ">cleanup", "durability"];
    let mut listing = Listing::new(&columns);
    let now = now_ms();
    for topic in &topics {
        let records: i64 = topic.partitions.iter().map(|p| p.high_watermark - p.log_start).sum();
        let size: u64 = topic.partitions.iter().map(|p| p.bytes).sum();
        let oldest = topic.partitions.iter().map(|p| p.oldest_timestamp).filter(|oldest| *oldest >= 0).min();
        listing.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            count(records.max(0) as u64),
            bytes(size),
            ago(oldest.unwrap_or(-1), now),
            milliseconds(topic.effective.retention_ms.unwrap_or(-1)),
            topic.effective.durability.map_or("", json::durability).to_owned(),
        ]);
    }
    Ok(listing.print("there are no topics: make one with `millstream topic create NAME`")?)
}

pub(crate) fn describe(args: DescribeArgs, context: &Context) -> Result<()> {
    let topic = block_on(async {
        let server = args.server.connect().await?;
        find(&server, &args.topic).await
    })?;
    if context.format == Format::Json {
        return Ok(print_json(&json::topic(&topic))?);
    }
    print_line(&format!("{}   {}   id {}", topic.name, plural(topic.partitions.len() as u64, "partition"), topic.id))?;
    settings(&topic).print_indented("  ")?;
    print_line("")?;
    let columns = [">partition", ">leader", ">start", ">end", ">records", ">bytes", ">segments", ">oldest", "state"];
    let mut listing = Listing::new(&columns);
    for partition in &topic.partitions {
        listing.row([
            partition.partition.to_string(),
            partition.leader.to_string(),
            partition.log_start.to_string(),
            partition.high_watermark.to_string(),
            count((partition.high_watermark - partition.log_start).max(0) as u64),
            bytes(partition.bytes),
            partition.segments.to_string(),
            ago(partition.oldest_timestamp, now_ms()),
            partition.offline.clone().unwrap_or_else(|| "online".to_owned()),
        ]);
    }
    Ok(listing.print_indented("  ")?)
}

/// What holds for a topic, and whether it says so itself.
fn settings(topic: &TopicDescription) -> Listing {
    let (own, effective) = (&topic.config, &topic.effective);
    let size = |size: Option<i64>| size.filter(|size| *size >= 0).map_or("unlimited".to_owned(), |s| bytes(s as u64));
    let rows = [
        ("retention", milliseconds(effective.retention_ms.unwrap_or(-1)), own.retention_ms.is_some()),
        (
            "retention_bytes",
            format!("{} per partition", size(effective.retention_bytes)),
            own.retention_bytes.is_some(),
        ),
        ("segment_bytes", bytes(effective.segment_bytes.unwrap_or_default()), own.segment_bytes.is_some()),
        ("segment_age", milliseconds(effective.segment_ms.unwrap_or(-1)), own.segment_ms.is_some()),
        (
            "batch_bytes_max",
            bytes(u64::from(effective.batch_bytes_max.unwrap_or_default())),
            own.batch_bytes_max.is_some(),
        ),
        ("durability", effective.durability.map_or("", json::durability).to_owned(), own.durability.is_some()),
    ];
    let mut listing = Listing::new(&["setting", ">value", "from"]);
    for (name, value, is_own) in rows {
        let from = if is_own { "the topic" } else { "the broker's topics" };
        listing.row([name.to_owned(), value, from.to_owned()]);
    }
    listing
}

/// The topic of this name.
///
/// # Errors
/// There is none; the message lists names that are alike.
pub(crate) async fn find(server: &Server, name: &str) -> Result<TopicDescription> {
    let request = DescribeTopics { names: vec![name.to_owned()], include_internal: true };
    if let Some(topic) = server.call(request).await?.topics.into_iter().next() {
        return Ok(topic);
    }
    let all = server.call(DescribeTopics::default()).await?.topics;
    let names: Vec<String> = all.into_iter().map(|topic| topic.name).collect();
    let help = match names.as_slice() {
        [] => format!("make it with `millstream topic create {name}`"),
        names => format!("there are: {}", names.join(", ")),
    };
    Err(Problem::not_found(format!("topic `{name}` does not exist")).help(help).into())
}
