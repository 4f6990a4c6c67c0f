//! Plugins that mean harm, inside a broker: what they do to a record is that record's fate alone, and other records,
//! pipelines and topics go on.

use millstream_plugin_host::testing::text::{Guest, component};
use millstream_protocol::ErrorCode;
use millstream_protocol::message::PipelineState;

use super::lab::{Lab, lines};

/// One partition, so that order is one order.
const YAML: &str = "
pipeline: p
inputs: [{ topic: in, partitions: 1 }]
steps:
  - name: step
    plugin: { use: troublesome@0.1 }
    limits: { memory: 8MiB, time: 200ms, output: 1MiB }
    on_error: { dead_letter: bad }
outputs: [{ topic: out }]
";

/// Everything a record can make the plugin do to be stopped for, and a word of what is said then.
const DEEDS: [(&str, &str); 6] = [
    ("trap", "told to trap"),
    ("loop", "200 ms"),
    ("grow", "memory"),
    ("deep", "call stack exhausted"),
    ("bomb", ""),
    ("far", "output `nowhere` is not declared"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_anywhere_costs_only_itself() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(YAML).await;
    let (mut expected, mut expected_bad) = (Vec::new(), Vec::new());
    for (round, (deed, _)) in DEEDS.iter().enumerate() {
        // The first, the middle and the last of a batch, each in a batch of its own.
        for (place, at) in [0, 50, 99].into_iter().enumerate() {
            let from = (round * 3 + place) * 100;
            let mut values = lines(from..from + 100);
            values[at] = format!("{deed} {}", from + at);
            expected_bad.push(values[at].clone());
            expected.extend(values.iter().filter(|value| !value.contains(' ')).cloned());
            lab.produce("in", 0, &values).await;
        }
    }
    lab.drained("p").await;
    assert_eq!(lab.values("out").await, expected, "neighbours arrive once and in order");
    let dead = lab.rows("bad").await;
    assert_eq!(dead.iter().map(|row| row.value.clone()).collect::<Vec<_>>(), expected_bad);
    for row in &dead {
        let deed = row.value.split(' ').next().unwrap();
        let (_, said) = DEEDS.iter().find(|(own, _)| *own == deed).unwrap();
        assert!(row.header("ms-error").contains(said), "{}: {}", row.value, row.header("ms-error"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_nothing_but_crashes_is_all_dead_letters() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(YAML).await;
    let bad: Vec<String> = (0..300).map(|n| format!("trap {n}")).collect();
    lab.produce("in", 0, &bad).await;
    lab.produce("in", 0, &lines(0..10)).await;
    lab.drained("p").await;
    assert_eq!(lab.values("bad").await, bad);
    assert_eq!(lab.values("out").await, lines(0..10));
    // Skipped by another policy, nothing is left of them but a count.
    lab.apply(&YAML.replace("{ dead_letter: bad }", "skip")).await;
    lab.produce("in", 0, &bad).await;
    lab.produce("in", 0, &lines(10..20)).await;
    lab.drained("p").await;
    assert_eq!(lab.values("out").await, lines(0..20));
    assert_eq!(lab.values("bad").await.len(), 300);
    // By the third the task stops at the first of them, and everything before it has come out.
    lab.apply(&YAML.replace("{ dead_letter: bad }", "stop")).await;
    lab.produce("in", 0, &[lines(20..25), bad].concat()).await;
    lab.until("the task stops", async |lab| lab.describe("p").await.state == PipelineState::Failed).await;
    assert_eq!(lab.values("out").await, lines(0..25));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pipelines_and_topics_go_on_beside_one_that_hangs() {
    let mut lab = Lab::start(&["troublesome"]).await;
    let hanging = YAML.replace("time: 200ms", "time: 2s").replace("in,", "hang,").replace("pipeline: p", "pipeline: h");
    lab.apply(&hanging.replace("topic: out", "topic: hang-out")).await;
    lab.apply(YAML).await;
    let loops: Vec<String> = (0..200).map(|n| format!("loop {n}")).collect();
    lab.produce("hang", 0, &loops).await;
    lab.create("plain", 1).await;
    for round in 0..20 {
        lab.produce("in", 0, &lines(round * 50..round * 50 + 50)).await;
        lab.produce("plain", 0, &lines(round * 50..round * 50 + 50)).await;
    }
    lab.drained("p").await;
    assert_eq!(lab.values("out").await, lines(0..1000));
    assert_eq!(lab.values("plain").await, lines(0..1000));
    let hung = lab.describe("h").await;
    assert!(hung.tasks[0].lag > 0 && hung.state == PipelineState::Running, "it still hangs: {:?}", hung.tasks);
    // And it goes when it is told to.
    lab.control("h", millstream_protocol::message::PipelineAction::Delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_leaves_the_log_readable() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(YAML).await;
    lab.produce("in", 0, &["flood 0".into(), "1".into()]).await;
    lab.drained("p").await;
    assert_eq!(lab.values("out").await, ["flood 0", "1"]);
    let logs = lab.logs("p").await;
    assert!(logs.iter().any(|line| line.message.contains("log lines dropped")), "{} lines", logs.len());
    assert!(logs.len() < 5_000, "{} lines", logs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_lie_fail_the_records_they_are_made_from() {
    let mut lab = Lab::start(&[]).await;
    // Emits its batch with one byte of values more than there is.
    let process =
        "(i32.store offset=44 (local.get $rows) (i32.add (i32.const 1) (i32.load offset=44 (local.get $rows))))
        (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)";
    lab.upload("liar", component(&Guest { process, ..Guest::default() })).await;
    lab.apply(&YAML.replace("troublesome", "liar")).await;
    lab.produce("in", 0, &lines(0..20)).await;
    lab.drained("p").await;
    assert!(lab.values("out").await.is_empty());
    let dead = lab.rows("bad").await;
    assert_eq!(dead.iter().map(|row| row.value.clone()).collect::<Vec<_>>(), lines(0..20));
    assert!(dead[0].header("ms-error").contains("column `values` has"), "{}", dead[0].header("ms-error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_starts_is_refused_when_it_is_applied() {
    let lab = Lab::start(&[]).await;
    let check = async |name: &str, guest: Guest<'_>, expected: &str| {
        lab.upload(name, component(&guest)).await;
        let yaml = YAML.replace("troublesome", name);
        let failure = lab.try_apply(&yaml, false).await.unwrap_err();
        assert!(failure.message.contains(expected), "{name}: {failure}");
        assert!(lab.list().await.is_empty(), "{name}");
    };
    let forever = "(func $forever (loop $again (br $again))) (start $forever)";
    check("start-loops", Guest { extra: forever, ..Guest::default() }, "more than the 1000 ms").await;
    let init = "(loop $again (br $again)) unreachable";
    check("init-loops", Guest { init, ..Guest::default() }, "more than the 1000 ms").await;
    check("init-crashes", Guest { init: "unreachable", ..Guest::default() }, "does not start").await;
    let deep = "(func $deep (call $deep)) (start $deep)";
    check("start-recurses", Guest { extra: deep, ..Guest::default() }, "call stack exhausted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_too_much_are_refused_and_leave_nothing() {
    let lab = Lab::start(&[]).await;
    let check = async |bytes: Vec<u8>, code: ErrorCode, expected: &str| {
        let failure = lab.try_upload("x", bytes).await.unwrap_err();
        assert!(failure.code == code && failure.message.contains(expected), "{failure:?}");
    };
    let body = "(local.set 0 (i32.mul (local.get 0) (i32.const 31)))".repeat(100_000);
    let huge = format!("(func (param i32) {body})");
    check(component(&Guest { extra: &huge, ..Guest::default() }), ErrorCode::InvalidPlugin, "split it").await;
    check(vec![0; (32 << 20) + 1], ErrorCode::LimitExceeded, "more than the 33554432").await;
    let mut bad_name = component(&Guest::default());
    let at = bad_name.windows(7).position(|window| window == b"process").unwrap();
    bad_name[at] = 0xff;
    check(bad_name, ErrorCode::InvalidPlugin, "").await;
    // A right one of the same name comes through.
    lab.upload("x", component(&Guest::default())).await;
}
