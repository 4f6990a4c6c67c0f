//! One group's members and partitions: the target every partition should come to, and who may be reading it
//! now. A partition moves in two steps: its holder reports without it, then the next member is given it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_protocol::message::{GroupHeartbeat, TopicPartitions};
use millstream_protocol::{PartitionIndex, TopicId, TopicPartition, mutant};

use super::TopicInfo;
use super::assign::{MemberId, Subscription, assign};

/// Topics by name.
pub(super) type Topics = BTreeMap<String, TopicInfo>;

pub(super) struct Member {
    pub(super) client_name: String,
    pub(super) topics: BTreeSet<String>,
    pub(super) session_timeout_ms: u32,
    /// When the session ends unless the member is heard again.
    pub(super) expires_at: i64,
    /// Since when the member knows that it has to give a partition back, while it still has it.
    pub(super) revoking_since: Option<i64>,
    /// The deadline in the coordinator's timers.
    pub(super) timer: Option<i64>,
}

/// A member that was given a partition and has not reported without it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) member: MemberId,
    /// The group's generation when it was given.
    pub(super) since: u32,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) generation: u32,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) target: BTreeMap<TopicPartition, MemberId>,
    pub(super) holders: BTreeMap<TopicPartition, Holder>,
}

impl Group {
    /// Starts a new generation over the members and topics as they are now.
    pub(super) fn rebalance(&mut self, topics: &Topics) {
        self.generation += 1;
        let mut subscribers: BTreeMap<&str, Vec<MemberId>> = BTreeMap::new();
        for (id, member) in &self.members {
            for topic in &member.topics {
                subscribers.entry(topic).or_default().push(Arc::clone(id));
            }
        }
        let subscriptions: Vec<Subscription> = subscribers
            .into_iter()
            .filter_map(|(name, members)| topics.get(name).map(|topic| (topic, members)))
            .map(|(topic, members)| Subscription { partitions: partitions_of(topic).collect(), members })
            .collect();
        self.target = assign(&subscriptions, &self.target);
    }

    /// Forgets what belongs to topics that are gone; says whether a subscribed topic changed.
    pub(super) fn topics_changed(&mut self, changed: &BTreeSet<String>, gone: &BTreeSet<TopicId>) -> bool {
        self.holders.retain(|key, _| !gone.contains(&key.topic));
        self.members.values().any(|member| !member.topics.is_disjoint(changed))
    }

    /// Removes a member and everything it held.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.holders.retain(|_, holder| &*holder.member != id);
        Some(member)
    }

    /// Takes a member's report of what it reads and gives it what it may read now. Whoever is given a partition asks
    /// where the group left off, so that it waits while `is_writing` that.
    pub(super) fn reconcile(
        &mut self,
        id: &MemberId,
        request: &GroupHeartbeat,
        is_writing: impl Fn(&TopicPartition) -> bool,
        now_ms: i64,
    ) -> Vec<TopicPartitions> {
        let owned: BTreeSet<TopicPartition> = flatten(&request.owned).collect();
        self.holders.retain(|key, holder| holder.member != *id || owned.contains(key));
        let mut given = Vec::new();
        for (key, _) in self.target.iter().filter(|(_, member)| *member == id) {
            let generation = self.generation;
            if !self.holders.contains_key(key) && is_writing(key) {
                continue;
            }
            let holder =
                self.holders.entry(*key).or_insert_with(|| Holder { member: Arc::clone(id), since: generation });
            if holder.member == *id || mutant!("partition-given-too-early") {
                given.push(*key);
            }
        }
        let revoking =
            self.holders.iter().any(|(key, holder)| holder.member == *id && self.target.get(key) != Some(id));
        let member = self.members.get_mut(id).expect("reconcile is for members");
        member.revoking_since = revoking.then(|| member.revoking_since.unwrap_or(now_ms));
        group_by_topic(&given)
    }

    /// Whether some partition is not yet with the member it should be with.
    pub(super) fn is_rebalancing(&self) -> bool {
        self.target.iter().any(|(key, member)| self.holders.get(key).is_none_or(|holder| holder.member != *member))
    }

    /// Whether `member` has partitions to give back or to be given.
    pub(super) fn is_unsettled(&self, id: &MemberId) -> bool {
        let waits = self
            .target
            .iter()
            .any(|(key, member)| member == id && self.holders.get(key).is_none_or(|holder| holder.member != *id));
        waits || self.members.get(id).is_some_and(|member| member.revoking_since.is_some())
    }
}

fn partitions_of(topic: &TopicInfo) -> impl Iterator<Item = TopicPartition> + use<> {
    let id = topic.id;
    (0..topic.partitions).map(move |partition| TopicPartition { topic: id, partition: PartitionIndex(partition) })
}

pub(super) fn flatten(lists: &[TopicPartitions]) -> impl Iterator<Item = TopicPartition> + '_ {
    lists.iter().flat_map(|list| {
        list.partitions.iter().map(|partition| TopicPartition { topic: list.topic, partition: *partition })
    })
}

/// `keys` in order of topic.
fn group_by_topic(keys: &[TopicPartition]) -> Vec<TopicPartitions> {
    keys.chunk_by(|a, b| a.topic == b.topic)
        .map(|chunk| TopicPartitions {
            topic: chunk[0].topic,
            partitions: chunk.iter().map(|key| key.partition).collect(),
        })
        .collect()
}
