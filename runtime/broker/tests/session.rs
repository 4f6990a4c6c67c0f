//! Who gets in and what a broken or hostile client can't do. Each case leaves the broker serving others.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::Path;

use millstream_broker::Broker;
use millstream_protocol::ErrorCode;
use millstream_protocol::frame::{self, FRAME_BYTES_MAX, FRAME_BYTES_MAX_ANONYMOUS};
use millstream_protocol::message::*;
use millstream_transport::{Error, FrameReader, OutFrame, Rpc, open_stream};
use support::*;

/// The broker still serves whoever knows the token.
async fn check_alive(broker: &Broker, folder: &Path) {
    connect(broker, folder).await.rpc.call(&ClusterStatus).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_token_nothing_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    for wrong in [String::new(), "guess".into(), format!("{}x", token(folder.path()))] {
        let connection = connect_anonymous(&broker, folder.path()).await;
        let rpc = Rpc::open(&connection).await.unwrap();
        let refused = rpc.call(&hello(wrong)).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::Unauthenticated);
        connection.closed().await;
    }
    let connection = connect_anonymous(&broker, folder.path()).await;
    let rpc = Rpc::open(&connection).await.unwrap();
    let refused = rpc.call(&ClusterStatus).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::Unauthenticated);
    connection.closed().await;
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

/// Sends raw bytes as the first thing on a stream and expects the connection to be closed for `expected`. Tells
/// whether the reason arrived: under load a stateless reset of the forgotten connection can overtake it.
async fn is_closed_with(connection: &quinn::Connection, bytes: &[u8], expected: &str) -> bool {
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    // The broker may close before it has read everything.
    let _ = send.write_all(bytes).await;
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(closed) => {
            let reason = String::from_utf8_lossy(&closed.reason).into_owned();
            assert!(reason.contains(expected), "{reason}");
            true
        }
        quinn::ConnectionError::Reset => false,
        other => panic!("the broker closes the connection itself, not: {other}"),
    }
}

fn header(length: u32, body: u32) -> Vec<u8> {
    let mut bytes = vec![0; frame::HEADER_LEN];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes[16..20].copy_from_slice(&body.to_be_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_frames_end_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let anonymous = FRAME_BYTES_MAX_ANONYMOUS as u32;
    for (bytes, expected) in [
        (header(anonymous + 1, 0), "is over the limit of 65536"),
        (header(u32::MAX, 0), "is over the limit of 65536"),
        (header(3, 0), "is too short"),
        (header(100, 1000), "is too short"),
    ] {
        while !is_closed_with(&connect_anonymous(&broker, folder.path()).await, &bytes, expected).await {}
    }
    let (bytes, expected) = (header(FRAME_BYTES_MAX as u32 + 1, 0), "is over the limit of 16777216");
    while !is_closed_with(&connect(&broker, folder.path()).await.connection, &bytes, expected).await {}
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_answered_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let (mut writer, mut reader) = open_stream(&client.connection).await.unwrap();
    let good = OutFrame::request(1, &ListGroups);
    let check = async |frame: OutFrame, reader: &mut FrameReader, writer: &mut millstream_transport::FrameWriter| {
        writer.write(frame).await.unwrap();
        let answer = reader.read(FRAME_BYTES_MAX).await.unwrap().unwrap();
        match answer.response::<ListGroups>() {
            Err(Error::Failure(failure)) => Some(failure.code),
            answered => {
                answered.unwrap();
                None
            }
        }
    };
    let version = Some(ErrorCode::UnsupportedVersion);
    assert_eq!(check(OutFrame { api: 999, ..good.clone() }, &mut reader, &mut writer).await, version);
    assert_eq!(check(OutFrame { version: 9, ..good.clone() }, &mut reader, &mut writer).await, version);
    let garbage = OutFrame { api: Fetch::KEY, body: vec![7; 3], ..good.clone() };
    assert_eq!(check(garbage, &mut reader, &mut writer).await, Some(ErrorCode::InvalidRequest));
    let lies = Produce { acks: Acks::All, entries: vec![] };
    let lies = OutFrame::request(1, &lies).with_payload(vec![batch(&["unclaimed"])]);
    assert_eq!(check(lies, &mut reader, &mut writer).await, Some(ErrorCode::InvalidRequest));
    let twice = OutFrame::request(1, &hello(token(folder.path())));
    assert_eq!(check(twice, &mut reader, &mut writer).await, Some(ErrorCode::InvalidRequest));
    assert_eq!(check(good, &mut reader, &mut writer).await, None);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).await.shutdown().await;
    for file in ["admin.token", "profile.yaml", "tls/server.key", "metadata.redb", "meta.json"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let profile = std::fs::read_to_string(folder.path().join("profile.yaml")).unwrap();
    assert!(profile.contains("-----BEGIN CERTIFICATE-----") && profile.contains(&token(folder.path())));
}
