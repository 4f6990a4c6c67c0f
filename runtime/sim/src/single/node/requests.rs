//! What clients ask of the broker, and what it reads for anybody.

use bytes::Bytes;
use millstream_broker::core::groups::Call;
use millstream_broker::core::partition::{Append, check_new, failure_of, not_served, read};
use millstream_broker::core::shard;
use millstream_cluster::group::Committer;
use millstream_cluster::metadata::{Command, Event as Changed};
use millstream_log::Reader;
use millstream_protocol::message::Acks;
use millstream_protocol::{ErrorCode, Failure, Offset, TopicPartition};

use super::{Caller, Node, Waiter, check_committed, no_groups};
use crate::single::message::{Body, Event, Reply};
use crate::single::world::Ctx;

const FETCH_BYTES: usize = 700;
const BATCH_BYTES_MAX: usize = 1 << 20;

impl Node {
    /// A request arrives.
    pub(crate) fn arrive(&mut self, (from, number): (usize, u64), body: Body, ctx: &mut Ctx<'_>) {
        if self.closing {
            return;
        }
        let stale = self.is_stale(&body, ctx);
        match body {
            Body::InitProducer => {
                let applied = self.store.submit(&Command::AllocateProducerIds { count: 1 });
                let id = applied.map(|applied| match applied.event {
                    Changed::ProducerIds { ids } => ids.start,
                    _ => -1,
                });
                ctx.answer(from, number, Reply::Producer(id));
            }
            Body::Produce { at, bytes, acks } => self.produce((from, number), at, &bytes, acks, ctx),
            Body::Fetch { at, offset } => {
                let fetched = self.fetch(at, offset, FETCH_BYTES, ctx);
                ctx.answer(from, number, Reply::Fetched(fetched));
            }
            Body::LogStart { at } => {
                let start = self.online(at).map(Reader::start_offset);
                ctx.answer(from, number, Reply::LogStart(start));
            }
            Body::Heartbeat(request) => {
                let fresh = ctx.chance.next();
                self.call(Call::Heartbeat { request, fresh }, Caller::Client { to: from, number }, ctx);
            }
            Body::Leave(request) => self.call(Call::Leave(request), Caller::Client { to: from, number }, ctx),
            Body::Commit(request) => {
                let caller = Caller::Commit { to: from, number, request: request.clone(), stale };
                self.call(Call::Commit(request, Committer::Client), caller, ctx);
            }
            Body::Committed { group } => {
                let committed = self.groups.as_ref().ok_or_else(no_groups);
                let committed = committed.map(|groups| groups.coordinator().committed(&group, &[]));
                if let Ok(committed) = &committed {
                    check_committed(&group, committed, ctx);
                }
                ctx.answer(from, number, Reply::Committed(committed));
            }
            Body::Topic { name } => {
                let id = self.state().topic(name).map(|topic| topic.id);
                ctx.answer(from, number, Reply::Topic(id));
            }
        }
    }

    /// Whether a request means a topic that is gone. It must be refused, and in words that its sender understands.
    fn is_stale(&self, body: &Body, ctx: &mut Ctx<'_>) -> bool {
        let dead = body.partitions().into_iter().find(|at| ctx.history.lives.is_dead(at.topic));
        let Some(at) = dead else { return false };
        ctx.history.note("stale request refused");
        match self.online(at) {
            Err(failure) if failure.code == ErrorCode::UnknownTopic => {}
            other => {
                let other = other.map(drop);
                ctx.history.wrong(format!("a request for a deleted topic's {at:?} gives {other:?}"));
            }
        }
        true
    }

    fn produce(
        &mut self,
        (to, number): (usize, u64),
        at: TopicPartition,
        bytes: &Bytes,
        acks: Acks,
        ctx: &mut Ctx<'_>,
    ) {
        let checked = self.online(at).map(drop).and_then(|()| {
            let topic = &self.served[&at].topic;
            check_new(bytes, BATCH_BYTES_MAX, (topic, at.partition))
        });
        match checked {
            Ok(batches) => {
                let append = Append { batches, acks, waiter: Waiter::Client { to, number } };
                let end = |node: &Node| node.shard.partition(at).map(|partition| partition.log_end());
                let before = end(self);
                self.feed(shard::Event::Append { id: at, append }, ctx);
                let refused = matches!(
                    ctx.out.last(),
                    Some((_, Event::Answer { reply: Reply::Produced { outcome: Err(_), .. }, .. }))
                );
                if !refused && end(self) == before {
                    ctx.history.note("duplicate recognised");
                }
            }
            Err(failure) => {
                let power = ctx.history.power;
                ctx.answer(to, number, Reply::Produced { outcome: Err(failure), power });
            }
        }
    }

    /// Reads as a handle does.
    pub(in crate::single) fn fetch(
        &self,
        at: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        ctx: &mut Ctx<'_>,
    ) -> Result<millstream_broker::core::partition::Fetched, Failure> {
        let reader = self.online(at)?;
        let served = &self.served[&at];
        read(reader, offset, bytes_max, served.high_watermark).map_err(|e| {
            let failure = failure_of(&e, &served.topic, at.partition);
            if failure.code == ErrorCode::StorageUnavailable {
                ctx.history.note("reads failed");
            }
            if failure.code == ErrorCode::CorruptData {
                ctx.history.wrong(format!("a read met damage where there is none: {failure:?}"));
            }
            failure
        })
    }

    pub(in crate::single) fn online(&self, at: TopicPartition) -> Result<&Reader, Failure> {
        let unknown = || not_served(self.state(), at);
        let served = self.served.get(&at).ok_or_else(unknown)?;
        match (&served.offline, &served.reader) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(reader)) => Ok(reader),
            (None, None) => Err(unknown()),
        }
    }
}
