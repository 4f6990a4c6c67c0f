//! The server's endpoint: accepts connections under the limits that hold before authentication.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::config::{self, CloseCode};
use crate::{Error, ServerTls, socket};

/// A bound server endpoint. Clones are handles to the same one.
#[derive(Clone)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    handshakes: Arc<AtomicUsize>,
    refused: Arc<AtomicU64>,
    draining: Arc<AtomicBool>,
}

impl Listener {
    /// Binds `address` (port 0: any free one). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] when the address can't be bound, [`Error::Tls`] when the certificate does not serve.
    pub fn bind(address: SocketAddr, tls: &ServerTls) -> Result<Self, Error> {
        let endpoint = socket::endpoint(address, config::server_endpoint(tls), Some(tls.config()?))?;
        Ok(Listener { endpoint, handshakes: Arc::default(), refused: Arc::default(), draining: Arc::default() })
    }

    /// The address with the real port.
    ///
    /// # Errors
    /// [`Error::Address`] when the operating system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.endpoint
            .local_addr()
            .map_err(|error| Error::Address { address: "of the listener".into(), reason: error.to_string() })
    }

    /// The next client that passes the limits; `None` after [`Listener::close`]. Do the handshake in a
    /// task of its own, so that a slow one holds up nobody.
    pub async fn accept(&self) -> Option<Accepting> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let handshakes = self.handshakes.load(Ordering::Relaxed);
            if self.draining.load(Ordering::Relaxed) {
                incoming.refuse();
            } else if handshakes >= config::HANDSHAKES_MAX
                || self.endpoint.open_connections() >= config::CONNECTIONS_MAX
            {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(remote = %incoming.remote_address(), handshakes, "refused a connection: too many");
                incoming.refuse();
            } else if handshakes >= config::HANDSHAKES_BEFORE_RETRY && !incoming.remote_address_validated() {
                // An attacker with forged addresses never answers the retry, so nothing is kept for it.
                if incoming.retry().is_err() {
                    tracing::debug!("a connection attempt could not be asked to retry");
                }
            } else {
                return Some(Accepting { incoming, _handshake: Handshake::begin(&self.handshakes) });
            }
        }
    }

    /// Connections that are open or in their handshake.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Counts the connections that were refused because there were too many, in or after their handshake.
    pub fn refused(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.refused)
    }

    /// Refuses new connections from now on; open ones go on. Keep calling [`Listener::accept`], which is
    /// what tells clients so.
    pub fn stop_accepting(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Closes all connections at once and makes [`Listener::accept`] return `None`. Drain first: what the
    /// other end has not read yet is lost.
    pub fn close(&self, reason: &str) {
        self.endpoint.close(CloseCode::ShuttingDown.into(), reason.as_bytes());
    }

    /// Waits until every connection has ended and its end was told to the other side.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A client before its handshake.
pub struct Accepting {
    incoming: quinn::Incoming,
    _handshake: Handshake,
}

impl Accepting {
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Finishes the handshake within [`config::HANDSHAKE_TIMEOUT`]. The connection has anonymous limits
    /// until [`config::admit`].
    ///
    /// # Errors
    /// [`Error::Tls`] or [`Error::Disconnected`], to be logged at debug: anybody can cause them.
    pub async fn handshake(self) -> Result<quinn::Connection, Error> {
        let connecting = self.incoming.accept()?;
        match tokio::time::timeout(config::HANDSHAKE_TIMEOUT, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Error::disconnected("the client did not finish its handshake in time")),
        }
    }
}

/// Counts a handshake for as long as it lives.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Handshake(Arc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientTls, connect, tls};

    /// Connects while `handshakes` others seem to be in progress.
    fn check(handshakes: usize, expected: Result<(), &str>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            tls::generate_dev(dir.path(), &[]).unwrap();
            let ca_pem = std::fs::read_to_string(dir.path().join(tls::CA_FILE)).unwrap();
            let server_tls = ServerTls::load(dir.path()).unwrap();
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &server_tls).unwrap();
            let address = listener.local_addr().unwrap();
            listener.handshakes.store(handshakes, Ordering::Relaxed);
            let accepting = listener.clone();
            tokio::spawn(async move {
                while let Some(client) = accepting.accept().await {
                    let validated = client.incoming.remote_address_validated();
                    assert_eq!(validated, handshakes >= config::HANDSHAKES_BEFORE_RETRY);
                    tokio::spawn(client.handshake());
                }
            });
            let connected = connect(address, &ClientTls { ca_pem, server_name: "localhost".into() }).await;
            match (connected, expected) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (connected, _) => panic!("{handshakes} handshakes: {connected:?}"),
            }
        });
    }

    #[test]
    fn many_handshakes_ask_for_a_retry_and_too_many_are_refused() {
        check(0, Ok(()));
        check(config::HANDSHAKES_BEFORE_RETRY, Ok(()));
        check(config::HANDSHAKES_MAX, Err("refused"));
    }
}
