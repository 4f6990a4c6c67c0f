//! Scripts of single behaviours, and random histories against the invariants of the module's head.

mod history;

use std::fmt::Write;

use millstream_protocol::message::{CommittedOffset, TopicPartitions};
use millstream_protocol::{ErrorCode, Offset, PartitionIndex};

use super::*;

const TOPIC: TopicId = TopicId(1);

fn topics(partitions: u32) -> Event {
    Event::TopicsChanged { topics: vec![TopicInfo { name: "t".into(), id: TOPIC, partitions }] }
}

fn owned(partitions: &[u32]) -> Vec<TopicPartitions> {
    let partitions = partitions.iter().copied().map(PartitionIndex).collect();
    vec![TopicPartitions { topic: TOPIC, partitions }]
}

fn heartbeat(member: &str, fresh_id: &str, partitions: &[u32]) -> Event {
    let request = GroupHeartbeat {
        group: "g".into(),
        member_id: member.into(),
        generation: 0,
        client_name: "test".into(),
        topics: vec!["t".into()],
        session_timeout_ms: 1000,
        owned: owned(partitions),
    };
    Event::Heartbeat { ticket: Ticket(0), request, fresh_id: fresh_id.into() }
}

fn join(id: &str) -> Event {
    heartbeat("", id, &[])
}

fn beat(id: &str, partitions: &[u32]) -> Event {
    heartbeat(id, "", partitions)
}

fn leave(id: &str) -> Event {
    Event::Leave { ticket: Ticket(0), request: LeaveGroup { group: "g".into(), member_id: id.into() } }
}

fn commit(member: &str, generation: u32, partition: u32, offset: i64) -> Event {
    let offset = CommittedOffset {
        topic: TOPIC,
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        metadata: "note".into(),
    };
    let request = CommitOffsets { group: "g".into(), member_id: member.into(), generation, offsets: vec![offset] };
    Event::Commit { ticket: Ticket(0), request, committer: Committer::Client }
}

fn delete() -> Event {
    Event::Delete { ticket: Ticket(0), request: DeleteGroup { group: "g".into() } }
}

fn persisted(write: u64) -> Event {
    Event::Persisted { write: WriteId(write) }
}

/// One line per output: `a@2 0,1` (a's assignment in generation 2), `write 0`, `done`, or the error's code.
fn show(out: &[Output]) -> String {
    let mut text = String::new();
    for output in out {
        match output {
            Output::Answer { result: Ok(Answer::Heartbeat(ack)), .. } => {
                let partitions: Vec<String> =
                    ack.assignment.iter().flat_map(|topic| &topic.partitions).map(ToString::to_string).collect();
                write!(text, "{}@{} {}", ack.member_id, ack.generation, partitions.join(",")).unwrap();
            }
            Output::Answer { result: Ok(Answer::Done), .. } => text.push_str("done"),
            Output::Answer { result: Err(failure), .. } => write!(text, "{:?}", failure.code).unwrap(),
            Output::Persist { write, .. } => write!(text, "write {}", write.0).unwrap(),
        }
        text.push_str("; ");
    }
    text.trim_end_matches("; ").to_owned()
}

/// Runs events at their times over topic `t` with 3 partitions; compares the outputs of each.
#[track_caller]
fn check(script: &[(i64, Event, &str)]) -> Coordinator {
    let mut coordinator = Coordinator::new(Limits::default());
    coordinator.handle(topics(3), 0, &mut Vec::new());
    for (step, (at, event, expected)) in script.iter().enumerate() {
        let mut out = Vec::new();
        coordinator.handle(event.clone(), *at, &mut out);
        assert_eq!(show(&out), *expected, "step {step}: {event:?}");
    }
    coordinator
}

#[test]
fn a_partition_moves_after_its_holder_let_go() {
    let coordinator = check(&[
        (0, join("a"), "a@1 0,1,2"),
        (1, join("b"), "b@2 "),
        // a learns of it, still holds partition 0, then reports without it.
        (2, beat("a", &[0, 1, 2]), "a@2 1,2"),
        (3, beat("b", &[]), "b@2 "),
        (4, beat("a", &[1, 2]), "a@2 1,2"),
        (5, beat("b", &[]), "b@2 0"),
        (6, leave("a"), "done"),
        (7, beat("b", &[0]), "b@3 0,1,2"),
        (8, beat("a", &[1, 2]), "UnknownMember"),
        (9, leave("b"), "done"),
        (9, leave("b"), "UnknownMember"),
    ]);
    assert_eq!(coordinator.describe("g"), None);
    assert_eq!(coordinator.next_deadline(), None);
}

