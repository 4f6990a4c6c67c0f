//! Examples of the session's messages.

use millstream_protocol::message::*;

use super::{Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let hello = Hello { token: "secret".into(), client_name: "test".into(), client_version: "0.1.0".into() };
    let hello_ack = HelloAck {
        cluster_id: "cluster-1".into(),
        node_id: 1,
        server_version: "0.1.0".into(),
        frame_bytes_max: 16_777_216,
        batch_bytes_max: 1_048_576,
    };
    let status = ClusterStatusAck {
        cluster_id: "cluster-1".into(),
        server_version: "0.1.0".into(),
        nodes: vec![NodeStatus {
            node_id: 1,
            quic_address: "127.0.0.1:9094".into(),
            http_address: "127.0.0.1:9096".into(),
            uptime_ms: 60_000,
            data_dir: "/var/lib/millstream".into(),
            log_bytes: 12_345_678_901,
            disk_free_bytes: 98_765_432_109,
            connections: 3,
        }],
        topics: 4,
        partitions: 12,
        offline: vec![OfflinePartition { topic: "orders".into(), partition: 2, reason: "checksum mismatch".into() }],
        groups: 5,
        plugins: 6,
        pipelines: 7,
        ready: false,
        findings: vec![Finding { cause: Cause::DiskRefusesWrites, message: "free some space".into() }],
    };
    vec![row(hello, hello_ack), row(ClusterStatus, status)]
}
