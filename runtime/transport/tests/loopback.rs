//! Real endpoints over loopback: round trips, pipelining, limits before and after authentication,
//! trust, and what a client sees when the server goes away.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_ANONYMOUS};
use millstream_protocol::message::{Done, Fetch, FetchAck, Hello, HelloAck, ListOffsets, Position, Produce};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicId};
use millstream_transport::config::{self, CloseCode};
use millstream_transport::{
    ClientTls, Error, Frame, FrameReader, FrameWriter, Listener, OutFrame, Rpc, ServerTls, connect, open_stream, tls,
};

/// Nothing here waits this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    listener: Listener,
    address: SocketAddr,
    tls: ClientTls,
    _dir: tempfile::TempDir,
}

/// A server that says hello and then answers every fetch with its offset plus one and its own payload,
/// and everything else with a failure. Connections are served until they end.
fn start() -> Server {
    let dir = tempfile::tempdir().expect("a temporary folder");
    tls::generate_dev(dir.path(), &[]).expect("new certificates");
    let server_tls = ServerTls::load(dir.path()).expect("the certificates just written");
    let ca_pem = std::fs::read_to_string(dir.path().join(tls::CA_FILE)).expect("the CA just written");
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), &server_tls).expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let accepting = listener.clone();
    tokio::spawn(async move {
        while let Some(client) = accepting.accept().await {
            tokio::spawn(async move { serve(client.handshake().await?).await });
        }
    });
    Server { listener, address, tls: ClientTls { ca_pem, server_name: "127.0.0.1".into() }, _dir: dir }
}

async fn serve(connection: quinn::Connection) -> Result<(), Error> {
    let (send, receive) = connection.accept_bi().await?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let hello = match reader.read(FRAME_BYTES_MAX_ANONYMOUS).await {
        Ok(Some(hello)) => hello,
        Ok(None) => return Ok(()),
        Err(error) => {
            connection.close(CloseCode::Protocol.into(), error.to_string().as_bytes());
            return Err(error);
        }
    };
    let token = hello.request::<Hello>()?.token;
    if token != "secret" {
        writer.fail(&hello.header, &Failure::new(ErrorCode::Unauthenticated, "wrong token")).await?;
        writer.stopped().await;
        return Ok(());
    }
    let mut streams = config::admit(&connection);
    writer.respond::<Hello>(&hello.header, &hello_ack(), Vec::new()).await?;
    tokio::spawn(answer(writer, reader));
    loop {
        let (send, receive) = connection.accept_bi().await?;
        streams.opened(&connection);
        tokio::spawn(answer(FrameWriter::new(send), FrameReader::new(receive)));
    }
}

async fn answer(mut writer: FrameWriter, mut reader: FrameReader) -> Result<(), Error> {
    while let Some(frame) = reader.read(FRAME_BYTES_MAX).await? {
        match frame.request::<Fetch>() {
            Ok(fetch) if frame.header.api == 22 => {
                let ack = FetchAck { high_watermark: fetch.offset.next(), log_start: Offset(0) };
                writer.respond::<Fetch>(&frame.header, &ack, vec![frame.payload]).await?;
            }
            _ => writer.fail(&frame.header, &Failure::new(ErrorCode::Busy, "try again")).await?,
        }
    }
    writer.finish();
    Ok(())
}

fn hello_ack() -> HelloAck {
    HelloAck {
        cluster_id: "c".into(),
        node_id: 1,
        server_version: "0".into(),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        batch_bytes_max: 1 << 20,
    }
}

fn hello(token: &str) -> Hello {
    Hello { token: token.into(), client_name: "test".into(), client_version: "0".into() }
}

fn fetch(offset: i64) -> Fetch {
    Fetch { topic: TopicId(1), partition: PartitionIndex(0), offset: Offset(offset), bytes_max: 1, wait_ms: 0 }
}

async fn session(server: &Server) -> (quinn::Connection, Rpc) {
    let connection = connect(server.address, &server.tls).await.expect("a trusted server");
    let rpc = Rpc::open(&connection).await.expect("a stream");
    assert_eq!(rpc.call(&hello("secret")).await.as_ref(), Ok(&hello_ack()));
    (connection, rpc)
}

/// Runs a test on the runtime brokers use, and ends one that hangs.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
}

