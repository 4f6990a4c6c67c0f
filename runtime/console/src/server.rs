//! The listener: accepts connections within limits, gives each one request and a time, and drains at the end. A
//! client that is slow, silent or gone costs a place among `connections_max` for at most `connection_ms_max`.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::Source;
use crate::routes;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Pause after the system had no file or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection over the limit is told.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones get 503.
    pub connections_max: usize,
    /// Request line and headers, bytes.
    pub header_bytes_max: usize,
    pub headers_max: usize,
    /// Time for them to arrive, ms.
    pub header_ms_max: u64,
    /// Life of a connection, the answer's way included, ms.
    pub connection_ms_max: u64,
    /// Answers in progress get this long at the end, ms.
    pub drain_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 64,
            header_bytes_max: 16 << 10,
            headers_max: 64,
            header_ms_max: 5_000,
            connection_ms_max: 30_000,
            drain_ms_max: 1_000,
        }
    }
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum Error {
    #[error(
        "HTTP address {address} is taken by another process: stop it, choose another address with --http, or --http off"
    )]
    Taken { address: SocketAddr },
    #[error("can't listen for HTTP on {address}: {reason}; choose another address with --http, or --http off")]
    Listen { address: SocketAddr, reason: String },
}

/// A running console. Dropping it closes every connection at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    /// Ends when the last connection is done.
    alive: mpsc::Receiver<()>,
    accepting: tokio::task::JoinHandle<()>,
    drain: Duration,
}

/// What the console counts about itself.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) refused: AtomicU64,
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    counts: Arc<Counts>,
    stopping: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl Server {
    /// Listens on `address` (port 0: any free one) and answers from `source`.
    ///
    /// # Errors
    /// The address is taken, or can't be listened on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(address: SocketAddr, source: Arc<dyn Source>, limits: Limits) -> Result<Server, Error> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Error::Taken { address },
            _ => Error::Listen { address, reason: error.to_string() },
        };
        let listener = listen(address).and_then(TcpListener::from_std).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let counts = Arc::new(Counts::default());
        let router = routes::router(source, Arc::clone(&counts));
        let (stopping, seen) = watch::channel(false);
        let (held, alive) = mpsc::channel(1);
        let acceptor = Acceptor { listener, router, limits, counts, stopping: seen, alive: held };
        let accepting = tokio::spawn(acceptor.run());
        Ok(Server { address, stopping, alive, accepting, drain: Duration::from_millis(limits.drain_ms_max) })
    }

    /// The address with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing new, finishes the answers in progress, and closes.
    pub async fn drain(mut self) {
        self.stopping.send_replace(true);
        // What is not finished by then is dropped with the runtime's tasks: its client asks again.
        let _ = tokio::time::timeout(self.drain, self.alive.recv()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        self.accepting.abort();
    }
}

fn listen(address: SocketAddr) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' last packets.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Acceptor {
    async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let accepted = tokio::select! {
                biased;
                // A server that is gone has stopped, too.
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                // Best effort: whoever does not take it sees the connection close.
                let _ = stream.try_write(BUSY);
                continue;
            };
            let (router, limits) = (self.router.clone(), self.limits);
            let (stopping, alive) = (self.stopping.clone(), self.alive.clone());
            tokio::spawn(async move {
                serve(stream, router, limits, stopping).await;
                drop((place, alive));
            });
        }
    }
}

/// One request and its answer. There is no second one: scrapes are rare, and an idle connection is not worth a place.
async fn serve(stream: TcpStream, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .header_read_timeout(Duration::from_millis(limits.header_ms_max));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let life = tokio::time::sleep(Duration::from_millis(limits.connection_ms_max));
    let mut life = std::pin::pin!(life);
    let mut told = false;
    loop {
        tokio::select! {
            // Broken requests and clients that went away are nobody's news.
            _ = connection.as_mut() => return,
            () = life.as_mut() => return,
            _ = stopping.wait_for(|stopping| *stopping), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
