//! What the cluster agrees on: topics, plugins, pipelines, tokens and producer-id blocks, as a deterministic state
//! machine. The same commands in the same order give the same [`State`] on every node; time, ids and
//! everything else that could differ arrive inside the [`Command`].
//!
//! Whoever stores it keeps a log of encoded commands and now and then a snapshot ([`codec`]); replaying the
//! log equals the snapshot.

mod apply;
pub mod codec;
mod command;
mod state;
mod token;

pub use apply::{Applied, Event, Rejection};
pub use command::Command;
pub use state::{
    DeletedTopic, Digest, PIPELINE_REVISIONS_MAX, Pipeline, PipelineRevision, Plugin, PluginUse, State, Topic,
    TopicConfig,
};
pub use token::{GRACE_MS_MAX, TOKENS_MAX, Token};

#[cfg(test)]
mod tests;