#[test]
fn requests_and_payloads_of_every_size_round_trip() {
    run(async {
        let server = start();
        let (_connection, rpc) = session(&server).await;
        for size in [0, 1, 1023, 1024, 1100, 65_536, 1 << 20, FRAME_BYTES_MAX - 1000] {
            let payload: Bytes = (0..size).map(|i| (i * 7 % 251) as u8).collect();
            let parts = vec![payload.slice(..size / 3), payload.slice(size / 3..)];
            let reply = rpc.call_with(&fetch(size as i64), parts).await.unwrap();
            assert_eq!(reply.response.high_watermark, Offset(size as i64 + 1));
            assert!(reply.payload == payload, "payload of {size} bytes came back changed");
        }
        let unserved = ListOffsets { topic: TopicId(1), partitions: vec![], position: Position::Latest };
        let failure = rpc.call(&unserved).await.unwrap_err();
        assert_eq!(failure, Error::Failure(Failure::new(ErrorCode::Busy, "try again")));
        assert!(failure.is_retriable());
    });
}

#[test]
fn ten_thousand_pipelined_requests_get_their_own_answers() {
    run(async {
        let server = start();
        let (_connection, rpc) = session(&server).await;
        let mut pending = Vec::new();
        let asking = rpc.clone();
        let (sender, mut answers) = tokio::sync::mpsc::channel(10_000);
        let submit = tokio::spawn(async move {
            for offset in 0..10_000 {
                let request = asking.submit(&fetch(offset), vec![Bytes::from(offset.to_string())]).await.unwrap();
                sender.send((offset, request)).await.unwrap();
            }
        });
        while let Some((offset, request)) = answers.recv().await {
            let reply = request.await.unwrap();
            assert_eq!(reply.response.high_watermark, Offset(offset + 1));
            assert_eq!(reply.payload, offset.to_string());
            pending.push(offset);
        }
        submit.await.unwrap();
        assert_eq!(pending.len(), 10_000);
    });
}

/// Else a lost last packet is sent again 25 ms later than it could be.
#[test]
fn each_end_asks_the_other_to_acknowledge_soon() {
    run(async {
        let server = start();
        let (connection, rpc) = session(&server).await;
        let asked = || (connection.stats().frame_tx.ack_frequency, connection.stats().frame_rx.ack_frequency);
        let mut offset = 0;
        while asked().0 == 0 || asked().1 == 0 {
            assert!(offset < 1_000, "(asked, was asked): {:?}", asked());
            rpc.call(&fetch(offset)).await.unwrap();
            offset += 1;
        }
    });
}

#[test]
fn a_forgotten_request_does_not_block_the_stream() {
    run(async {
        let server = start();
        let (connection, _rpc) = session(&server).await;
        let (writer, reader) = open_stream(&connection).await.unwrap();
        let rpc = Rpc::new(writer, reader, 2);
        for offset in 0..100 {
            drop(rpc.submit(&fetch(offset), vec![]).await.unwrap());
        }
        assert_eq!(rpc.call(&fetch(7)).await.unwrap().high_watermark, Offset(8));
        // The last handle goes, its answer still comes.
        let last = rpc.submit(&fetch(8), vec![]).await.unwrap();
        drop(rpc);
        assert_eq!(last.await.unwrap().response.high_watermark, Offset(9));
    });
}

#[test]
fn before_hello_is_answered_there_is_one_stream() {
    run(async {
        let server = start();
        let connection = connect(server.address, &server.tls).await.unwrap();
        let first = Rpc::open(&connection).await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(100), open_stream(&connection)).await;
        assert!(second.is_err(), "a second stream must wait");
        first.call(&hello("secret")).await.unwrap();
        let mut streams = Vec::new();
        for _ in 1..config::STREAMS_AT_FIRST {
            streams.push(Rpc::open(&connection).await.unwrap());
        }
        let unused = tokio::time::timeout(Duration::from_millis(100), open_stream(&connection)).await;
        assert!(unused.is_err(), "whoever uses none of its streams gets no more");
        for stream in &streams {
            stream.call(&fetch(1)).await.unwrap();
        }
        for _ in config::STREAMS_AT_FIRST..config::STREAMS_MAX {
            let stream = Rpc::open(&connection).await.unwrap();
            stream.call(&fetch(1)).await.unwrap();
            streams.push(stream);
        }
        let one_more = tokio::time::timeout(Duration::from_millis(100), open_stream(&connection)).await;
        assert!(one_more.is_err(), "stream {} must wait", config::STREAMS_MAX + 1);
        for stream in &streams {
            assert_eq!(stream.call(&fetch(1)).await.unwrap().high_watermark, Offset(2));
        }
    });
}