#[test]
fn a_partition_waits_for_the_last_commit_of_who_had_it() {
    let failed = Event::PersistFailed { write: WriteId(1), failure: Failure::new(ErrorCode::DiskFull, "full") };
    check(&[
        (0, join("a"), "a@1 0,1,2"),
        (1, join("b"), "b@2 "),
        (2, commit("a", 1, 0, 5), "write 0"),
        (3, beat("a", &[1, 2]), "a@2 1,2"),
        // It would ask where the group left off, and hear what was durable before.
        (4, beat("b", &[]), "b@2 "),
        (5, persisted(0), "done"),
        (6, beat("b", &[]), "b@2 0"),
        // Who leaves, or is thrown out, may have left one behind as well; when it fails there is none.
        (7, commit("a", 2, 1, 6), "write 1"),
        (8, leave("a"), "done"),
        (9, beat("b", &[0]), "b@3 0,2"),
        (10, failed, "DiskFull"),
        (11, beat("b", &[0, 2]), "b@3 0,1,2"),
    ]);
}

#[test]
fn a_session_ends_at_its_deadline() {
    let coordinator = check(&[
        (0, join("a"), "a@1 0,1,2"),
        (10, join("b"), "b@2 "),
        (999, beat("b", &[]), "b@2 "),
        (1000, Event::Tick, ""),
        (1001, beat("b", &[]), "b@3 0,1,2"),
        (1002, beat("a", &[0, 1, 2]), "UnknownMember"),
    ]);
    assert_eq!(coordinator.next_deadline(), Some(2001));
    assert_eq!(coordinator.describe("g").unwrap().state, GroupState::Stable);
}

#[test]
fn who_never_lets_go_is_expelled() {
    let mut script = vec![(0, join("a"), "a@1 0,1,2"), (0, join("b"), "b@2 ")];
    // a is told first at 500 and has 60 s from then.
    for at in (500..60_500).step_by(500) {
        script.push((at, beat("a", &[0, 1, 2]), "a@2 1,2"));
        script.push((at, beat("b", &[]), "b@2 "));
    }
    script.push((60_500, beat("b", &[]), "b@3 0,1,2"));
    script.push((60_501, beat("a", &[0, 1, 2]), "UnknownMember"));
    check(&script);
}

#[test]
fn commits_count_from_the_holder_only() {
    let coordinator = check(&[
        (0, commit("", 0, 0, 5), "write 0"),
        (0, persisted(0), "done"),
        (1, join("a"), "a@1 0,1,2"),
        (1, commit("", 0, 0, 6), "GroupNotEmpty"),
        (1, commit("x", 1, 0, 6), "UnknownMember"),
        (1, commit("a", 2, 0, 6), "StaleGeneration"),
        (1, commit("a", 1, 3, 6), "StaleGeneration"),
        (2, join("b"), "b@2 "),
        // a still holds partition 0 and does not know generation 2 yet.
        (3, commit("a", 1, 0, 7), "write 1"),
        (4, beat("a", &[1, 2]), "a@2 1,2"),
        (4, persisted(1), "done"),
        (5, beat("b", &[]), "b@2 0"),
        (6, commit("a", 2, 0, 9), "StaleGeneration"),
        (6, commit("b", 1, 0, 9), "StaleGeneration"),
        (6, commit("b", 2, 0, 8), "write 2"),
        (7, persisted(2), "done"),
    ]);
    assert_eq!(coordinator.committed("g", &owned(&[0]))[0].offset, Offset(8));
    assert_eq!(coordinator.committed("g", &owned(&[1])), []);
}

#[test]
fn what_can_not_be_committed() {
    let mut long = commit("", 0, 0, 1);
    let Event::Commit { request, .. } = &mut long else { unreachable!() };
    request.offsets[0].metadata = "x".repeat(4097);
    let mut of_pipeline = commit("", 0, 0, 1);
    let Event::Commit { committer, .. } = &mut of_pipeline else { unreachable!() };
    *committer = Committer::Pipeline;
    let pipelines = Event::PipelinesChanged { pipelines: vec!["g".into()] };
    check(&[
        (0, commit("", 0, 3, 1), "UnknownPartition"),
        (0, commit("", 0, 0, -1), "InvalidRequest"),
        (0, long, "LimitExceeded"),
        (1, pipelines, ""),
        (1, commit("", 0, 0, 1), "InUse"),
        (1, join("a"), "InUse"),
        (1, delete(), "InUse"),
        (1, of_pipeline, "write 0"),
        (1, Event::TopicsChanged { topics: vec![] }, ""),
        (1, commit("", 0, 0, 1), "InUse"),
        (1, Event::PipelinesChanged { pipelines: vec![] }, ""),
        (1, commit("", 0, 0, 1), "UnknownTopic"),
    ]);
}

