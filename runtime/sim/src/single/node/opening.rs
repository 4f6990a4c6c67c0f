//! The start of a simulated broker: what it finds on the disk, and what it makes of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_broker::core::partition::code_of;
use millstream_broker::core::shard::{self, Shard};
use millstream_broker::folder::{self, Place};
use millstream_cluster::metadata::{Command, Topic};
use millstream_log::{Config, Log, Storage, Volume};
use millstream_protocol::message::Durability;
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicId, TopicPartition};

use super::{Node, Served, TICK_US, put_pipeline};
use crate::disk::SimDisk;
use crate::single::guest::Guests;
use crate::single::message::Work;
use crate::single::schedule::{self, OFFSETS, PIPELINES, RETAINED};
use crate::single::store::Store;
use crate::single::tasks::Tasks;
use crate::single::world::Ctx;

impl Node {
    /// Starts on what the disk holds.
    ///
    /// # Errors
    /// The disk fails, or the metadata can't be read.
    pub(crate) fn start(disk: &SimDisk, guests: &Guests, incarnation: u64, ctx: &mut Ctx<'_>) -> Result<Node, String> {
        let store = Store::open(disk).map_err(|e| format!("metadata: {e}"))?;
        disk.create("topics").and_then(|()| Volume::sync(disk, "")).map_err(|e| format!("topics: {e}"))?;
        let mut node = Node {
            incarnation,
            disk: disk.clone(),
            store,
            shard: Shard::default(),
            served: BTreeMap::new(),
            offsets: TopicPartition { topic: TopicId(0), partition: PartitionIndex(0) },
            groups: None,
            tasks: Tasks::new(Arc::clone(guests)),
            shard_out: VecDeque::new(),
            groups_out: VecDeque::new(),
            carrying: (false, false),
            tick_at: None,
            draining: false,
            closing: false,
            closed: false,
            started: (ctx.wall_ms, ctx.now_us),
        };
        node.create_missing(ctx).map_err(|e| e.to_string())?;
        let deleted: Vec<TopicId> = node.state().deleted_topics().iter().map(|topic| topic.id).collect();
        deleted.into_iter().for_each(|id| node.remove_files(id, ctx));
        for topic in node.topics() {
            for index in 0..topic.partitions {
                node.open(&topic, PartitionIndex(index), ctx);
            }
            let at = |index| TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            let there = (0..topic.partitions).take_while(|index| node.online(at(*index)).is_ok()).count() as u32;
            if there > topic.ready {
                let ready = Command::PartitionsReady { id: topic.id, partitions: there };
                node.store.submit(&ready).map_err(|e| e.to_string())?;
            }
        }
        node.start_groups(ctx);
        node.tell_topics(ctx);
        node.tasks.applied(node.store.state());
        node.start_missing(ctx);
        ctx.work(incarnation, TICK_US, Work::Tick);
        Ok(node)
    }

    fn create_missing(&mut self, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
        for (name, partitions) in schedule::TOPICS {
            if self.state().topic(name).is_none() {
                self.store.submit(&Node::creation((name, *partitions), schedule::topic_id(name), ctx.wall_ms))?;
            }
        }
        for (pipeline, name) in PIPELINES.iter().enumerate() {
            if self.state().pipeline(name).is_none() {
                self.store.submit(&put_pipeline(pipeline, false, ctx.wall_ms))?;
            }
        }
        Ok(())
    }

    pub(super) fn open(&mut self, topic: &Topic, index: PartitionIndex, ctx: &mut Ctx<'_>) {
        let at = TopicPartition { topic: topic.id, partition: index };
        let name: Arc<str> = topic.name.as_str().into();
        if topic.name == OFFSETS {
            self.offsets = at;
        }
        let fast = topic.config.replicated == Some(true);
        let durability = if fast { Durability::Replicated } else { Durability::Disk };
        let opened = self.open_log(topic, index, ctx.wall_ms);
        let (mut reader, mut high_watermark, mut offline) = (None, Offset::ZERO, None);
        match opened {
            Ok((log, torn)) => {
                if torn {
                    ctx.history.note("torn tail cut");
                }
                let (start, end) = (log.start_offset(), log.end_offset());
                ctx.say(format_args!("node opened {name}/{index}: {start} to {end}"));
                // A start that is itself cut short by a power loss has not promised anything.
                ctx.later(move |history| match durability {
                    Durability::Disk => history.reopened(at, (start.0, end.0)),
                    Durability::Replicated => history.reopened_fast(at, (start.0, end.0)),
                });
                (reader, high_watermark) = (Some(log.reader()), end);
                let event = shard::Event::Opened { id: at, topic: Arc::clone(&name), log: Box::new(log), durability };
                self.feed(event, ctx);
            }
            Err(failure) => {
                ctx.say(format_args!("node can't open {name}/{index}: {failure:?}"));
                let (corrupt, message) = (failure.code == ErrorCode::CorruptData, failure.message.clone());
                // No run damages what was synced.
                ctx.later(move |history| {
                    if corrupt {
                        history.wrong(format!("an innocent crash was taken for damage: {message}"));
                    }
                });
                offline = Some(failure);
            }
        }
        let served = Served { topic: name, reader, high_watermark, offline, durability, unsynced: None };
        self.served.insert(at, served);
    }

    fn open_log(
        &self,
        topic: &Topic,
        index: PartitionIndex,
        wall_ms: i64,
    ) -> Result<(Log<Arc<dyn Storage>>, bool), Failure> {
        let folder = folder::path_of(&topic.name, index);
        let unavailable = |e: std::io::Error| Failure::new(ErrorCode::StorageUnavailable, format!("{folder}: {e}"));
        let id = TopicPartition { topic: topic.id, partition: index };
        let place = Place { id, topic: &topic.name, folder: &folder, must_exist: index.0 < topic.ready };
        folder::claim(&self.disk, place)?;
        let storage = Volume::open(&self.disk, &folder).map_err(unavailable)?;
        let opened = Log::open(storage, log_config(&topic.name), wall_ms);
        let (log, recovery) = opened.map_err(|e| Failure::new(code_of(&e), format!("{}/{index}: {e}", topic.name)))?;
        Ok((log, recovery.truncated_bytes > 0))
    }
}

fn log_config(topic: &str) -> Config {
    Config {
        segment_bytes: 1_500,
        index_interval_bytes: 200,
        retention_ms: None,
        retention_bytes: (topic == RETAINED).then_some(schedule::RETENTION_BYTES),
        preallocate_bytes: 512,
        unsynced_bytes_max: 2_000,
        mark_bytes: 3_000,
        mark_ms: 400,
        segment_ms: 20_000,
        ..Config::default()
    }
}