#[test]
fn frames_over_the_limit_are_refused() {
    run(async {
        let server = start();
        let connection = connect(server.address, &server.tls).await.unwrap();
        let rpc = Rpc::open(&connection).await.unwrap();
        let huge = hello(&"x".repeat(FRAME_BYTES_MAX_ANONYMOUS));
        let error = rpc.call(&huge).await.unwrap_err();
        assert!(matches!(&error, Error::Disconnected(reason) if reason.contains("over the limit of 65536")), "{error}");
        rpc.closed().await;
        assert!(rpc.is_closed());
        assert!(matches!(rpc.call(&fetch(0)).await, Err(Error::Disconnected(_))));

        let (_connection, rpc) = session(&server).await;
        let payload = vec![Bytes::from(vec![0; FRAME_BYTES_MAX])];
        let error = rpc.call_with(&fetch(0), payload).await.unwrap_err();
        assert!(matches!(&error, Error::Protocol(reason) if reason.starts_with("Fetch of ")), "{error}");
        assert!(rpc.call(&fetch(0)).await.is_ok(), "the stream goes on");
    });
}

#[test]
fn a_wrong_token_and_a_wrong_ca_are_told_apart() {
    run(async {
        let (server, other) = (start(), start());
        let connection = connect(server.address, &server.tls).await.unwrap();
        let rpc = Rpc::open(&connection).await.unwrap();
        let error = rpc.call(&hello("guess")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);

        let check = async |tls: ClientTls| match connect(server.address, &tls).await {
            Err(Error::Tls(reason)) => assert!(reason.contains("check that the CA file belongs"), "{reason}"),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("connected to a server that is not trusted"),
        };
        check(other.tls.clone()).await;
        check(ClientTls { server_name: "example.org".into(), ..server.tls.clone() }).await;
        let not_pem = ClientTls { ca_pem: "no".into(), ..server.tls.clone() };
        let error = connect(server.address, &not_pem).await.unwrap_err();
        assert_eq!(error, Error::Tls("CA: no certificate found, expected PEM".into()));
    });
}

#[test]
fn a_server_that_goes_away_fails_every_request_in_flight() {
    run(async {
        let server = start();
        let (_connection, rpc) = session(&server).await;
        let mut pending = Vec::new();
        server.listener.close("the broker is shutting down");
        for offset in 0..10 {
            match rpc.submit(&fetch(offset), vec![]).await {
                Ok(request) => pending.push(request),
                Err(error) => assert_eq!(error, Error::Disconnected("the broker is shutting down".into())),
            }
        }
        for request in pending {
            assert_eq!(request.await, Err(Error::Disconnected("the broker is shutting down".into())));
        }
        rpc.closed().await;
        server.listener.wait_idle().await;
        assert!(server.listener.accept().await.is_none());

        let (address, tls) = (server.address, server.tls.clone());
        drop(server);
        tokio::task::yield_now().await;
        let error = connect(address, &tls).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("{address}; is the broker running there?")), "{error}");
    });
}

#[test]
fn a_server_that_drains_finishes_what_it_has() {
    run(async {
        let server = start();
        let (connection, rpc) = session(&server).await;
        server.listener.stop_accepting();
        let error = connect(server.address, &server.tls).await.unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains("refused"), "{error}");
        assert_eq!(rpc.call(&fetch(1)).await.unwrap().high_watermark, Offset(2));
        connection.close(CloseCode::Done.into(), b"");
        server.listener.wait_idle().await;
        assert_eq!(server.listener.open_connections(), 0);
    });
}

#[test]
fn streams_nobody_reads_do_not_stall_the_others() {
    run(async {
        let server = start();
        let (connection, rpc) = session(&server).await;
        let payload = Bytes::from(vec![7; 5 << 20]);
        let mut unread = Vec::new();
        for _ in 0..8 {
            let (mut writer, reader) = open_stream(&connection).await.unwrap();
            // Its answer is over the stream's window, so the server waits for a reader.
            writer.send_request(1, &fetch(1), vec![payload.clone()]).await.unwrap();
            unread.push((writer, reader));
        }
        for offset in 0..100 {
            assert_eq!(rpc.call(&fetch(offset)).await.unwrap().high_watermark, Offset(offset + 1));
        }
        for (_writer, reader) in &mut unread {
            let answer = reader.read(FRAME_BYTES_MAX).await.unwrap().expect("an answer");
            assert_eq!(answer.payload.len(), payload.len());
        }
    });
}

