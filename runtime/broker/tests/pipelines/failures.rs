//! Plugins that trap, loop, grow and refuse; dead letters and their way back; stops.

use millstream_protocol::ErrorCode;
use millstream_protocol::message::{PipelineAction, PipelineState};

use super::FORWARD;
use super::lab::{Lab, lines, marked};

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_records_cost_only_themselves() {
    let mut lab = Lab::start(&["troublesome"]).await;
    let yaml = "
pipeline: p
inputs: [{ topic: in, partitions: 1 }]
steps:
  - name: step
    plugin: { use: troublesome@0.1, with: { mark: ! } }
    limits: { memory: 4MiB, time: 100ms }
    on_error: { dead_letter: bad }
outputs: [{ topic: out }]
";
    lab.apply(&yaml.replace("mark: !", "mark: '!'")).await;
    let mut values = lines(0..300);
    let bad = [(5, "reject"), (50, "trap"), (51, "loop"), (120, "grow"), (200, "drop"), (299, "trap")];
    bad.iter().for_each(|(at, word)| values[*at] = format!("{word} {at}"));
    lab.produce("in", 0, &values).await;
    lab.drained("p").await;
    let good: Vec<String> = (0..300).filter(|n| bad.iter().all(|(at, _)| at != n)).map(|n| format!("{n}!")).collect();
    assert_eq!(lab.values("out").await, good);
    let dead = lab.rows("bad").await;
    let causes: Vec<_> = dead.iter().map(|row| (row.value.as_str(), row.header("ms-error"))).collect();
    assert_eq!(dead.len(), 5, "{causes:?}");
    let cause = |value: &str| causes.iter().find(|(own, _)| *own == value).unwrap().1.clone();
    assert_eq!(cause("reject 5"), "told to");
    assert!(cause("trap 50").contains("told to trap"), "{}", cause("trap 50"));
    assert!(cause("loop 51").contains("100 ms"), "{}", cause("loop 51"));
    assert!(cause("grow 120").contains("memory"), "{}", cause("grow 120"));
    assert_eq!(dead[0].header("ms-plugin-digest").len(), 64);
    let step = &lab.describe("p").await.steps[0];
    assert_eq!((step.failed, step.dead_letters, step.records_out), (5, 5, 294));
    assert!(step.restarts >= 4);
    assert!(step.counters.iter().any(|(name, count)| name == "seen" && *count >= 295), "{:?}", step.counters);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_once() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.apply(FORWARD).await;
    for partition in 0..3 {
        let values: Vec<String> =
            (0..30).map(|n| if n % 3 == 0 { format!("reject {partition}-{n}") } else { n.to_string() }).collect();
        lab.produce("in", partition, &values).await;
    }
    lab.drained("forward").await;
    assert_eq!((lab.rows("out").await.len(), lab.rows("bad").await.len()), (60, 30));
    // Nothing was repaired: all fail again, and are there for the next time.
    let again = lab.redrive("forward").await.unwrap();
    assert_eq!((again.redriven, again.failed), (30, 30));
    assert_eq!((lab.rows("out").await.len(), lab.rows("bad").await.len()), (60, 60));
    lab.apply(&FORWARD.replace("mark: ''", "forgiving: true")).await;
    let repaired = lab.redrive("forward").await.unwrap();
    assert_eq!((repaired.redriven, repaired.failed), (30, 0));
    let rows = lab.rows("out").await;
    let mut redriven: Vec<&str> = rows.iter().filter(|r| r.value.starts_with("reject")).map(|r| &*r.value).collect();
    redriven.sort_unstable();
    redriven.dedup();
    assert_eq!((rows.len(), redriven.len()), (90, 30), "each dead letter came out once");
    let one = rows.iter().find(|row| row.value == "reject 2-9").unwrap();
    assert_eq!((one.header("ms-origin"), one.header("ms-redriven")), ("in/2@9".into(), "2".into()));
    assert_eq!(lab.redrive("forward").await.unwrap().redriven, 0, "nothing is left");
    lab.restart().await;
    assert_eq!(lab.redrive("forward").await.unwrap().redriven, 0, "the broker remembers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_repair() {
    let mut lab = Lab::start(&["troublesome"]).await;
    let yaml = FORWARD.replace("{ dead_letter: bad }", "stop");
    lab.apply(&yaml).await;
    let mut values = lines(0..100);
    values[60] = "reject 60".into();
    lab.produce("in", 1, &values).await;
    lab.produce("in", 0, &lines(0..10)).await;
    lab.until("the task stops", async |lab| lab.describe("forward").await.state == PipelineState::Failed).await;
    lab.until("the other task goes on", async |lab| lab.rows("out").await.len() == 70).await;
    let seen = lab.describe("forward").await;
    assert_eq!(seen.tasks[1].position.0, 60);
    let why = &seen.tasks[1].state;
    assert!(why.starts_with("step `step` failed on in/1@60: told to (to go on past such records"), "{why}");
    // A restart does not help, a repaired plugin does: applying starts the failed task again.
    lab.control("forward", PipelineAction::Restart).await.unwrap();
    lab.until("it stops again", async |lab| lab.describe("forward").await.state == PipelineState::Failed).await;
    lab.apply(&yaml.replace("mark: ''", "forgiving: true")).await;
    lab.drained("forward").await;
    let from_1: Vec<String> = lab.rows("out").await.into_iter().filter(|r| r.partition == 1).map(|r| r.value).collect();
    assert_eq!(from_1, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_on_everything_can_be_swapped() {
    let mut lab = Lab::start(&["troublesome"]).await;
    let yaml = FORWARD.replace("    on_error", "    limits: { time: 500ms }\n    on_error");
    lab.apply(&yaml).await;
    // One by one these would take longer than the test has.
    let values: Vec<String> = (0..400).map(|n| format!("loop {n}")).collect();
    lab.produce("in", 0, &values).await;
    lab.until("it hangs", async |lab| lab.describe("forward").await.tasks[0].records_in > 0).await;
    let ack = lab.apply(&yaml.replace("mark: ''", "forgiving: true")).await;
    let swap = ack.swaps.iter().find(|swap| swap.partition == 0).unwrap();
    lab.drained("forward").await;
    let (dead, out) = (lab.values("bad").await, lab.values("out").await);
    assert_eq!((dead.len() as i64, dead.len() + out.len()), (swap.offset.0, 400), "swapped exactly where it was told");
    assert_eq!([dead, out].concat(), values);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_the_reason() {
    let lab = Lab::start(&["troublesome"]).await;
    let check = async |yaml: &str, code: ErrorCode, part: &str| {
        let failure = lab.try_apply(yaml, false).await.unwrap_err();
        assert!(failure.code == code && failure.message.contains(part), "{failure:?}");
        assert!(lab.list().await.is_empty());
    };
    use ErrorCode::{InvalidPipeline, InvalidPlugin, UnknownPlugin, UnknownTopic};
    check(&FORWARD.replace("name: step", "nam: step"), InvalidPipeline, "did you mean `name`?").await;
    check(
        &FORWARD.replace("troublesome@0.1", "absent@1"),
        UnknownPlugin,
        "step `step`: plugin `absent` does not exist",
    )
    .await;
    check(&FORWARD.replace("troublesome@0.1", "troublesome@2"), UnknownPlugin, "there is 0.1.0").await;
    let pinned = FORWARD.replace("troublesome@0.1", "'troublesome@0.1/sha256:00000000'");
    check(&pinned, InvalidPlugin, "the pipeline pins 00000000").await;
    check(&FORWARD.replace("mark: ''", "marc: ''"), InvalidPipeline, "unknown field `marc`").await;
    check(
        &FORWARD.replace("mark: ''", "mark: '${env:MARK}'"),
        InvalidPipeline,
        "environment variable `MARK` is not set",
    )
    .await;
    check(&FORWARD.replace(", partitions: 3", ""), UnknownTopic, "millstream topic create in").await;
    let planned = lab.try_apply(FORWARD, true).await.unwrap();
    let digest = planned.plan.iter().find(|line| line.starts_with("step step runs troublesome@0.1.0 ("));
    assert!(digest.is_some(), "{:?}", planned.plan);
    assert_eq!(planned.plan[0], "create topic in (3 partitions)");
    assert_eq!(planned.plan[4], "start 3 tasks on in from the first record, or from offsets committed before");
    assert!(lab.list().await.is_empty(), "a dry run changes nothing");
    for action in [PipelineAction::Pause, PipelineAction::Delete, PipelineAction::Restart, PipelineAction::Rollback] {
        assert_eq!(lab.control("absent", action).await.unwrap_err().code, ErrorCode::UnknownPipeline);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_reach_the_plugin_and_nobody_else() {
    let mut lab = Lab::start(&["troublesome"]).await;
    lab.variables = vec![("secret:MARK".into(), "-s3cret".into())];
    let yaml = FORWARD.replace("mark: ''", "mark: '${secret:MARK}'");
    lab.apply(&yaml).await;
    lab.produce("in", 0, &lines(0..3)).await;
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, marked(0..3, "-s3cret"));
    lab.restart().await;
    lab.produce("in", 0, &lines(3..5)).await;
    lab.drained("forward").await;
    assert_eq!(lab.values("out").await, marked(0..5, "-s3cret"));
    let seen = lab.describe("forward").await;
    assert!(!format!("{seen:?}").contains("s3cret"));
}
