//! The internal topic `__consumer_offsets`, written through the ordinary append and sync. What its records say is
//! [`crate::core::groups`]'.

use std::sync::Arc;

use millstream_protocol::message::{CreateTopic, Durability, TopicConfig};
use millstream_protocol::{Failure, PartitionIndex};

use crate::core::groups::TOPIC;
use crate::error::StartError;
use crate::partition::Partition;
use crate::topics::Topics;

/// The topic's one partition, created if need be. It may be offline.
pub(super) async fn open(topics: &Topics) -> Result<Arc<Partition>, StartError> {
    let failed = |failure: Failure| StartError::InternalTopic { topic: TOPIC.to_owned(), reason: failure.message };
    let config = TopicConfig {
        retention_ms: Some(-1),
        retention_bytes: Some(-1),
        segment_bytes: Some(4 << 20),
        durability: Some(Durability::Disk),
        ..TopicConfig::default()
    };
    let request = CreateTopic { name: TOPIC.to_owned(), partitions: 1, config, if_not_exists: true };
    let topic = topics.create_any(&request, true).await.map_err(failed)?;
    topics.partition(topic.id, PartitionIndex(0)).map_err(failed)
}
