//! Committed offsets as records of the internal topic `__consumer_offsets`, written through the ordinary
//! append and sync, replayed at start.

use std::sync::Arc;

use bytes::Bytes;
use millstream_cluster::group::Entry;
use millstream_protocol::batch::{BatchBuilder, Compression, decode_batches, split_batches};
use millstream_protocol::message::{CreateTopic, Durability, TopicConfig};
use millstream_protocol::{Columns, Failure, Offset, PartitionIndex};

use super::owner::damaged;
use crate::error::StartError;
use crate::partition::{Batches, Partition};
use crate::topics::Topics;

/// Kafka's name for it.
pub(super) const TOPIC: &str = "__consumer_offsets";
/// Records are put into batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes read at a time during replay.
const READ_BYTES: usize = 1024 * 1024;
/// No batch of this topic is compressed or larger.
const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;

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

/// Everything in the log, in order. Blocking.
pub(super) fn replay(partition: &Partition) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut columns = Columns::default();
    let mut position = partition.log_start();
    loop {
        let fetched = partition.read(position, READ_BYTES)?;
        let Some(last) = split_batches(&fetched.bytes).last() else { return Ok(entries) };
        let (last, _) = last.map_err(|e| damaged(position, e))?;
        columns.clear();
        let decoded = decode_batches(&fetched.bytes, position, DECODED_BYTES_MAX, &mut columns);
        decoded.map_err(|e| damaged(position, e))?;
        for row in columns.rows() {
            let entry = Entry::decode(row.key.unwrap_or_default(), row.value);
            entries.push(entry.map_err(|e| damaged(Offset(row.offset), e))?);
        }
        position = last.next_offset();
    }
}

/// Entries as batches, ready to append.
pub(super) fn encode(entries: &[Entry], now_ms: i64) -> Batches {
    let mut batches = Batches::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for entry in entries {
        builder.push_simple(now_ms, Some(&entry.encode_key()), entry.encode_value().as_deref());
        if builder.bytes() >= BATCH_BYTES {
            batches.extend(parsed(builder.build()));
        }
    }
    if !builder.is_empty() {
        batches.extend(parsed(builder.build()));
    }
    batches
}

fn parsed(batch: Bytes) -> Batches {
    split_batches(&batch).map(|split| split.expect("a batch that was just built")).collect()
}
