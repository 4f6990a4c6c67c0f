//! The client's endpoint: one UDP socket for any number of connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{self, CloseCode};
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
        let endpoint = socket::endpoint(unspecified(remote), config::endpoint(), None)?;
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
        let nobody = |what| Err(Error::Disconnected(format!("{what} {remote}; is the broker running there?")));
        tokio::select! {
            connected = connecting => Ok(connected?),
            () = refused(remote) => nobody("nothing listens on"),
            () = tokio::time::sleep(config::HANDSHAKE_TIMEOUT) => nobody("no answer from"),
        }
    }

    /// Closes every connection and waits until the other ends were told.
    pub async fn close(&self) {
        self.endpoint.close(CloseCode::Done.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

/// Resolves when the other host says that nothing listens on the port, else never. QUIC itself does not
/// look at such messages and would only give up after its time limit.
async fn refused(remote: SocketAddr) {
    let told = async {
        let probe = tokio::net::UdpSocket::bind(unspecified(remote)).await?;
        probe.connect(remote).await?;
        // No QUIC packet is this short, so a broker drops it.
        probe.send(&[0]).await?;
        probe.recv(&mut [0]).await
    };
    match told.await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}

/// Any free port of the address family of `remote`.
fn unspecified(remote: SocketAddr) -> SocketAddr {
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

/// One connection on a socket of its own, which lives as long as the connection.
///
/// # Errors
/// As [`Connector::new`] and [`Connector::connect`].
pub async fn connect(remote: SocketAddr, tls: &ClientTls) -> Result<quinn::Connection, Error> {
    Connector::new(remote, tls)?.connect(remote).await
}
