//! The script: operations drawn from a seed, done on the parts and noted in what is expected. Before an operation
//! its effect is noted as under way, after it as acknowledged; in between, the disk is looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_cluster::metadata::{Command, Digest, PluginUse, TopicConfig};
use millstream_plugin_host::digest;
use millstream_protocol::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::expected::{Expected, STRANGE_FILE, STRANGER};
use super::parts::Parts;
use super::records::{self, Partition};
use crate::chance::Chance;
use crate::disk::SimDisk;
use millstream_log::Volume;

/// Names are few, so that they come again.
const NAMES: [&str; 3] = ["orders", "clicks", "a-rather-long-name.with-dots"];
/// Input, output and committed offsets of the pipeline; never deleted.
const PIPELINE_TOPICS: [&str; 3] = ["input", "output", "__consumer_offsets"];

/// See the module's head.
pub(super) struct History {
    chance: Chance,
    disk: SimDisk,
    expected: Arc<Mutex<Expected>>,
    /// Absent between a stop and a start.
    parts: Option<Parts>,
    next_topic: u128,
    now_ms: i64,
    stored: Vec<Digest>,
}

/// Why a step of the history itself must not fail.
const NO_FAULTS: &str = "a disk without faults does what it is told";

impl History {
    pub(super) fn new(seed: u64, disk: SimDisk, expected: Arc<Mutex<Expected>>) -> Self {
        let chance = Chance::new(seed ^ 0xfeed);
        History { chance, disk, expected, parts: None, next_topic: 0, now_ms: 1_000, stored: Vec::new() }
    }

