//! QUIC between clients and brokers: endpoints with their settings and limits, TLS, and streams of
//! native frames. It moves frames and knows nothing about what they ask for.
//!
//! - [`config`]: every QUIC setting and limit, in one place.
//! - [`tls`]: the development CA and certificate, and what either end needs to trust the other.
//! - [`Listener`] and [`Connector`]: the two kinds of endpoint.
//! - [`FrameReader`] and [`FrameWriter`]: one stream of frames; [`open_stream`] gives a client a pair.
//! - [`Rpc`]: many requests in flight on one long-lived stream, for clients.
//!
//! A server admits a connection step by step: it is accepted with one stream and a small window,
//! the first frame must be `Hello`, and [`config::admit`] opens the rest once that was answered.

pub mod config;
mod connector;
mod error;
mod listener;
mod reader;
mod rpc;
mod socket;
pub mod tls;
mod writer;

pub use connector::{Connector, connect};
pub use error::Error;
pub use listener::{Accepting, Listener};
pub use reader::{Frame, FrameReader};
pub use rpc::{Pending, Reply, Rpc};
pub use tls::{ClientTls, ServerTls};
pub use writer::{FrameWriter, OutFrame};

/// Opens a bidirectional stream. Waits while the peer's limit of streams is reached; before the session
/// is authenticated that limit is 1.
///
/// # Errors
/// [`Error::Disconnected`] when the connection is lost.
pub async fn open_stream(connection: &quinn::Connection) -> Result<(FrameWriter, FrameReader), Error> {
    let (send, receive) = connection.open_bi().await?;
    Ok((FrameWriter::new(send), FrameReader::new(receive)))
}
