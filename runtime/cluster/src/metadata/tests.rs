//! Commands against their outcomes, and the property that replaying the log equals the snapshot.

use std::collections::BTreeMap;

use millstream_protocol::TopicId;
use proptest::prelude::*;

use super::codec::{decode_command, decode_snapshot, encode_command, encode_snapshot};
use super::*;

fn create(name: &str, id: u128, partitions: u32) -> Command {
    let (name, id) = (name.to_owned(), TopicId(id));
    Command::CreateTopic { name, id, partitions, config: TopicConfig::default(), internal: false, at_ms: 5 }
}

fn register(name: &str, version: &str, digest: u8) -> Command {
    Command::RegisterPlugin {
        name: name.to_owned(),
        version: version.to_owned(),
        digest: Digest([digest; 32]),
        bytes: 10,
        asks: Vec::new(),
        description: String::new(),
        at_ms: 6,
        replace: false,
    }
}

fn replace(name: &str, version: &str, digest: u8) -> Command {
    let mut command = register(name, version, digest);
    if let Command::RegisterPlugin { replace, .. } = &mut command {
        *replace = true;
    }
    command
}

fn put(name: &str, plugin: Option<(&str, &str)>) -> Command {
    let used = |(name, version): (&str, &str)| PluginUse {
        step: "s".to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        digest: Digest([1; 32]),
    };
    Command::PutPipeline {
        name: name.to_owned(),
        yaml: "pipeline: x".to_owned(),
        variables: BTreeMap::new(),
        plugins: plugin.map(used).into_iter().collect(),
        at_ms: 7,
    }
}

/// Applies all but the last command, which must give `expected` (an event's or a rejection's text).
fn check(commands: &[Command], expected: &str) {
    let mut state = State::default();
    let (last, before) = commands.split_last().unwrap();
    before.iter().for_each(|command| drop(state.apply(command).unwrap()));
    let untouched = state.clone();
    let outcome = match state.apply(last) {
        Ok(applied) => format!("{:?}", applied.event),
        Err(rejection) => {
            let counted = State { applied: untouched.applied + 1, ..untouched };
            assert_eq!(state, counted, "a refused command changes nothing");
            rejection.to_string()
        }
    };
    assert_eq!(outcome, expected);
}

#[test]
fn commands_change_or_refuse() {
    let alter = |partitions| Command::AlterTopic { name: "a".into(), partitions, config: TopicConfig::default() };
    let delete = |id| Command::DeleteTopic { name: "a".into(), id: TopicId(id) };
    let unplug = Command::DeletePlugin { name: "p".into(), version: "1.0.0".into() };
    check(&[create("a", 1, 0)], "topic `a` needs at least 1 partition");
    check(&[create("a/b", 1, 1)], "topic name `a/b` may hold only letters, digits, `.`, `_` and `-`, found '/'");
    check(&[create("a", 1, 1), create("a", 2, 1)], "topic `a` exists already");
    check(
        &[create("a", 1, 3), alter(Some(2))],
        "topic `a` has 3 partitions, and partitions may only grow: asked for 2",
    );
    check(&[alter(None)], "topic `a` does not exist");
    check(&[create("a", 1, 1), delete(1), create("a", 2, 1), delete(1)], "topic `a` does not exist");
    check(&[register("p", "1.0.0", 1), register("p", "1.0.0", 1)], "PluginRegistered { existed: true }");
    let raise = "`p@1.0.0` exists with other contents: raise the version";
    check(&[register("p", "1.0.0", 1), register("p", "1.0.0", 2)], raise);
    check(&[register("p", "1.0.0", 1), replace("p", "1.0.0", 2)], "PluginRegistered { existed: false }");
    let used = "plugin `p@1.0.0` is used by pipeline `x`: delete or change that first";
    check(&[register("p", "1.0.0", 1), put("x", Some(("p", "1.0.0"))), unplug.clone()], used);
    check(&[unplug], "plugin `p@1.0.0` does not exist");
    let ids = Command::AllocateProducerIds { count: 10 };
    check(&[ids.clone(), ids], "ProducerIds { ids: 10..20 }");
    check(&[put("x", None), put("x", None)], "PipelinePut { name: \"x\", revision: 2 }");
}

