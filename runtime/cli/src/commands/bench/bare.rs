//! The client's half of the bare references: the same bytes between two processes, without Millstream. Each
//! run has a connection and a single-threaded runtime of its own, which is what measured best.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use millstream_protocol::message::{Acks, Produce};
use millstream_transport::{ClientTls, FrameWriter, OutFrame, connect, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::child::Own;
use super::kept::{self, Pieces};
use super::measure::{Latency, Sample, Stopwatch};
use super::pace::Pace;
use super::peer::{self, Addresses, CHUNK_BYTES};
use super::values::Values;

/// Records on their way to the echo's writer; its pace must never wait for it.
const ECHO_QUEUE_MAX: usize = 1 << 20;

/// The other end, and how to reach it. Cheap to clone; the process ends with the last clone.
#[derive(Clone)]
pub(super) struct Bare {
    process: Arc<Own>,
    addresses: Addresses,
    tls: ClientTls,
}

/// What a reference moves: `wire` bytes that stand for so many records of so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cargo {
    pub(super) records: u64,
    pub(super) payload: u64,
    pub(super) wire: u64,
}

impl Bare {
    /// # Errors
    /// The process does not start.
    pub(super) async fn start(folder: &Path) -> Result<Bare> {
        let own = folder.join("peer");
        std::fs::create_dir(&own)?;
        let mut process = Own::start("peer", folder, &["bench", "peer", "--data-dir", &own.to_string_lossy()])?;
        let file = own.join(peer::ADDRESSES_FILE);
        process.wait_for(&file).await?;
        let addresses = serde_json::from_slice(&std::fs::read(&file)?)?;
        let ca_pem = std::fs::read_to_string(own.join(tls::CA_FILE))?;
        let tls = ClientTls { ca_pem, server_name: "127.0.0.1".to_owned() };
        Ok(Bare { process: Arc::new(process), addresses, tls })
    }

