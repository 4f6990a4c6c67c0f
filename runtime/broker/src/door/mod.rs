//! The QUIC door: accepts connections within limits, authenticates each, and turns frames into calls of the
//! [`Service`]. One file per family of APIs; [`dispatch`] lists them all, [`guard`] says what each needs.
//!
//! [`Service`]: crate::service::Service

mod cluster;
mod data;
mod dispatch;
mod groups;
pub(crate) mod guard;
mod pipelines;
mod plugins;
mod produce;
mod session;
mod stream;
mod subscribe;
mod tokens;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_transport::Listener;
use tokio::sync::{mpsc, watch};

use crate::access::Tokens;
use crate::error::StartError;
use crate::io::Io;
use crate::limits::DRAIN_MS_MAX;
use crate::observe::Observer;
use crate::pipelines::Pipelines;
use crate::plugins::Plugins;
use crate::service::Service;
use crate::stats::Refused;

/// What every request can reach.
pub(crate) struct Core {
    pub(crate) service: Arc<Service>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) tokens: Tokens,
    pub(crate) address: SocketAddr,
    /// Where metrics and health are, if anywhere.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) connections: AtomicU64,
    /// Connections that the listener refused before the door saw them.
    pub(crate) refused_early: Arc<AtomicU64>,
}

impl Core {
    /// A number that names a connection in the log.
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The running door.
pub(crate) struct Door {
    listener: Listener,
    stopping: watch::Sender<bool>,
    /// Ends when the last stream is done.
    alive: mpsc::Receiver<()>,
}

/// What a session's streams hold: they see the stop coming, and the door sees them end.
#[derive(Clone)]
struct Lifeline {
    stopping: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

impl Lifeline {
    /// Resolves when the door begins to drain.
    async fn stopping(&mut self) {
        // A door that is gone has stopped, too.
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }
}

impl Door {
    /// Binds; packets arrive on the threads of `io`.
    pub(crate) fn bind(
        address: SocketAddr,
        tls: &millstream_transport::ServerTls,
        io: &Io,
    ) -> Result<Listener, StartError> {
        let _within = io.enter();
        Listener::bind(address, tls).map_err(|error| {
            let reason = error.to_string();
            if reason.contains("in use") {
                StartError::AddressTaken { address }
            } else {
                StartError::Listen { address, reason }
            }
        })
    }

    /// Begins to serve, there.
    pub(crate) fn serve(listener: Listener, core: Arc<Core>, io: &Io) -> Self {
        let (stopping, seen) = watch::channel(false);
        let (held, alive) = mpsc::channel(1);
        let lifeline = Lifeline { stopping: seen, _alive: held };
        io.spawn(accept(listener.clone(), core, lifeline));
        Door { listener, stopping, alive }
    }

    /// Accepts nothing new, answers what is in flight for a while, then closes.
    pub(crate) async fn drain(mut self) {
        self.listener.stop_accepting();
        self.stopping.send_replace(true);
        let drained = tokio::time::timeout(Duration::from_millis(DRAIN_MS_MAX), self.alive.recv()).await;
        if drained.is_err() {
            tracing::warn!("requests in flight were not answered in time; their clients retry");
        }
        self.listener.close("the broker is shutting down");
        // Peers that are gone don't answer: waiting for them has an end.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.listener.wait_idle()).await;
    }

    /// Closes at once, as a crash would.
    pub(crate) fn abort(&self) {
        self.stopping.send_replace(true);
        self.listener.close("the broker was dropped");
    }
}

async fn accept(listener: Listener, core: Arc<Core>, mut lifeline: Lifeline) {
    loop {
        let accepting = tokio::select! {
            () = lifeline.stopping() => return,
            accepting = listener.accept() => accepting,
        };
        let Some(accepting) = accepting else { return };
        let connections = &core.service.connections;
        if connections.load(Ordering::Relaxed) >= core.service.config.limits.connections_max {
            core.service.stats().door.refuse(Refused::ConnectionsMax);
            tracing::warn!(remote = %accepting.remote_address(), "refused a connection: connections_max is reached");
            continue;
        }
        tokio::spawn(session::run(accepting, Arc::clone(&core), lifeline.clone()));
    }
}
