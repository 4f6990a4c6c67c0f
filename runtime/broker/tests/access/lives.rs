//! Tokens while they are in use: rotated, expired, deleted, made again; each of these reaches clients that are
//! connected, at their next request or record, and ends their connections without one, too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex};
use millstream_transport::Error;

use super::support::{Client, batch, from, token};
use super::world::{World, refusal};

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

async fn rotate(world: &World, id: &str, grace_ms: u64) -> String {
    let ack = world.root.rpc.call(&RotateToken { id: id.into(), grace_ms }).await.unwrap();
    assert!((ack.previous_until_ms - now_ms() - grace_ms as i64).abs() < 60_000);
    ack.token.expose().to_owned()
}

async fn check_in(world: &World, token: &str, expected: bool) {
    match (world.try_connect(token).await, expected) {
        (Ok(client), true) => drop(client.rpc.call(&ListGroups).await.unwrap()),
        (refused, false) => assert_eq!(refusal(refused.map(drop)), ErrorCode::Unauthenticated),
        (Err(error), true) => panic!("{error}"),
    }
}

/// Whether a request was refused for its token. The connection may have gone before the answer.
#[track_caller]
fn check_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Failure(failure)) => assert_eq!(failure.code, ErrorCode::Unauthenticated),
        Err(Error::Disconnected(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// The client asks for nothing, and its connection goes, with the reason.
async fn check_out(client: &Client) {
    match client.connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(closed) => {
            assert_eq!(&closed.reason[..], b"the token is not accepted any more");
        }
        // The goodbye may be lost; the broker has forgotten the connection all the same.
        quinn::ConnectionError::Reset => {}
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_a_recognisable_text_and_is_kept_as_a_hash() {
    let world = World::start().await;
    let text = world.token("billing", &["read:topic:orders"]).await;
    let secret = text.strip_prefix("ms_billing_").unwrap();
    assert!(secret.len() == 64 && secret.chars().all(|c| c.is_ascii_hexdigit()), "{secret}");
    let described = world.root.rpc.call(&DescribeTokens { ids: vec!["billing".into(), "none".into()] }).await.unwrap();
    assert_eq!(described.tokens.len(), 1);
    assert_eq!(described.tokens[0].rights, ["read:topic:orders"]);
    assert!(!format!("{described:?}").contains(secret));
    let stored = std::fs::read(world.path().join("metadata.redb")).unwrap();
    assert!(!stored.windows(64).any(|window| window == secret.as_bytes()), "the secret itself is on disk");
    // The id alone, another's secret, a part of the secret: none is a token.
    let other = world.token("other", &[]).await;
    check_in(&world, &text, true).await;
    check_in(&world, &other, true).await;
    for wrong in ["ms_billing_", "billing", &text[..text.len() - 1], &other.replace("other", "billing"), secret] {
        check_in(&world, wrong, false).await;
    }
    let again = CreateToken { id: "billing".into(), rights: vec![], expires_at_ms: None };
    assert_eq!(refusal(world.root.rpc.call(&again).await), ErrorCode::TokenExists);
    let bad = CreateToken { id: "bad".into(), rights: vec!["read:orders".into()], expires_at_ms: None };
    assert_eq!(refusal(world.root.rpc.call(&bad).await), ErrorCode::InvalidRequest);
    // Tokens are there after a stop; so is the admin token.
    let world = world.restart().await;
    check_in(&world, &text, true).await;
    check_in(&world, &token(world.path()), true).await;
    world.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_secrets_are_valid_while_a_rotation_lasts() {
    let world = World::start().await;
    let first = world.token("a", &["read:topic:*"]).await;
    let early = world.connect_with(&first).await;
    let second = rotate(&world, "a", 3_600_000).await;
    check_in(&world, &first, true).await;
    check_in(&world, &second, true).await;
    early.rpc.call(&ListGroups).await.unwrap();
    // The next rotation leaves the newest two; a third one without grace leaves one.
    let third = rotate(&world, "a", 3_600_000).await;
    check_in(&world, &first, false).await;
    check_out(&early).await;
    check_in(&world, &second, true).await;
    let late = world.connect_with(&third).await;
    let fourth = rotate(&world, "a", 0).await;
    check_in(&world, &second, false).await;
    check_in(&world, &third, false).await;
    check_in(&world, &fourth, true).await;
    check_out(&late).await;
    let forever = RotateToken { id: "a".into(), grace_ms: u64::MAX };
    assert_eq!(refusal(world.root.rpc.call(&forever).await), ErrorCode::InvalidRequest);
    assert_eq!(
        refusal(world.root.rpc.call(&RotateToken { id: "b".into(), grace_ms: 0 }).await),
        ErrorCode::UnknownToken
    );
    world.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_ends_its_sessions() {
    let world = World::start().await;
    // The clock decides, and this test has no other than the broker's: it waits for that to pass.
    let expires_at_ms = now_ms() + 1_500;
    let request = CreateToken { id: "a".into(), rights: vec![], expires_at_ms: Some(expires_at_ms) };
    let text = world.root.rpc.call(&request).await.unwrap().token.expose().to_owned();
    let client = world.try_connect(&text).await;
    while now_ms() < expires_at_ms {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check_in(&world, &text, false).await;
    if let Ok(client) = client {
        check_out(&client).await;
    }
    world.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_token_gets_nothing_more() {
    let world = World::start().await;
    let (_, topic) = world.topic().await;
    let rights = ["read:topic:mine.*", "write:topic:mine.*"];
    let client = world.client("a", &rights).await;
    client.produce(topic, 0, batch(&["before"])).await.unwrap();
    let (_writer, mut pushed) = client.subscribe(vec![from(topic, 0, 0)], 4096).await;
    assert!(!pushed.read(FRAME_BYTES_MAX).await.unwrap().unwrap().payload.is_empty());
    let waiting = Fetch { topic, partition: PartitionIndex(0), offset: Offset(1), bytes_max: 4096, wait_ms: 20_000 };
    let waiting = client.rpc.submit(&waiting, Vec::new()).await.unwrap();

    world.root.rpc.call(&DeleteToken { id: "a".into() }).await.unwrap();
    // The same id again is another token.
    world.token("a", &rights).await;
    world.root.produce(topic, 0, batch(&["after"])).await.unwrap();
    // A fetch that waited.
    check_refused(waiting.await);
    // A subscription.
    match pushed.read(FRAME_BYTES_MAX).await {
        Ok(Some(frame)) => {
            let head = frame.response::<Subscribe>().unwrap();
            assert_eq!((head.failure.unwrap().code, frame.payload.len()), (ErrorCode::Unauthenticated, 0));
        }
        ended => check_refused(ended),
    }
    let entries = vec![ProduceEntry { topic, partition: PartitionIndex(0), bytes: batch(&["x"]).len() as u32 }];
    let produce = client.rpc.call_with(&Produce { acks: Acks::All, entries }, vec![batch(&["x"])]).await;
    check_refused(produce);
    client.connection.closed().await;
    assert_eq!(world.root.fetch_all(topic, 0).await, ["before", "after"]);
    world.broker.shutdown().await;
}

/// Rights are given and taken while a client is connected: its next request goes by the new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_rights_hold_from_the_next_request_on() {
    let world = World::start().await;
    let (name, topic) = world.topic().await;
    let write = format!("write:topic:{name}");
    let client = world.client("a", &["read:topic:*"]).await;
    let alter = async |grant: &[&str], revoke: &[&str]| {
        let texts = |rights: &[&str]| rights.iter().map(|right| (*right).to_owned()).collect();
        let request = AlterToken { id: "a".into(), grant: texts(grant), revoke: texts(revoke) };
        world.root.rpc.call(&request).await.map(|ack| ack.rights)
    };
    let produce = async || {
        let entries = vec![ProduceEntry { topic, partition: PartitionIndex(0), bytes: batch(&["x"]).len() as u32 }];
        client.rpc.call_with(&Produce { acks: Acks::All, entries }, vec![batch(&["x"])]).await.map(drop)
    };
    client.fetch_all(topic, 0).await;
    assert_eq!(refusal(produce().await), ErrorCode::Forbidden);
    assert_eq!(alter(&[&write], &[]).await.unwrap(), ["read:topic:*", &write]);
    produce().await.unwrap();
    assert_eq!(alter(&[], &[&write]).await.unwrap(), ["read:topic:*"]);
    assert_eq!(refusal(produce().await), ErrorCode::Forbidden);
    assert_eq!(client.fetch_all(topic, 0).await, ["x"]);
    assert_eq!(refusal(alter(&["reed:topic:x"], &[]).await), ErrorCode::InvalidRequest);
    assert_eq!(refusal(alter(&[], &[&write]).await), ErrorCode::InvalidRequest);
    assert_eq!(alter(&[], &["read:topic:*"]).await.unwrap(), [""; 0]);
    let request = Fetch { topic, partition: PartitionIndex(0), offset: Offset(0), bytes_max: 1, wait_ms: 0 };
    assert_eq!(refusal(client.rpc.call_with(&request, Vec::new()).await.map(|_| ())), ErrorCode::UnknownTopic);
    // What it has no rights for any more is no reason to go.
    client.rpc.call(&ListGroups).await.unwrap();
    world.broker.shutdown().await;
}

/// A client that says nothing learns it all the same, and nobody keeps a connection open by silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_ends_with_its_token() {
    let world = World::start().await;
    let (deleted, rotated, kept) = (
        world.client("deleted", &["read:topic:*"]).await,
        world.client("rotated", &[]).await,
        world.client("kept", &["read:group:*"]).await,
    );
    world.root.rpc.call(&DeleteToken { id: "deleted".into() }).await.unwrap();
    check_out(&deleted).await;
    rotate(&world, "rotated", 0).await;
    check_out(&rotated).await;
    kept.rpc.call(&ListGroups).await.unwrap();
    assert!(kept.connection.close_reason().is_none());
    world.broker.shutdown().await;
}

/// A client tries tokens: each costs it a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_one_try() {
    let world = World::start().await;
    let client = world.connect_silent().await;
    let hello = |token: String| super::support::hello(token);
    let (wrong, right) = (hello("guess".into()), hello(token(world.path())));
    let (first, second) = tokio::join!(client.rpc.call(&wrong), client.rpc.call(&right));
    assert_eq!(refusal(first), ErrorCode::Unauthenticated);
    assert!(second.is_err(), "the right token, too late");
    client.connection.closed().await;
    world.broker.shutdown().await;
}
