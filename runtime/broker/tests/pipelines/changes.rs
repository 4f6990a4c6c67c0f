//! Changing pipelines that run: swaps, new shapes, rollback, delete.

use millstream_protocol::message::PipelineAction;
use millstream_protocol::{ErrorCode, Offset};

use super::FORWARD;
use super::lab::{Lab, lines, marked};

/// The mark every value of a partition carries, in runs: mark and how many records.
fn runs(values: &[String]) -> Vec<(String, i64)> {
    let mut runs: Vec<(String, i64)> = Vec::new();
    for value in values {
        let mark = value.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
        match runs.last_mut() {
            Some((own, count)) if *own == mark => *count += 1,
            _ => runs.push((mark, 1)),
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_lose_and_double_nothing() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(&FORWARD.replace("mark: ''", "mark: a")).await;
    let mut swaps = Vec::new();
    let mut produced = 0;
    for mark in ["b", "c", "d"] {
        for _ in 0..5 {
            for partition in 0..3 {
                lab.produce("in", partition, &lines(produced..produced + 200)).await;
            }
            produced += 200;
        }
        let ack = lab.apply(&FORWARD.replace("mark: ''", &format!("mark: {mark}"))).await;
        assert_eq!(ack.swaps.len(), 3, "{ack:?}");
        assert!(ack.plan[0].starts_with("swap step step: new settings"), "{:?}", ack.plan);
        swaps.extend(ack.swaps.into_iter().map(|swap| (mark, swap)));
    }
    for partition in 0..3 {
        lab.produce("in", partition, &lines(produced..produced + 200)).await;
    }
    produced += 200;
    lab.drained("forward").await;
    for partition in 0..3 {
        let values: Vec<String> =
            lab.rows("out").await.into_iter().filter(|row| row.partition == partition).map(|row| row.value).collect();
        let bare: Vec<String> = values.iter().map(|v| v.trim_end_matches(char::is_alphabetic).to_owned()).collect();
        assert_eq!(bare, lines(0..produced), "partition {partition}: each record once, in order");
        let mut borders: Vec<(String, i64)> = vec![("a".into(), 0)];
        let own = swaps.iter().filter(|(_, swap)| swap.partition == partition);
        own.for_each(|(mark, swap)| borders.push(((*mark).into(), swap.offset.0)));
        let ends = borders.iter().skip(1).map(|(_, at)| *at).chain([produced as i64]).collect::<Vec<_>>();
        let expected: Vec<(String, i64)> = borders
            .iter()
            .zip(ends)
            .map(|((mark, at), end)| (mark.clone(), end - at))
            .filter(|run| run.1 > 0)
            .collect();
        assert_eq!(runs(&values), expected, "partition {partition}: swapped exactly where it was told");
    }
    assert_eq!(lab.describe("forward").await.revision, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_of_a_plugin_is_swapped_by_digest() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    lab.produce("in", 0, &lines(0..10)).await;
    lab.drained("forward").await;
    assert_eq!(lab.apply(FORWARD).await.plan, ["nothing changes"]);
    let (old, new) = lab.upload_variant("troublesome").await;
    let ack = lab.apply(FORWARD).await;
    assert_eq!(ack.swaps.len(), 3);
    let swap = ack.swaps.iter().find(|swap| swap.partition == 0).unwrap();
    assert_eq!((swap.old, swap.new, swap.offset), (old, new, Offset(10)));
    lab.produce("in", 0, &lines(10..20)).await;
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, lines(0..20));
    let logs = lab.logs("forward").await;
    assert!(
        logs.iter().any(|line| line.message.starts_with("swapped ") && line.message.ends_with("at 10")),
        "{logs:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_shape_goes_on_where_the_old_one_ended() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    lab.produce("in", 0, &lines(0..100)).await;
    lab.drained("forward").await;
    let filtered = FORWARD.replace("outputs:", "  - filter: int(value) % 2 == 0\noutputs:");
    let ack = lab.apply(&filtered).await;
    assert!(ack.swaps.is_empty() && ack.plan[0].starts_with("end 3 tasks and start anew"), "{ack:?}");
    lab.produce("in", 0, &lines(100..110)).await;
    lab.drained("forward").await;
    let mut expected = lines(0..100);
    expected.extend(["100", "102", "104", "106", "108"].map(String::from));
    assert_eq!(lab.values("out").await, expected);
    lab.control("forward", PipelineAction::Rollback).await.unwrap();
    lab.produce("in", 0, &lines(110..113)).await;
    lab.drained("forward").await;
    expected.extend(lines(110..113));
    assert_eq!(lab.values("out").await, expected);
    assert_eq!(lab.describe("forward").await.revision, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_forgets_the_place() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    lab.produce("in", 0, &lines(0..10)).await;
    lab.drained("forward").await;
    lab.control("forward", PipelineAction::Delete).await.unwrap();
    assert!(lab.list().await.is_empty());
    assert_eq!(lab.control("forward", PipelineAction::Delete).await.unwrap_err().code, ErrorCode::UnknownPipeline);
    lab.restart().await;
    assert!(lab.list().await.is_empty());
    lab.apply(&FORWARD.replace("mark: ''", "mark: '!'")).await;
    lab.drained("forward").await;
    let mut expected = lines(0..10);
    expected.extend(marked(0..10, "!"));
    assert_eq!(lab.values("out").await, expected, "it begins at the first record again");
}
