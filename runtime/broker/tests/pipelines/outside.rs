//! A broker in which everything has happened, seen through its metrics page; pipelines in it and in `cluster status`.

use std::collections::BTreeSet;
use std::path::Path;

use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, ProducerId};
use millstream_transport::Rpc;

use super::FORWARD;
use super::lab::{Lab, lines};
use super::support::http::{ready, scrape};
use super::support::{connect_anonymous, hello};

/// The rows of `METRICS.md`.
fn documented() -> BTreeSet<(String, String, Vec<String>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../console/METRICS.md");
    let text = std::fs::read_to_string(file).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels = cells[2].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[0].trim_matches('`').to_owned(), cells[1].to_owned(), labels)
    };
    text.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

async fn commit(lab: &Lab, topic: &str) {
    let topic = lab.client().describe(topic).await.unwrap().id;
    let offset = CommittedOffset { topic, partition: PartitionIndex(0), offset: Offset(1), metadata: String::new() };
    let request =
        CommitOffsets { group: "billing".into(), member_id: String::new(), generation: 0, offsets: vec![offset] };
    lab.client().rpc.call(&request).await.unwrap();
}

/// Appends that the log refuses: a producer that leaves a sequence out.
async fn skip_a_sequence(lab: &Lab, topic: &str) {
    let topic = lab.client().describe(topic).await.unwrap().id;
    for (sequence, expected) in [(0, None), (7, Some(ErrorCode::OutOfOrderSequence))] {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.set_producer(ProducerId(1_000_000), 0, sequence);
        builder.push_simple(1, None, Some(b"x"));
        let outcome = lab.client().produce(topic, 0, builder.build()).await;
        assert_eq!(outcome.err().map(|failure| failure.code), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_what_the_documentation_says() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.create("harmed", 1).await;
    lab.produce("harmed", 0, &lines(0..5)).await;
    lab.restart_after(|folder| {
        let log = folder.join("topics/harmed-0/00000000000000000000.log");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&log, bytes).unwrap();
        std::fs::remove_file(folder.join("topics/harmed-0/00000000000000000000.index")).unwrap();
    })
    .await;
    lab.apply(FORWARD).await;
    let mut values = lines(0..50);
    values[7] = "reject 7".into();
    lab.produce("in", 0, &values).await;
    lab.drained("forward").await;
    commit(&lab, "in").await;
    skip_a_sequence(&lab, "in").await;
    let (broker, folder) = lab.broker();
    let stranger = connect_anonymous(broker, folder).await;
    assert!(Rpc::open(&stranger).await.unwrap().call(&hello("guess".into())).await.is_err());
    stranger.closed().await;
    // What it answers itself is counted for the next page.
    ready(lab.http()).await;
    scrape(lab.http()).await;
    let page = scrape(lab.http()).await;
    let (documented, shown) = (documented(), page.metrics);
    let missing: Vec<_> = documented.difference(&shown).collect();
    assert!(missing.is_empty(), "documented and not shown: {missing:#?}");
    let undocumented: Vec<_> = shown.difference(&documented).collect();
    assert!(undocumented.is_empty(), "shown and not documented: {undocumented:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_numbers_are_those_of_its_records() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(&FORWARD.replace("on_error:", "limits: { memory: 4MiB, time: 100ms }\n    on_error:")).await;
    for partition in 0..3 {
        let mut values = lines(0..100);
        values[10] = "reject".into();
        values[20] = "trap".into();
        values[30] = "drop".into();
        values[40] = "loop".into();
        values[50] = "grow".into();
        lab.produce("in", partition, &values).await;
    }
    lab.drained("forward").await;
    let settled = async |lab: &Lab| {
        let page = scrape(lab.http()).await;
        page.of("millstream_pipeline_records_in_total{pipeline=\"forward\"}") >= 300.0
            && page.of("millstream_pipeline_step_dead_letters_total{pipeline=\"forward\",step=\"step\"}") >= 12.0
    };
    lab.until("the counts are told", settled).await;
    let page = scrape(lab.http()).await;
    let of = |metric: &str, rest: &str| page.of(&format!("millstream_pipeline_{metric}{{pipeline=\"forward\"{rest}}}"));
    assert_eq!(of("records_in_total", ""), 300.0);
    assert_eq!(of("records_out_total", ""), 3.0 * 95.0);
    assert_eq!(of("step_records_in_total", ",step=\"step\""), 300.0);
    assert_eq!(of("step_failed_records_total", ",step=\"step\""), 12.0);
    assert_eq!(of("step_dead_letters_total", ",step=\"step\""), 12.0);
    assert_eq!(of("lag_records", ""), 0.0);
    assert_eq!(of("tasks", ",state=\"running\""), 3.0);
    for kind in ["trap", "deadline", "memory"] {
        let (own, all) = (
            of("guest_failures_total", &format!(",kind=\"{kind}\"")),
            page.of(&format!("millstream_plugin_failures_total{{kind=\"{kind}\"}}")),
        );
        assert!(own >= 3.0 && all >= own, "{kind}: {own} of {all}");
    }
    assert_eq!(page.of("millstream_plugin_instances"), 3.0, "one for each task, and none is left over");
    assert!(page.of("millstream_plugin_memory_bytes") > 0.0);
    assert_eq!(page.of("millstream_pipelines{state=\"running\"}"), 1.0);
    assert_eq!(page.of("millstream_topic_appended_records_total{topic=\"bad\"}"), 12.0);
    assert_eq!(page.of("millstream_group_lag_records{group=\"forward\",topic=\"in\"}"), 0.0);

    // Totals go on through a swap and a pause, and end with the pipeline.
    lab.upload_variant("troublesome").await;
    assert!(
        !lab.apply(&FORWARD.replace("on_error:", "limits: { memory: 4MiB, time: 100ms }\n    on_error:"))
            .await
            .swaps
            .is_empty()
    );
    lab.control("forward", PipelineAction::Pause).await.unwrap();
    let page = scrape(lab.http()).await;
    assert_eq!(page.of("millstream_pipeline_swaps_total{pipeline=\"forward\"}"), 3.0);
    assert_eq!(page.of("millstream_pipeline_swap_pause_seconds_count{pipeline=\"forward\"}"), 3.0);
    assert_eq!(page.of("millstream_pipeline_records_in_total{pipeline=\"forward\"}"), 300.0);
    assert_eq!(page.of("millstream_pipelines{state=\"paused\"}"), 1.0);
    assert_eq!(page.of("millstream_plugin_instances"), 0.0);
    lab.control("forward", PipelineAction::Delete).await.unwrap();
    let page = scrape(lab.http()).await;
    let left: Vec<_> = page.metrics.iter().filter(|(name, ..)| name.starts_with("millstream_pipeline_")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_stops_is_found_and_the_broker_stays_ready() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(&FORWARD.replace("{ dead_letter: bad }", "stop")).await;
    lab.produce("in", 1, &["reject this".to_owned()]).await;
    lab.until("the task fails", async |lab| lab.list().await[0].state == PipelineState::Failed).await;
    let (is_ready, body) = ready(lab.http()).await;
    assert!(is_ready && body.contains("pipeline_failed") && body.contains("`forward` on in/1"), "{body}");
    let status = lab.client().rpc.call(&ClusterStatus).await.unwrap();
    assert!(status.ready);
    assert!(
        status.findings.iter().any(|f| f.cause == Cause::PipelineFailed && f.message.contains("in/1")),
        "{status:?}"
    );
    let page = scrape(lab.http()).await;
    assert_eq!(page.of("millstream_pipeline_tasks{pipeline=\"forward\",state=\"failed\"}"), 1.0);
    assert_eq!(page.of("millstream_pipeline_task_failures_total{pipeline=\"forward\"}"), 1.0);
    assert_eq!(page.of("millstream_pipelines{state=\"failed\"}"), 1.0);
    assert_eq!((page.of("millstream_findings{cause=\"pipeline_failed\"}"), page.of("millstream_ready")), (1.0, 1.0));
}
