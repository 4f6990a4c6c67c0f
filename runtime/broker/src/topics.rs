//! Topics of this broker: metadata on one side, open partitions on the other, and the order in which the two
//! change. Created: metadata first, then folders. Deleted: metadata first, then out of service, then renamed
//! aside, then removed in the background; a crash in between is finished at the next start.

use std::sync::Arc;

use dashmap::DashMap;
use millstream_cluster::metadata::{Command, Event, State, Topic};
use millstream_log as log;
use millstream_protocol::ids::check_topic_name;
use millstream_protocol::message::{AlterTopic, CreateTopic, CreateTopicAck, Durability, TopicConfig};
use millstream_protocol::{ErrorCode, Failure, PartitionIndex, TopicId, TopicPartition};
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::config::{Config, TopicDefaults};
use crate::core::partition::not_served;
use crate::data_dir::DataDir;
use crate::error::unknown_topic;
use crate::folder;
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::partition::Partition;
use crate::shard::{self, Shards, Spec};
use crate::stats::Stats;

/// Names that begin like this are the broker's own.
pub const INTERNAL_PREFIX: &str = "__";

/// See the module's head.
#[derive(Debug)]
pub struct Topics {
    data_dir: Arc<DataDir>,
    metadata: Metadata,
    shards: Shards,
    defaults: TopicDefaults,
    limits: Limits,
    stats: Arc<Stats>,
    partitions: DashMap<TopicPartition, Arc<Partition>>,
    /// Creating, altering and deleting happen one at a time. Holds topics whose creation failed and could not be taken
    /// back either, as on a full disk.
    changing: Mutex<Vec<Topic>>,
}

impl Topics {
    pub(crate) fn new(
        data_dir: Arc<DataDir>,
        metadata: Metadata,
        shards: Shards,
        config: &Config,
        stats: Arc<Stats>,
    ) -> Self {
        Topics {
            data_dir,
            metadata,
            shards,
            defaults: config.topics.clone(),
            limits: config.limits.clone(),
            stats,
            partitions: DashMap::new(),
            changing: Mutex::default(),
        }
    }

    /// Finishes what a crash interrupted and opens every partition. One that can't be opened refuses service;
    /// the others go on.
    ///
    /// # Errors
    /// Metadata can't be written.
    pub(crate) async fn open_all(self: &Arc<Self>) -> Result<(), Failure> {
        let state = self.metadata.state();
        for deleted in state.deleted_topics() {
            self.remove_files(deleted.id).await;
        }
        let (volume, known) = (Arc::clone(self.data_dir.volume()), Arc::clone(&state));
        let warned = tokio::task::spawn_blocking(move || {
            let deleted = |id| known.deleted_topics().iter().any(|topic| topic.id == id);
            folder::warn_of_strangers(&*volume, |id| known.topic_by_id(id).is_some() || deleted(id))
        });
        if let Ok(Err(error)) = warned.await {
            tracing::warn!(%error, "topic folders can't be listed");
        }
        let opens = state.topics().flat_map(|topic| (0..topic.partitions).map(move |index| (topic, index)));
        let specs = opens.map(|(topic, index)| self.spec(topic, PartitionIndex(index))).collect();
        self.serve(self.shards.open(specs).await?);
        for topic in state.topics().filter(|topic| topic.ready < topic.partitions) {
            // A folder that could not be made this time must not count as lost the next time.
            let opened = |index| self.partition(topic.id, index).is_ok_and(|partition| partition.offline().is_none());
            let there = (0..topic.partitions).take_while(|index| opened(PartitionIndex(*index))).count() as u32;
            if there > topic.ready {
                self.metadata.submit(Command::PartitionsReady { id: topic.id, partitions: there }).await?;
            }
        }
        Ok(())
    }

    pub fn state(&self) -> Arc<State> {
        self.metadata.state()
    }

