//! The bare other end of the references: a process that takes, gives or echoes bytes over QUIC with this
//! project's very settings, and over TCP. Each stream begins with what it wants: an operation and a number.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_transport::{FrameReader, Listener, ServerTls, config, tls};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kept;

/// Take all there is, answer with its length.
pub(super) const SINK: u8 = b'S';
/// The same for Millstream's frames.
pub(super) const FRAMES: u8 = b'F';
/// Give so many bytes.
pub(super) const SOURCE: u8 = b'O';
/// Give back what comes, at once.
pub(super) const ECHO: u8 = b'E';
/// Take pieces of so many bytes into a file; see [`kept`].
pub(super) const KEEP: u8 = b'K';
/// Give that file in pieces of so many bytes.
pub(super) const GIVE: u8 = b'G';
/// Give back what comes by way of a file.
pub(super) const ECHO_KEPT: u8 = b'L';

/// Bytes given or taken at a time.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks taken from a QUIC stream at a time.
pub(super) const CHUNKS_PER_READ: usize = 32;
/// Where the peer says where it listens; written last.
pub(super) const ADDRESSES_FILE: &str = "peer.json";

/// The content of [`ADDRESSES_FILE`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Addresses {
    pub(super) quic: SocketAddr,
    pub(super) tcp: SocketAddr,
}

/// The operation and its number, as a stream begins.
pub(super) fn opening(operation: u8, number: u64) -> [u8; 9] {
    let mut bytes = [operation; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn parse(opening: [u8; 9]) -> (u8, u64) {
    let [operation, number @ ..] = opening;
    (operation, u64::from_le_bytes(number))
}

/// Serves until it is killed. One thread: that is what measured best.
///
/// # Errors
/// `folder` can't be written, or no port can be had.
pub(super) fn serve(folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        tls::generate_dev(folder, &[])?;
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(any, &ServerTls::load(folder)?)?;
        let tcp = TcpListener::bind(any).await?;
        let addresses = Addresses { quic: listener.local_addr()?, tcp: tcp.local_addr()? };
        let written = folder.join("peer.json.new");
        std::fs::write(&written, serde_json::to_vec(&addresses)?)?;
        std::fs::rename(&written, folder.join(ADDRESSES_FILE))?;
        tokio::spawn(accept_tcp(tcp));
        let folder: Arc<Path> = Arc::from(folder);
        while let Some(client) = listener.accept().await {
            let folder = Arc::clone(&folder);
            tokio::spawn(async move {
                // A client that goes away is measured no more.
                let Ok(connection) = client.handshake().await else { return };
                config::admit(&connection);
                while let Ok((send, receive)) = connection.accept_bi().await {
                    let folder = Arc::clone(&folder);
                    tokio::spawn(async move { quic_stream(&folder, send, receive).await.ok() });
                }
            });
        }
        Ok(())
    })
}

async fn accept_tcp(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move { tcp_stream(stream).await.ok() });
    }
}

async fn quic_stream(folder: &Path, mut send: quinn::SendStream, mut receive: quinn::RecvStream) -> Result<()> {
    let mut opening = [0; 9];
    receive.read_exact(&mut opening).await?;
    match parse(opening) {
        (SINK, _) => {
            let taken = drain(&mut receive).await?;
            send.write_all(&taken.to_le_bytes()).await?;
        }
        (FRAMES, _) => {
            let mut reader = FrameReader::new(receive);
            let mut taken = 0;
            while let Some(frame) = reader.read(FRAME_BYTES_MAX).await? {
                taken += frame.payload.len() as u64;
            }
            send.write_all(&taken.to_le_bytes()).await?;
        }
        (SOURCE, mut left) => {
            let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
            while left > 0 {
                let now = chunk.slice(..left.min(CHUNK_BYTES as u64) as usize);
                left -= now.len() as u64;
                send.write_chunk(now).await?;
            }
        }
        (KEEP, size) => kept::keep(folder, size as usize, &mut send, &mut receive).await?,
        (GIVE, size) => kept::give(folder, size as usize, &mut send).await?,
        (ECHO_KEPT, _) => kept::echo(folder, &mut send, &mut receive).await?,
        _ => {
            let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
            while let Some(count) = receive.read_chunks(&mut chunks).await? {
                let mut back: Vec<Bytes> = chunks[..count].iter_mut().map(std::mem::take).collect();
                send.write_all_chunks(&mut back).await?;
            }
        }
    }
    send.finish()?;
    // Until the client has it: a stream that is dropped before would be reset.
    send.stopped().await?;
    Ok(())
}

/// Reads to the end and counts.
pub(super) async fn drain(receive: &mut quinn::RecvStream) -> Result<u64> {
    let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
    let mut taken = 0;
    while let Some(count) = receive.read_chunks(&mut chunks).await? {
        taken += chunks[..count].iter_mut().map(|chunk| std::mem::take(chunk).len() as u64).sum::<u64>();
    }
    Ok(taken)
}

async fn tcp_stream(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut opening = [0; 9];
    stream.read_exact(&mut opening).await?;
    let mut buffer = vec![7; CHUNK_BYTES];
    match parse(opening) {
        (SOURCE, mut left) => {
            while left > 0 {
                let now = left.min(CHUNK_BYTES as u64);
                stream.write_all(&buffer[..now as usize]).await?;
                left -= now;
            }
        }
        (SINK, number) => {
            let mut left = number;
            while left > 0 {
                let read = stream.read(&mut buffer).await?;
                anyhow::ensure!(read > 0, "the other end stopped in the middle");
                left -= (read as u64).min(left);
            }
            stream.write_all(&number.to_le_bytes()).await?;
        }
        _ => loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => stream.write_all(&buffer[..read]).await?,
            }
        },
    }
    Ok(())
}
