//! `group`: consumer groups, their members, positions and lag.

use anyhow::Result;
use clap::Subcommand;
use millstream_protocol::message::{
    CommitOffsets, CommittedOffset, DeleteGroup, DescribeGroup, DescribeGroupAck, ListGroups, ListOffsets,
};
use millstream_protocol::{Offset, PartitionIndex};
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::commands::topic::find;
use crate::connect::{Server, ServerArgs, confirm};
use crate::format::{count, plural};
use crate::json;
use crate::problem::Problem;
use crate::start::Start;
use crate::table::{Format, Listing, print_json, print_line};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List groups and their lag
    List(ListArgs),
    /// Show a group's members, positions and lag
    Describe(DescribeArgs),
    /// Set a group's positions; it must have no members
    Reset(ResetArgs),
    /// Forget a group and its positions; it must have no members
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream group list --output json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream group describe billing
  millstream group describe billing shipping
  millstream group describe --all --output json")]
pub(crate) struct DescribeArgs {
    /// Groups
    #[arg(required_unless_present = "all", value_name = "GROUP")]
    groups: Vec<String>,
    /// Every group
    #[arg(long, conflicts_with = "groups")]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream group reset billing --to earliest --dry-run
  millstream group reset billing --to 2015-05-17T12:00Z --topic orders --yes")]
pub(crate) struct ResetArgs {
    group: String,
    /// earliest, latest, an offset, or a time
    #[arg(long, value_name = "WHERE")]
    to: Start,
    /// Only this topic; otherwise every topic the group has positions in
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long, requires = "topic", value_name = "N")]
    partition: Option<u32>,
    /// Show what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream group delete billing")]
pub(crate) struct DeleteArgs {
    group: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::List(args) => list(args, context),
        Command::Describe(args) => describe(args, context),
        Command::Reset(args) => block_on(reset(args, context)),
        Command::Delete(args) => delete(args, context),
    }
}

fn list(args: ListArgs, context: &Context) -> Result<()> {
    let groups = block_on(async { Ok(args.server.connect().await?.call(ListGroups).await?.groups) })?;
    if context.format == Format::Json {
        return Ok(print_json(&groups.iter().map(json::group_summary).collect())?);
    }
    let mut listing = Listing::new(&["group", "state", ">members", ">lag"]);
    for group in groups {
        listing.row([group.group, group.state, group.members.to_string(), count(group.lag)]);
    }
    Ok(listing.print("there are no groups")?)
}

