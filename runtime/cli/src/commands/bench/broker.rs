//! The broker that is measured: this program's own `serve` as another process, or the user's.

use std::path::Path;

use anyhow::Result;
use millstream_broker::Config;
use millstream_client::Client;
use millstream_protocol::message::{CreateTopic, DeleteTopic, TopicConfig};

use super::args::{Args, Load};
use super::child::Own;
use crate::connect::{Server, ServerArgs};

/// The topics that a measurement makes and deletes.
pub(super) const INPUT: &str = "millstream-bench-in";
pub(super) const OUTPUT: &str = "millstream-bench-out";

pub(super) struct Broker {
    address: ServerArgs,
    pub(super) server: Server,
    /// Its process, where it is known.
    pub(super) pid: Option<u32>,
    own: Option<Own>,
}

impl Broker {
    /// Connects to the broker the user named, else starts one on `folder`.
    ///
    /// # Errors
    /// It does not answer, or does not start.
    pub(super) async fn start(args: &Args, folder: &Path) -> Result<Broker> {
        if args.server.was_named() {
            let address = args.server.clone();
            return Ok(Broker { server: address.connect().await?, address, pid: args.broker_pid, own: None });
        }
        Broker::own(Config::embedded(folder.join("broker")), folder).await
    }

    /// Starts a broker with these settings; it has answered when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn own(config: Config, folder: &Path) -> Result<Broker> {
        let file = folder.join("broker.yaml");
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_string(&config)?)?;
        let profile = config.data_dir.join("profile.yaml");
        // Written anew when the address is known.
        std::fs::remove_file(&profile).ok();
        let mut own = Own::start("broker", folder, &["serve", "--config", &file.to_string_lossy()])?;
        own.wait_for(&profile).await?;
        let address = ServerArgs { server: None, profile: Some(profile) };
        Ok(Broker { server: address.connect().await?, address, pid: Some(own.pid()), own: Some(own) })
    }

    /// A client with a connection of its own.
    pub(super) async fn client(&self) -> Result<Client> {
        Ok(self.address.connect().await?.client)
    }

    /// An empty topic of this name.
    pub(super) async fn topic(&self, name: &str, load: &Load) -> Result<()> {
        self.delete(name).await;
        let config = TopicConfig { durability: Some(load.durability), ..TopicConfig::default() };
        let (name, partitions) = (name.to_owned(), load.partitions);
        self.server.call(CreateTopic { name, partitions, config, if_not_exists: false }).await?;
        Ok(())
    }

    async fn delete(&self, name: &str) {
        // It may not be there.
        self.server.call(DeleteTopic { name: name.to_owned() }).await.ok();
    }

    /// Stops it in order, if it is this program's own, and waits for its end.
    ///
    /// # Errors
    /// It does not end well.
    pub(super) async fn stop(self) -> Result<()> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }

    /// Leaves nothing behind.
    pub(super) async fn clear(self) {
        if self.own.is_none() {
            self.delete(INPUT).await;
            self.delete(OUTPUT).await;
        }
    }
}
