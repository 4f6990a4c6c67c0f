//! Starting and stopping a broker: the order in which its parts come up and go down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use millstream_console::{Limits, Server, Source};

use crate::access::Tokens;
use crate::clock::now_ms;
use crate::config::{Config, HttpDoor};
use crate::credentials;
use crate::data_dir::DataDir;
use crate::door::{Core, Door};
use crate::error::StartError;
use crate::groups::Groups;
use crate::io::Io;
use crate::limits::{PIPELINES_STOP_MS_MAX, SHARD_TICK_MS};
use crate::memory::{self, Keeper};
use crate::metadata::Metadata;
use crate::observe::Observer;
use crate::pipelines::Pipelines;
use crate::plugins::Plugins;
use crate::service::{Parts, Service};
use crate::shard::Shards;
use crate::stats::Stats;
use crate::topics::Topics;

/// A running broker. [`Broker::shutdown`] stops it cleanly; dropping it stops it as a crash would.
pub struct Broker {
    core: Arc<Core>,
    /// Absent once it is shut down.
    door: Option<Door>,
    console: Option<Server>,
    /// Absent once it is shut down, as the door is.
    io: Option<Io>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Broker {
    /// Starts a broker: what coordinates it on the current tokio runtime, which must have its IO and time enabled,
    /// clients on threads of its own. It serves when this returns.
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
        let io = Io::start(config.io_thread_count())?;
        // Bound before anything else is touched: a taken address is the commonest mistake.
        let listener = Door::bind(config.quic, &credentials.tls, &io)?;
        let address = listener.local_addr().map_err(|e| part("the QUIC door", &e))?;
        let stats = Arc::new(Stats::default());
        let folder = data_dir.root().to_owned();
        let observer = Arc::new(Observer::new(Arc::clone(&stats), folder, config.limits.metrics_labels_max));
        // Before logs are opened, which can take long: who asks is told so.
        let console = open_console(&config, &observer)?;

        let (opening, counted) = (Arc::clone(&data_dir), Arc::clone(&stats));
        let opened = tokio::task::spawn_blocking(move || Metadata::open(&opening, &counted)).await;
        let metadata = opened.map_err(|e| part("metadata", &e))??;
        let shards = Shards::start(config.shard_count(), config.sync_threads, &data_dir, &stats)?;
        let (owned, counted) = (Arc::clone(&data_dir), Arc::clone(&stats));
        let topics = Arc::new(Topics::new(owned, metadata.clone(), shards, &config, counted));
        let unfinished = Unfinished(Some(Arc::clone(&topics)));
        topics.open_all().await.map_err(|e| part("topics", &e))?;
        let groups = Groups::start(Arc::clone(&topics), &metadata, &config.limits, Arc::clone(&stats)).await?;
        let ticker =
            tokio::spawn(tick(Arc::clone(&topics), metadata.clone(), Arc::clone(&observer), Arc::clone(&stats)));
        let parts = Parts { config, data_dir, metadata, topics, groups, stats };
        let service = Arc::new(Service::new(parts));

        let starting = Arc::clone(&service);
        let started = tokio::task::spawn_blocking(move || Plugins::start(starting)).await;
        let plugins = Arc::new(started.map_err(|e| part("plugins", &e))??);
        let pipelines = Arc::new(Pipelines::start(Arc::clone(&service), Arc::clone(&plugins)).await?);
        credentials::write_profiles(&service.config, &service.data_dir, &credentials, address)?;
        let tokens = Tokens::new(Arc::clone(&service), &credentials.token);
        let core = Arc::new(Core {
            service,
            plugins,
            pipelines,
            tokens,
            address,
            http: console.as_ref().map(Server::local_addr),
            observer: Arc::clone(&observer),
            connections: AtomicU64::new(0),
            refused_early: listener.refused(),
        });
        let door = Door::serve(listener, Arc::clone(&core), &io);
        observer.serves(&core);
        unfinished.finished();
        tracing::info!(%address, data = %core.service.data_dir.root().display(), "broker started");
        Ok(Broker { core, door: Some(door), console, io: Some(io), ticker })
    }

    /// Where clients connect, with the real port.
    pub fn quic_addr(&self) -> SocketAddr {
        self.core.address
    }

