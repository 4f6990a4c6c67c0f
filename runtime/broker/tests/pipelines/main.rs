//! Pipelines on an embedded broker with real plugins: nothing lost, nothing doubled without a crash, and
//! misbehaving plugins contained.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod changes;
mod failures;
mod hostile;
mod lab;
mod outside;
#[path = "../support/mod.rs"]
mod support;

use millstream_protocol::message::{PipelineAction, PipelineState};

use lab::{Lab, lines, marked};

const FORWARD: &str = "
pipeline: forward
inputs: [{ topic: in, partitions: 3 }]
steps:
  - name: step
    plugin: { use: troublesome@0.1, with: { mark: '' } }
    on_error: { dead_letter: bad }
outputs: [{ topic: out, trace: true }]
";

#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_becomes_json_errors_and_dead_letters() {
    let mut lab = Lab::start(&["parse-access-log"]).await;
    let yaml = "
pipeline: web
inputs: [{ topic: access-log, partitions: 3 }]
steps:
  - name: parse
    plugin: { use: parse-access-log@0.1, with: { format: combined } }
    on_error: { dead_letter: access-log-bad }
  - name: errors
    filter: value.status >= 400
  - name: by-path
    from: parse
    key_by: value.path
outputs:
  - { topic: web-errors, from: errors, trace: true }
  - { topic: by-path, from: by-path }
";
    let ack = lab.apply(yaml).await;
    assert_eq!((ack.revision, ack.tasks), (1, 3), "{ack:?}");
    let line = |n: usize| match n % 10 {
        9 => "-- MARK --".to_owned(),
        m => {
            let status = if m < 3 { 404 } else { 200 };
            format!(r#"192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /p{m} HTTP/1.1" {status} 12 "-" "curl/8""#)
        }
    };
    for partition in 0..3 {
        let values: Vec<String> = (0..1000).map(line).collect();
        lab.produce("access-log", partition, &values).await;
    }
    lab.drained("web").await;
    assert_eq!(lab.rows("web-errors").await.len(), 900);
    assert_eq!(lab.rows("access-log-bad").await.len(), 300);
    let by_path = lab.rows("by-path").await;
    assert_eq!(by_path.len(), 2700);
    let partition_of =
        |key: &str| by_path.iter().filter(|row| row.key == key).map(|row| row.partition).collect::<Vec<_>>();
    let partitions = partition_of("/p4");
    assert!(partitions.len() == 300 && partitions.iter().all(|p| *p == partitions[0]), "one key, one partition");
    let error = &lab.rows("web-errors").await[0];
    assert_eq!(error.header("ms-origin"), format!("access-log/{}@0", error.partition));
    let dead = &lab.rows("access-log-bad").await[0];
    assert_eq!(dead.value, "-- MARK --");
    assert_eq!((dead.header("ms-origin-topic"), dead.header("ms-origin-offset")), ("access-log".into(), "9".into()));
    assert_eq!((dead.header("ms-pipeline"), dead.header("ms-step")), ("web".into(), "parse".into()));
    assert!(dead.header("ms-error").starts_with("time: expected"), "{}", dead.header("ms-error"));

    let seen = lab.describe("web").await;
    assert_eq!(seen.state, PipelineState::Running);
    assert_eq!(seen.tasks.iter().map(|task| (task.position.0, task.lag)).collect::<Vec<_>>(), [(1000, 0); 3]);
    let step = &seen.steps[0];
    assert_eq!((step.records_in, step.records_out, step.failed, step.dead_letters), (3000, 2700, 300, 300));
    assert_eq!(seen.outputs, ["web-errors", "by-path"]);
    assert_eq!(seen.plugins[0].version, "0.1.0");
    let listed = &lab.list().await[0];
    assert_eq!((listed.records_in, listed.records_out, listed.dead_letters, listed.lag), (3000, 3600, 300, 0));
    let logs = lab.logs("web").await;
    assert!(logs.iter().any(|line| line.message.starts_with("dead letter access-log/")), "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_keeps_its_place() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    lab.produce("in", 0, &lines(0..100)).await;
    lab.drained("forward").await;
    lab.control("forward", PipelineAction::Pause).await.unwrap();
    lab.produce("in", 0, &lines(100..200)).await;
    let seen = lab.describe("forward").await;
    assert_eq!(seen.state, PipelineState::Paused);
    let resting = &seen.tasks[0];
    assert_eq!((resting.position.0, resting.lag, resting.state.as_str()), (100, 100, "paused"));
    assert_eq!(lab.rows("out").await.len(), 100);
    // A pause outlives the broker.
    lab.restart().await;
    assert_eq!(lab.describe("forward").await.state, PipelineState::Paused);
    lab.control("forward", PipelineAction::Resume).await.unwrap();
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, lines(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    let mut produced = 0;
    for round in 0..4 {
        for _ in 0..5 {
            lab.produce("in", round % 3, &lines(produced..produced + 200)).await;
            produced += 200;
        }
        lab.crash().await;
    }
    lab.drained("forward").await;
    let rows = lab.rows("out").await;
    let mut seen: Vec<usize> = rows.iter().map(|row| row.value.parse().unwrap()).collect();
    let doubled = seen.len() - produced;
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..produced).collect::<Vec<_>>(), "every record came through, {doubled} of them twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_restart_doubles_nothing() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    for round in 0..3 {
        lab.produce("in", 1, &lines(round * 500..(round + 1) * 500)).await;
        lab.restart().await;
    }
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, lines(0..1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_get_tasks_and_deleted_topics_stop_theirs() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    lab.alter_partitions("in", 5).await;
    lab.produce("in", 4, &lines(0..50)).await;
    lab.until("the new partitions are read", async |lab| lab.describe("forward").await.tasks.len() == 5).await;
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, lines(0..50));
    lab.delete_topic("in").await;
    lab.until("the tasks say why they stopped", async |lab| {
        let seen = lab.describe("forward").await;
        seen.state == PipelineState::Failed && seen.tasks.iter().all(|task| task.state == "topic `in` does not exist")
    })
    .await;
    // A new topic of that name is read from its start.
    lab.create("in", 1).await;
    lab.produce("in", 0, &lines(50..60)).await;
    lab.until("the new topic is read", async |lab| lab.rows("out").await.len() == 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_partition_keep_their_order() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(&FORWARD.replace("mark: ''", "mark: '!'")).await;
    for from in (0..2000).step_by(100) {
        lab.produce("in", 2, &lines(from..from + 100)).await;
    }
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, marked(0..2000, "!"));
}