    /// The topic with this name.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub fn topic(&self, name: &str) -> Result<Topic, Failure> {
        self.metadata.state().topic(name).cloned().ok_or_else(|| unknown_topic(name))
    }

    /// The handle of a partition.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition`.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Result<Arc<Partition>, Failure> {
        let at = TopicPartition { topic, partition };
        let found = self.partitions.get(&at).map(|found| Arc::clone(&found));
        found.ok_or_else(|| not_served(&self.metadata.state(), at))
    }

    /// All handles of a topic's partitions, by index.
    pub fn partitions_of(&self, topic: &Topic) -> Vec<Arc<Partition>> {
        (0..topic.partitions).filter_map(|index| self.partition(topic.id, PartitionIndex(index)).ok()).collect()
    }

    /// Every open partition, in no order.
    pub fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// What applies to a topic after the broker's defaults.
    pub fn effective(&self, topic: &Topic) -> TopicConfig {
        self.defaults.effective(&TopicConfig::from(&topic.config))
    }

    /// Creates a topic; it is served when this returns.
    ///
    /// # Errors
    /// The name, the settings or a limit; `TopicExists` unless `if_not_exists`; a full disk.
    pub async fn create(&self, request: &CreateTopic) -> Result<CreateTopicAck, Failure> {
        if request.name.starts_with(INTERNAL_PREFIX) {
            let message = format!("topic names that begin with `{INTERNAL_PREFIX}` belong to the broker");
            return Err(Failure::new(ErrorCode::InvalidTopic, message));
        }
        self.create_any(request, false).await
    }

    /// [`Topics::create`], for internal topics too.
    pub(crate) async fn create_any(&self, request: &CreateTopic, internal: bool) -> Result<CreateTopicAck, Failure> {
        let mut unmade = self.changing.lock().await;
        self.take_back_locked(&mut unmade).await;
        if let Some(known) = self.metadata.state().topic(&request.name).filter(|_| request.if_not_exists) {
            return Ok(CreateTopicAck { id: known.id, created: false, partitions: known.partitions });
        }
        check_topic_name(&request.name).map_err(|message| Failure::new(ErrorCode::InvalidTopic, message))?;
        check_config(&request.config, &self.limits)?;
        self.check_room(&request.name, 0, request.partitions)?;
        if self.metadata.state().topics().len() >= self.limits.topics_max {
            return Err(over("topics_max", self.limits.topics_max as u64));
        }
        self.clear_the_way(&request.name).await?;
        let id = TopicId(rand::random());
        let command = Command::CreateTopic {
            name: request.name.clone(),
            id,
            partitions: request.partitions,
            config: (&request.config).into(),
            internal,
            at_ms: now_ms(),
        };
        self.metadata.submit(command).await?;
        let topic = self.topic(&request.name)?;
        if let Err(failure) = self.open_new(&topic, 0).await {
            unmade.push(topic);
            self.take_back_locked(&mut unmade).await;
            return Err(failure);
        }
        Ok(CreateTopicAck { id, created: true, partitions: topic.partitions })
    }

    /// Deletes topics whose creation failed. Those that can't be deleted either wait for the next time.
    async fn take_back_locked(&self, unmade: &mut Vec<Topic>) {
        while let Some(topic) = unmade.last() {
            let exists = self.metadata.state().topic_by_id(topic.id).is_some();
            if exists && let Err(error) = self.delete_locked(topic).await {
                tracing::warn!(topic = topic.name, %error, "a topic that could not be made can't be deleted yet");
                return;
            }
            self.remove_files(topic.id).await;
            unmade.pop();
        }
    }

    /// Tries again to delete topics whose creation failed, in the background.
    pub(crate) fn take_back(self: &Arc<Self>) {
        if self.changing.try_lock().is_ok_and(|unmade| !unmade.is_empty()) {
            let topics = Arc::clone(self);
            tokio::spawn(async move { topics.take_back_locked(&mut *topics.changing.lock().await).await });
        }
    }

    /// Adds partitions, changes settings.
    ///
    /// # Errors
    /// `UnknownTopic`, fewer partitions than before, a setting or a limit.
    pub async fn alter(&self, request: &AlterTopic) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let before = self.topic(&request.name)?;
        refuse_internal(&before)?;
        check_config(&request.config, &self.limits)?;
        if let Some(asked) = request.partitions {
            self.check_room(&request.name, before.partitions, asked)?;
        }
        let (name, partitions) = (request.name.clone(), request.partitions);
        self.metadata.submit(Command::AlterTopic { name, partitions, config: (&request.config).into() }).await?;
        let topic = self.topic(&request.name)?;
        let (config, durability) = self.log_config(&topic);
        for index in 0..before.partitions {
            let id = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            let command = shard::Command::SetConfig { id, config: config.clone(), durability };
            self.shards.mailbox_of(id).send(command).await.map_err(|_| crate::error::shutting_down())?;
        }
        if topic.partitions > before.partitions {
            self.open_new(&topic, before.partitions).await?;
        }
        Ok(())
    }

    /// Deletes a topic. It is gone when this returns; its files go in the background.
    ///
    /// # Errors
    /// `UnknownTopic`; `Forbidden` for internal topics.
    pub async fn delete(self: &Arc<Self>, name: &str) -> Result<Topic, Failure> {
        let _changing = self.changing.lock().await;
        let topic = self.topic(name)?;
        refuse_internal(&topic)?;
        self.delete_locked(&topic).await?;
        let (topics, id) = (Arc::clone(self), topic.id);
        tokio::spawn(async move { topics.remove_files(id).await });
        Ok(topic)
    }

    async fn delete_locked(&self, topic: &Topic) -> Result<(), Failure> {
        let command = Command::DeleteTopic { name: topic.name.clone(), id: topic.id };
        let applied = self.metadata.submit(command).await?;
        debug_assert!(matches!(applied.event, Event::TopicDeleted { .. }), "the delete was not refused");
        let reason = unknown_topic(&topic.name);
        for index in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            let Some((_, partition)) = self.partitions.remove(&id) else { continue };
            let (reply, closed) = tokio::sync::oneshot::channel();
            let command = shard::Command::Close { id, reason: reason.clone(), reply };
            if self.shards.mailbox_of(id).send(command).await.is_ok() {
                let _ = closed.await;
            }
            partition.set_offline(reason.clone());
        }
        // Before the name is free for a new topic, its folders are.
        let (volume, id) = (Arc::clone(self.data_dir.volume()), topic.id);
        let renamed = tokio::task::spawn_blocking(move || folder::set_aside(&*volume, id)).await;
        if let Ok(Err(error)) = renamed {
            let message = format!("files of deleted topic `{}` can't be renamed: {error}", topic.name);
            return Err(Failure::new(ErrorCode::StorageUnavailable, message));
        }
        Ok(())
    }

    /// Renames what an earlier topic of this name left, if its deletion could not.
    async fn clear_the_way(&self, name: &str) -> Result<(), Failure> {
        let (volume, state) = (Arc::clone(self.data_dir.volume()), self.metadata.state());
        let own = name.to_owned();
        let cleared =
            tokio::task::spawn_blocking(move || folder::clear_the_way(&*volume, &own, state.deleted_topics())).await;
        let Ok(Err(error)) = cleared else { return Ok(()) };
        let message = format!("files of the topic `{name}` that was deleted before can't be renamed: {error}");
        Err(Failure::new(ErrorCode::StorageUnavailable, message))
    }

    /// Removes what is left of a deleted topic's files. Failing is harmless: the next start tries again.
    async fn remove_files(&self, id: TopicId) {
        let volume = Arc::clone(self.data_dir.volume());
        let removed =
            tokio::task::spawn_blocking(move || folder::remove(&*volume, &folder::set_aside(&*volume, id)?)).await;
        match removed {
            Ok(Ok(())) => {
                if let Err(error) = self.metadata.submit(Command::ForgetDeleted { id }).await {
                    tracing::warn!(%id, %error, "deleted topic is not forgotten yet");
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%id, %error, "files of a deleted topic remain; the next start removes them")
            }
            Err(_) => {}
        }
    }

    /// Opens the partitions of `topic` from index `from` on, which are new.
    async fn open_new(&self, topic: &Topic, from: u32) -> Result<(), Failure> {
        let specs = (from..topic.partitions).map(|index| self.spec(topic, PartitionIndex(index))).collect();
        let opened = self.shards.open(specs).await?;
        let reason = opened.iter().find_map(|partition| partition.offline());
        self.serve(opened);
        if let Some(reason) = reason {
            return Err(Failure::clone(&reason));
        }
        self.metadata.submit(Command::PartitionsReady { id: topic.id, partitions: topic.partitions }).await?;
        Ok(())
    }

    fn serve(&self, opened: Vec<Arc<Partition>>) {
        for partition in opened {
            self.partitions.insert(partition.id(), partition);
        }
    }

    fn spec(&self, topic: &Topic, partition: PartitionIndex) -> Spec {
        let (config, durability) = self.log_config(topic);
        Spec {
            id: TopicPartition { topic: topic.id, partition },
            topic: topic.name.as_str().into(),
            folder: folder::path_of(&topic.name, partition),
            config,
            durability,
            must_exist: partition.0 < topic.ready,
            stats: Arc::clone(&self.stats),
        }
    }

    fn log_config(&self, topic: &Topic) -> (log::Config, Durability) {
        let effective = self.effective(topic);
        let durability = effective.durability.unwrap_or(Durability::Disk);
        (shard::log_config(&effective), durability)
    }

    /// Whether a topic may grow from `before` to `asked` partitions.
    fn check_room(&self, topic: &str, before: u32, asked: u32) -> Result<(), Failure> {
        let max = self.limits.partitions_per_topic_max;
        if asked == 0 || asked > max {
            let message =
                format!("topic `{topic}` may have 1 to {max} partitions (partitions_per_topic_max), asked for {asked}");
            return Err(Failure::new(ErrorCode::InvalidTopic, message));
        }
        if self.partitions.len() + asked.saturating_sub(before) as usize > self.limits.partitions_max {
            return Err(over("partitions_max", self.limits.partitions_max as u64));
        }
        Ok(())
    }

    pub(crate) fn tick(&self) {
        self.shards.tick();
    }

    pub(crate) async fn shutdown(&self) {
        self.shards.shutdown().await;
    }

    /// See [`Shards::abort`].
    pub(crate) fn abort(&self) {
        self.shards.abort();
    }
}

