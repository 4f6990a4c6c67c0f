//! `pipeline pause`, `resume`, `restart`, `rollback`, `delete`.

use anyhow::Result;
use millstream_protocol::message::{ControlPipeline, PipelineAction};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{ServerArgs, confirm, confirm_at_terminal};

/// Declares the arguments of a command that takes only a pipeline's name.
macro_rules! named {
    ($name:ident, $example:literal) => {
        #[derive(Debug, clap::Args)]
        #[command(after_help = concat!("Examples:\n  millstream pipeline ", $example))]
        pub(crate) struct $name {
            pipeline: String,
            #[command(flatten)]
            server: ServerArgs,
        }
    };
}

named!(PauseArgs, "pause orders");
named!(ResumeArgs, "resume orders");
named!(RestartArgs, "restart orders");

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline rollback orders --yes")]
pub(crate) struct RollbackArgs {
    pipeline: String,
    /// Do not ask; asked is only at a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline delete orders --yes")]
pub(crate) struct DeleteArgs {
    pipeline: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn pause(args: PauseArgs, context: &Context) -> Result<()> {
    control(args.server, args.pipeline, PipelineAction::Pause, ("Paused", context))
}

pub(crate) fn resume(args: ResumeArgs, context: &Context) -> Result<()> {
    control(args.server, args.pipeline, PipelineAction::Resume, ("Resumed", context))
}

pub(crate) fn restart(args: RestartArgs, context: &Context) -> Result<()> {
    control(args.server, args.pipeline, PipelineAction::Restart, ("Restarted", context))
}

pub(crate) fn rollback(args: RollbackArgs, context: &Context) -> Result<()> {
    confirm_at_terminal(args.yes, &format!("Go back to what `{}` ran before?", args.pipeline))?;
    control(args.server, args.pipeline, PipelineAction::Rollback, ("Rolled back", context))
}

pub(crate) fn delete(args: DeleteArgs, context: &Context) -> Result<()> {
    confirm(args.yes, &format!("Stop pipeline `{}` and forget it with its offsets?", args.pipeline))?;
    control(args.server, args.pipeline, PipelineAction::Delete, ("Deleted", context))
}

fn control(server: ServerArgs, name: String, action: PipelineAction, (done, context): (&str, &Context)) -> Result<()> {
    let request = ControlPipeline { name: name.clone(), action };
    block_on(async { server.connect().await?.call(request).await })?;
    context.console.verb(done, &name);
    Ok(())
}