#[test]
fn frames_cut_at_any_byte_are_put_together() {
    run(async {
        let server = start();
        let (connection, _rpc) = session(&server).await;
        let (mut send, receive) = connection.open_bi().await.unwrap();
        let mut reader = FrameReader::new(receive);
        let wire = wire_bytes(&fetch(41), b"payload");
        for cut in 1..wire.len() {
            send.write_all(&wire[..cut]).await.unwrap();
            // Enough for the part to leave in a packet of its own.
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            send.write_all(&wire[cut..]).await.unwrap();
            let frame = reader.read(1 << 20).await.unwrap().expect("an answer");
            assert_eq!(
                (frame.response::<Fetch>().unwrap().high_watermark, &frame.payload[..]),
                (Offset(42), &b"payload"[..])
            );
        }
        send.finish().unwrap();
        assert_eq!(reader.read(1 << 20).await, Ok(None));
    });
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_lost() {
    run(async {
        let server = start();
        let (connection, _rpc) = session(&server).await;
        let (mut send, receive) = connection.open_bi().await.unwrap();
        let wire = wire_bytes(&fetch(41), b"payload");
        send.write_all(&wire[..wire.len() - 1]).await.unwrap();
        send.finish().unwrap();
        // The server gives the stream up without an answer.
        let answer = FrameReader::new(receive).read(1 << 20).await;
        assert!(matches!(answer, Ok(None) | Err(Error::Disconnected(_))), "{answer:?}");
    });
}

/// A frame as it is on the wire.
fn wire_bytes(request: &Fetch, payload: &[u8]) -> Vec<u8> {
    use millstream_protocol::frame::{Header, encode_header};
    let frame = OutFrame::request(1, request);
    let header = Header {
        api: frame.api,
        version: frame.version,
        correlation: 1,
        flags: 0,
        body_len: frame.body.len() as u32,
        payload_len: payload.len() as u32,
    };
    [&encode_header(&header)[..], &frame.body, payload].concat()
}

#[test]
fn frames_name_what_does_not_fit() {
    use millstream_protocol::frame::Header;
    use millstream_protocol::message::{Api, Body};
    let frame = |api, version, body: Vec<u8>| Frame {
        header: Header { api, version, correlation: 0, flags: 0, body_len: body.len() as u32, payload_len: 0 },
        body: body.into(),
        payload: Bytes::new(),
    };
    let body = fetch(1).encode_body();
    let check = |found: Result<Fetch, Failure>, code: ErrorCode, message: &str| {
        assert_eq!(found, Err(Failure::new(code, message)));
    };
    assert_eq!(frame(Fetch::KEY, 1, body.clone()).request::<Fetch>(), Ok(fetch(1)));
    check(
        frame(Fetch::KEY, 9, body.clone()).request(),
        ErrorCode::UnsupportedVersion,
        "Fetch version 9 is not supported, this broker speaks version 1",
    );
    check(frame(Fetch::KEY, 1, vec![]).request(), ErrorCode::InvalidRequest, "frame body is not a valid Fetch");
    let unknown = frame(999, 1, body).api().unwrap_err();
    assert_eq!(unknown.message, "this broker does not know API 999; use a client of its version");
    let answer = frame(Produce::KEY, 1, Done.encode_body()).response::<Fetch>().unwrap_err();
    assert_eq!(answer.to_string(), "the other end broke the protocol: Fetch was answered as API 20 version 1");
}

#[test]
fn key_files_are_private_and_a_taken_port_is_named() {
    use std::os::unix::fs::PermissionsExt;
    run(async {
        let server = start();
        for name in [tls::CA_FILE, tls::CERTIFICATE_FILE, tls::KEY_FILE] {
            let mode = std::fs::metadata(server._dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let tls = ServerTls::load(server._dir.path()).unwrap();
        let error = Listener::bind(server.address, &tls).err().expect("the port is taken").to_string();
        assert!(error.starts_with(&format!("cannot use UDP address {}: ", server.address)), "{error}");
        std::fs::remove_file(server._dir.path().join(tls::KEY_FILE)).unwrap();
        let error = ServerTls::load(server._dir.path()).err().expect("the key is gone").to_string();
        assert!(error.contains("server.key"), "{error}");
    });
}