    /// Runs so many operations and says how many there were.
    pub(super) fn run(mut self, operations: u64) -> u64 {
        self.restart();
        // As if they had always been there.
        self.disk.create("topics/notes-0").expect(NO_FAULTS);
        self.disk.sync("topics").expect(NO_FAULTS);
        self.disk.put(STRANGER, b"mine".to_vec());
        self.disk.put(STRANGE_FILE, b"mine, too".to_vec());
        let topics = PIPELINE_TOPICS.map(|name| self.create(name, 1)[0]);
        self.expected().pipeline = Some(topics);
        for _ in 0..operations {
            self.now_ms += 10;
            self.expected().now_ms = self.now_ms;
            self.step();
        }
        operations
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&mut self) -> &mut Parts {
        self.parts.as_mut().expect("started before the first operation")
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..42 => self.append(),
            42..62 => self.sync(),
            62..66 => self.retain(),
            66..70 => self.delete_records(),
            70..72 => self.change_leader(),
            72..79 => self.work(),
            79..83 => self.create_one(),
            83..86 => self.delete_one(),
            86..90 => self.upload(),
            90..92 => self.forget_plugin(),
            92..95 => self.apply_pipeline(),
            95..97 => self.allocate(),
            97 => self.stop_and_start(),
            _ => self.kill_and_start(),
        }
    }

    fn any_partition(&mut self) -> TopicPartition {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<TopicPartition> = expected.partitions.keys().copied().collect();
        *self.chance.pick(&ids)
    }

    /// Any but the pipeline's own.
    fn data_partition(&mut self) -> TopicPartition {
        loop {
            let id = self.any_partition();
            let own = self.expected().pipeline.is_some_and(|own| own[1..].contains(&id));
            if !own {
                return id;
            }
        }
    }

    fn append(&mut self) {
        let id = self.data_partition();
        let (now_ms, mut chance) = (self.now_ms, self.chance.split());
        let built = records::batch(&self.expected().partitions[&id], now_ms, &mut chance);
        self.append_to(id, built);
    }

    fn append_to(
        &mut self,
        id: TopicPartition,
        built: (millstream_protocol::batch::BatchHeader, bytes::Bytes, Vec<i64>),
    ) {
        let now_ms = self.now_ms;
        let (header, bytes) = (built.0, built.1.clone());
        let epoch = self.with(id, |partition| {
            partition.push(built);
            LeaderEpoch(partition.epoch)
        });
        let log = self.parts().logs.get_mut(&id).expect("each expected partition is open");
        let appended = log.append(&[(header, bytes)], epoch, now_ms).expect(NO_FAULTS);
        assert_eq!(appended.duplicate_of, None, "the history sends nothing twice");
        let end = appended.end_offset;
        self.with(id, |partition| assert_eq!(partition.end(), end, "the log counts as the model does"));
    }

    fn with<T>(&self, id: TopicPartition, work: impl FnOnce(&mut Partition) -> T) -> T {
        work(self.expected().partitions.get_mut(&id).expect("each open partition is expected"))
    }

    fn sync(&mut self) {
        let id = self.any_partition();
        self.sync_one(id);
    }

    fn sync_one(&mut self, id: TopicPartition) {
        let log = self.parts().logs.get_mut(&id).expect("each expected partition is open");
        if let Some(job) = log.begin_sync() {
            let durable = log.finish_sync(job.run()).expect(NO_FAULTS);
            self.with(id, |partition| partition.durable = durable);
        }
    }

    fn retain(&mut self) {
        let (id, now_ms) = (self.data_partition(), self.now_ms);
        // How far it goes is the log's to say.
        self.with(id, |partition| partition.start_wanted = partition.end());
        let log = self.parts().logs.get_mut(&id).expect("each expected partition is open");
        log.apply_retention(now_ms).expect(NO_FAULTS);
        let start = log.start_offset();
        self.with(id, |partition| partition.settle(start, Offset(i64::MAX)));
    }

    fn delete_records(&mut self) {
        let id = self.data_partition();
        let further = self.chance.below(30) as i64;
        let log = self.parts().logs.get_mut(&id).expect("each expected partition is open");
        let before = (log.start_offset() + further).min(log.durable_end());
        self.with(id, |partition| partition.start_wanted = before.max(partition.start));
        let log = self.parts().logs.get_mut(&id).expect("each expected partition is open");
        log.delete_records(before).expect(NO_FAULTS);
        let start = log.start_offset();
        self.with(id, |partition| partition.settle(start, Offset(i64::MAX)));
    }

    fn change_leader(&mut self) {
        let id = self.any_partition();
        self.with(id, |partition| partition.epoch += 1);
    }

    /// One turn of the pipeline: outputs, durable, and only then the offset.
    fn work(&mut self) {
        let Some([input, output, commits]) = self.expected().pipeline else { return };
        let done = self.with(input, |partition| partition.durable);
        self.append_to(output, records::note(&done.0.to_string(), self.now_ms));
        self.sync_one(output);
        self.append_to(commits, records::note(&done.0.to_string(), self.now_ms));
        self.sync_one(commits);
    }

    fn submit(&mut self, command: &Command) {
        self.expected().intend(command);
        // A refusal is an outcome.
        let _ = self.parts().submit(command);
        self.expected().acknowledge();
    }

    fn create(&mut self, name: &str, partitions: u32) -> Vec<TopicPartition> {
        self.next_topic += 1;
        let id = TopicId(self.next_topic);
        let (name, now_ms) = (name.to_owned(), self.now_ms);
        let config = TopicConfig::default();
        let internal = name.starts_with("__");
        self.submit(&Command::CreateTopic { name: name.clone(), id, partitions, config, internal, at_ms: now_ms });
        let topic = self.parts().metadata.state().topic(&name).cloned().expect("it was just created");
        self.parts().open_topic(&topic, now_ms).expect(NO_FAULTS);
        let ids: Vec<_> =
            (0..partitions).map(|at| TopicPartition { topic: id, partition: PartitionIndex(at) }).collect();
        self.expected().partitions.extend(ids.iter().map(|id| (*id, Partition::default())));
        self.submit(&Command::PartitionsReady { id, partitions });
        ids
    }

    fn create_one(&mut self) {
        let name = *self.chance.pick(&NAMES);
        let taken = self.expected().metadata.topic(name).is_some();
        if !taken {
            let partitions = 1 + self.chance.below(2) as u32;
            self.create(name, partitions);
        }
    }

    fn delete_one(&mut self) {
        let name = *self.chance.pick(&NAMES);
        let Some(id) = self.expected().metadata.topic(name).map(|topic| topic.id) else { return };
        self.submit(&Command::DeleteTopic { name: name.to_owned(), id });
        self.expected().partitions.retain(|partition, _| partition.topic != id);
        self.parts().put_aside(id).expect(NO_FAULTS);
        // Often the name is taken again before the files are gone.
        if self.chance.one_in(2) {
            self.create(name, 1);
        }
        self.expected().intend(&Command::ForgetDeleted { id });
        self.parts().finish_delete(id).expect(NO_FAULTS);
        self.expected().acknowledge();
    }

    fn upload(&mut self) {
        let version = self.chance.below(4);
        let bytes: Vec<u8> = (0..self.chance.below(1_500)).map(|_| self.chance.next() as u8).collect();
        let name = Digest(digest(&bytes));
        self.parts().plugins.put(&name, &bytes).expect(NO_FAULTS);
        self.submit(&Command::RegisterPlugin {
            name: "parse".to_owned(),
            version: format!("0.{version}.0"),
            digest: name,
            bytes: bytes.len() as u64,
            asks: Vec::new(),
            description: String::new(),
            at_ms: self.now_ms,
            replace: true,
        });
        self.stored.push(name);
        self.parts().collect_plugins().expect(NO_FAULTS);
    }

    fn forget_plugin(&mut self) {
        let version = format!("0.{}.0", self.chance.below(4));
        self.submit(&Command::DeletePlugin { name: "parse".to_owned(), version });
        self.parts().collect_plugins().expect(NO_FAULTS);
    }

    fn apply_pipeline(&mut self) {
        let plugins = self.expected().metadata.plugins().next().map(|plugin| PluginUse {
            step: "parse".to_owned(),
            name: plugin.name.clone(),
            version: plugin.version.clone(),
            digest: plugin.digest,
        });
        let yaml = "pipeline: web-errors\n".repeat(1 + self.chance.index(20));
        self.submit(&Command::PutPipeline {
            name: "web-errors".to_owned(),
            yaml,
            variables: BTreeMap::new(),
            plugins: plugins.into_iter().collect(),
            at_ms: self.now_ms,
        });
    }

    fn allocate(&mut self) {
        self.submit(&Command::AllocateProducerIds { count: 10 });
    }

    fn stop_and_start(&mut self) {
        let parts = self.parts.take().expect("started before the first operation");
        parts.close().expect(NO_FAULTS);
        for partition in self.expected().partitions.values_mut() {
            partition.durable = partition.end();
        }
        self.restart();
    }

    /// The process dies, the system lives: what was written is still there.
    fn kill_and_start(&mut self) {
        self.parts = None;
        self.restart();
    }

    fn restart(&mut self) {
        let parts = Parts::start(&self.disk, self.now_ms).expect(NO_FAULTS);
        // What a start finishes is bookkeeping that nobody waits for.
        self.expected().metadata = parts.metadata.state().clone();
        for (id, log) in &parts.logs {
            let (start, end) = (log.start_offset(), log.end_offset());
            let kept = self.with(*id, |partition| {
                partition.settle(start, end);
                partition.durable = end;
                partition.end()
            });
            assert_eq!(kept, end, "a process that dies loses nothing that it wrote");
        }
        self.parts = Some(parts);
    }
}
