//! Starting and stopping a broker: the order in which its parts come up and go down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Tokens;
use crate::config::Config;
use crate::credentials;
use crate::data_dir::DataDir;
use crate::door::{Core, Door};
use crate::error::StartError;
use crate::groups::Groups;
use crate::limits::{PIPELINES_STOP_MS_MAX, SHARD_TICK_MS};
use crate::metadata::Metadata;
use crate::pipelines::Pipelines;
use crate::plugins::Plugins;
use crate::service::{Parts, Service};
use crate::shard::Shards;
use crate::topics::Topics;

/// A running broker. [`Broker::shutdown`] stops it cleanly; dropping it stops it as a crash would.
pub struct Broker {
    core: Arc<Core>,
    /// Absent once it is shut down.
    door: Option<Door>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Broker {
    /// Starts a broker on the current tokio runtime, which must have its IO and time enabled. It serves when
    /// this returns.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start(config: Config) -> Result<Broker, StartError> {
        credentials::check_exposure(&config)?;
        check_settings(&config)?;
        raise_open_files();
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || open_data_dir(&opening)).await;
        let (data_dir, credentials) = opened.map_err(|e| part("the data folder", &e))??;
        // Bound before anything else is touched: a taken address is the commonest mistake.
        let listener = Door::bind(config.quic, &credentials.tls)?;
        let address = listener.local_addr().map_err(|e| part("the QUIC door", &e))?;

        let opening = Arc::clone(&data_dir);
        let opened = tokio::task::spawn_blocking(move || Metadata::open(&opening)).await;
        let metadata = opened.map_err(|e| part("metadata", &e))??;
        let shards = Shards::start(config.shard_count(), config.sync_threads, &data_dir)?;
        let topics = Arc::new(Topics::new(Arc::clone(&data_dir), metadata.clone(), shards, &config));
        let unfinished = Unfinished(Some(Arc::clone(&topics)));
        topics.open_all().await.map_err(|e| part("topics", &e))?;
        let groups = Groups::start(Arc::clone(&topics), &metadata, &config.limits).await?;
        let ticker = tokio::spawn(tick(Arc::clone(&topics)));
        let parts = Parts { config, data_dir, metadata, topics, groups };
        let service = Arc::new(Service::new(parts));

        let starting = Arc::clone(&service);
        let started = tokio::task::spawn_blocking(move || Plugins::start(starting)).await;
        let plugins = Arc::new(started.map_err(|e| part("plugins", &e))??);
        let pipelines = Arc::new(Pipelines::start(Arc::clone(&service), Arc::clone(&plugins)).await?);
        credentials::write_profiles(&service.config, &service.data_dir, &credentials, address)?;
        let tokens = Tokens::new(Arc::clone(&service), &credentials.token);
        let core = Arc::new(Core { service, plugins, pipelines, tokens, address });
        let door = Door::serve(listener, Arc::clone(&core));
        unfinished.finished();
        tracing::info!(%address, data = %core.service.data_dir.root().display(), "broker started");
        Ok(Broker { core, door: Some(door), ticker })
    }

    /// Where clients connect, with the real port.
    pub fn quic_addr(&self) -> SocketAddr {
        self.core.address
    }

    /// What the broker's parts offer each other; for embedding.
    pub fn service(&self) -> &Arc<Service> {
        &self.core.service
    }

    /// Stops accepting, answers what is in flight, stops the pipelines at a batch boundary, syncs and closes every
    /// log cleanly. Clients and guests that hang are left behind after a few seconds; a disk that hangs is not.
    pub async fn shutdown(mut self) {
        let Some(door) = self.door.take() else { return };
        let within = Duration::from_millis(PIPELINES_STOP_MS_MAX);
        let (stopped, ()) = tokio::join!(tokio::time::timeout(within, self.core.pipelines.shutdown()), door.drain());
        if stopped.is_err() {
            tracing::warn!("a pipeline did not end at a batch boundary in time; it goes on from what it has committed");
            self.core.pipelines.abort();
        }
        self.ticker.abort();
        self.core.service.close().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Some(door) = &self.door {
            door.abort();
            self.core.pipelines.abort();
            self.core.service.topics().abort();
        }
    }
}

/// Ends the shards of a start that failed half-way, so that the data folder is free again.
struct Unfinished(Option<Arc<Topics>>);

impl Unfinished {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(topics) = &self.0 {
            topics.abort();
        }
    }
}

fn open_data_dir(config: &Config) -> Result<(Arc<DataDir>, credentials::Credentials), StartError> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let credentials = credentials::load(config, &data_dir)?;
    Ok((Arc::new(data_dir), credentials))
}

fn part(part: &'static str, reason: &impl ToString) -> StartError {
    StartError::Part { part, reason: reason.to_string() }
}

/// Settings that would only show as errors much later.
fn check_settings(config: &Config) -> Result<(), StartError> {
    let check = |setting: &'static str, ok: bool, reason: &str| {
        if ok { Ok(()) } else { Err(StartError::Setting { setting, reason: reason.to_owned() }) }
    };
    let limits = &config.limits;
    check("limits.guests_max", (1..=8192).contains(&limits.guests_max), "1 to 8192")?;
    check("shards", config.shards <= 256, "at most 256")?;
    check("sync_threads", (1..=64).contains(&config.sync_threads), "1 to 64")?;
    check("limits.batch_bytes_max", limits.batch_bytes_max <= 8 << 20, "at most 8 MiB, so that a batch fits a frame")?;
    check("limits.fetch_bytes_max", limits.fetch_bytes_max <= 8 << 20, "at most 8 MiB, so that it fits a frame")?;
    let fits = config.topics.batch_bytes_max <= limits.batch_bytes_max;
    check("topics.batch_bytes_max", fits, "at most limits.batch_bytes_max")?;
    let room = limits.produce_bytes_in_flight_max >= limits.batch_bytes_max as usize;
    check("limits.produce_bytes_in_flight_max", room, "at least limits.batch_bytes_max")
}

/// Every partition keeps a few files open, and the usual soft limit of 1024 is soon reached.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files can't be raised; many partitions may not open");
    }
}

async fn tick(topics: Arc<Topics>) {
    let mut interval = tokio::time::interval(Duration::from_millis(SHARD_TICK_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        topics.tick();
    }
}
