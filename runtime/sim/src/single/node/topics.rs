//! A topic that is deleted and made again, in the broker's order: metadata first; then out of service, its folders
//! renamed, and removed when there is time.

use std::collections::BTreeSet;

use millstream_broker::core::shard;
use millstream_broker::folder;
use millstream_cluster::metadata::{Command, Topic};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicId, TopicPartition};

use super::Node;
use crate::single::message::Work;
use crate::single::schedule::{BRIEF_PARTITIONS, OFFSETS, config};
use crate::single::world::Ctx;

impl Node {
    pub(super) fn create_topic(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        if self.state().topic(name).is_some() {
            return;
        }
        if let Err(error) = folder::clear_the_way(&self.disk, name, self.state().deleted_topics()) {
            return ctx.say(format_args!("files of the topic before are in the way: {error}"));
        }
        // No other has it: those that are always there have small ones.
        let id = TopicId(u128::from(ctx.chance.next()) | 1 << 64);
        let command = Self::creation((name, BRIEF_PARTITIONS), id, ctx.wall_ms);
        if !self.submit(&command, ctx) {
            return;
        }
        let topic = self.state().topic(name).cloned().expect("it was made a moment ago");
        ctx.say(format_args!("topic {name} is {:x}", topic.id.0));
        let (again, own) = (ctx.history.lives.any_died(), topic.id);
        ctx.later(move |history| {
            let check = history.lives.made(own);
            history.check(check);
        });
        for index in 0..topic.partitions {
            let at = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            self.open(&topic, at.partition, ctx);
            if self.online(at).is_err() {
                return self.delete_locked(&topic, ctx);
            }
            let (start, end) = self.online(at).map_or((Offset::ZERO, Offset::ZERO), |reader| {
                (reader.start_offset(), self.shard.partition(at).map_or(Offset::ZERO, |partition| partition.log_end()))
            });
            if (start, end) != (Offset::ZERO, Offset::ZERO) {
                ctx.history.wrong(format!("{at:?} was just made and holds records {start} to {end}"));
            }
        }
        self.submit(&Command::PartitionsReady { id: topic.id, partitions: topic.partitions }, ctx);
        if again {
            ctx.history.note("topic made again");
        }
        self.start_missing(ctx);
    }

    pub(super) fn creation((name, partitions): (&str, u32), id: TopicId, at_ms: i64) -> Command {
        let internal = name == OFFSETS;
        Command::CreateTopic { name: name.to_owned(), id, partitions, config: config(name), internal, at_ms }
    }

    pub(super) fn delete_topic(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        if let Some(topic) = self.state().topic(name).cloned() {
            self.delete_locked(&topic, ctx);
        }
    }

    fn delete_locked(&mut self, topic: &Topic, ctx: &mut Ctx<'_>) {
        let id = topic.id;
        ctx.history.lives.deleting(id);
        if !self.submit(&Command::DeleteTopic { name: topic.name.clone(), id }, ctx) {
            return;
        }
        ctx.say(format_args!("topic {} of id {:x} is deleted", topic.name, id.0));
        ctx.later(move |history| {
            history.note("topic deleted");
            history.lives.deleted(id);
        });
        for index in 0..topic.partitions {
            let at = TopicPartition { topic: id, partition: PartitionIndex(index) };
            let reason = Failure::new(ErrorCode::UnknownTopic, "the topic was deleted");
            self.feed(shard::Event::Close { id: at, reason }, ctx);
            self.served.remove(&at);
            // They learn of it.
            self.wake_tasks(at, ctx);
        }
        match folder::set_aside(&self.disk, id) {
            Ok(_) => {
                let delay = ctx.chance.below(1_500_000);
                ctx.work(self.incarnation, delay, Work::RemoveFiles(id));
            }
            Err(error) => {
                ctx.say(format_args!("its files can't be renamed: {error}"));
                ctx.history.note("deleted topic's files left for the next start");
            }
        }
    }

    /// Removes what is left of a deleted topic. Failing is harmless: the next start tries again.
    pub(super) fn remove_files(&mut self, id: TopicId, ctx: &mut Ctx<'_>) {
        let removed = folder::set_aside(&self.disk, id).and_then(|folders| folder::remove(&self.disk, &folders));
        match removed {
            Ok(()) => drop(self.submit(&Command::ForgetDeleted { id }, ctx)),
            Err(error) => {
                ctx.say(format_args!("files of a deleted topic remain: {error}"));
                ctx.history.note("deleted topic's files left for the next start");
            }
        }
    }

    /// What the start found.
    pub(super) fn tell_topics(&self, ctx: &mut Ctx<'_>) {
        let there: BTreeSet<TopicId> = self.state().topics().map(|topic| topic.id).collect();
        ctx.later(move |history| history.topics_are(&there));
    }
}