    /// Where metrics and health are, with the real port; `None` when there is no HTTP.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.core.http
    }

    /// What the broker's parts offer each other; for embedding.
    pub fn service(&self) -> &Arc<Service> {
        &self.core.service
    }

    /// Stops accepting, answers what is in flight, stops the pipelines at a batch boundary, syncs and closes every
    /// log cleanly. Clients and guests that hang are left behind after a few seconds; a disk that hangs is not.
    pub async fn shutdown(mut self) {
        let Some(door) = self.door.take() else { return };
        self.core.observer.drains();
        let within = Duration::from_millis(PIPELINES_STOP_MS_MAX);
        let (stopped, ()) = tokio::join!(tokio::time::timeout(within, self.core.pipelines.shutdown()), door.drain());
        if stopped.is_err() {
            tracing::warn!("a pipeline did not end at a batch boundary in time; it goes on from what it has committed");
            self.core.pipelines.abort();
        }
        self.ticker.abort();
        self.core.service.close().await;
        if let Some(io) = self.io.take() {
            io.stop().await;
        }
        // Last, so that the end can be watched.
        if let Some(console) = self.console.take() {
            console.drain().await;
        }
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
    check("io_threads", config.io_threads <= 256, "at most 256")?;
    check("shards", config.shards <= 256, "at most 256")?;
    check("sync_threads", (1..=64).contains(&config.sync_threads), "1 to 64")?;
    check("limits.batch_bytes_max", limits.batch_bytes_max <= 8 << 20, "at most 8 MiB, so that a batch fits a frame")?;
    check("limits.fetch_bytes_max", limits.fetch_bytes_max <= 8 << 20, "at most 8 MiB, so that it fits a frame")?;
    let fits = config.topics.batch_bytes_max <= limits.batch_bytes_max;
    check("topics.batch_bytes_max", fits, "at most limits.batch_bytes_max")?;
    let room = limits.produce_bytes_in_flight_max >= limits.batch_bytes_max as usize;
    check("limits.produce_bytes_in_flight_max", room, "at least limits.batch_bytes_max")?;
    check("limits.http_connections_max", (1..=4096).contains(&limits.http_connections_max), "1 to 4096")?;
    check("limits.metrics_labels_max", limits.metrics_labels_max <= 4096, "at most 4096")
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

fn open_console(config: &Config, observer: &Arc<Observer>) -> Result<Option<Server>, StartError> {
    let HttpDoor::At(address) = config.http else { return Ok(None) };
    let limits = Limits { connections_max: config.limits.http_connections_max, ..Limits::default() };
    Ok(Some(Server::start(address, Arc::clone(observer) as Arc<dyn Source>, limits)?))
}

async fn tick(topics: Arc<Topics>, metadata: Metadata, observer: Arc<Observer>, stats: Arc<Stats>) {
    let mut keeper = Keeper::new(Instant::now());
    let mut interval = tokio::time::interval(Duration::from_millis(SHARD_TICK_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        topics.tick();
        observer.tick(now_ms(), Instant::now());
        // A store that hangs must not keep the shards from their ticks.
        let _ = tokio::time::timeout(Duration::from_secs(1), metadata.try_again()).await;
        topics.take_back();
        if keeper.look(stats.moved_bytes(), Instant::now()) {
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(memory::give_back));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// Between the opening of the console and the first client served.
    #[tokio::test]
    async fn a_broker_that_recovers_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let http = HttpDoor::At(SocketAddr::from(([127, 0, 0, 1], 0)));
        let config = Config { http, ..Config::embedded(folder.path()) };
        let observer = Arc::new(Observer::new(Arc::default(), folder.path().to_owned(), 10));
        let console = open_console(&config, &observer).unwrap().expect("there is an address");
        let address = console.local_addr();
        let check = async |path: &str, expected: &[&str]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            for expected in expected {
                assert!(answer.contains(expected), "{path}: {expected:?} is not in {answer}");
            }
        };
        check("/health/live", &["HTTP/1.1 200"]).await;
        check("/health/ready", &["HTTP/1.1 503", "recovering"]).await;
        check("/metrics", &["\nmillstream_ready 0\n", "\nmillstream_findings{cause=\"recovering\"} 1\n"]).await;
        console.drain().await;
    }
}
