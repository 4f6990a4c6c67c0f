//! What the parts of the broker offer each other: the doors, the pipelines and the plugins all work through
//! this one struct. Async methods are for IO workers; guest threads use the `_blocking` ones.
//!
//! Reading and writing a partition: [`Service::partition`] and the methods of [`Partition`]. Topics, plugins
//! and pipelines in metadata: [`Service::state`] and [`Service::submit`]. Group offsets: [`Service::groups`].

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use millstream_cluster::metadata::{Applied, Command, Event, State};
use millstream_protocol::message::{CreateTopic, CreateTopicAck, InitProducerAck};
use millstream_protocol::{ErrorCode, Failure, PartitionIndex, ProducerId, TopicId};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use crate::budget::Budget;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::groups::Groups;
use crate::limits::PRODUCER_IDS_BLOCK;
use crate::metadata::Metadata;
use crate::partition::Partition;
use crate::stats::Stats;
use crate::topics::Topics;

/// See the module's head. Shared as `Arc<Service>`.
#[derive(Debug)]
pub struct Service {
    pub(crate) config: Config,
    pub(crate) data_dir: Arc<DataDir>,
    metadata: Metadata,
    topics: Arc<Topics>,
    groups: Groups,
    runtime: Handle,
    produce_budget: Budget,
    producer_ids: Mutex<std::ops::Range<i64>>,
    pub(crate) started: Instant,
    pub(crate) connections: AtomicU32,
    stats: Arc<Stats>,
}

/// What a service is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) metadata: Metadata,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Groups,
    pub(crate) stats: Arc<Stats>,
}

impl Service {
    pub(crate) fn new(parts: Parts) -> Self {
        Service {
            produce_budget: Budget::new(parts.config.limits.produce_bytes_in_flight_max),
            config: parts.config,
            data_dir: parts.data_dir,
            metadata: parts.metadata,
            topics: parts.topics,
            groups: parts.groups,
            runtime: Handle::current(),
            producer_ids: Mutex::new(0..0),
            started: Instant::now(),
            connections: AtomicU32::new(0),
            stats: parts.stats,
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The newest metadata.
    pub fn state(&self) -> Arc<State> {
        self.metadata.state()
    }

    /// How many commands the newest metadata has seen.
    pub fn applied(&self) -> u64 {
        self.metadata.applied()
    }

    /// Follows the metadata as it changes.
    pub fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        self.metadata.watch()
    }

    /// Applies a metadata command durably. Topics are changed through [`Service::topics`], not here.
    ///
    /// # Errors
    /// The refusal, or a store that can't write.
    pub async fn submit(&self, command: Command) -> Result<Applied, Failure> {
        self.metadata.submit(command).await
    }

    /// [`Service::submit`] for guest threads.
    ///
    /// # Errors
    /// As there.
    pub fn submit_blocking(&self, command: Command) -> Result<Applied, Failure> {
        self.runtime.block_on(self.submit(command))
    }

    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// The handle of a partition.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition`.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Result<Arc<Partition>, Failure> {
        self.topics.partition(topic, partition)
    }

    /// Creates a topic for a pipeline or a client.
    ///
    /// # Errors
    /// As [`Topics::create`].
    pub async fn create_topic(&self, request: &CreateTopic) -> Result<CreateTopicAck, Failure> {
        self.topics.create(request).await
    }

    /// Groups and their committed offsets.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// A producer id nobody had before.
    ///
    /// # Errors
    /// Metadata can't be written.
    pub async fn init_producer(&self) -> Result<InitProducerAck, Failure> {
        let mut ids = self.producer_ids.lock().await;
        if ids.is_empty() {
            let applied = self.submit(Command::AllocateProducerIds { count: PRODUCER_IDS_BLOCK }).await?;
            let Event::ProducerIds { ids: block } = applied.event else {
                return Err(Failure::new(ErrorCode::Internal, "producer ids were not allocated"));
            };
            *ids = block;
        }
        let id = ids.next().ok_or_else(|| Failure::new(ErrorCode::LimitExceeded, "no producer ids are left"))?;
        Ok(InitProducerAck { producer_id: ProducerId(id), producer_epoch: 0 })
    }

    /// The end of a clean stop: closes logs and metadata and gives the data folder free.
    pub(crate) async fn close(&self) {
        self.groups.shutdown().await;
        self.topics.shutdown().await;
        self.metadata.shutdown().await;
        self.data_dir.release();
    }

    /// What is counted on the way.
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Why metadata can't be changed, as far as was seen.
    pub(crate) fn metadata_trouble(&self) -> Option<Arc<Failure>> {
        self.metadata.trouble()
    }

    /// Bytes received and not yet appended.
    pub(crate) fn produce_budget(&self) -> &Budget {
        &self.produce_budget
    }
}
