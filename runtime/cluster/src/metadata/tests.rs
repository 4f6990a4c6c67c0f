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
    // Its files may be there still, and go by their id.
    check(&[create("a", 1, 1), delete(1), create("b", 1, 1)], "topic `b` exists already");
    let forget = Command::ForgetDeleted { id: TopicId(1) };
    let created = format!("TopicCreated {{ id: {:?} }}", TopicId(1));
    check(&[create("a", 1, 1), delete(1), forget, create("b", 1, 1)], &created);
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
    let newer = "metadata has format version 4, this broker reads up to 3: start a newer broker";
    check(br#"{"format":4,"content":{"type":"teleport"}}"#, newer);
    check(b"{", "metadata is damaged: EOF while parsing an object");
}

fn token(id: &str, secret: u8, rights: &[&str]) -> Command {
    let rights = rights.iter().map(|right| right.parse().unwrap()).collect();
    Command::CreateToken { id: id.into(), secret: Digest([secret; 32]), rights, expires_at_ms: Some(1_000), at_ms: 10 }
}

fn rotate(id: &str, secret: u8, at_ms: i64, previous_until_ms: i64) -> Command {
    Command::RotateToken { id: id.into(), secret: Digest([secret; 32]), previous_until_ms, at_ms }
}

#[test]
fn tokens_are_made_rotated_and_deleted() {
    let made = token("a", 1, &["read:topic:orders"]);
    let delete = Command::DeleteToken { id: "a".into() };
    check(std::slice::from_ref(&made), "TokenCreated { id: \"a\" }");
    check(&[made.clone(), made.clone()], "token `a` exists already: rotate it for a new secret, or delete it first");
    check(&[token("a b", 1, &[])], "token `a b` must have 1 to 64 letters, digits, `.`, `_` or `-`");
    check(&[token("a", 1, &["read:cluster"; 65])], "token `a` may have 64 rights, got 65");
    check(&[rotate("a", 2, 20, 30)], "token `a` does not exist");
    check(&[made.clone(), rotate("a", 2, 20, 19)], "the old secret may stay valid for 30 days at most");
    let never = rotate("a", 2, 20, 21 + GRACE_MS_MAX);
    check(&[made.clone(), never], "the old secret may stay valid for 30 days at most");
    check(&[made.clone(), delete.clone(), delete], "token `a` does not exist");
    let mut expired = token("a", 1, &[]);
    if let Command::CreateToken { at_ms, .. } = &mut expired {
        *at_ms = 1_000;
    }
    check(&[expired], "token `a` would have expired already");
    let mut state = State::default();
    (0..TOKENS_MAX).for_each(|n| drop(state.apply(&token(&n.to_string(), 1, &[])).unwrap()));
    assert_eq!(state.apply(&made), Err(Rejection::TooManyTokens));
}

