//! Examples of the messages about consumer groups.

use millstream_protocol::message::*;
use millstream_protocol::{Offset, PartitionIndex};

use super::admin::TOPIC;
use super::{Row, row};

fn partitions() -> Vec<TopicPartitions> {
    vec![TopicPartitions { topic: TOPIC, partitions: vec![PartitionIndex(0), PartitionIndex(2)] }]
}

fn offsets() -> Vec<CommittedOffset> {
    vec![CommittedOffset {
        topic: TOPIC,
        partition: PartitionIndex(2),
        offset: Offset(1_234_567_890_123),
        metadata: "a note of the client".into(),
    }]
}

fn heartbeat() -> GroupHeartbeat {
    GroupHeartbeat {
        group: "billing".into(),
        member_id: "member-1".into(),
        generation: 7,
        client_name: "test".into(),
        topics: vec!["orders".into()],
        session_timeout_ms: 45_000,
        owned: partitions(),
    }
}

fn description() -> DescribeGroupAck {
    DescribeGroupAck {
        group: "billing".into(),
        state: "stable".into(),
        generation: 7,
        members: vec![GroupMember {
            member_id: "member-1".into(),
            client_name: "test".into(),
            session_timeout_ms: 45_000,
        }],
        partitions: vec![GroupPartition {
            topic: "orders".into(),
            partition: PartitionIndex(2),
            committed: Some(Offset(90)),
            log_end: Offset(100),
            lag: Some(10),
            member_id: "member-1".into(),
            metadata: "a note of the client".into(),
        }],
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let heartbeat_ack = GroupHeartbeatAck {
        member_id: "member-1".into(),
        generation: 8,
        assignment: partitions(),
        heartbeat_interval_ms: 3000,
    };
    let commit =
        CommitOffsets { group: "billing".into(), member_id: "member-1".into(), generation: 8, offsets: offsets() };
    let summary = GroupSummary { group: "billing".into(), state: "stable".into(), members: 2, lag: 1000 };
    vec![
        row(heartbeat(), heartbeat_ack),
        row(LeaveGroup { group: "billing".into(), member_id: "member-1".into() }, Done),
        row(commit, Done),
        row(FetchOffsets { group: "billing".into(), partitions: partitions() }, FetchOffsetsAck { offsets: offsets() }),
        row(ListGroups, ListGroupsAck { groups: vec![summary] }),
        row(DescribeGroup { group: "billing".into() }, description()),
        row(DeleteGroup { group: "billing".into() }, Done),
    ]
}