#[test]
fn lookups_follow_the_lives_of_a_topic() {
    let mut state = State::default();
    state.apply(&create("a", 1, 2)).unwrap();
    state.apply(&Command::PartitionsReady { id: TopicId(1), partitions: 9 }).unwrap();
    assert_eq!(state.topic_by_id(TopicId(1)).map(|topic| (topic.partitions, topic.ready)), Some((2, 2)));
    state.apply(&Command::DeleteTopic { name: "a".into(), id: TopicId(1) }).unwrap();
    state.apply(&create("a", 2, 1)).unwrap();
    assert_eq!(state.topic_by_id(TopicId(1)), None);
    assert_eq!(state.topic("a").map(|topic| topic.id), Some(TopicId(2)));
    assert_eq!(state.deleted_topics().len(), 1);
    state.apply(&Command::ForgetDeleted { id: TopicId(1) }).unwrap();
    assert_eq!(state.deleted_topics(), []);
}

#[test]
fn old_revisions_are_dropped() {
    let mut state = State::default();
    (0..25).for_each(|_| drop(state.apply(&put("x", None)).unwrap()));
    let pipeline = state.pipeline("x").unwrap();
    assert_eq!((pipeline.revisions().len(), pipeline.current().revision), (PIPELINE_REVISIONS_MAX, 25));
}

#[test]
fn newer_and_damaged_bytes_are_refused() {
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(decode_command(bytes).unwrap_err().to_string().split(" at ").next(), Some(expected));
    };
    let newer = "metadata has format version 2, this broker reads up to 1: start a newer broker";
    check(br#"{"format":2,"content":{"type":"teleport"}}"#, newer);
    check(b"{", "metadata is damaged: EOF while parsing an object");
}

/// Small names and ids, so that commands meet each other.
fn any_command() -> impl Strategy<Value = Command> {
    let name = || prop::sample::select(vec!["a", "b", "bad/name"]);
    let version = || prop::sample::select(vec!["1.0.0", "1.1.0"]);
    prop_oneof![
        (name(), 0..4u128, 0..4u32).prop_map(|(name, id, partitions)| create(name, id, partitions)),
        (0..4u128, 0..4u32).prop_map(|(id, partitions)| Command::PartitionsReady { id: TopicId(id), partitions }),
        (name(), prop::option::of(0..6u32), any::<Option<i64>>()).prop_map(|(name, partitions, retention_ms)| {
            let config = TopicConfig { retention_ms, ..TopicConfig::default() };
            Command::AlterTopic { name: name.into(), partitions, config }
        }),
        (name(), 0..4u128).prop_map(|(name, id)| Command::DeleteTopic { name: name.into(), id: TopicId(id) }),
        (0..4u128).prop_map(|id| Command::ForgetDeleted { id: TopicId(id) }),
        (name(), version(), 0..3u8).prop_map(|(name, version, digest)| register(name, version, digest)),
        (name(), version())
            .prop_map(|(name, version)| Command::DeletePlugin { name: name.into(), version: version.into() }),
        (name(), prop::option::of((name(), version()))).prop_map(|(name, plugin)| put(name, plugin)),
        (name(), any::<bool>()).prop_map(|(name, paused)| Command::SetPipelinePaused { name: name.into(), paused }),
        name().prop_map(|name| Command::DeletePipeline { name: name.into() }),
        (0..100u32).prop_map(|count| Command::AllocateProducerIds { count }),
    ]
}

proptest! {
    #[test]
    fn replay_equals_snapshot(commands in prop::collection::vec(any_command(), 0..60), cut in 0..60usize) {
        let mut whole = State::default();
        let mut restored = State::default();
        for (i, command) in commands.iter().enumerate() {
            let stored = decode_command(&encode_command(command)).unwrap();
            prop_assert_eq!(&stored, command);
            prop_assert_eq!(whole.apply(command), restored.apply(&stored));
            if i == cut {
                restored = decode_snapshot(&encode_snapshot(&restored)).unwrap();
            }
        }
        prop_assert_eq!(encode_snapshot(&whole), encode_snapshot(&restored));
        prop_assert_eq!(whole, restored);
    }
}
