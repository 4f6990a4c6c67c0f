//! Clients that mean harm: floods, half-open and silent connections, lies in frames, recorded sessions. Each case ends
//! with a broker that serves whoever knows the token.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_broker::{Broker, Config};
use millstream_protocol::ErrorCode;
use millstream_protocol::frame::{self, FRAME_BYTES_MAX, FRAME_BYTES_MAX_ANONYMOUS};
use millstream_protocol::message::*;
use millstream_transport::{ClientTls, Connector, Error, OutFrame, Rpc, open_stream};
use support::*;
use tokio::net::UdpSocket;

/// Nothing here waits this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn check_alive(broker: &Broker, folder: &Path) {
    let alive = async { connect(broker, folder).await.rpc.call(&ClusterStatus).await };
    tokio::time::timeout(PATIENCE, alive).await.expect("the broker answers").unwrap();
}

async fn connections(client: &Client) -> u32 {
    client.rpc.call(&ClusterStatus).await.unwrap().nodes[0].connections
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: never"));
}

fn client_tls(folder: &Path) -> ClientTls {
    let ca_pem = std::fs::read_to_string(folder.join("tls/ca.pem")).unwrap();
    ClientTls { ca_pem, server_name: "localhost".into() }
}

/// A broker whose patience before Hello is short.
async fn impatient(folder: &Path) -> Broker {
    let mut config = Config { shards: 1, ..Config::embedded(folder) };
    config.limits.handshake_ms_max = 300;
    config.limits.connections_max = 12;
    start_with(config).await
}

