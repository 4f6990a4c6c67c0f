//! Topics: create, describe, alter, delete, and cutting their start.

use std::sync::Arc;

use futures_util::future::join_all;
use millstream_cluster::metadata::Topic;
use millstream_protocol::access::Resource;
use millstream_protocol::message::{
    AlterTopic, CreateTopic, CreateTopicAck, DeleteRecords, DeleteRecordsAck, DeleteTopic, DescribeTopics,
    DescribeTopicsAck, Done, PartitionDescription, TopicDescription,
};
use millstream_protocol::{ErrorCode, Failure};

use super::Core;
use super::dispatch::done;
use super::session::Session;
use crate::partition::Partition;
use crate::topics::INTERNAL_PREFIX;

pub(super) async fn create(core: Arc<Core>, request: CreateTopic) -> Result<CreateTopicAck, Failure> {
    core.service.create_topic(&request).await
}

pub(super) async fn alter(core: Arc<Core>, request: AlterTopic) -> Result<Done, Failure> {
    done(core.service.topics().alter(&request).await)
}

pub(super) async fn delete(core: Arc<Core>, request: DeleteTopic) -> Result<Done, Failure> {
    done(core.service.topics().delete(&request.name).await.map(drop))
}

pub(super) async fn delete_records(core: Arc<Core>, request: DeleteRecords) -> Result<DeleteRecordsAck, Failure> {
    let partition = core.service.partition(request.topic, request.partition)?;
    if partition.topic().starts_with(INTERNAL_PREFIX) {
        let message = format!("topic `{}` is the broker's own", partition.topic());
        return Err(Failure::new(ErrorCode::Forbidden, message));
    }
    Ok(DeleteRecordsAck { log_start: partition.delete_records(request.before).await? })
}

/// Of those asked for, the topics that the caller sees.
pub(super) async fn describe(
    core: Arc<Core>,
    session: Arc<Session>,
    request: DescribeTopics,
) -> Result<DescribeTopicsAck, Failure> {
    let state = core.service.state();
    let mut wanted: Vec<&Topic> = if request.names.is_empty() {
        state.topics().filter(|topic| request.include_internal || !topic.internal).collect()
    } else {
        request.names.iter().filter_map(|name| state.topic(name)).collect()
    };
    wanted.retain(|topic| session.caller.sees(Resource::Topic, &topic.name));
    let topics = join_all(wanted.into_iter().map(|topic| describe_topic(&core, topic))).await;
    Ok(DescribeTopicsAck { topics })
}

async fn describe_topic(core: &Core, topic: &Topic) -> TopicDescription {
    let leader = core.service.data_dir.meta().node_id;
    let partitions = core.service.topics().partitions_of(topic);
    let partitions = join_all(partitions.iter().map(|partition| describe_partition(partition, leader))).await;
    TopicDescription {
        name: topic.name.clone(),
        id: topic.id,
        internal: topic.internal,
        config: (&topic.config).into(),
        effective: core.service.topics().effective(topic),
        created_at_ms: topic.created_at_ms,
        partitions,
    }
}

/// A partition that can't answer is described as far as it is known.
async fn describe_partition(partition: &Partition, leader: u32) -> PartitionDescription {
    let log = partition.describe().await.unwrap_or_default();
    PartitionDescription {
        partition: partition.index(),
        leader,
        log_start: partition.log_start(),
        high_watermark: partition.high_watermark(),
        log_end: partition.log_end(),
        bytes: log.bytes,
        segments: log.segments,
        oldest_timestamp: log.oldest_timestamp,
        offline: partition.offline().map(|reason| reason.message.clone()),
    }
}
