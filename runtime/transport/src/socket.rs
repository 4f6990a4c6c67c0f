//! UDP sockets with large buffers, and an allocator that keeps what their datagrams come in.

use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Error;
use crate::config::SOCKET_BUFFER_BYTES;

/// What glibc learns from one freed block: see [`keep_freed_memory`].
const FREED_BLOCK_BYTES: usize = 8 * 1024 * 1024;

/// Binds `address` and wraps it as a QUIC endpoint on the current tokio runtime.
pub(crate) fn endpoint(
    address: SocketAddr,
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<quinn::Endpoint, Error> {
    keep_freed_memory();
    bind(address)
        .and_then(|socket| quinn::Endpoint::new(config, server, socket, std::sync::Arc::new(quinn::TokioRuntime)))
        .map_err(|error| Error::Address { address: address.to_string(), reason: error.to_string() })
}

/// Datagrams that arrive as one take a block of 64 KiB, which lives until the frame is put together. glibc gives free
/// memory at a heap's end back to the system above 128 KiB, and faults it in again for the next: a tenth of the cost of
/// receiving. It raises that limit by itself to twice the largest block that had a mapping of its own and was freed
/// (mallopt(3), `M_MMAP_THRESHOLD`), so one such block is enough. Other allocators don't mind it.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FREED_BLOCK_BYTES)));
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel silently caps these at rmem_max and wmem_max.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let (received, sent) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if received.min(sent) < SOCKET_BUFFER_BYTES {
        tracing::debug!(
            receive_bytes = received,
            send_bytes = sent,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "the kernel caps the UDP socket buffers; raise net.core.rmem_max and net.core.wmem_max for throughput"
        );
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
