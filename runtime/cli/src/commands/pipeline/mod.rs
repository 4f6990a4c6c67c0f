//! `pipeline`: declare, look at and steer pipelines.

mod apply;
mod check;
mod control;
mod describe;
mod eval;
mod list;
mod logs;
mod redrive;
mod schema;
mod swap;
mod yaml;

use anyhow::Result;
use clap::Subcommand;

use crate::args::Context;
pub(crate) use check::{parse_file, show, variables};
pub(crate) use swap::report_swaps;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a pipeline file, without a broker
    Check(check::Args),
    /// Try an expression on records from standard input, without a broker
    Eval(eval::Args),
    /// Print the JSON Schema of pipeline files, for editors
    Schema(schema::Args),
    /// Create or change a pipeline, after showing what that does
    Apply(apply::Args),
    /// Give a running pipeline's plugin steps the newest version that fits, at recorded offsets
    Upgrade(apply::UpgradeArgs),
    /// List pipelines
    List(list::Args),
    /// Show a pipeline's tasks and steps: positions, lag, rates, errors
    Describe(describe::Args),
    /// Print the file that a pipeline runs
    Show(yaml::Args),
    /// Stop reading; offsets are kept
    Pause(control::PauseArgs),
    /// Go on after a pause
    Resume(control::ResumeArgs),
    /// Start failed tasks again from their committed offsets
    Restart(control::RestartArgs),
    /// Go back to the revision before
    Rollback(control::RollbackArgs),
    /// Stop a pipeline and forget it, its offsets too
    Delete(control::DeleteArgs),
    /// Print what its plugins and tasks logged
    Logs(logs::Args),
    /// Send dead letters through the pipeline again, once
    Redrive(redrive::Args),
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Check(args) => check::run(args, context),
        Command::Eval(args) => eval::run(&args, context),
        Command::Schema(args) => schema::run(&args),
        Command::Apply(args) => apply::run(args, context),
        Command::Upgrade(args) => apply::upgrade(args, context),
        Command::List(args) => list::run(args, context),
        Command::Describe(args) => describe::run(args, context),
        Command::Show(args) => yaml::run(args, context),
        Command::Pause(args) => control::pause(args, context),
        Command::Resume(args) => control::resume(args, context),
        Command::Restart(args) => control::restart(args, context),
        Command::Rollback(args) => control::rollback(args, context),
        Command::Delete(args) => control::delete(args, context),
        Command::Logs(args) => logs::run(args, context),
        Command::Redrive(args) => redrive::run(args, context),
    }
}
