//! The clients' end of every command that talks to a broker: which broker, how to reach it, and what its
//! errors mean for a person and for the exit code.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use millstream_client::{Client, ErrorCode, UploadOptions};
use millstream_protocol::message::{Api, UploadPluginAck};

use crate::nearest;
use crate::plugin_source::Built;
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

/// A connection to a broker; clones share it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) client: Client,
}

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
        let mut builder = Client::builder().client_name("millstream");
        if let Some(server) = &self.server {
            builder = builder.server(server);
        }
        if let Some(profile) = &self.profile {
            builder = builder.profile(profile);
        }
        Ok(Server { client: builder.connect().await? })
    }
}

impl Server {
    /// One request of the protocol.
    ///
    /// # Errors
    /// The broker's refusal, or the connection's end.
    pub(crate) async fn call<A: Api>(&self, request: A) -> Result<A::Response> {
        match self.client.admin().call(&request).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(nearest::explain(&self.client, error.into()).await),
        }
    }

    /// Uploads a component; `sent` is told the bytes that arrived so far.
    ///
    /// # Errors
    /// The broker's reasons to refuse it.
    pub(crate) async fn upload_plugin(
        &self,
        built: &Built,
        replace: bool,
        sent: impl FnMut(u64),
    ) -> Result<UploadPluginAck> {
        let options = UploadOptions { name: built.name.clone(), version: built.version.clone(), replace };
        Ok(self.client.admin().upload_plugin(built.component.clone(), options, sent).await?)
    }

    /// The bytes of a stored component.
    ///
    /// # Errors
    /// There is none with this digest.
    pub(crate) async fn download_plugin(&self, digest: [u8; 32]) -> Result<Vec<u8>> {
        Ok(self.client.admin().download_plugin(digest).await?)
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

/// As [`confirm`], for what can be undone: where nobody is there to ask, it is done.
///
/// # Errors
/// The answer is no.
pub(crate) fn confirm_at_terminal(yes: bool, question: &str) -> Result<()> {
    confirm(yes || !std::io::stdin().is_terminal(), question)
}

/// Exit code and advice for an error that is not a [`Problem`].
pub(crate) fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<millstream_client::Error>() {
            let help = match error {
                millstream_client::Error::Connect { address, .. } => Some(not_there(address)),
                _ => advice(error.code()).map(str::to_owned),
            };
            return (exit_of(error.code()), help);
        }
        if let Some(load) = cause.downcast_ref::<millstream_plugin_host::LoadError>() {
            let refused = !matches!(load, millstream_plugin_host::LoadError::Engine { .. });
            return (if refused { Exit::Refused } else { Exit::Failure }, None);
        }
    }
    (Exit::Failure, None)
}

fn not_there(address: &str) -> String {
    let others: Vec<String> =
        millstream_client::registered_servers().into_iter().filter(|server| server != address).collect();
    let others = match &others[..] {
        [] => String::new(),
        others => format!(" (known here: {})", others.join(", ")),
    };
    format!("is it running? start one with `millstream serve`, or name another with --server{others}")
}

/// What to do next where the broker's words do not say it.
fn advice(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopic => {
            Some("`millstream topic list` shows what there is, `millstream topic create` makes one")
        }
        ErrorCode::UnknownGroup => Some("`millstream group list` shows what there is"),
        ErrorCode::UnknownPlugin => Some("`millstream plugin list` shows what there is"),
        ErrorCode::UnknownPipeline => Some("`millstream pipeline list` shows what there is"),
        ErrorCode::UnknownToken => Some("`millstream token list` shows what there is"),
        ErrorCode::TopicExists => Some("choose another name, or change it with `millstream topic alter`"),
        ErrorCode::Unauthenticated => {
            Some("a broker writes a profile that fits it to DATA_DIR/profile.yaml: name that file with --profile")
        }
        _ => None,
    }
}

/// As [`advice`], with the name that was meant, perhaps.
pub(crate) fn did_you_mean(code: ErrorCode, name: &str) -> String {
    let advice = advice(code).unwrap_or("look at what there is");
    format!("did you mean `{name}`? {advice}")
}

pub(crate) fn exit_of(code: ErrorCode) -> Exit {
    use ErrorCode as E;
    match code {
        E::UnknownTopic
        | E::UnknownPartition
        | E::UnknownGroup
        | E::UnknownPlugin
        | E::UnknownPipeline
        | E::UnknownToken => Exit::NotFound,
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
        | E::TokenExists
        | E::Unauthenticated
        | E::Forbidden => Exit::Refused,
        E::UnknownMember
        | E::StaleGeneration
        | E::OutOfOrderSequence
        | E::DuplicateSequence
        | E::FencedProducer
        | E::DiskFull
        | E::CorruptData
        | E::Internal => Exit::Failure,
    }
}
