//! Applying commands: each either changes the state and yields one event, or is refused and changes nothing
//! but the count of applied commands. Deterministic.

use std::ops::Range;

use millstream_protocol::ids::check_topic_name;
use millstream_protocol::{ErrorCode, Failure, TopicId, mutant};
use thiserror::Error;

use super::command::Command;
use super::state::{DeletedTopic, PIPELINE_REVISIONS_MAX, Pipeline, PipelineRevision, Plugin, State, Topic};
use super::token::TOKENS_MAX;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The command's index, from 1.
    pub index: u64,
    pub event: Event,
}

/// A change that others may act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    TopicCreated {
        id: TopicId,
    },
    TopicAltered {
        id: TopicId,
    },
    TopicDeleted {
        topic: DeletedTopic,
    },
    /// `existed`: the same version with the same digest was there before.
    PluginRegistered {
        existed: bool,
    },
    PluginDeleted {
        plugin: Plugin,
        still_stored: bool,
    },
    PipelinePut {
        name: String,
        revision: u32,
    },
    PipelinePaused {
        name: String,
        paused: bool,
    },
    PipelineDeleted {
        name: String,
    },
    ProducerIds {
        ids: Range<i64>,
    },
    TokenCreated {
        id: String,
    },
    TokenRotated {
        id: String,
    },
    TokenDeleted {
        id: String,
    },
    TokenAltered {
        id: String,
    },
    /// Bookkeeping only.
    Noted,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    // Refresh and retry.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    #[error("plugin `{0}@{1}` does not exist")]
    UnknownPlugin(String, String),
    #[error("pipeline `{0}` does not exist")]
    UnknownPipeline(String),
    #[error("token `{0}` does not exist")]
    UnknownToken(String),
    // Fix the request.
    #[error("{0}")]
    InvalidTopic(String),
    #[error("topic `{0}` exists already")]
    TopicExists(String),
    #[error("topic `{topic}` has {has} partitions, and partitions may only grow: asked for {asked}")]
    PartitionsShrink { topic: String, has: u32, asked: u32 },
    #[error("`{name}@{version}` exists with other contents: raise the version")]
    PluginExists { name: String, version: String },
    #[error("plugin `{name}@{version}` is used by pipeline `{pipeline}`: delete or change that first")]
    PluginInUse { name: String, version: String, pipeline: String },
    #[error("{0}")]
    InvalidToken(String),
    #[error("token `{0}` exists already: rotate it for a new secret, or delete it first")]
    TokenExists(String),
    #[error("there are {TOKENS_MAX} tokens, which is the limit: delete one first")]
    TooManyTokens,
}

impl Rejection {
    /// The wire form.
    pub fn code(&self) -> ErrorCode {
        match self {
            Rejection::UnknownTopic(_) => ErrorCode::UnknownTopic,
            Rejection::UnknownPlugin(..) => ErrorCode::UnknownPlugin,
            Rejection::UnknownPipeline(_) => ErrorCode::UnknownPipeline,
            Rejection::InvalidTopic(_) | Rejection::PartitionsShrink { .. } => ErrorCode::InvalidTopic,
            Rejection::TopicExists(_) => ErrorCode::TopicExists,
            Rejection::PluginExists { .. } => ErrorCode::PluginExists,
            Rejection::PluginInUse { .. } => ErrorCode::InUse,
            Rejection::UnknownToken(_) => ErrorCode::UnknownToken,
            Rejection::InvalidToken(_) => ErrorCode::InvalidRequest,
            Rejection::TokenExists(_) => ErrorCode::TokenExists,
            Rejection::TooManyTokens => ErrorCode::LimitExceeded,
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Failure::new(rejection.code(), rejection.to_string())
    }
}

impl State {
    /// Applies the next command.
    ///
    /// # Errors
    /// Refusals are as deterministic as changes; they leave everything but the count untouched.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Rejection> {
        self.applied += 1;
        let event = self.change(command)?;
        Ok(Applied { index: self.applied, event })
    }

    fn change(&mut self, command: &Command) -> Result<Event, Rejection> {
        match command {
            Command::CreateTopic { .. } => self.create_topic(command),
            Command::PartitionsReady { id, partitions } => {
                let topic = self.names.get(id).and_then(|name| self.topics.get_mut(name));
                if let Some(topic) = topic {
                    topic.ready = topic.ready.max(*partitions).min(topic.partitions);
                }
                Ok(Event::Noted)
            }
            Command::AlterTopic { name, partitions, config } => {
                let topic = self.topics.get_mut(name).ok_or_else(|| Rejection::UnknownTopic(name.clone()))?;
                if let Some(asked) = partitions.filter(|asked| *asked < topic.partitions) {
                    return Err(Rejection::PartitionsShrink { topic: name.clone(), has: topic.partitions, asked });
                }
                topic.partitions = partitions.unwrap_or(topic.partitions);
                topic.config.merge(config);
                Ok(Event::TopicAltered { id: topic.id })
            }
            Command::DeleteTopic { name, id } => self.delete_topic(name, *id),
            Command::ForgetDeleted { id } => {
                self.deleted.retain(|topic| topic.id != *id);
                Ok(Event::Noted)
            }
            Command::RegisterPlugin { .. } => self.register_plugin(command),
            Command::DeletePlugin { name, version } => self.delete_plugin(name, version),
            Command::PutPipeline { .. } => Ok(self.put_pipeline(command)),
            Command::SetPipelinePaused { name, paused } => {
                let pipeline = self.pipelines.get_mut(name).ok_or_else(|| Rejection::UnknownPipeline(name.clone()))?;
                pipeline.paused = *paused;
                Ok(Event::PipelinePaused { name: name.clone(), paused: *paused })
            }
            Command::DeletePipeline { name } => match self.pipelines.remove(name) {
                Some(_) => Ok(Event::PipelineDeleted { name: name.clone() }),
                None => Err(Rejection::UnknownPipeline(name.clone())),
            },
            Command::AllocateProducerIds { count } => {
                let first = self.next_producer_id;
                let next = first.saturating_add(i64::from(*count));
                self.next_producer_id = if mutant!("producer-id-twice") { next & !1 } else { next };
                Ok(Event::ProducerIds { ids: first..next })
            }
            Command::CreateToken { .. } => self.create_token(command),
            Command::RotateToken { .. } => self.rotate_token(command),
            Command::AlterToken { id, grant, revoke } => self.alter_token(id, grant, revoke),
            Command::DeleteToken { id } => self.delete_token(id),
        }
    }

