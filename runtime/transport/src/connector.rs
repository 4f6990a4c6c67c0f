//! The client's endpoint: one UDP socket for any number of connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::CloseCode;
use crate::{ClientTls, Error, socket};

/// Connects to brokers that a [`ClientTls`] trusts. Needs a tokio runtime when it is made.
#[derive(Clone)]
pub struct Connector {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    server_name: String,
}

impl Connector {
    /// A socket that can reach addresses of the same family as `remote`.
    ///
    /// # Errors
    /// [`Error::Tls`] for an unusable CA, [`Error::Address`] when no socket can be had.
    pub fn new(remote: SocketAddr, tls: &ClientTls) -> Result<Self, Error> {
        let any = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let endpoint = socket::endpoint(SocketAddr::new(any, 0), None)?;
        Ok(Connector { endpoint, config: tls.config()?, server_name: tls.server_name.clone() })
    }

    /// Connects and finishes the TLS handshake; the session still has to say `Hello`.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when nobody answers, [`Error::Tls`] when the server is not trusted.
    pub async fn connect(&self, remote: SocketAddr) -> Result<quinn::Connection, Error> {
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), remote, &self.server_name)
            .map_err(|error| Error::Address { address: remote.to_string(), reason: error.to_string() })?;
        match tokio::time::timeout(crate::config::HANDSHAKE_TIMEOUT, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Error::disconnected(format!("no answer from {remote}"))),
        }
    }

    /// Closes every connection and waits until the other ends were told.
    pub async fn close(&self) {
        self.endpoint.close(CloseCode::Done.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

/// One connection on a socket of its own, which lives as long as the connection.
///
/// # Errors
/// As [`Connector::new`] and [`Connector::connect`].
pub async fn connect(remote: SocketAddr, tls: &ClientTls) -> Result<quinn::Connection, Error> {
    Connector::new(remote, tls)?.connect(remote).await
}
