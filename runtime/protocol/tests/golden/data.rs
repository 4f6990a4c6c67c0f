//! Examples of the messages that carry records.

use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, ProducerId};

use super::admin::TOPIC;
use super::{Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let produce = Produce {
        acks: Acks::All,
        entries: vec![
            ProduceEntry { topic: TOPIC, partition: PartitionIndex(0), bytes: 1000 },
            ProduceEntry { topic: TOPIC, partition: PartitionIndex(1), bytes: 2000 },
        ],
    };
    let produce_ack = ProduceAck {
        results: vec![
            ProduceResult { base_offset: Offset(100), log_start: Offset(10), failure: None },
            ProduceResult {
                base_offset: Offset(-1),
                log_start: Offset(-1),
                failure: Some(Failure::new(ErrorCode::NotLeader, "orders/1 is led by node 2")),
            },
        ],
    };
    let fetch = Fetch {
        topic: TOPIC,
        partition: PartitionIndex(2),
        offset: Offset(1_234_567_890_123),
        bytes_max: 1_048_576,
        wait_ms: 500,
    };
    let subscribe = Subscribe {
        entries: vec![SubscribeEntry { topic: TOPIC, partition: PartitionIndex(2), offset: Offset(42) }],
        bytes_max: 262_144,
    };
    let batches = Batches {
        topic: TOPIC,
        partition: PartitionIndex(2),
        high_watermark: Offset(100),
        log_start: Offset(10),
        failure: Some(Failure::new(ErrorCode::CorruptData, "segment 42 of orders/2: checksum mismatch")),
    };
    let list_offsets = ListOffsets {
        topic: TOPIC,
        partitions: vec![PartitionIndex(0), PartitionIndex(2)],
        position: Position::Timestamp(1_700_000_000_000),
    };
    vec![
        row(produce, produce_ack),
        row(InitProducer, InitProducerAck { producer_id: ProducerId(4000), producer_epoch: 3 }),
        row(fetch, FetchAck { high_watermark: Offset(1_234_567_890_124), log_start: Offset(10) }),
        row(subscribe, batches),
        row(list_offsets, ListOffsetsAck { offsets: vec![Offset(0), Offset(1_234_567_890_123)] }),
    ]
}
