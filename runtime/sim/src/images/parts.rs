//! The broker's durable parts on a simulated disk, put together in the order of `Broker::start` and `Topics`, on
//! one thread: every step is the broker's own code, only the order is repeated here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_broker::folder::{self, Place};
use millstream_broker::metadata::Store;
use millstream_broker::{data_dir, plugins};
use millstream_cluster::metadata::{Command, Digest, State, Topic};
use millstream_log::{Config, Log, Storage, Volume};
use millstream_protocol::{PartitionIndex, TopicId, TopicPartition};

use crate::disk::SimDisk;

pub(super) type PartitionLog = Log<Arc<dyn Storage>>;

/// Everything that is open.
pub(super) struct Parts {
    pub(super) disk: SimDisk,
    pub(super) metadata: Store,
    pub(super) plugins: plugins::Store,
    pub(super) logs: BTreeMap<TopicPartition, PartitionLog>,
    /// Metadata as it was found.
    pub(super) found: State,
}

/// Small segments, an index entry for every batch or two; which of them also shows how the mark is kept.
pub(super) fn config(id: TopicId) -> Config {
    Config {
        segment_bytes: 1_500,
        segment_ms: 3_000,
        index_interval_bytes: 100,
        retention_ms: None,
        retention_bytes: id.0.is_multiple_of(2).then_some(5_000),
        preallocate_bytes: 512,
        mark_bytes: [0, 2_000, 1 << 30][(id.0 % 3) as usize],
        ..Config::default()
    }
}

impl Parts {
    /// As the broker starts.
    ///
    /// # Errors
    /// It would not, or a partition would refuse service.
    pub(super) fn start(disk: &SimDisk, now_ms: i64) -> Result<Parts, String> {
        data_dir::prepare(disk, || "simulated".to_owned()).map_err(|e| e.to_string())?;
        let storage = disk.open("").map_err(|e| e.to_string())?;
        // Few, so that snapshots are made now and then.
        let metadata = Store::open(&storage).map_err(|e| e.to_string())?.with_log_max(40);
        let plugins = plugins::Store::open(disk).map_err(|e| e.to_string())?;
        let found = metadata.state().clone();
        let mut parts = Parts { disk: disk.clone(), metadata, plugins, logs: BTreeMap::new(), found };
        for deleted in parts.found.deleted_topics().to_vec() {
            parts.finish_delete(deleted.id)?;
        }
        let topics: Vec<Topic> = parts.found.topics().cloned().collect();
        for topic in &topics {
            parts.open_topic(topic, now_ms)?;
        }
        for topic in topics.iter().filter(|topic| topic.ready < topic.partitions) {
            parts.submit(&Command::PartitionsReady { id: topic.id, partitions: topic.partitions })?;
        }
        parts.collect_plugins()?;
        Ok(parts)
    }

    /// Durable when it returns.
    pub(super) fn submit(&mut self, command: &Command) -> Result<(), String> {
        let outcomes = self.metadata.commit(&[command]).map_err(|e| e.to_string())?;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(drop)).map_err(|e| e.to_string())
    }

    pub(super) fn open_topic(&mut self, topic: &Topic, now_ms: i64) -> Result<(), String> {
        for partition in (0..topic.partitions).map(PartitionIndex) {
            let id = TopicPartition { topic: topic.id, partition };
            let path = folder::path_of(&topic.name, partition);
            let place = Place { id, topic: &topic.name, folder: &path, must_exist: partition.0 < topic.ready };
            folder::claim(&self.disk, place).map_err(|e| e.to_string())?;
            let storage = self.disk.open(&path).map_err(|e| e.to_string())?;
            let opened = Log::open(storage, config(topic.id), now_ms);
            let (log, _) = opened.map_err(|e| format!("{path}: {e}"))?;
            self.logs.insert(id, log);
        }
        Ok(())
    }

    /// After metadata says that it is deleted: out of service, and out of the way of a topic of the same name.
    pub(super) fn put_aside(&mut self, id: TopicId) -> Result<(), String> {
        self.logs.retain(|partition, _| partition.topic != id);
        folder::set_aside(&self.disk, id).map(drop).map_err(|e| e.to_string())
    }

    /// What the broker does in the background after a deletion, and at its start.
    pub(super) fn finish_delete(&mut self, id: TopicId) -> Result<(), String> {
        let aside = folder::set_aside(&self.disk, id).map_err(|e| e.to_string())?;
        folder::remove(&self.disk, &aside).map_err(|e| e.to_string())?;
        self.submit(&Command::ForgetDeleted { id })
    }

    pub(super) fn collect_plugins(&self) -> Result<(), String> {
        let used = used_plugins(self.metadata.state());
        self.plugins.collect(|digest| used.contains(digest)).map_err(|e| e.to_string())
    }

    /// As a broker stops in order.
    pub(super) fn close(self) -> Result<(), String> {
        self.logs.into_values().try_for_each(|log| log.close().map_err(|e| e.to_string()))
    }
}

/// Plugins that a name or a kept revision of a pipeline needs.
pub(super) fn used_plugins(state: &State) -> BTreeSet<Digest> {
    let revisions = state.pipelines().flat_map(|pipeline| pipeline.revisions());
    let mut used: BTreeSet<Digest> = revisions.flat_map(|revision| &revision.plugins).map(|used| used.digest).collect();
    used.extend(state.plugins().map(|plugin| plugin.digest));
    used
}
