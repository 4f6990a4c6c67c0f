//! `topic`: create, look at, change and delete topics.

mod change;
mod copy;
mod count;
mod dump;
mod show;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::args::Context;
pub(crate) use show::find;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a topic
    Create(change::CreateArgs),
    /// List topics
    List(show::ListArgs),
    /// Show a topic's partitions and settings
    Describe(show::DescribeArgs),
    /// Change settings, or add partitions
    Alter(change::AlterArgs),
    /// Delete a topic and its records
    Delete(change::DeleteArgs),
    /// Delete the oldest records of a topic
    DeleteRecords(change::DeleteRecordsArgs),
    /// Count records, between offsets or times, or that a filter takes
    Count(count::Args),
    /// Copy records into another topic
    Copy(copy::Args),
    /// Show batches and records of a partition's files, without a broker
    Dump(dump::Args),
    /// Check every byte of a data folder's files, without a broker
    Verify(verify::Args),
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Create(args) => change::create(args, context),
        Command::List(args) => show::list(args, context),
        Command::Describe(args) => show::describe(args, context),
        Command::Alter(args) => change::alter(args, context),
        Command::Delete(args) => change::delete(args, context),
        Command::DeleteRecords(args) => change::delete_records(args, context),
        Command::Count(args) => count::run(args, context),
        Command::Copy(args) => copy::run(args, context),
        Command::Dump(args) => dump::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
    }
}