    fn create_topic(&mut self, command: &Command) -> Result<Event, Rejection> {
        let Command::CreateTopic { name, id, partitions, config, internal, at_ms } = command else {
            unreachable!("called for CreateTopic only");
        };
        check_topic_name(name).map_err(Rejection::InvalidTopic)?;
        if *partitions == 0 {
            return Err(Rejection::InvalidTopic(format!("topic `{name}` needs at least 1 partition")));
        }
        let of_before = self.deleted.iter().rfind(|topic| topic.name == *name).filter(|_| mutant!("topic-id-again"));
        let id = of_before.map_or(id, |topic| &topic.id);
        // The files of a deleted topic are found by its id, for as long as there may be any.
        let is_used = self.names.contains_key(id) || self.deleted.iter().any(|topic| topic.id == *id);
        if self.topics.contains_key(name) || (is_used && of_before.is_none()) {
            return Err(Rejection::TopicExists(name.clone()));
        }
        let id = *id;
        let topic = Topic {
            name: name.clone(),
            id,
            partitions: *partitions,
            ready: 0,
            config: config.clone(),
            internal: *internal,
            created_at_ms: *at_ms,
        };
        self.topics.insert(name.clone(), topic);
        self.names.insert(id, name.clone());
        Ok(Event::TopicCreated { id })
    }

    fn delete_topic(&mut self, name: &str, id: TopicId) -> Result<Event, Rejection> {
        if self.topics.get(name).is_none_or(|topic| topic.id != id) {
            return Err(Rejection::UnknownTopic(name.to_owned()));
        }
        let topic = self.topics.remove(name).expect("it was there a line ago");
        self.names.remove(&id);
        let topic = DeletedTopic { name: topic.name, id, partitions: topic.partitions };
        self.deleted.push(topic.clone());
        Ok(Event::TopicDeleted { topic })
    }

    fn register_plugin(&mut self, command: &Command) -> Result<Event, Rejection> {
        let Command::RegisterPlugin { name, version, digest, bytes, asks, description, at_ms, replace } = command
        else {
            unreachable!("called for RegisterPlugin only");
        };
        if let Some(known) = self.plugin(name, version) {
            if known.digest == *digest {
                return Ok(Event::PluginRegistered { existed: true });
            }
            if !replace {
                return Err(Rejection::PluginExists { name: name.clone(), version: version.clone() });
            }
        }
        let plugin = Plugin {
            name: name.clone(),
            version: version.clone(),
            digest: *digest,
            bytes: *bytes,
            asks: asks.clone(),
            description: description.clone(),
            uploaded_at_ms: *at_ms,
        };
        self.plugins.entry(name.clone()).or_default().insert(version.clone(), plugin);
        Ok(Event::PluginRegistered { existed: false })
    }

    fn delete_plugin(&mut self, name: &str, version: &str) -> Result<Event, Rejection> {
        if let Some(pipeline) = self.pipelines_using(name, version).next() {
            let pipeline = pipeline.to_owned();
            return Err(Rejection::PluginInUse { name: name.to_owned(), version: version.to_owned(), pipeline });
        }
        let versions = self.plugins.get_mut(name);
        let Some(plugin) = versions.and_then(|versions| versions.remove(version)) else {
            return Err(Rejection::UnknownPlugin(name.to_owned(), version.to_owned()));
        };
        self.plugins.retain(|_, versions| !versions.is_empty());
        let still_stored = self.plugin_by_digest(&plugin.digest).is_some();
        Ok(Event::PluginDeleted { plugin, still_stored })
    }

    fn put_pipeline(&mut self, command: &Command) -> Event {
        let Command::PutPipeline { name, yaml, variables, plugins, at_ms } = command else {
            unreachable!("called for PutPipeline only");
        };
        let pipeline = self.pipelines.entry(name.clone()).or_insert_with(|| Pipeline {
            name: name.clone(),
            paused: false,
            created_at_ms: *at_ms,
            revisions: Vec::new(),
        });
        let revision = pipeline.revisions.last().map_or(1, |last| last.revision + 1);
        pipeline.revisions.push(PipelineRevision {
            revision,
            yaml: yaml.clone(),
            variables: variables.clone(),
            plugins: plugins.clone(),
            applied_at_ms: *at_ms,
        });
        let surplus = pipeline.revisions.len().saturating_sub(PIPELINE_REVISIONS_MAX);
        pipeline.revisions.drain(..surplus);
        Event::PipelinePut { name: name.clone(), revision }
    }
}
