//! One module per command; each has its arguments and a `run`.

pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod consume;
pub(crate) mod dev;
pub(crate) mod group;
pub(crate) mod man;
pub(crate) mod new;
pub(crate) mod pipeline;
pub(crate) mod plugin;
pub(crate) mod produce;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod topic;

use std::future::Future;

use anyhow::{Context as _, Result};

use crate::args::{Command, Context};

/// Runs a command to its end.
pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Serve(args) => serve::run(args, context),
        Command::Dev(args) => dev::run(args, context),
        Command::New(args) => new::run(&args, context),
        Command::Top(args) => top::run(&args, context),
        Command::Topic(command) => topic::run(command, context),
        Command::Produce(args) => produce::run(args, context),
        Command::Consume(args) => consume::run(args, context),
        Command::Group(command) => group::run(command, context),
        Command::Plugin(command) => plugin::run(command, context),
        Command::Pipeline(command) => pipeline::run(command, context),
        Command::Token(command) => token::run(command, context),
        Command::Broker(command) => broker::run(&command, context),
        Command::Cluster(command) => cluster::run(command, context),
        Command::Bench(args) => bench::run(args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, context),
    }
}

/// Runs the asynchronous part of a command on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    // A client is faster on few threads, as a broker is.
    let threads = millstream_broker::Config::default().io_thread_count();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).enable_all().build().context("the runtime can't start")?;
    let result = runtime.block_on(Box::pin(future));
    // A task that blocks (a read of stdin) must not keep the command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