#[test]
fn rights_of_a_token_are_given_and_taken() {
    let alter = |grant: &[&str], revoke: &[&str]| {
        let parse = |rights: &[&str]| rights.iter().map(|right| right.parse().unwrap()).collect::<Vec<_>>();
        Command::AlterToken { id: "a".into(), grant: parse(grant), revoke: parse(revoke) }
    };
    let mut state = State::default();
    let absent = state.apply(&alter(&["read:cluster"], &[]));
    assert_eq!(absent, Err(Rejection::UnknownToken("a".into())));
    state.apply(&token("a", 1, &["read:topic:orders", "write:topic:t.*"])).unwrap();
    let mut check = |command: Command, expected: Result<&str, &str>| {
        let applied = state.apply(&command).map(|_| ()).map_err(|rejection| rejection.to_string());
        let token = state.token("a").unwrap();
        let rights: Vec<String> = token.rights.iter().map(ToString::to_string).collect();
        match expected {
            Ok(expected) => assert_eq!((applied, rights.join(" ")), (Ok(()), expected.to_owned())),
            Err(words) => assert_eq!(applied, Err(words.to_owned())),
        }
        assert_eq!(token.accepts(&Digest([1; 32]), 10), Some(1_000), "the secret and its end stay");
        rights.len()
    };
    let all = "read:topic:orders write:topic:t.* read:cluster";
    check(alter(&["read:cluster", "read:topic:orders"], &[]), Ok(all));
    check(alter(&["read:group:g"], &["write:topic:t.*", "read:cluster"]), Ok("read:topic:orders read:group:g"));
    // All or nothing.
    let refused = check(
        alter(&["admin:cluster"], &["read:group:g", "read:topic:t"]),
        Err("token `a` has no right `read:topic:t`: name one as it was given"),
    );
    assert_eq!(refused, 2);
    let many: Vec<String> = (0..63).map(|n| format!("read:topic:t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(check(alter(&many, &[]), Err("token `a` may have 64 rights, got 65")), 2);
    check(alter(&[], &["read:topic:orders", "read:group:g"]), Ok(""));
}

#[test]
fn secrets_of_a_token_have_their_times() {
    let mut state = State::default();
    let mut check = |command: Option<Command>, now: i64, expected: [Option<i64>; 4]| {
        if let Some(command) = command {
            state.apply(&command).unwrap();
        }
        let token = state.token("a").unwrap();
        let accepted = [1, 2, 3, 9].map(|secret| token.accepts(&Digest([secret; 32]), now));
        assert_eq!(accepted, expected, "at {now}");
    };
    check(Some(token("a", 1, &[])), 10, [Some(1_000), None, None, None]);
    // Two are valid in the window; the window ends; a second rotation ends the one before at once.
    check(Some(rotate("a", 2, 100, 200)), 199, [Some(200), Some(1_000), None, None]);
    check(None, 200, [None, Some(1_000), None, None]);
    check(Some(rotate("a", 3, 150, 250)), 151, [None, Some(250), Some(1_000), None]);
    // Nothing outlives the token itself.
    check(Some(rotate("a", 9, 900, 2_000)), 999, [None, None, Some(1_000), Some(1_000)]);
    check(None, 1_000, [None; 4]);
    assert_eq!(state.token("a").unwrap().previous_until_ms(), Some(2_000));
}

/// Bytes that format 1 wrote: a later broker reads them for ever.
#[test]
fn format_1_is_read() {
    let command = br#"{"format":1,"content":{"type":"put_pipeline","name":"x","yaml":"y","variables":{"secret:K":"v"},"plugins":[],"at_ms":7}}"#;
    let Command::PutPipeline { variables, .. } = decode_command(command).unwrap() else { panic!("another command") };
    assert_eq!(variables["secret:K"].expose(), "v");
    let snapshot = br#"{"format":1,"content":{"applied":3,"topics":{},"deleted":[],"plugins":{},"pipelines":{"x":{"name":"x","paused":false,"created_at_ms":7,"revisions":[{"revision":1,"yaml":"y","variables":{"secret:K":"v"},"plugins":[],"applied_at_ms":7}]}},"next_producer_id":5}}"#;
    let state = decode_snapshot(snapshot).unwrap();
    assert_eq!((state.applied(), state.tokens().len()), (3, 0));
    assert!(!format!("{state:?}").contains("\"v\""), "values of references are not shown");
}

/// The disk form of tokens, which must not change silently.
#[test]
fn tokens_on_disk_stay_as_they_are() {
    let command = String::from_utf8(encode_command(&token("a", 1, &["read:topic:orders", "admin:cluster"]))).unwrap();
    let digest = "01".repeat(32);
    assert_eq!(
        command,
        format!(
            r#"{{"format":3,"content":{{"type":"create_token","id":"a","secret":"{digest}","rights":["read:topic:orders","admin:cluster"],"expires_at_ms":1000,"at_ms":10}}}}"#
        )
    );
    let mut state = State::default();
    state.apply(&token("a", 1, &["write:topic:t.*"])).unwrap();
    state.apply(&rotate("a", 2, 20, 30)).unwrap();
    let snapshot = String::from_utf8(encode_snapshot(&state)).unwrap();
    let secrets =
        format!(r#"[{{"digest":"{}","until_ms":null}},{{"digest":"{digest}","until_ms":30}}]"#, "02".repeat(32));
    assert!(
        snapshot.contains(&format!(
            r#""tokens":{{"a":{{"id":"a","secrets":{secrets},"rights":["write:topic:t.*"],"expires_at_ms":1000,"created_at_ms":10,"rotated_at_ms":20}}}}"#
        )),
        "{snapshot}"
    );
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
        (name(), 0..4u8).prop_map(|(name, secret)| token(name, secret, &["read:topic:*", "admin:cluster"])),
        (name(), 0..4u8, 0..99i64).prop_map(|(name, secret, at)| rotate(name, secret, at, at + 50)),
        name().prop_map(|name| Command::DeleteToken { id: name.into() }),
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