fn refuse_internal(topic: &Topic) -> Result<(), Failure> {
    if topic.internal {
        return Err(Failure::new(ErrorCode::Forbidden, format!("topic `{}` is the broker's own", topic.name)));
    }
    Ok(())
}

fn over(limit: &str, max: u64) -> Failure {
    Failure::new(ErrorCode::LimitExceeded, format!("the broker's limit {limit} of {max} is reached"))
}

/// Settings that would make a log useless are refused.
fn check_config(config: &TopicConfig, limits: &Limits) -> Result<(), Failure> {
    let check = |name: &str, value: Option<i64>, min: i64, max: i64| match value {
        Some(value) if value < min || value > max => {
            let message = format!("{name} must be between {min} and {max}, got {value}");
            Err(Failure::new(ErrorCode::InvalidTopic, message))
        }
        _ => Ok(()),
    };
    let large = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    check("retention_ms", config.retention_ms, -1, i64::MAX)?;
    check("retention_bytes", config.retention_bytes, -1, i64::MAX)?;
    check("segment_bytes", large(config.segment_bytes), 4_096, 1 << 30)?;
    check("segment_ms", config.segment_ms, 1_000, i64::MAX)?;
    check("batch_bytes_max", config.batch_bytes_max.map(i64::from), 1_024, i64::from(limits.batch_bytes_max))
}
