//! UDP sockets with large buffers.

use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Error;
use crate::config::SOCKET_BUFFER_BYTES;

/// Binds `address` and wraps it as a QUIC endpoint on the current tokio runtime.
pub(crate) fn endpoint(
    address: SocketAddr,
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<quinn::Endpoint, Error> {
    bind(address)
        .and_then(|socket| quinn::Endpoint::new(config, server, socket, std::sync::Arc::new(quinn::TokioRuntime)))
        .map_err(|error| Error::Address { address: address.to_string(), reason: error.to_string() })
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
