//! The threads that serve clients: the QUIC endpoint, every session and its streams. They are the broker's own, so that
//! neither a scrape of the metrics nor whatever else the program does on its runtime keeps a client waiting.
//!
//! Few threads are faster than many as long as they keep up: a request that stays on one needs nobody woken up. One moves
//! more than a gigabyte a second. The other half of the cores is for guests, syncs and whatever blocks.

use std::future::Future;

use tokio::runtime::{Builder, EnterGuard, Runtime};

use crate::error::StartError;
use crate::limits::IO_STOP;

/// The running threads. Dropped, they end as in a crash: what runs on them goes no further than its next pause.
pub(crate) struct Io(Option<Runtime>);

impl Io {
    /// # Errors
    /// Threads can't be had.
    pub(crate) fn start(threads: usize) -> Result<Io, StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name("io").enable_all().build();
        let failed = |error: std::io::Error| StartError::Part { part: "io threads", reason: error.to_string() };
        Ok(Io(Some(runtime.map_err(failed)?)))
    }

    /// What is opened within belongs to these threads.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime().enter()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(task);
    }

    /// Ends them once nothing is left to do. Sockets are closed when this returns, unless a task hangs.
    pub(crate) async fn stop(mut self) {
        let Some(runtime) = self.0.take() else { return };
        let stopping = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(IO_STOP));
        if stopping.await.is_err() {
            tracing::warn!("the io threads did not end cleanly");
        }
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken by whoever ends it")
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
