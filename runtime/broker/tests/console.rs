//! The broker from outside: numbers that agree with what was done, readiness that follows faults, bounds.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millstream_broker::limits::Limits;
use millstream_broker::{Broker, Config, HttpDoor};
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex};
use support::http::{get, ready, scrape, try_get};
use support::*;

fn http(broker: &Broker) -> SocketAddr {
    broker.http_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_agree_with_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let orders = client.create("orders", 2).await;
    let quick = TopicConfig { durability: Some(Durability::Replicated), ..TopicConfig::default() };
    let views = client.create_with("views", 1, quick).await;
    let (mut bytes, mut records) = (0, 0);
    for round in 0..20 {
        let values = vec!["value"; round + 1];
        let batch = batch(&values);
        (bytes, records) = (bytes + batch.len(), records + values.len());
        client.produce(orders, (round % 2) as u32, batch).await.unwrap();
    }
    client.produce(views, 0, batch(&["one"])).await.unwrap();
    assert_eq!(client.fetch_all(orders, 0).await.len() + client.fetch_all(orders, 1).await.len(), records);
    let failed = client.produce(orders, 0, "no batch at all".into()).await.unwrap_err();
    assert_eq!(failed.code, ErrorCode::InvalidBatch);
    assert!(client.fetch(orders, 0, 999).await.is_err());

    let page = scrape(http(&broker)).await;
    for (series, expected) in [
        ("millstream_log_appends_total", 21.0),
        ("millstream_log_appended_batches_total", 21.0),
        ("millstream_log_appended_records_total", records as f64 + 1.0),
        ("millstream_topic_appended_records_total{topic=\"orders\"}", records as f64),
        ("millstream_topic_appended_bytes_total{topic=\"orders\"}", bytes as f64),
        ("millstream_topic_log_bytes{topic=\"orders\"}", bytes as f64),
        ("millstream_topic_read_bytes_total{topic=\"orders\"}", bytes as f64),
        ("millstream_topic_partitions{topic=\"orders\",durability=\"disk\"}", 2.0),
        ("millstream_topic_partitions{topic=\"views\",durability=\"replicated\"}", 1.0),
        ("millstream_partitions{durability=\"replicated\"}", 1.0),
        ("millstream_door_requests_total{api=\"Produce\",outcome=\"ok\"}", 22.0),
        ("millstream_door_requests_total{api=\"Fetch\",outcome=\"offset_out_of_range\"}", 1.0),
        ("millstream_door_request_duration_seconds_count{api=\"Produce\"}", 22.0),
        ("millstream_produce_refused_total{reason=\"invalid_batch\"}", 1.0),
        ("millstream_door_sessions_total", 1.0),
        ("millstream_door_connections", 1.0),
        ("millstream_door_streams", 1.0),
        ("millstream_topics", 3.0),
        ("millstream_ready", 1.0),
    ] {
        assert_eq!(page.of(series), expected, "{series}");
    }
    let syncs = page.of("millstream_log_sync_duration_seconds_count");
    assert!(syncs > 0.0 && syncs <= 30.0, "at most one for each append and a few of the offsets topic: {syncs}");
    assert!(page.of("millstream_door_received_bytes_total") > bytes as f64);
    assert!(page.of("millstream_door_sent_bytes_total") > bytes as f64);

    // Deleting a topic takes its series; totals never fall.
    client.rpc.call(&DeleteTopic { name: "orders".into() }).await.unwrap();
    let page = scrape(http(&broker)).await;
    assert!(!page.has("millstream_topic_log_bytes{topic=\"orders\"}"));
    assert_eq!(page.of("millstream_log_appended_records_total"), records as f64 + 1.0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_seen_with_their_lag() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    client.produce(topic, 0, batch(&["a"; 10])).await.unwrap();
    let odd = "bill\"ing\\ \n".to_owned();
    let offset = CommittedOffset { topic, partition: PartitionIndex(0), offset: Offset(4), metadata: String::new() };
    let request = CommitOffsets { group: odd, member_id: String::new(), generation: 0, offsets: vec![offset] };
    client.rpc.call(&request).await.unwrap();
    let page = scrape(http(&broker)).await;
    assert_eq!(page.of("millstream_group_lag_records{group=\"bill\\\"ing\\\\ \\n\",topic=\"orders\"}"), 6.0);
    assert_eq!(page.of("millstream_groups{state=\"empty\"}"), 1.0);
    assert_eq!(page.of("millstream_group_commits_total{outcome=\"ok\"}"), 1.0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_topics_have_series() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { metrics_labels_max: 5, ..Limits::default() };
    let broker = start_with(Config { limits, ..config(folder.path()) }).await;
    let client = connect(&broker, folder.path()).await;
    for number in 0..12 {
        client.create(&format!("t{number:02}"), 1).await;
    }
    let shown = async || {
        let page = scrape(http(&broker)).await;
        let own: Vec<usize> =
            (0..12).filter(|n| page.has(&format!("millstream_topic_log_bytes{{topic=\"t{n:02}\"}}"))).collect();
        assert_eq!(page.series("millstream_topic_log_bytes"), 5);
        (own, page.of("millstream_labels_left_out{label=\"topic\"}"), page.of("millstream_topics"))
    };
    // The broker's own topic has one of the five places.
    assert_eq!(shown().await, (vec![0, 1, 2, 3], 8.0, 13.0));
    client.create("a-new-one", 1).await;
    assert_eq!(shown().await, (vec![0, 1, 2, 3], 9.0, 14.0), "who is shown stays");
    client.rpc.call(&DeleteTopic { name: "t02".into() }).await.unwrap();
    client.rpc.call(&DeleteTopic { name: "a-new-one".into() }).await.unwrap();
    assert_eq!(shown().await, (vec![0, 1, 3, 4], 7.0, 12.0), "the place goes to another");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_groups_and_pipelines_have_series() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { metrics_labels_max: 3, ..Limits::default() };
    let broker = start_with(Config { limits, ..config(folder.path()) }).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    client.create("out", 1).await;
    for number in 0..5 {
        let (partition, offset, metadata) = (PartitionIndex(0), Offset(0), String::new());
        let offsets = vec![CommittedOffset { topic, partition, offset, metadata }];
        let group = format!("g{number}");
        let request = CommitOffsets { group, member_id: String::new(), generation: 0, offsets };
        client.rpc.call(&request).await.unwrap();
        let yaml = format!(
            "pipeline: p{number}\ninputs: [{{ topic: orders }}]\nsteps: [{{ filter: 'true' }}]\noutputs: [{{ topic: out }}]\n"
        );
        let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false };
        client.rpc.call(&request).await.unwrap();
    }
    let page = scrape(http(&broker)).await;
    for (label, metric) in [("group", "millstream_group_members"), ("pipeline", "millstream_pipeline_lag_records")] {
        assert_eq!(page.series(metric), 3, "{metric}");
        // A pipeline that has committed is a group, too.
        assert!(page.of(&format!("millstream_labels_left_out{{label=\"{label}\"}}")) >= 2.0, "{label}");
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_partition_is_seen_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    for name in ["good", "bad"] {
        let topic = client.create(name, 1).await;
        client.produce(topic, 0, batch(&["kept"])).await.unwrap();
    }
    assert!(ready(http(&broker)).await.0);
    broker.shutdown().await;
    fs::rename(folder.path().join("topics/bad-0"), folder.path().join("topics/elsewhere")).unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let (is_ready, body) = ready(http(&broker)).await;
    assert!(!is_ready && body.contains("partition_offline") && body.contains("bad-0 is missing"), "{body}");
    assert_eq!(get(http(&broker), "/health/live").await.0, 200);
    let page = scrape(http(&broker)).await;
    assert_eq!(page.of("millstream_partitions_offline{reason=\"corrupt_data\"}"), 1.0);
    assert_eq!(page.of("millstream_topic_offline_partitions{topic=\"bad\"}"), 1.0);
    assert_eq!(page.of("millstream_topic_offline_partitions{topic=\"good\"}"), 0.0);
    assert_eq!(page.of("millstream_log_recoveries_total{outcome=\"refused\"}"), 1.0);
    assert_eq!(page.of("millstream_log_recoveries_total{outcome=\"clean\"}"), 2.0);
    assert_eq!(page.of("millstream_ready"), 0.0);
    let status = client.rpc.call(&ClusterStatus).await.unwrap();
    assert_eq!((status.ready, status.findings[0].cause), (false, Cause::PartitionOffline));
    assert_eq!(status.nodes[0].http_address, http(&broker).to_string());
    client.rpc.call(&DeleteTopic { name: "bad".into() }).await.unwrap();
    assert!(ready(http(&broker)).await.0, "without it all is well");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    client.produce(topic, 0, batch(&["kept"])).await.unwrap();
    drop(broker);
    let log = folder.path().join("topics/orders-0/00000000000000000000.log");
    fs::File::options().append(true).open(log).unwrap().write_all(b"half a batch").unwrap();
    let broker = start(folder.path()).await;
    let (is_ready, body) = ready(http(&broker)).await;
    assert!(is_ready && body.contains("tail_cut"), "{body}");
    let page = scrape(http(&broker)).await;
    assert_eq!(page.of("millstream_log_recoveries_total{outcome=\"cut\"}"), 1.0);
    assert_eq!(page.of("millstream_log_recovery_cut_bytes_total"), 12.0);
    broker.shutdown().await;
}

/// A small disk, where the account may mount one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).output();
        done.is_ok_and(|output| output.status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_makes_the_broker_unready_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("skipped: a tmpfs can't be mounted here");
        return;
    };
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let spare = folder.path().join("spare");
    fs::write(&spare, vec![1; 4 << 20]).unwrap();
    let topic = client.create("orders", 1).await;
    let value = "x".repeat(500_000);
    while client.produce(topic, 0, batch(&[&value])).await.is_ok() {}
    let (is_ready, body) = ready(http(&broker)).await;
    assert!(!is_ready && body.contains("disk_refuses_writes") && body.contains("free some space"), "{body}");
    let page = scrape(http(&broker)).await;
    assert!(page.of("millstream_log_refused_appends_total{reason=\"disk_full\"}") >= 1.0);
    assert!(page.of("millstream_produce_refused_total{reason=\"disk_full\"}") >= 1.0);
    assert!(page.of("millstream_disk_free_bytes") < 2_000_000.0);
    let status = client.rpc.call(&ClusterStatus).await.unwrap();
    assert!(status.findings.iter().any(|finding| finding.cause == Cause::DiskRefusesWrites), "{status:?}");
    fs::remove_file(&spare).unwrap();
    client.produce(topic, 0, batch(&[&value])).await.unwrap();
    let (is_ready, body) = ready(http(&broker)).await;
    assert!(is_ready, "{body}");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_drains_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let address = http(&broker);
    // A fetch that waits for records keeps the drain for a while.
    let request = Fetch { topic, partition: PartitionIndex(0), offset: Offset(0), bytes_max: 1 << 20, wait_ms: 30_000 };
    let waiting = client.rpc.submit(&request, Vec::new()).await.unwrap();
    client.rpc.call(&ClusterStatus).await.unwrap();
    let stopping = tokio::spawn(broker.shutdown());
    let answer = loop {
        match try_get(address, "/health/ready").await {
            Some((200, _)) => tokio::time::sleep(Duration::from_millis(2)).await,
            other => break other,
        }
    };
    let (status, body) = answer.expect("the console outlives the drain");
    assert!(status == 503 && body.contains("draining"), "{body}");
    stopping.await.unwrap();
    drop(waiting);
    assert!(try_get(address, "/health/live").await.is_none(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_checked() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(folder.path()).await;
    let refused = async |http: SocketAddr| {
        let config = Config { http: HttpDoor::At(http), ..Config::embedded(other.path()) };
        Broker::start(config).await.err().map(|e| e.to_string()).unwrap_or_default()
    };
    let taken = refused(http(&broker)).await;
    assert!(taken.contains("is taken by another process: stop it") && taken.contains("--http off"), "{taken}");
    let exposed = refused("0.0.0.0:0".parse().unwrap()).await;
    assert!(exposed.contains("reachable from other machines") && exposed.contains("http_remote: true"), "{exposed}");
    let quiet = Broker::start(Config::embedded(other.path())).await.unwrap();
    assert_eq!(quiet.http_addr(), None);
    let status = connect(&quiet, other.path()).await.rpc.call(&ClusterStatus).await.unwrap();
    assert_eq!((status.ready, status.nodes[0].http_address.as_str()), (true, ""));
    quiet.shutdown().await;
    broker.shutdown().await;
}

/// Half-open and silent HTTP clients harm neither the console for long nor the broker at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_http_clients_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        // Connections over the limit are closed at once, and may be before they are seen as open.
        if let Ok(stream) = tokio::net::TcpStream::connect(http(&broker)).await {
            silent.push(stream);
        }
    }
    for number in 0..50 {
        assert_eq!(client.produce(topic, 0, batch(&["v"])).await.unwrap().0, number);
    }
    drop(silent);
    let answer = loop {
        match try_get(http(&broker), "/metrics").await {
            Some((200, text)) => break text,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(answer.contains("millstream_log_appends_total 50\n"), "{answer}");
    assert!(!answer.contains("millstream_http_refused_total 0\n"), "some found no place");
    broker.shutdown().await;
}
