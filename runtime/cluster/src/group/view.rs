//! Looking at groups: what `group list` and `group describe` show. The ends of the logs, and with them the
//! lag, are the caller's to add.

use std::collections::BTreeSet;
use std::fmt;

use millstream_protocol::message::{CommittedOffset, GroupMember, TopicPartitions};
use millstream_protocol::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::Coordinator;
use super::members::{Group, flatten};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    Stable,
    Rebalancing,
    Pipeline,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupState::Empty => "empty",
            GroupState::Stable => "stable",
            GroupState::Rebalancing => "rebalancing",
            GroupState::Pipeline => "pipeline",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub group: String,
    pub state: GroupState,
    pub generation: u32,
    pub members: Vec<GroupMember>,
    /// Every partition that has an owner or a committed offset.
    pub partitions: Vec<PartitionView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub topic: TopicId,
    pub topic_name: String,
    pub partition: PartitionIndex,
    pub committed: Option<Offset>,
    pub metadata: String,
    /// Who reads it now; empty when nobody does.
    pub member_id: String,
}

impl Coordinator {
    /// Names of all groups: those with members, with committed offsets, and of pipelines.
    pub fn groups(&self) -> BTreeSet<String> {
        let offsets = self.offsets.groups().cloned();
        offsets.chain(self.groups.keys().cloned()).chain(self.pipelines.iter().cloned()).collect()
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.groups().len()
    }

    /// The group as it is now; `None` when there is no such group.
    pub fn describe(&self, name: &str) -> Option<GroupView> {
        let (group, offsets) = (self.groups.get(name), self.offsets.of(name));
        if group.is_none() && offsets.is_none() && !self.pipelines.contains(name) {
            return None;
        }
        let held = group.into_iter().flat_map(|group| group.holders.keys());
        let keys: BTreeSet<TopicPartition> =
            held.chain(offsets.into_iter().flat_map(|map| map.keys())).copied().collect();
        let mut partitions: Vec<PartitionView> = keys
            .into_iter()
            .map(|key| {
                let committed = offsets.and_then(|offsets| offsets.get(&key));
                PartitionView {
                    topic: key.topic,
                    topic_name: self.topic_names.get(&key.topic).cloned().unwrap_or_default(),
                    partition: key.partition,
                    committed: committed.map(|committed| committed.offset),
                    metadata: committed.map(|committed| committed.metadata.clone()).unwrap_or_default(),
                    member_id: group
                        .and_then(|group| group.holders.get(&key))
                        .map(|holder| holder.member.to_string())
                        .unwrap_or_default(),
                }
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic_name, a.partition).cmp(&(&b.topic_name, b.partition)));
        Some(GroupView {
            group: name.to_owned(),
            state: self.state_of(name, group),
            generation: group.map_or(0, |group| group.generation),
            members: group.map(members_of).unwrap_or_default(),
            partitions,
        })
    }

    fn state_of(&self, name: &str, group: Option<&Group>) -> GroupState {
        match group {
            _ if self.pipelines.contains(name) => GroupState::Pipeline,
            None => GroupState::Empty,
            Some(group) if group.members.is_empty() => GroupState::Empty,
            Some(group) if group.is_rebalancing() => GroupState::Rebalancing,
            Some(_) => GroupState::Stable,
        }
    }

    /// Durable offsets of the partitions asked for, all of the group when `partitions` is empty. A group
    /// that does not exist has none.
    pub fn committed(&self, group: &str, partitions: &[TopicPartitions]) -> Vec<CommittedOffset> {
        let Some(offsets) = self.offsets.of(group) else { return Vec::new() };
        let asked: BTreeSet<TopicPartition> = flatten(partitions).collect();
        offsets
            .iter()
            .filter(|(key, _)| asked.is_empty() || asked.contains(key))
            .map(|(key, committed)| CommittedOffset {
                topic: key.topic,
                partition: key.partition,
                offset: committed.offset,
                metadata: committed.metadata.clone(),
            })
            .collect()
    }
}

fn members_of(group: &Group) -> Vec<GroupMember> {
    group
        .members
        .iter()
        .map(|(id, member)| GroupMember {
            member_id: id.to_string(),
            client_name: member.client_name.clone(),
            session_timeout_ms: member.session_timeout_ms,
        })
        .collect()
}