#[test]
fn a_deleted_topic_leaves_no_offsets() {
    let none = || Event::TopicsChanged { topics: vec![] };
    let coordinator = check(&[
        (0, commit("", 0, 0, 5), "write 0"),
        (1, persisted(0), "done"),
        (2, commit("", 0, 1, 6), "write 1"),
        (3, none(), ""),
        // It was asked in time; nobody can use it.
        (4, persisted(1), "done"),
    ]);
    assert!(coordinator.groups().is_empty());
    assert!(coordinator.snapshot().is_empty());
}

#[test]
fn groups_are_deleted_when_nobody_is_left() {
    let failed = Event::PersistFailed { write: WriteId(2), failure: Failure::new(ErrorCode::DiskFull, "full") };
    let coordinator = check(&[
        (0, delete(), "UnknownGroup"),
        (0, join("a"), "a@1 0,1,2"),
        (1, commit("a", 1, 0, 5), "write 0"),
        (1, delete(), "GroupNotEmpty"),
        (2, leave("a"), "done"),
        // The commit on its way is forgotten too.
        (3, delete(), "write 1"),
        (4, persisted(1), "done; done"),
        (5, commit("", 0, 1, 5), "write 2"),
        (6, failed, "DiskFull"),
    ]);
    assert!(coordinator.groups().is_empty());
    assert!(coordinator.snapshot().is_empty());
}

#[test]
fn a_snapshot_equals_the_history() {
    let mut coordinator = Coordinator::new(Limits::default());
    let mut out = Vec::new();
    coordinator.handle(topics(3), 0, &mut out);
    for (partition, offset) in [(0, 1), (1, 2), (0, 3)] {
        coordinator.handle(commit("", 0, partition, offset), 9, &mut out);
    }
    coordinator.handle(persisted(0), 9, &mut out);
    // Partition 0 at 3 is not durable yet: not shown, but in the snapshot.
    assert_eq!(coordinator.committed("g", &[])[0].offset, Offset(1));
    let mut replayed = Coordinator::new(Limits::default());
    for entry in coordinator.snapshot() {
        let (key, value) = (entry.encode_key(), entry.encode_value());
        replayed.replay(Entry::decode(&key, value.as_deref()).unwrap());
    }
    replayed.handle(topics(3), 0, &mut Vec::new());
    coordinator.handle(persisted(2), 9, &mut out);
    assert_eq!(replayed.committed("g", &[]), coordinator.committed("g", &[]));
    assert_eq!(replayed.committed("g", &owned(&[0]))[0].offset, Offset(3));
    let view = replayed.describe("g").unwrap();
    assert_eq!((view.state, view.partitions[1].topic_name.as_str()), (GroupState::Empty, "t"));
    replayed.handle(Event::TopicsChanged { topics: vec![] }, 0, &mut Vec::new());
    assert_eq!(replayed.describe("g"), None);
}

#[test]
fn new_partitions_are_assigned_and_limits_hold() {
    let limits = Limits { members_max: 1, groups_max: 1, ..Limits::default() };
    let mut coordinator = Coordinator::new(limits);
    let mut run = |event: Event| {
        let mut out = Vec::new();
        coordinator.handle(event, 0, &mut out);
        show(&out)
    };
    // A topic may come later than its subscribers.
    assert_eq!(run(join("a")), "a@1 ");
    assert_eq!(run(topics(2)), "");
    assert_eq!(run(beat("a", &[])), "a@2 0,1");
    assert_eq!(run(topics(3)), "");
    assert_eq!(run(beat("a", &[0, 1])), "a@3 0,1,2");
    assert_eq!(run(join("b")), "LimitExceeded");
    let change = |change: fn(&mut GroupHeartbeat)| {
        let mut event = join("c");
        let Event::Heartbeat { request, .. } = &mut event else { unreachable!() };
        change(request);
        event
    };
    assert_eq!(run(change(|request| request.group = "h".into())), "LimitExceeded");
    assert_eq!(run(change(|request| request.group = String::new())), "InvalidRequest");
    assert_eq!(run(change(|request| request.topics.clear())), "InvalidRequest");
    assert_eq!(run(change(|request| request.session_timeout_ms = 10)), "InvalidRequest");
}
