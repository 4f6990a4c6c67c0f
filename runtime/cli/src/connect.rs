//! The clients' end of every command that talks to a broker: which broker, how to reach it, and what its
//! errors mean for a person and for the exit code.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use millstream_protocol::message::{Api, UploadPluginAck};
use millstream_protocol::{ErrorCode, Failure};

use crate::plugin_crate::Built;
use crate::problem::{Exit, Problem};

/// Which broker to talk to. Flag, then environment, then the profile's own address.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerArgs {
    /// Broker's address [default: 127.0.0.1:9094]
    #[arg(long, env = "MILLSTREAM_SERVER", value_name = "ADDRESS", help_heading = "Connection")]
    pub(crate) server: Option<String>,
    /// Profile file with address, CA and token [default: the one that a broker on this account wrote]
    #[arg(long, env = "MILLSTREAM_PROFILE", value_name = "FILE", help_heading = "Connection")]
    pub(crate) profile: Option<PathBuf>,
}

/// A connection to a broker.
pub(crate) struct Server {}

impl ServerArgs {
    /// Whether the user said which broker.
    pub(crate) fn was_named(&self) -> bool {
        self.server.is_some() || self.profile.is_some()
    }

    /// Connects.
    ///
    /// # Errors
    /// Nothing answers there, or it does not let us in.
    pub(crate) async fn connect(&self) -> Result<Server> {
        anyhow::bail!("not wired")
    }
}

impl Server {
    pub(crate) async fn call<A: Api>(&self, _request: A) -> Result<A::Response> {
        anyhow::bail!("not wired")
    }

    pub(crate) async fn upload_plugin(
        &self,
        _built: &Built,
        _replace: bool,
        _sent: impl Fn(u64),
    ) -> Result<UploadPluginAck> {
        anyhow::bail!("not wired")
    }

    pub(crate) async fn download_plugin(&self, _digest: [u8; 32]) -> Result<Vec<u8>> {
        anyhow::bail!("not wired")
    }
}

/// Asks a yes-or-no question on the terminal.
///
/// # Errors
/// The answer is no, or nobody is there to give one.
pub(crate) fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Problem::usage(format!("not asked, not done: {question}"))
            .help("nobody is at the terminal: say --yes")
            .into());
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Problem::failure("nothing was done").into()),
    }
}

/// Exit code and advice for an error that is not a [`Problem`].
pub(crate) fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return (exit_of(failure.code), None);
        }
        if let Some(load) = cause.downcast_ref::<millstream_plugin_host::LoadError>() {
            let refused = !matches!(load, millstream_plugin_host::LoadError::Engine { .. });
            return (if refused { Exit::Refused } else { Exit::Failure }, None);
        }
    }
    (Exit::Failure, None)
}

fn exit_of(code: ErrorCode) -> Exit {
    use ErrorCode as E;
    match code {
        E::UnknownTopic | E::UnknownPartition | E::UnknownGroup | E::UnknownPlugin | E::UnknownPipeline => {
            Exit::NotFound
        }
        E::Timeout | E::Busy | E::ShuttingDown | E::Disconnected | E::StorageUnavailable | E::NotLeader => {
            Exit::Unavailable
        }
        E::InvalidRequest
        | E::InvalidTopic
        | E::TopicExists
        | E::InvalidBatch
        | E::BatchTooLarge
        | E::OffsetOutOfRange
        | E::PluginExists
        | E::InvalidPlugin
        | E::InvalidPipeline
        | E::GroupNotEmpty
        | E::InUse
        | E::UnsupportedVersion
        | E::LimitExceeded
        | E::Unauthenticated
        | E::Forbidden => Exit::Refused,
        E::UnknownMember
        | E::StaleGeneration
        | E::OutOfOrderSequence
        | E::FencedProducer
        | E::DiskFull
        | E::CorruptData
        | E::Internal => Exit::Failure,
    }
}
