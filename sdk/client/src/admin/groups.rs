//! Groups: list, describe, set their offsets, delete.

use millstream_protocol::message::{
    CommitOffsets, CommittedOffset, DeleteGroup, DescribeGroup, DescribeGroupAck, FetchOffsets, GroupSummary,
    ListGroups,
};
use millstream_protocol::{Offset, PartitionIndex};

use super::Admin;
use crate::Error;

impl Admin {
    /// All groups, those of pipelines included.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, Error> {
        Ok(self.link.call(&ListGroups).await?.groups)
    }

    /// Members, partitions and lag of one group.
    ///
    /// # Errors
    /// It does not exist, or the broker can't be reached.
    pub async fn describe_group(&self, group: &str) -> Result<DescribeGroupAck, Error> {
        self.link.call(&DescribeGroup { group: group.to_owned() }).await
    }

    /// Every committed offset of a group.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn committed_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>, Error> {
        let request = FetchOffsets { group: group.to_owned(), partitions: Vec::new() };
        Ok(self.link.call(&request).await?.offsets)
    }

    /// Sets where a group without members goes on: pairs of partition and offset of one topic.
    ///
    /// # Errors
    /// The group has members, there is no such partition, or the broker can't be reached.
    pub async fn set_offsets(&self, group: &str, topic: &str, offsets: &[(u32, i64)]) -> Result<(), Error> {
        let topic = self.link.refresh_topic(topic).await?.id;
        let offset = |(partition, offset): &(u32, i64)| CommittedOffset {
            topic,
            partition: PartitionIndex(*partition),
            offset: Offset(*offset),
            metadata: String::new(),
        };
        let request = CommitOffsets {
            group: group.to_owned(),
            member_id: String::new(),
            generation: 0,
            offsets: offsets.iter().map(offset).collect(),
        };
        self.link.call(&request).await.map(|_| ())
    }

    /// Forgets a group without members and its offsets.
    ///
    /// # Errors
    /// It does not exist, has members, belongs to a pipeline, or the broker can't be reached.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.call(&DeleteGroup { group: group.to_owned() }).await.map(|_| ())
    }
}
