//! What outlives the process: clean restarts, crashes, deleted topics, damaged and foreign folders.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use millstream_broker::metadata::Store;
use millstream_broker::{Broker, Config};
use millstream_cluster::metadata::Command;
use millstream_log::{DiskStorage, Storage};
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, TopicId};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_a_stop_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut ids = Vec::new();
    for round in 0..4 {
        let broker = start(folder.path()).await;
        let client = connect(&broker, folder.path()).await;
        let request =
            CreateTopic { name: "orders".into(), partitions: 1, config: TopicConfig::default(), if_not_exists: true };
        let topic = client.rpc.call(&request).await.unwrap();
        assert_eq!(topic.created, round == 0);
        assert_eq!(client.fetch_all(topic.id, 0).await, expected, "round {round}");
        for number in 0..20 {
            let value = format!("{round}-{number}");
            client.produce(topic.id, 0, batch(&[&value])).await.unwrap();
            expected.push(value);
        }
        ids.push(client.rpc.call(&InitProducer).await.unwrap().producer_id);
        if round % 2 == 0 {
            broker.shutdown().await;
        } else {
            drop(broker);
        }
    }
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "producer ids are never given twice: {ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_has_one_broker_and_one_address_too() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(folder.path()).await;
    let refused = async |config| Broker::start(config).await.err().map(|e| e.to_string()).unwrap_or_default();
    let in_use = refused(Config::embedded(folder.path())).await;
    assert!(in_use.contains(&format!("is in use by process {}: ", std::process::id())), "{in_use}");
    let taken = refused(Config { quic: broker.quic_addr(), ..Config::embedded(other.path()) }).await;
    assert!(taken.contains("is taken by another process: "), "{taken}");
    let exposed = refused(Config { quic: "0.0.0.0:0".parse().unwrap(), ..Config::embedded(other.path()) }).await;
    assert!(exposed.contains("is reachable from other machines: "), "{exposed}");
    broker.shutdown().await;
    start(folder.path()).await.shutdown().await;
    start(other.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_again_is_another_topic() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let first = client.create("orders", 2).await;
    client.produce(first, 0, batch(&["old"])).await.unwrap();
    let (_writer, mut reader) = client.subscribe(vec![from(first, 0, 1)], 1 << 20).await;
    client.rpc.call(&DeleteTopic { name: "orders".into() }).await.unwrap();
    let end = reader.read(1 << 20).await.unwrap().unwrap().response::<Subscribe>().unwrap();
    assert_eq!(end.failure.map(|failure| failure.code), Some(ErrorCode::UnknownTopic));
    assert!(reader.read(1 << 20).await.unwrap().is_none(), "nothing is left to push");
    let second = client.create("orders", 1).await;
    assert_ne!(first, second);
    assert_eq!(client.fetch_all(second, 0).await, [""; 0]);
    assert_eq!(client.produce(first, 0, batch(&["x"])).await.unwrap_err().code, ErrorCode::UnknownTopic);
    assert_eq!(code(&client.fetch(first, 0, 0).await.unwrap_err()), ErrorCode::UnknownTopic);
    let again =
        CreateTopic { name: "orders".into(), partitions: 1, config: TopicConfig::default(), if_not_exists: false };
    assert_eq!(code(&client.rpc.call(&again).await.unwrap_err()), ErrorCode::TopicExists);
    broker.shutdown().await;
    // Whatever the background had not removed yet, this start does.
    start(folder.path()).await.shutdown().await;
    let mut names: Vec<_> =
        fs::read_dir(folder.path().join("topics")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["__consumer_offsets-0", "orders-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_grow_and_change() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let alter = |partitions, config| AlterTopic { name: "orders".into(), partitions, config };
    let small = TopicConfig { batch_bytes_max: Some(1024), ..TopicConfig::default() };
    client.rpc.call(&alter(Some(3), small)).await.unwrap();
    client.produce(topic, 2, batch(&["x"])).await.unwrap();
    let large = batch(&["x".repeat(2000).as_str()]);
    assert_eq!(client.produce(topic, 0, large).await.unwrap_err().code, ErrorCode::BatchTooLarge);
    let shrink = client.rpc.call(&alter(Some(2), TopicConfig::default())).await.unwrap_err();
    assert_eq!(code(&shrink), ErrorCode::InvalidTopic);
    let described = client.describe("orders").await.unwrap();
    assert_eq!((described.partitions.len(), described.effective.batch_bytes_max), (3, Some(1024)));
    assert_eq!(described.partitions[2].high_watermark, Offset(1));
    assert!(client.describe("nothing").await.is_none());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_of_a_log_can_be_cut() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    for value in ["a", "b", "c"] {
        client.produce(topic, 0, batch(&[value])).await.unwrap();
    }
    let partition = millstream_protocol::PartitionIndex(0);
    let cut = |before| DeleteRecords { topic, partition, before };
    assert_eq!(client.rpc.call(&cut(Some(Offset(2)))).await.unwrap().log_start, Offset(2));
    assert_eq!(code(&client.fetch(topic, 0, 1).await.unwrap_err()), ErrorCode::OffsetOutOfRange);
    assert_eq!(client.fetch(topic, 0, 2).await.unwrap(), ["c"]);
    assert_eq!(code(&client.rpc.call(&cut(Some(Offset(9)))).await.unwrap_err()), ErrorCode::OffsetOutOfRange);
    let (_writer, mut reader) = client.subscribe(vec![from(topic, 0, 0)], 1 << 20).await;
    let head = reader.read(1 << 20).await.unwrap().unwrap().response::<Subscribe>().unwrap();
    assert_eq!(head.failure.map(|failure| failure.code), Some(ErrorCode::OffsetOutOfRange));
    broker.shutdown().await;
}

/// Stops a broker with topics `good` and `bad`, lets `harm` at the folder of `bad`, and checks that only `bad`
/// refuses service, for a reason that contains `expected`.
async fn check_harm(harm: impl Fn(&Path), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let (good, bad) = (client.create("good", 1).await, client.create("bad", 1).await);
    for topic in [good, bad] {
        client.produce(topic, 0, batch(&["kept"])).await.unwrap();
    }
    broker.shutdown().await;
    harm(&folder.path().join("topics/bad-0"));
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.fetch_all(good, 0).await, ["kept"]);
    assert_eq!(client.produce(good, 0, batch(&["more"])).await, Ok(Offset(1)));
    let refused = client.produce(bad, 0, batch(&["more"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CorruptData, "{refused}");
    assert!(refused.message.contains(expected), "{refused}");
    assert_eq!(code(&client.fetch(bad, 0, 0).await.unwrap_err()), ErrorCode::CorruptData);
    let status = client.rpc.call(&ClusterStatus).await.unwrap();
    assert_eq!(status.offline.len(), 1);
    assert!(status.offline[0].reason.contains(expected), "{}", status.offline[0].reason);
    // Deleting it is the way out.
    client.rpc.call(&DeleteTopic { name: "bad".into() }).await.unwrap();
    let bad = client.create("bad", 1).await;
    assert_eq!(client.produce(bad, 0, batch(&["new"])).await.map_err(|e| e.message), Ok(Offset(0)));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_partition_refuses_alone() {
    check_harm(
        |folder| {
            let log = folder.join("00000000000000000000.log");
            let mut bytes = fs::read(&log).unwrap();
            bytes[40] ^= 1;
            fs::write(&log, bytes).unwrap();
            // Without the clean mark the log is looked through.
            fs::remove_file(folder.join("00000000000000000000.index")).unwrap();
        },
        "damaged at byte",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_partition_is_not_made_anew() {
    check_harm(|folder| fs::rename(folder, folder.with_file_name("elsewhere")).unwrap(), "is missing: restore it")
        .await;
}

/// A crash comes between a topic's entry in the metadata and its folder, and the next start can't make that either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_could_not_be_made_is_not_missed_later() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).await.shutdown().await;
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(folder.path()).unwrap());
    let command = Command::CreateTopic {
        name: "late".into(),
        id: TopicId(7),
        partitions: 2,
        config: millstream_cluster::metadata::TopicConfig::default(),
        internal: false,
        at_ms: 0,
    };
    Store::open(&storage).unwrap().commit(&[&command]).unwrap().pop().unwrap().unwrap();
    let in_the_way = folder.path().join("topics/late-1");
    fs::write(&in_the_way, "").unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    client.produce(TopicId(7), 0, batch(&["kept"])).await.unwrap();
    let refused = client.produce(TopicId(7), 1, batch(&["no"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageUnavailable, "{refused}");
    broker.shutdown().await;
    fs::remove_file(in_the_way).unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.produce(TopicId(7), 1, batch(&["yes"])).await, Ok(Offset(0)));
    assert_eq!(client.fetch_all(TopicId(7), 0).await, ["kept"]);
    broker.shutdown().await;
    // Partition 0 was served, so that its folder is missed from the first start on.
    fs::remove_dir_all(folder.path().join("topics/late-0")).unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let refused = client.produce(TopicId(7), 0, batch(&["no"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CorruptData, "{refused}");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).await.shutdown().await;
    let stranger = folder.path().join("topics/notes-0");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("readme"), "mine").unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    client.create("orders", 1).await;
    client.rpc.call(&DeleteTopic { name: "orders".into() }).await.unwrap();
    broker.shutdown().await;
    assert_eq!(fs::read_to_string(stranger.join("readme")).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_topics_are_the_brokers_own() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let offsets = client.describe("__consumer_offsets").await.unwrap();
    assert!(offsets.internal);
    let name = || offsets.name.clone();
    let alter = AlterTopic { name: name(), partitions: Some(2), config: TopicConfig::default() };
    assert_eq!(code(&client.rpc.call(&alter).await.unwrap_err()), ErrorCode::Forbidden);
    assert_eq!(code(&client.rpc.call(&DeleteTopic { name: name() }).await.unwrap_err()), ErrorCode::Forbidden);
    let partition = millstream_protocol::PartitionIndex(0);
    let cut = DeleteRecords { topic: offsets.id, partition, before: None };
    assert_eq!(code(&client.rpc.call(&cut).await.unwrap_err()), ErrorCode::Forbidden);
    let config = TopicConfig::default();
    let create = CreateTopic { name: "__mine".into(), partitions: 1, config, if_not_exists: false };
    assert_eq!(code(&client.rpc.call(&create).await.unwrap_err()), ErrorCode::InvalidTopic);
    let hidden = client.rpc.call(&DescribeTopics::default()).await.unwrap();
    assert_eq!(hidden.topics, []);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    for at in [100, 200, 300] {
        let mut builder = millstream_protocol::batch::BatchBuilder::new(Default::default());
        builder.push_simple(at, None, Some(b"v"));
        client.produce(topic, 0, builder.build()).await.unwrap();
    }
    let check = async |position, expected| {
        let request = ListOffsets { topic, partitions: vec![millstream_protocol::PartitionIndex(0)], position };
        assert_eq!(client.rpc.call(&request).await.unwrap().offsets, [Offset(expected)], "{position:?}");
    };
    check(Position::Earliest, 0).await;
    check(Position::Latest, 3).await;
    check(Position::Timestamp(150), 1).await;
    check(Position::Timestamp(200), 1).await;
    check(Position::Timestamp(301), 3).await;
    broker.shutdown().await;
}