    /// Over one QUIC stream, to the other end.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send_quic(&self, cargo: Cargo, chunk: usize) -> Result<Sample> {
        self.apart(move |bare| async move {
            let (connection, mut send, mut receive) = bare.stream(peer::SINK, 0).await?;
            let chunk = Bytes::from(vec![7; chunk]);
            let watch = bare.watch();
            let mut left = cargo.wire;
            while left > 0 {
                let now = chunk.slice(..left.min(chunk.len() as u64) as usize);
                left -= now.len() as u64;
                send.write_chunk(now).await?;
            }
            send.finish()?;
            let taken = receive.read_to_end(8).await?;
            anyhow::ensure!(taken == cargo.wire.to_le_bytes(), "the other end got something else");
            drop(connection);
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// The same in Millstream's frames with a payload of `chunk` bytes each.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send_frames(&self, cargo: Cargo, chunk: usize) -> Result<Sample> {
        self.apart(move |bare| async move {
            let (connection, send, mut receive) = bare.stream(peer::FRAMES, 0).await?;
            let mut writer = FrameWriter::new(send);
            let chunk = Bytes::from(vec![7; chunk]);
            let head = Produce { acks: Acks::Leader, entries: Vec::new() };
            let watch = bare.watch();
            let mut left = cargo.wire;
            while left > 0 {
                let now = chunk.slice(..left.min(chunk.len() as u64) as usize);
                left -= now.len() as u64;
                writer.write(OutFrame::request(1, &head).with_payload(vec![now])).await?;
            }
            writer.finish();
            let taken = receive.read_to_end(8).await?;
            anyhow::ensure!(taken == cargo.wire.to_le_bytes(), "the other end got something else");
            drop(connection);
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// Over one QUIC stream, from the other end.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn receive_quic(&self, cargo: Cargo) -> Result<Sample> {
        self.apart(move |bare| async move {
            let (connection, mut send, mut receive) = bare.stream(peer::SOURCE, cargo.wire).await?;
            let watch = bare.watch();
            send.finish()?;
            let taken = peer::drain(&mut receive).await?;
            anyhow::ensure!(taken == cargo.wire, "the other end sent something else");
            drop(connection);
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// Over one QUIC stream into a file of the other end, in pieces that are put together from the values, with checksums.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send_kept(&self, cargo: Cargo, size: usize, values: Arc<Values>) -> Result<Sample> {
        self.apart(move |bare| async move {
            let (connection, mut send, mut receive) = bare.stream(peer::KEEP, size as u64).await?;
            let mut pieces = Pieces::new(&values, size);
            let watch = bare.watch();
            let count = cargo.wire.div_ceil(size as u64);
            for _ in 0..count {
                send.write_chunk(pieces.next()).await?;
            }
            send.finish()?;
            let taken = receive.read_to_end(8).await?;
            anyhow::ensure!(taken == (count * size as u64).to_le_bytes(), "the other end kept something else");
            drop(connection);
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// What [`Bare::send_kept`] sent last comes back out of the file, and is checked.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn receive_kept(&self, cargo: Cargo, size: usize) -> Result<Sample> {
        self.apart(move |bare| async move {
            let (connection, mut send, mut receive) = bare.stream(peer::GIVE, size as u64).await?;
            let watch = bare.watch();
            send.finish()?;
            let taken = kept::take(&mut receive, size, |_| Ok(())).await?;
            anyhow::ensure!(taken >= cargo.wire, "the other end kept less");
            drop(connection);
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// Over one TCP socket, to the other end.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send_tcp(&self, cargo: Cargo, chunk: usize) -> Result<Sample> {
        self.apart(move |bare| async move {
            let mut stream = bare.socket(peer::SINK, cargo.wire).await?;
            let chunk = vec![7; chunk];
            let watch = bare.watch();
            let mut left = cargo.wire;
            while left > 0 {
                let now = left.min(chunk.len() as u64);
                stream.write_all(&chunk[..now as usize]).await?;
                left -= now;
            }
            stream.read_u64_le().await?;
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// Over one TCP socket, from the other end.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn receive_tcp(&self, cargo: Cargo) -> Result<Sample> {
        self.apart(move |bare| async move {
            let watch = bare.watch();
            let mut stream = bare.socket(peer::SOURCE, cargo.wire).await?;
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut taken = 0;
            while taken < cargo.wire {
                let read = stream.read(&mut buffer).await?;
                anyhow::ensure!(read > 0, "the other end stopped in the middle");
                taken += read as u64;
            }
            Ok(watch.stop(cargo.records, cargo.payload))
        })
        .await
    }

    /// Records of `bytes` (at least 8) at a rate, there and back over one QUIC stream; `kept` by way of a file.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn echo(&self, (rate, time): (u64, Duration), bytes: usize, kept: bool) -> Result<Sample> {
        self.apart(move |bare| async move {
            let operation = if kept { peer::ECHO_KEPT } else { peer::ECHO };
            let (connection, send, receive) = bare.stream(operation, 0).await?;
            let pace = Pace::new(rate, time);
            let watch = bare.watch();
            let (queue, records) = mpsc::channel(ECHO_QUEUE_MAX);
            let sender = std::thread::spawn(move || pace.run(|i| queue.blocking_send(i)));
            let writing = tokio::spawn(echo_send(send, records, bytes));
            let latency = echo_receive(receive, pace, bytes).await?;
            writing.await??;
            let _ = sender.join();
            drop(connection);
            Ok(watch.stop(pace.total, pace.total * bytes as u64).with_latency(latency))
        })
        .await
    }

    fn watch(&self) -> Stopwatch {
        Stopwatch::start(Some(self.process.pid()))
    }

    async fn stream(
        &self,
        operation: u8,
        number: u64,
    ) -> Result<(quinn::Connection, quinn::SendStream, quinn::RecvStream)> {
        let connection = connect(self.addresses.quic, &self.tls).await?;
        let (mut send, receive) = connection.open_bi().await?;
        send.write_all(&peer::opening(operation, number)).await?;
        Ok((connection, send, receive))
    }

    async fn socket(&self, operation: u8, number: u64) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.addresses.tcp).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&peer::opening(operation, number)).await?;
        Ok(stream)
    }

    /// Runs on a thread with a runtime of its own.
    async fn apart<F: Future<Output = Result<Sample>>>(
        &self,
        run: impl FnOnce(Bare) -> F + Send + 'static,
    ) -> Result<Sample> {
        let bare = self.clone();
        let thread = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
            runtime.block_on(run(bare))
        });
        thread.await?
    }
}

/// Sends each record when it comes, together with those that came meanwhile; its number leads it.
async fn echo_send(mut send: quinn::SendStream, mut records: mpsc::Receiver<u64>, bytes: usize) -> Result<()> {
    let mut due = Vec::new();
    let mut chunk = BytesMut::new();
    while records.recv_many(&mut due, 1_024).await > 0 {
        for i in due.drain(..) {
            chunk.extend_from_slice(&i.to_le_bytes());
            chunk.resize(chunk.len() + bytes - 8, 7);
        }
        send.write_chunk(chunk.split().freeze()).await?;
    }
    send.finish()?;
    Ok(())
}

async fn echo_receive(mut receive: quinn::RecvStream, pace: Pace, bytes: usize) -> Result<Latency> {
    let mut latency = Latency::new();
    let mut record = BytesMut::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(read) = receive.read(&mut buffer).await? {
        record.extend_from_slice(&buffer[..read]);
        let now = Instant::now();
        while record.len() >= bytes {
            let whole = record.split_to(bytes);
            let i = whole.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
            if let Some(late) = pace.latency(i, now) {
                latency.record(late);
            }
        }
    }
    Ok(latency)
}
