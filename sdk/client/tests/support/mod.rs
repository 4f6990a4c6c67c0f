//! An embedded broker on a folder of its own, and clients of it.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use millstream_broker::{Broker, Config, StartError};
use millstream_client::prelude::*;
use millstream_client::{Batch, ClientBuilder};

/// No test takes longer; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker that can be stopped and started again on the same port and folder.
pub struct Server {
    pub broker: Option<Broker>,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = start(Config { io_threads: 2, shards: 2, ..Config::embedded(folder.path()) }).await;
        Server { address: broker.quic_addr(), broker: Some(broker), folder }
    }

    /// Stops as a crash would.
    pub fn crash(&mut self) {
        self.broker = None;
    }

    pub async fn shutdown(&mut self) {
        self.broker.take().unwrap().shutdown().await;
    }

    pub async fn restart(&mut self) {
        let config = Config { io_threads: 2, shards: 2, quic: self.address, ..Config::embedded(self.folder.path()) };
        self.broker = Some(start(config).await);
    }

    pub fn profile(&self) -> PathBuf {
        self.folder.path().join("profile.yaml")
    }

    pub fn builder(&self) -> ClientBuilder {
        Client::builder().server(&self.address.to_string()).profile(self.profile())
    }

    pub async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// A client and a topic.
    pub async fn with_topic(partitions: u32) -> (Self, Client) {
        let server = Server::start().await;
        let client = server.client().await;
        client.admin().create_topic("t", partitions).await.unwrap();
        (server, client)
    }
}

/// Waits for a former owner (dropped a moment ago) to let go of folder and port.
async fn start(config: Config) -> Broker {
    for _ in 0..500 {
        match Broker::start(config.clone()).await {
            Ok(broker) => return broker,
            Err(StartError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) if error.to_string().contains("is taken by another process") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data folder stays in use");
}

/// Runs a test on two workers, as users do, and ends one that hangs.
pub fn run(test: impl Future<Output = ()>) {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
    runtime.shutdown_background();
}

/// Everything in topic `t`: values per partition in order.
pub async fn read_all(client: &Client) -> BTreeMap<u32, Vec<String>> {
    let mut reader = client.reader("t").to_end().open().await.unwrap();
    let mut all: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    while let Some(batch) = reader.next().await {
        let batch = batch.unwrap();
        all.entry(batch.partition()).or_default().extend(values(&batch));
    }
    all
}

pub fn values(batch: &Batch) -> Vec<String> {
    batch.iter().map(|record| String::from_utf8(record.value().to_vec()).unwrap()).collect()
}
