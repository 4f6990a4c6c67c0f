//! The console over real sockets, with a source made up: answers, limits, slow and silent clients, the end.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use millstream_console::{Collecting, Error, Limits, Page, Server, Source, metrics};
use millstream_protocol::message::{Cause, Finding};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[derive(Default)]
struct Made {
    findings: Mutex<Vec<Finding>>,
    /// Whether a page waits for `go`.
    hangs: AtomicBool,
    asked: Notify,
    go: Notify,
}

impl Source for Made {
    fn collect<'a>(&'a self, page: &'a mut Page) -> Collecting<'a> {
        Box::pin(async move {
            self.asked.notify_one();
            if self.hangs.load(Ordering::Relaxed) {
                self.go.notified().await;
            }
            page.put(&metrics::LOG_APPENDS, &[], 17_u64);
        })
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.lock().unwrap().clone()
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn start(limits: Limits) -> (Server, Arc<Made>) {
    let source = Arc::new(Made::default());
    (Server::start(loopback(), Arc::clone(&source) as Arc<dyn Source>, limits).unwrap(), source)
}

/// Sends bytes as they are and reads until the server closes.
async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = send(address, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer to {path}: {answer}")).parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn pages_are_answered() {
    let (server, source) = start(Limits::default());
    let address = server.local_addr();
    assert_eq!(get(address, "/health/live").await, (200, "{\"live\":true}\n".into()));
    let ready = "{\"ready\":true,\"reasons\":[],\"warnings\":[]}\n";
    assert_eq!(get(address, "/health/ready").await, (200, ready.into()));
    let finding = |cause, message: &str| Finding { cause, message: message.into() };
    *source.findings.lock().unwrap() = vec![finding(Cause::PipelineFailed, "p: no")];
    let warned =
        "{\"ready\":true,\"reasons\":[],\"warnings\":[{\"cause\":\"pipeline_failed\",\"message\":\"p: no\"}]}\n";
    assert_eq!(get(address, "/health/ready").await, (200, warned.into()));
    *source.findings.lock().unwrap() = vec![finding(Cause::DiskRefusesWrites, "full \"up\"")];
    let (status, body) = get(address, "/health/ready").await;
    assert_eq!(
        (status, body.contains(r#""cause":"disk_refuses_writes","message":"full \"up\""#)),
        (503, true),
        "{body}"
    );
    let (status, body) = get(address, "/nothing").await;
    assert_eq!((status, body.contains("/metrics")), (404, true), "{body}");
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "millstream_log_appends_total 17",
        "millstream_http_requests_total{path=\"/health/ready\",status=\"200\"} 2",
        "millstream_http_requests_total{path=\"/health/ready\",status=\"503\"} 1",
        "millstream_http_requests_total{path=\"other\",status=\"404\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|own| own == line), "no {line} in {text}");
    }
    server.drain().await;
}

#[tokio::test]
async fn broken_requests_are_refused() {
    let (server, _source) = start(Limits { header_ms_max: 200, ..Limits::default() });
    let address = server.local_addr();
    let check = async |request: &[u8], expected: &str| {
        let answer = send(address, request).await;
        assert!(
            answer.starts_with(expected),
            "{:?}: {answer}",
            String::from_utf8_lossy(&request[..request.len().min(40)])
        );
    };
    check(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", "HTTP/1.1 405 ").await;
    check(b"\x16\x03\x01 not http\r\n\r\n", "HTTP/1.1 400 ").await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    check(long.as_bytes(), "HTTP/1.1 4").await;
    let headers: String = (0..100).map(|n| format!("h{n}: v\r\n")).collect();
    check(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes(), "HTTP/1.1 431 ").await;
    let large = format!("GET / HTTP/1.1\r\nh: {}\r\n\r\n", "x".repeat(100_000));
    check(large.as_bytes(), "HTTP/1.1 4").await;
    // Half a request, and nothing at all: both end without an answer, or with one that says so.
    for half in ["GET / HTTP/1.1\r\nhost", ""] {
        let answer = send(address, half.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(get(address, "/health/live").await.0, 200, "the next one is served");
}

#[tokio::test]
async fn silent_clients_take_places_and_give_them_back() {
    let limits = Limits { connections_max: 3, header_ms_max: 300, ..Limits::default() };
    let (server, _source) = start(limits);
    let address = server.local_addr();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // The places are taken in the order of arrival, so this one finds none.
    let answer = send(address, b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for stream in &mut silent {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    for _ in 0..500 {
        if let answer @ (200, _) = {
            let answer = send(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
            (answer.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok()).unwrap_or(0), answer)
        } {
            assert!(answer.1.contains("millstream_http_refused_total "), "{}", answer.1);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the places are not given back");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let limits = Limits { connections_max: 1, connection_ms_max: 300, ..Limits::default() };
    let (server, source) = start(limits);
    source.hangs.store(true, Ordering::Relaxed);
    let mut stuck = TcpStream::connect(server.local_addr()).await.unwrap();
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    source.asked.notified().await;
    // Nothing comes, and the connection ends all the same.
    let _ = stuck.read_to_end(&mut Vec::new()).await;
    source.hangs.store(false, Ordering::Relaxed);
    for _ in 0..500 {
        let answer = send(server.local_addr(), b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200 ") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the place is not given back");
}

#[tokio::test]
async fn a_drain_finishes_what_is_asked_and_takes_nothing_new() {
    let (server, source) = start(Limits { drain_ms_max: 60_000, ..Limits::default() });
    let address = server.local_addr();
    source.hangs.store(true, Ordering::Relaxed);
    let asking = tokio::spawn(get(address, "/metrics"));
    source.asked.notified().await;
    let draining = tokio::spawn(server.drain());
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!draining.is_finished(), "somebody is being served");
    source.go.notify_one();
    assert_eq!(asking.await.unwrap().0, 200);
    draining.await.unwrap();
}

#[tokio::test]
async fn a_taken_address_is_said() {
    let (server, source) = start(Limits::default());
    let again = Server::start(server.local_addr(), source as Arc<dyn Source>, Limits::default()).unwrap_err();
    assert!(matches!(again, Error::Taken { .. }), "{again}");
    let text = again.to_string();
    assert!(text.contains("is taken by another process: stop it") && text.contains("--http off"), "{text}");
}
