//! Topics: create, list, describe, alter, delete, and what their partitions hold.

use millstream_protocol::message::{
    AlterTopic, CreateTopic, CreateTopicAck, DeleteRecords, DeleteTopic, DescribeTopics, TopicConfig, TopicDescription,
};
use millstream_protocol::{Offset, PartitionIndex};

use super::Admin;
use crate::Error;
use crate::position::{Start, resolve};

impl Admin {
    /// Creates a topic with the broker's default settings.
    ///
    /// # Errors
    /// It exists, its name is not allowed, or the broker can't be reached.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> Result<CreateTopicAck, Error> {
        self.create_topic_with(name, partitions, TopicConfig::default()).await
    }

    /// Creates a topic with settings of its own.
    ///
    /// # Errors
    /// As [`Admin::create_topic`].
    pub async fn create_topic_with(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<CreateTopicAck, Error> {
        let request = CreateTopic { name: name.to_owned(), partitions, config, if_not_exists: false };
        self.call(&request).await
    }

    /// Creates a topic unless there is one of that name, which then stays as it is.
    ///
    /// # Errors
    /// Its name is not allowed, or the broker can't be reached.
    pub async fn ensure_topic(&self, name: &str, partitions: u32) -> Result<CreateTopicAck, Error> {
        let config = TopicConfig::default();
        self.link.call(&CreateTopic { name: name.to_owned(), partitions, config, if_not_exists: true }).await
    }

    /// All topics but the internal ones.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, Error> {
        Ok(self.link.call(&DescribeTopics::default()).await?.topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        let request = DescribeTopics { names: vec![name.to_owned()], include_internal: true };
        let topics = self.link.call(&request).await?.topics;
        topics.into_iter().next().ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    /// Sets the settings that are `Some`, and more partitions if asked for.
    ///
    /// # Errors
    /// It does not exist, a setting is impossible, or the broker can't be reached.
    pub async fn alter_topic(&self, name: &str, partitions: Option<u32>, config: TopicConfig) -> Result<(), Error> {
        self.link.forget_topic(name);
        self.link.call(&AlterTopic { name: name.to_owned(), partitions, config }).await.map(|_| ())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// It does not exist, is in use, or the broker can't be reached.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.link.forget_topic(name);
        self.call(&DeleteTopic { name: name.to_owned() }).await.map(|_| ())
    }

    /// Deletes the records of a partition before an offset, or all there are; the oldest offset left.
    ///
    /// # Errors
    /// There is no such partition or offset, or the broker can't be reached.
    pub async fn delete_records(&self, topic: &str, partition: u32, before: Option<i64>) -> Result<i64, Error> {
        let topic = self.link.refresh_topic(topic).await?.id;
        let partition = PartitionIndex(partition);
        let ack = self.link.call(&DeleteRecords { topic, partition, before: before.map(Offset) }).await?;
        Ok(ack.log_start.0)
    }

    /// What offset a position means in every partition of a topic.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn offsets(&self, topic: &str, position: Start) -> Result<Vec<i64>, Error> {
        let topic = self.link.refresh_topic(topic).await?;
        let partitions: Vec<PartitionIndex> = (0..topic.partitions).map(PartitionIndex).collect();
        resolve(&self.link, topic.id, &partitions, position).await
    }
}
