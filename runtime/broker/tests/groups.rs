//! Groups through the door: committed offsets that last, members that share, lag.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use millstream_broker::Config;
use millstream_broker::limits::Limits;
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, TopicId};
use support::*;

fn commit(group: &str, topic: TopicId, partition: u32, offset: i64) -> CommitOffsets {
    let offset = CommittedOffset {
        topic,
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        metadata: "note".into(),
    };
    CommitOffsets { group: group.into(), member_id: String::new(), generation: 0, offsets: vec![offset] }
}

async fn committed(client: &Client, group: &str) -> Vec<(u32, i64, String)> {
    let request = FetchOffsets { group: group.into(), partitions: vec![] };
    let offsets = client.rpc.call(&request).await.unwrap().offsets;
    offsets.into_iter().map(|o| (o.partition.0, o.offset.0, o.metadata)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_survive_a_stop_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = start(folder.path()).await;
    let mut client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 2).await;
    for round in 1..=4 {
        client.rpc.call(&commit("billing", topic, 0, round)).await.unwrap();
        if round % 2 == 0 {
            broker.shutdown().await;
        } else {
            drop(broker);
        }
        broker = start(folder.path()).await;
        client = connect(&broker, folder.path()).await;
        assert_eq!(committed(&client, "billing").await, [(0, round, "note".to_owned())]);
    }
    client.rpc.call(&DeleteGroup { group: "billing".into() }).await.unwrap();
    drop(broker);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(committed(&client, "billing").await, []);
    let unknown = client.rpc.call(&DescribeGroup { group: "billing".into() }).await.unwrap_err();
    assert_eq!(code(&unknown), ErrorCode::UnknownGroup);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_and_lag_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 2).await;
    client.produce(topic, 0, batch(&["a", "b", "c"])).await.unwrap();
    let mut join = GroupHeartbeat {
        group: "billing".into(),
        member_id: String::new(),
        generation: 0,
        client_name: "one".into(),
        topics: vec!["orders".into()],
        session_timeout_ms: 30_000,
        owned: vec![],
    };
    let joined = client.rpc.call(&join).await.unwrap();
    assert_eq!(joined.assignment.iter().map(|t| t.partitions.len()).sum::<usize>(), 2);
    join.member_id = joined.member_id.clone();
    join.generation = joined.generation;
    join.owned = joined.assignment;
    client.rpc.call(&join).await.unwrap();
    let mut own = commit("billing", topic, 0, 1);
    own.member_id = joined.member_id.clone();
    own.generation = joined.generation;
    client.rpc.call(&own).await.unwrap();
    let zombie = CommitOffsets { member_id: "gone".into(), ..own };
    assert_eq!(code(&client.rpc.call(&zombie).await.unwrap_err()), ErrorCode::UnknownMember);
    let described = client.rpc.call(&DescribeGroup { group: "billing".into() }).await.unwrap();
    let shown: Vec<_> = described.partitions.iter().map(|p| (p.partition.0, p.committed, p.lag)).collect();
    assert_eq!(shown, [(0, Some(Offset(1)), Some(2)), (1, None, None)]);
    let listed = client.rpc.call(&ListGroups).await.unwrap().groups;
    assert_eq!(listed.iter().map(|g| (g.group.as_str(), g.members, g.lag)).collect::<Vec<_>>(), [("billing", 1, 2)]);
    let leave = LeaveGroup { group: "billing".into(), member_id: joined.member_id };
    client.rpc.call(&leave).await.unwrap();
    assert_eq!(client.rpc.call(&ListGroups).await.unwrap().groups[0].members, 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offsets_topic_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { offsets_records_max: 500, ..Limits::default() };
    let broker = start_with(Config { limits, ..Config::embedded(folder.path()) }).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("wide", 20).await;
    let offsets = |offset| {
        let one = |partition| commit("billing", topic, partition, offset).offsets.remove(0);
        CommitOffsets { offsets: (0..20).map(one).collect(), ..commit("billing", topic, 0, 0) }
    };
    // 2,000 records, of which 20 matter.
    for offset in 1..=100 {
        client.rpc.call(&offsets(offset)).await.unwrap();
    }
    let described = client.describe("__consumer_offsets").await.unwrap();
    let kept = described.partitions[0].log_end - described.partitions[0].log_start;
    assert!(kept < 1_000, "{kept} records are kept");
    drop(broker);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let expected: Vec<_> = (0..20).map(|partition| (partition, 100, "note".to_owned())).collect();
    assert_eq!(committed(&client, "billing").await, expected);
    broker.shutdown().await;
}