fn header(length: u32, body: u32) -> Vec<u8> {
    let mut bytes = vec![0; frame::HEADER_LEN];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes[16..20].copy_from_slice(&body.to_be_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_before_hello_ends() {
    let folder = tempfile::tempdir().unwrap();
    let broker = impatient(folder.path()).await;
    let hello = OutFrame::request(1, &hello(token(folder.path())));
    let mut whole = header(hello.wire_len() as u32 - 4, hello.body.len() as u32);
    whole[4..6].copy_from_slice(&Hello::KEY.to_be_bytes());
    whole[7] = 1;
    whole.extend_from_slice(&hello.body);
    // Nothing; a stream without a byte; half a header; all of Hello but its last byte.
    for bytes in [None, Some(&whole[..0]), Some(&whole[..7]), Some(&whole[..whole.len() - 1])] {
        let connection = connect_anonymous(&broker, folder.path()).await;
        let mut streams = Vec::new();
        if let Some(bytes) = bytes {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            streams.push((send, receive));
        }
        let closed = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the broker closes it");
        assert!(
            matches!(closed, quinn::ConnectionError::ApplicationClosed(_) | quinn::ConnectionError::Reset),
            "{closed}"
        );
    }
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_before_hello_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let broker = impatient(folder.path()).await;
    let connection = connect_anonymous(&broker, folder.path()).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    // A frame that may be, and then as much as the other end takes.
    send.write_all(&header(FRAME_BYTES_MAX_ANONYMOUS as u32, 60_000)).await.unwrap();
    let mut taken = 0;
    while let Ok(written) = send.write(&[7; 8192]).await {
        taken += written;
        assert!(taken <= 1 << 20, "{taken} bytes were taken of a client nobody knows");
    }
    assert!(taken >= 60_000, "{taken}");
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_before_hello_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let broker = impatient(folder.path()).await;
    let too_long = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let other_api = {
        let mut bytes = header(16, 0);
        bytes[5] = ClusterStatus::KEY as u8;
        bytes[7] = 1;
        bytes
    };
    let bad_body = {
        let mut bytes = header(16 + 40, 40);
        bytes[5] = Hello::KEY as u8;
        bytes[7] = 1;
        bytes.extend([0xff; 40]);
        bytes
    };
    for bytes in [too_long, other_api, bad_body, vec![0; 20], vec![0xff; 1000], header(1 << 31, 0)] {
        let connection = connect_anonymous(&broker, folder.path()).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.ok();
        tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the broker closes it");
    }
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_two_gibibytes_ends_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let other = connect(&broker, folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let (mut send, _receive) = client.connection.open_bi().await.unwrap();
    send.write_all(&header(1 << 31, 1 << 30)).await.unwrap();
    tokio::time::timeout(PATIENCE, client.connection.closed()).await.expect("the broker closes it");
    other.rpc.call(&ClusterStatus).await.unwrap();
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_refused_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let broker = impatient(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let tls = client_tls(folder.path());
    let flood = Connector::new(broker.quic_addr(), &tls).unwrap();
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        match flood.connect(broker.quic_addr()).await {
            Ok(connection) => held.push(connection),
            Err(error) => {
                assert!(error.to_string().contains("refused"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !held.is_empty(), "{refused} of 40 were refused");
    assert!(connections(&client).await <= 12, "the limit holds");
    // None of them says Hello: their time is soon over, and there is room again.
    until("there is room again", async || connections(&client).await == 1).await;
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let tls = client_tls(folder.path());
    // First packets of two hundred connections, caught on a socket that never answers.
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sink_address = sink.local_addr().unwrap();
    let connector = Connector::new(sink_address, &tls).unwrap();
    let mut dialling = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let connector = connector.clone();
        dialling.spawn(async move { connector.connect(sink_address).await.map(drop) });
    }
    let mut packets = Vec::new();
    let mut buffer = [0; 65_536];
    while packets.len() < 200 {
        let (length, _) = tokio::time::timeout(PATIENCE, sink.recv_from(&mut buffer)).await.expect("a packet").unwrap();
        // Others are the probe that asks whether anybody listens, and repetitions.
        if length >= 1200 {
            packets.push(buffer[..length].to_vec());
        }
    }
    dialling.abort_all();
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in &packets {
        attacker.send_to(packet, broker.quic_addr()).await.unwrap();
    }
    // While those hang, clients come and go.
    for _ in 0..5 {
        check_alive(&broker, folder.path()).await;
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_of_noise_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut state = 7_u64;
    for round in 0..5_000_usize {
        let mut packet = vec![0; round % 1500];
        for byte in &mut packet {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        // Long headers of known and unknown versions among them.
        if let Some(first) = packet.first_mut() {
            *first |= (round % 4 * 64) as u8;
        }
        attacker.send_to(&packet, broker.quic_addr()).await.unwrap();
    }
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

/// Forwards datagrams between a client and the broker, and keeps what the client sent.
async fn recorder(broker: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>, tokio::task::JoinHandle<()>) {
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(broker).await.unwrap();
    let address = front.local_addr().unwrap();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    let forwarding = tokio::spawn(async move {
        let (mut from_client, mut from_broker) = ([0; 65_536], [0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                received = front.recv_from(&mut from_client) => {
                    let Ok((length, address)) = received else { return };
                    client = Some(address);
                    record.lock().unwrap().push(from_client[..length].to_vec());
                    back.send(&from_client[..length]).await.ok();
                }
                received = back.recv(&mut from_broker) => {
                    let (Ok(length), Some(client)) = (received, client) else { continue };
                    front.send_to(&from_broker[..length], client).await.ok();
                }
            }
        }
    });
    (address, recorded, forwarding)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_session_replayed_opens_none() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("t", 1).await;
    let (front, recorded, forwarding) = recorder(broker.quic_addr()).await;
    let connector = Connector::new(front, &client_tls(folder.path())).unwrap();
    let connection = connector.connect(front).await.unwrap();
    let rpc = Rpc::open(&connection).await.unwrap();
    rpc.call(&hello(token(folder.path()))).await.unwrap();
    let victim = Client { connection, rpc };
    victim.produce(topic, 0, batch(&["once"])).await.unwrap();
    drop(victim);
    connector.close().await;
    until("the session is gone", async || connections(&client).await == 1).await;
    forwarding.abort();
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packets = recorded.lock().unwrap().clone();
    assert!(packets.len() >= 4, "a session takes a few packets, {} were seen", packets.len());
    for _ in 0..3 {
        for packet in &packets {
            attacker.send_to(packet, broker.quic_addr()).await.unwrap();
        }
    }
    // The handshake can't be finished without the client's keys, so neither token nor batch is ever read.
    assert_eq!(client.fetch_all(topic, 0).await, ["once"]);
    check_alive(&broker, folder.path()).await;
    assert_eq!(client.fetch_all(topic, 0).await, ["once"]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_protocol_does_not_use_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.connection.max_datagram_size(), None, "neither end takes datagrams");
    let opened = tokio::time::timeout(Duration::from_millis(100), client.connection.open_uni()).await;
    assert!(opened.is_err(), "a unidirectional stream must wait for ever");
    client.rpc.call(&ClusterStatus).await.unwrap();
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_opened_and_dropped_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    for round in 0..3_000_u32 {
        let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
        // Nothing, half a header, a header without its body; then it is reset, finished or forgotten.
        let bytes = header(1000, 900);
        send.write_all(&bytes[..(round % 3 * 10) as usize]).await.unwrap();
        match round % 4 {
            0 => send.reset(7_u32.into()).unwrap(),
            1 => send.finish().unwrap(),
            2 => receive.stop(7_u32.into()).unwrap(),
            _ => {}
        }
    }
    client.rpc.call(&ClusterStatus).await.unwrap();
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_end_wait_at_the_sender() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("t", 1).await;
    // Long polls at the end of a log, whose answers nobody reads.
    let (mut writer, _reader) = open_stream(&client.connection).await.unwrap();
    let poll = Fetch {
        topic,
        partition: millstream_protocol::PartitionIndex(0),
        offset: millstream_protocol::Offset::ZERO,
        bytes_max: 1 << 20,
        wait_ms: 30_000,
    };
    for correlation in 0..5_000 {
        writer.queue(OutFrame::request(correlation, &poll)).unwrap();
    }
    writer.flush().await.unwrap();
    for number in 0..20 {
        client.produce(topic, 0, batch(&[&number.to_string()])).await.unwrap();
    }
    assert_eq!(client.fetch_all(topic, 0).await.len(), 20);
    check_alive(&broker, folder.path()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_beyond_the_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("t", 1).await;
    let (mut writer, mut reader) = open_stream(&client.connection).await.unwrap();
    let entry = |bytes| ProduceEntry { topic, partition: millstream_protocol::PartitionIndex(0), bytes };
    let bytes = batch(&["x"]);
    let frames = [
        OutFrame::request(1, &Produce { acks: Acks::All, entries: vec![entry(bytes.len() as u32)] }),
        OutFrame::request(1, &DescribeTopics { names: vec!["a name of some length".into()], include_internal: true }),
        OutFrame::request(
            1,
            &FetchOffsets {
                group: "a group of some length".into(),
                partitions: vec![TopicPartitions { topic, partitions: vec![millstream_protocol::PartitionIndex(0)] }],
            },
        ),
    ];
    for frame in frames {
        for at in 0..frame.body.len().saturating_sub(3) {
            for lie in [u32::MAX, i32::MAX as u32, 1 << 24] {
                let mut lying = frame.clone();
                lying.body[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                writer.write(lying).await.unwrap();
                let answer = reader.read(FRAME_BYTES_MAX).await.unwrap().expect("an answer, not an end");
                // Some lies are about a number that may be large; what counts is that the stream goes on.
                if let Err(error) = answer.response::<Produce>() {
                    assert!(!matches!(&error, Error::Failure(f) if f.code == ErrorCode::Internal), "{error}");
                }
            }
        }
    }
    assert_eq!(client.fetch_all(topic, 0).await, Vec::<String>::new(), "nothing was appended");
    broker.shutdown().await;
}
