//! The server's endpoint: accepts connections under the limits that hold before authentication.
//!
//! Handshakes in progress have three: from the first on, clients must prove their addresses, and each address has a share
//! of its own, so that one can't keep all others out; at the last, everybody is refused. Handshakes begun before count
//! for no address: it may be forged, and its owner must not pay for that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{self, CloseCode};
use crate::{Error, ServerTls, socket};

/// A bound server endpoint. Clones are handles to the same one.
#[derive(Clone)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    handshakes: Arc<Handshakes>,
    refused: Arc<AtomicU64>,
    draining: Arc<AtomicBool>,
}

impl Listener {
    /// Binds `address` (port 0: any free one). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] when the address can't be bound, [`Error::Tls`] when the certificate does not serve.
    pub fn bind(address: SocketAddr, tls: &ServerTls) -> Result<Self, Error> {
        Listener::with_limits(address, tls, Limits::default())
    }

    fn with_limits(address: SocketAddr, tls: &ServerTls, limits: Limits) -> Result<Self, Error> {
        let endpoint = socket::endpoint(address, config::server_endpoint(tls), Some(tls.config()?))?;
        let handshakes = Arc::new(Handshakes { limits, open: Mutex::default() });
        Ok(Listener { endpoint, handshakes, refused: Arc::default(), draining: Arc::default() })
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
            let remote = incoming.remote_address();
            if self.draining.load(Ordering::Relaxed) {
                incoming.refuse();
                continue;
            }
            let full = self.endpoint.open_connections() >= config::CONNECTIONS_MAX;
            match self.handshakes.begin(remote.ip(), incoming.remote_address_validated()) {
                Begun::Yes(handshake) if !full => return Some(Accepting { incoming, _handshake: handshake }),
                Begun::Retry if !full => {
                    // An attacker with forged addresses never answers the retry, so nothing is kept for it.
                    if incoming.retry().is_err() {
                        tracing::debug!("a connection attempt could not be asked to retry");
                    }
                }
                begun => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    let reason = if full { "too many connections" } else { begun.reason() };
                    tracing::warn!(%remote, reason, "refused a connection");
                    incoming.refuse();
                }
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

/// How many handshakes may be in progress, see the module's head.
#[derive(Clone, Copy)]
struct Limits {
    before_retry: usize,
    per_address: usize,
    max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            before_retry: config::HANDSHAKES_BEFORE_RETRY,
            per_address: config::HANDSHAKES_PER_ADDRESS_MAX,
            max: config::HANDSHAKES_MAX,
        }
    }
}

/// The handshakes in progress.
struct Handshakes {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Of addresses that were proven; none is 0.
    by_address: HashMap<IpAddr, usize>,
}

/// Counts a handshake for as long as it lives.
struct Handshake {
    of: Arc<Handshakes>,
    /// Who it counts for.
    proven: Option<IpAddr>,
}

/// What becomes of a client that wants to begin.
enum Begun {
    Yes(Handshake),
    Retry,
    AddressFull,
    Full,
}

impl Begun {
    fn reason(&self) -> &'static str {
        match self {
            Begun::AddressFull => "too many handshakes in progress from this address",
            _ => "too many handshakes in progress",
        }
    }
}

impl Handshakes {
    fn begin(self: &Arc<Self>, address: IpAddr, is_proven: bool) -> Begun {
        let Limits { before_retry, per_address, max } = self.limits;
        let mut open = self.lock();
        let mut proven = None;
        if open.all >= max {
            return Begun::Full;
        }
        if is_proven {
            let count = open.by_address.entry(*proven.insert(network(address))).or_default();
            if *count >= per_address {
                return Begun::AddressFull;
            }
            *count += 1;
        } else if open.all >= before_retry {
            return Begun::Retry;
        }
        open.all += 1;
        Begun::Yes(Handshake { of: Arc::clone(self), proven })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Counts are right between any two statements, or off by one handshake.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        open.all -= 1;
        let Some(address) = self.proven else { return };
        if let Some(count) = open.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// What one client can easily have addresses in: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientTls, tls};

    struct Setup {
        listener: Listener,
        address: SocketAddr,
        tls: ClientTls,
        _folder: tempfile::TempDir,
    }

    fn bind(limits: Limits) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        tls::generate_dev(folder.path(), &[]).unwrap();
        let ca_pem = std::fs::read_to_string(folder.path().join(tls::CA_FILE)).unwrap();
        let server_tls = ServerTls::load(folder.path()).unwrap();
        let listener = Listener::with_limits("127.0.0.1:0".parse().unwrap(), &server_tls, limits).unwrap();
        let address = listener.local_addr().unwrap();
        Setup { listener, address, tls: ClientTls { ca_pem, server_name: "localhost".into() }, _folder: folder }
    }

    impl Setup {
        /// Whether a client at this address gets as far as a handshake, and whether it had to prove the address. The
        /// handshake goes on for as long as the result lives.
        async fn begin(&self, from: [u8; 4]) -> Result<(Accepting, bool), String> {
            let endpoint = socket::endpoint(SocketAddr::from((from, 0)), config::endpoint(), None).unwrap();
            let connecting = endpoint.connect_with(self.tls.config().unwrap(), self.address, "localhost").unwrap();
            tokio::select! {
                accepting = self.listener.accept() => {
                    let accepting = accepting.unwrap();
                    assert_eq!(accepting.remote_address().ip(), IpAddr::from(from));
                    let proven = accepting.incoming.remote_address_validated();
                    Ok((accepting, proven))
                }
                connected = connecting => Err(connected.unwrap_err().to_string()),
            }
        }
    }

    #[tokio::test]
    async fn one_address_has_its_share_and_no_more() {
        let setup = bind(Limits { before_retry: 2, per_address: 3, max: 8 });
        let (one, other, third) = ([127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]);
        let mut open = Vec::new();
        let refused = |result: Result<_, String>| {
            let error = result.err().expect("it is refused");
            assert!(error.contains("refused"), "{error}");
        };
        // Without pressure nobody proves anything, nor is counted by address.
        for (from, proven) in [(one, false), (one, false), (one, true), (one, true), (one, true)] {
            let (accepting, found) = setup.begin(from).await.unwrap();
            assert_eq!(found, proven, "{} in progress", open.len());
            open.push(accepting);
        }
        refused(setup.begin(one).await);
        // The others still come in, until all is full.
        for from in [other, third, third] {
            open.push(setup.begin(from).await.unwrap().0);
        }
        refused(setup.begin(other).await);
        assert_eq!(setup.listener.refused().load(Ordering::Relaxed), 2);
        // What ends makes room, for its address too.
        open.truncate(4);
        open.push(setup.begin(one).await.unwrap().0);
        refused(setup.begin(one).await);
        drop(open);
        assert!(setup.listener.handshakes.lock().by_address.is_empty());
        let (accepting, proven) = setup.begin(one).await.unwrap();
        assert!(!proven);
        drop(accepting);
    }

    #[test]
    fn a_network_is_one_client() {
        let check = |a: &str, b: &str, same: bool| {
            assert_eq!(network(a.parse().unwrap()) == network(b.parse().unwrap()), same, "{a} {b}");
        };
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("10.0.0.1", "::ffff:10.0.0.1", true);
        check("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true);
        check("2001:db8:0:1::1", "2001:db8:0:2::1", false);
        check("::1", "::1", true);
    }
}
