//! Examples of the messages about topics.

use millstream_protocol::message::*;
use millstream_protocol::{Offset, PartitionIndex};

use super::{Row, row};

pub(crate) const TOPIC: millstream_protocol::TopicId =
    millstream_protocol::TopicId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

fn config() -> TopicConfig {
    TopicConfig {
        retention_ms: Some(604_800_000),
        retention_bytes: Some(-1),
        segment_bytes: None,
        segment_ms: None,
        batch_bytes_max: Some(1_048_576),
        durability: Some(Durability::Replicated),
    }
}

fn effective() -> TopicConfig {
    TopicConfig {
        segment_bytes: Some(1 << 30),
        segment_ms: Some(86_400_000),
        durability: Some(Durability::Disk),
        ..config()
    }
}

fn description() -> TopicDescription {
    TopicDescription {
        name: "orders".into(),
        id: TOPIC,
        internal: false,
        config: config(),
        effective: effective(),
        created_at_ms: 1_700_000_000_000,
        partitions: vec![PartitionDescription {
            partition: PartitionIndex(2),
            leader: 1,
            log_start: Offset(10),
            high_watermark: Offset(20),
            log_end: Offset(21),
            bytes: 4096,
            segments: 3,
            oldest_timestamp: 1_699_999_999_999,
            offline: Some("checksum mismatch".into()),
        }],
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let create = CreateTopic { name: "orders".into(), partitions: 3, config: config(), if_not_exists: true };
    let alter = AlterTopic { name: "orders".into(), partitions: Some(6), config: config() };
    let delete_records =
        DeleteRecords { topic: TOPIC, partition: PartitionIndex(2), before: Some(Offset(1_234_567_890_123)) };
    vec![
        row(
            DescribeTopics { names: vec!["orders".into(), "payments".into()], include_internal: true },
            DescribeTopicsAck { topics: vec![description()] },
        ),
        row(create, CreateTopicAck { id: TOPIC, created: true, partitions: 3 }),
        row(DeleteTopic { name: "orders".into() }, Done),
        row(alter, Done),
        row(delete_records, DeleteRecordsAck { log_start: Offset(1_234_567_890_123) }),
    ]
}