fn describe(args: DescribeArgs, context: &Context) -> Result<()> {
    let groups = block_on(async {
        let server = args.server.connect().await?;
        let names = match args.all {
            true => server.call(ListGroups).await?.groups.into_iter().map(|group| group.group).collect(),
            false => args.groups.clone(),
        };
        let mut groups = Vec::new();
        for group in names {
            match server.call(DescribeGroup { group }).await {
                Ok(group) => groups.push(group),
                // It was deleted between the two requests.
                Err(_) if args.all => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    })?;
    if context.format == Format::Json {
        // One that was named is an object, as it always was.
        let shown = match &groups[..] {
            [group] if !args.all => json::group(group),
            groups => groups.iter().map(json::group).collect(),
        };
        return Ok(print_json(&shown)?);
    }
    for (number, group) in groups.iter().enumerate() {
        if number > 0 {
            print_line("")?;
        }
        print_group(group)?;
    }
    Ok(())
}

fn print_group(group: &DescribeGroupAck) -> Result<()> {
    print_line(&format!(
        "{}   {}   {}   generation {}",
        group.group,
        group.state,
        plural(group.members.len() as u64, "member"),
        group.generation
    ))?;
    let mut listing = Listing::new(&["partition", ">position", ">end", ">lag", "member"]);
    let or_dash = |number: Option<u64>| number.map_or("-".to_owned(), count);
    for partition in &group.partitions {
        let member = group.members.iter().find(|member| member.member_id == partition.member_id);
        listing.row([
            format!("{}/{}", partition.topic, partition.partition),
            or_dash(partition.committed.map(|offset| offset.0.max(0) as u64)),
            count(partition.log_end.0.max(0) as u64),
            or_dash(partition.lag),
            member.map_or(String::new(), |member| format!("{} ({})", member.client_name, member.member_id)),
        ]);
    }
    Ok(listing.print_indented("  ")?)
}

/// One position to set.
struct Change {
    topic: String,
    entry: CommittedOffset,
    from: Option<Offset>,
}

async fn reset(args: ResetArgs, context: &Context) -> Result<()> {
    let server = args.server.connect().await?;
    let changes = changes(&server, &args).await?;
    let mut listing = Listing::new(&["partition", ">from", ">to"]);
    for change in &changes {
        listing.row([
            format!("{}/{}", change.topic, change.entry.partition),
            change.from.map_or("-".to_owned(), |offset| offset.to_string()),
            change.entry.offset.to_string(),
        ]);
    }
    if context.format == Format::Json {
        let rows = changes.iter().map(|change| {
            json!({ "topic": change.topic, "partition": change.entry.partition.0, "from": change.from.map(|o| o.0),
                "to": change.entry.offset.0 })
        });
        print_json(&rows.collect())?;
    } else {
        listing.print("the group has no positions: name a topic with --topic")?;
    }
    if args.dry_run || changes.is_empty() {
        return Ok(());
    }
    confirm(args.yes, &format!("Set these positions of group `{}`?", args.group))?;
    let offsets = changes.into_iter().map(|change| change.entry).collect();
    let request = CommitOffsets { group: args.group.clone(), member_id: String::new(), generation: 0, offsets };
    server.call(request).await?;
    context.console.verb("Reset", &args.group);
    Ok(())
}

async fn changes(server: &Server, args: &ResetArgs) -> Result<Vec<Change>> {
    let known = match server.call(DescribeGroup { group: args.group.clone() }).await {
        Ok(group) => group.partitions,
        // A group comes into being with its first position.
        Err(_) if args.topic.is_some() => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut names: Vec<String> = match &args.topic {
        Some(topic) => vec![topic.clone()],
        None => known.iter().filter(|p| p.committed.is_some()).map(|p| p.topic.clone()).collect(),
    };
    names.dedup();
    let mut changes = Vec::new();
    for name in names {
        let topic = find(server, &name).await?;
        let wanted = |index: &PartitionIndex| args.partition.is_none_or(|wanted| index.0 == wanted);
        let partitions: Vec<PartitionIndex> = topic.partitions.iter().map(|p| p.partition).filter(wanted).collect();
        if partitions.is_empty() {
            return Err(Problem::not_found(format!("topic `{name}` has no such partition")).into());
        }
        let offsets = match args.to {
            // Within what there is: an offset beyond the end would be taken for damage later.
            Start::Offset(offset) => partitions
                .iter()
                .filter_map(|index| topic.partitions.iter().find(|p| p.partition == *index))
                .map(|p| Offset(offset.clamp(p.log_start.0, p.high_watermark.0)))
                .collect(),
            Start::At(position) => {
                let request = ListOffsets { topic: topic.id, partitions: partitions.clone(), position };
                server.call(request).await?.offsets
            }
        };
        for (partition, offset) in partitions.into_iter().zip(offsets) {
            let at = known.iter().find(|p| p.topic == name && p.partition == partition);
            let entry = CommittedOffset { topic: topic.id, partition, offset, metadata: String::new() };
            changes.push(Change { topic: name.clone(), entry, from: at.and_then(|p| p.committed) });
        }
    }
    Ok(changes)
}

fn delete(args: DeleteArgs, context: &Context) -> Result<()> {
    confirm(args.yes, &format!("Forget group `{}` and its positions?", args.group))?;
    let request = DeleteGroup { group: args.group.clone() };
    block_on(async { args.server.connect().await?.call(request).await })?;
    context.console.verb("Deleted", &args.group);
    Ok(())
}
