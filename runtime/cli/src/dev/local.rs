//! The project's own broker, in this process, and a connection to it as any client has one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_broker::{Broker, Config};

use super::Options;
use crate::commands::serve::{refused, say_where_http_is};
use crate::connect::{Server, ServerArgs};
use crate::console::Console;
use crate::ending::stop_signal;
use crate::problem::Problem;

/// How long what is in flight may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(4);

pub(super) struct Local {
    broker: Broker,
    server: Server,
}

impl Local {
    /// Starts the broker and connects.
    ///
    /// # Errors
    /// The port is taken, the folder is in use, or another reason the broker gives.
    pub(super) async fn start(options: &Options, console: &Console) -> Result<Self> {
        let start = Instant::now();
        let data_dir = options.data_dir.clone();
        if options.fresh {
            forget(&data_dir)?;
        }
        let config = Config { data_dir: data_dir.clone(), quic: options.quic, http: options.http, ..Config::default() };
        let broker = Broker::start(config).await.map_err(refused)?;
        let address = broker.quic_addr();
        let args = ServerArgs { server: Some(address.to_string()), profile: Some(data_dir.join("profile.yaml")) };
        let server = args.connect().await.context("the broker that was just started does not answer")?;
        console.timed("Broker", &format!("quic {address}, data in {}", data_dir.display()), start.elapsed());
        say_where_http_is(&broker, console);
        Ok(Local { broker, server })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Finishes what is in flight; a second signal, or [`DRAIN_MAX`], cuts it short. What was acknowledged
    /// is on disk either way.
    pub(super) async fn stop(self, console: &Console) {
        drop(self.server);
        tokio::select! {
            () = self.broker.shutdown() => {}
            () = tokio::time::sleep(DRAIN_MAX) => console.warn("the broker did not finish in time; nothing acknowledged is lost"),
            _ = stop_signal() => {}
        }
    }
}

/// Deletes a broker's data folder, and nothing that is none.
fn forget(data_dir: &Path) -> Result<()> {
    if !data_dir.exists() {
        return Ok(());
    }
    if !data_dir.join("meta.json").exists() {
        let cause = format!("{} is not a broker's data folder, so it is not deleted", data_dir.display());
        return Err(Problem::refused(cause).help("name the right one with --data-dir").into());
    }
    std::fs::remove_dir_all(data_dir).with_context(|| data_dir.display().to_string())
}
