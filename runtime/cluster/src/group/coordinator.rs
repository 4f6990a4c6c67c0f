//! Takes the requests and the time, keeps all groups. Joins, departures and expiries start a generation;
//! commits are checked against it, written, and answered when durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_protocol::message::{CommitOffsets, DeleteGroup, GroupHeartbeat, GroupHeartbeatAck, LeaveGroup};
use millstream_protocol::{ErrorCode, Failure, TopicId, TopicPartition, mutant};

use super::assign::MemberId;
use super::codec::{Committed, Entry};
use super::members::{Group, Member, Topics};
use super::offsets::Offsets;
use super::{Answer, Committer, Event, Limits, Output, Ticket, TopicInfo};

/// Longest group name, bytes.
const GROUP_BYTES_MAX: usize = 255;
/// Longer client names are cut.
const CLIENT_NAME_BYTES_MAX: usize = 256;
/// Heartbeat interval of members whose assignment is about to change.
const HEARTBEAT_MS_UNSETTLED: u32 = 100;

/// See the module's head.
pub struct Coordinator {
    limits: Limits,
    topics: Topics,
    pub(super) topic_names: BTreeMap<TopicId, String>,
    pub(super) pipelines: BTreeSet<String>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) offsets: Offsets,
    /// When to look at which member again.
    timers: BTreeSet<(i64, String, MemberId)>,
}

impl Coordinator {
    pub fn new(limits: Limits) -> Self {
        Coordinator {
            limits,
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            pipelines: BTreeSet::new(),
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: BTreeSet::new(),
        }
    }

    /// Takes a record of the offsets topic, in order, before the first event.
    pub fn replay(&mut self, entry: Entry) {
        self.offsets.apply(entry);
    }

    /// Every live offset, those on their way included. Appended after all writes output so far, these entries
    /// make everything before them in the log superfluous.
    pub fn snapshot(&self) -> Vec<Entry> {
        self.offsets.snapshot()
    }

    /// When to call with [`Event::Tick`] unless another event comes before.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.first().map(|(deadline, ..)| *deadline)
    }

    /// `now_ms` is any clock that never goes back.
    pub fn handle(&mut self, event: Event, now_ms: i64, out: &mut Vec<Output>) {
        self.expire(now_ms);
        let (ticket, result) = match event {
            Event::TopicsChanged { topics } => return self.topics_changed(topics),
            Event::PipelinesChanged { pipelines } => return self.pipelines = pipelines.into_iter().collect(),
            Event::Tick => return,
            Event::Persisted { write } => {
                let done = |ticket| Output::Answer { ticket, result: Ok(Answer::Done) };
                return out.extend(self.offsets.persisted(write).into_iter().map(done));
            }
            Event::PersistFailed { write, failure } => {
                let refused = |(ticket, failure)| Output::Answer { ticket, result: Err(failure) };
                return out.extend(self.offsets.failed(write, failure).map(refused));
            }
            Event::Heartbeat { ticket, request, fresh_id } => {
                (ticket, self.heartbeat(&request, fresh_id, now_ms).map(|ack| Some(Answer::Heartbeat(ack))))
            }
            Event::Leave { ticket, request } => (ticket, self.leave(&request).map(|()| Some(Answer::Done))),
            Event::Commit { ticket, request, committer } => {
                let entries = self.check_commit(request, committer, now_ms);
                (ticket, entries.map(|entries| self.write(ticket, entries, out)))
            }
            Event::Delete { ticket, request } => {
                let entries = self.check_delete(&request);
                (ticket, entries.map(|entries| self.write(ticket, entries, out)))
            }
        };
        if let Some(result) = result.transpose() {
            out.push(Output::Answer { ticket, result });
        }
    }

    /// Starts a write, or answers at once when there is nothing to write.
    fn write(&mut self, ticket: Ticket, entries: Vec<Entry>, out: &mut Vec<Output>) -> Option<Answer> {
        if entries.is_empty() {
            return Some(Answer::Done);
        }
        let write = self.offsets.begin(ticket, entries.clone());
        out.push(Output::Persist { write, entries });
        if mutant!("commit-acked-before-persisted") {
            self.offsets.persisted(write);
            return Some(Answer::Done);
        }
        None
    }

    fn expire(&mut self, now_ms: i64) {
        let mut shrunk = BTreeSet::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now_ms) {
            let Some((_, name, id)) = self.timers.pop_first() else { break };
            if let Some(group) = self.groups.get_mut(&name) {
                group.remove(&id);
                shrunk.insert(name);
            }
        }
        shrunk.iter().for_each(|name| self.shrunk(name));
    }

    /// After members went: their partitions go to the others, an empty group is forgotten.
    fn shrunk(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.members.is_empty() {
            self.groups.remove(name);
        } else {
            group.rebalance(&self.topics);
        }
    }

    fn topics_changed(&mut self, topics: Vec<TopicInfo>) {
        let topics: Topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        let differs = |name: &&String| topics.get(*name) != self.topics.get(*name);
        let changed: BTreeSet<String> = topics.keys().chain(self.topics.keys()).filter(differs).cloned().collect();
        let alive: BTreeSet<TopicId> = topics.values().map(|topic| topic.id).collect();
        let gone: BTreeSet<TopicId> = self.topic_names.keys().filter(|id| !alive.contains(id)).copied().collect();
        self.offsets.forget_topics(|id| alive.contains(&id));
        self.topic_names = topics.values().map(|topic| (topic.id, topic.name.clone())).collect();
        self.topics = topics;
        for group in self.groups.values_mut() {
            if group.topics_changed(&changed, &gone) {
                group.rebalance(&self.topics);
            }
        }
    }

    fn heartbeat(
        &mut self,
        request: &GroupHeartbeat,
        fresh_id: String,
        now_ms: i64,
    ) -> Result<GroupHeartbeatAck, Failure> {
        self.check_heartbeat(request)?;
        let joins = request.member_id.is_empty();
        let id: MemberId = if joins { Arc::from(fresh_id) } else { Arc::from(request.member_id.as_str()) };
        let topics: BTreeSet<String> = request.topics.iter().cloned().collect();
        let group = self.groups.entry(request.group.clone()).or_default();
        let member = group.members.entry(Arc::clone(&id)).or_insert_with(|| Member {
            client_name: cut(&request.client_name, CLIENT_NAME_BYTES_MAX),
            topics: BTreeSet::new(),
            session_timeout_ms: request.session_timeout_ms,
            expires_at: 0,
            revoking_since: None,
            timer: None,
        });
        member.session_timeout_ms = request.session_timeout_ms;
        member.expires_at = now_ms + i64::from(request.session_timeout_ms);
        if joins || member.topics != topics {
            member.topics = topics;
            group.rebalance(&self.topics);
        }
        let is_writing = |key: &TopicPartition| self.offsets.is_writing_of(&request.group, key);
        let assignment = group.reconcile(&id, request, is_writing, now_ms);
        let calm = (request.session_timeout_ms / 3).clamp(1, self.limits.heartbeat_ms_max);
        let interval = if group.is_unsettled(&id) { calm.min(HEARTBEAT_MS_UNSETTLED) } else { calm };
        let generation = group.generation;
        self.reschedule(&request.group, &id);
        Ok(GroupHeartbeatAck { member_id: id.to_string(), generation, assignment, heartbeat_interval_ms: interval })
    }

    fn check_heartbeat(&self, request: &GroupHeartbeat) -> Result<(), Failure> {
        let name = &request.group;
        check_group_name(name)?;
        if self.pipelines.contains(name) {
            return fail(
                ErrorCode::InUse,
                format!("group `{name}` belongs to the pipeline of that name; choose another"),
            );
        }
        let (min, max) = (self.limits.session_ms_min, self.limits.session_ms_max);
        if !(min..=max).contains(&request.session_timeout_ms) {
            let asked = request.session_timeout_ms;
            return fail(ErrorCode::InvalidRequest, format!("session timeout must be {min} to {max} ms, got {asked}"));
        }
        if request.topics.is_empty() || request.topics.len() > self.limits.topics_max {
            let (found, max) = (request.topics.len(), self.limits.topics_max);
            return fail(ErrorCode::InvalidRequest, format!("a member subscribes to 1 to {max} topics, got {found}"));
        }
        let group = self.groups.get(name);
        if !request.member_id.is_empty() {
            let known = group.is_some_and(|group| group.members.contains_key(request.member_id.as_str()));
            return if known { Ok(()) } else { Err(unknown_member(name, &request.member_id)) };
        }
        if group.is_none() && self.groups.len() >= self.limits.groups_max {
            let max = self.limits.groups_max;
            return fail(ErrorCode::LimitExceeded, format!("the broker already has {max} groups with members"));
        }
        if group.is_some_and(|group| group.members.len() >= self.limits.members_max) {
            let max = self.limits.members_max;
            return fail(ErrorCode::LimitExceeded, format!("group `{name}` already has {max} members"));
        }
        Ok(())
    }

    fn reschedule(&mut self, name: &str, id: &MemberId) {
        let Some(member) = self.groups.get_mut(name).and_then(|group| group.members.get_mut(id)) else { return };
        let revoke_by = member.revoking_since.map(|since| since + i64::from(self.limits.revoke_ms_max));
        let deadline = revoke_by.map_or(member.expires_at, |revoke_by| revoke_by.min(member.expires_at));
        if let Some(before) = member.timer.replace(deadline) {
            self.timers.remove(&(before, name.to_owned(), Arc::clone(id)));
        }
        self.timers.insert((deadline, name.to_owned(), Arc::clone(id)));
    }

    fn leave(&mut self, request: &LeaveGroup) -> Result<(), Failure> {
        let name = &request.group;
        let id: MemberId = Arc::from(request.member_id.as_str());
        let gone = self.groups.get_mut(name).and_then(|group| group.remove(&id));
        let member = gone.ok_or_else(|| unknown_member(name, &id))?;
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, name.clone(), id));
        }
        self.shrunk(name);
        Ok(())
    }

    fn check_commit(&self, request: CommitOffsets, committer: Committer, now_ms: i64) -> Result<Vec<Entry>, Failure> {
        check_group_name(&request.group)?;
        self.check_committer(&request, committer)?;
        let known = self.groups.contains_key(&request.group) || self.offsets.of(&request.group).is_some();
        if !known && self.offsets.groups().count() >= self.limits.groups_max {
            let max = self.limits.groups_max;
            return fail(ErrorCode::LimitExceeded, format!("the broker already keeps offsets of {max} groups"));
        }
        let mut entries = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            let partition = TopicPartition { topic: offset.topic, partition: offset.partition };
            self.check_partition(partition)?;
            if offset.offset.0 < 0 {
                return fail(ErrorCode::InvalidRequest, format!("offset {} can't be committed", offset.offset));
            }
            if offset.metadata.len() > self.limits.metadata_bytes_max {
                let (found, max) = (offset.metadata.len(), self.limits.metadata_bytes_max);
                return fail(ErrorCode::LimitExceeded, format!("metadata of {found} bytes is over the limit of {max}"));
            }
            let committed = Committed { offset: offset.offset, metadata: offset.metadata, at_ms: now_ms };
            entries.push(Entry { group: request.group.clone(), partition, committed: Some(committed) });
        }
        Ok(entries)
    }

    fn check_committer(&self, request: &CommitOffsets, committer: Committer) -> Result<(), Failure> {
        let name = &request.group;
        if committer == Committer::Pipeline {
            return Ok(());
        }
        if self.pipelines.contains(name) {
            let message = format!("group `{name}` belongs to the pipeline of that name, which commits itself");
            return fail(ErrorCode::InUse, message);
        }
        let group = self.groups.get(name);
        if request.member_id.is_empty() {
            let Some(group) = group else { return Ok(()) };
            let members = group.members.len();
            let message = format!("group `{name}` has {members} members; stop them before its offsets are set");
            return fail(ErrorCode::GroupNotEmpty, message);
        }
        let group = group.filter(|group| group.members.contains_key(request.member_id.as_str()));
        let Some(group) = group else { return Err(unknown_member(name, &request.member_id)) };
        for offset in &request.offsets {
            let key = TopicPartition { topic: offset.topic, partition: offset.partition };
            let held = group.holders.get(&key).is_some_and(|holder| {
                *holder.member == *request.member_id && (holder.since..=group.generation).contains(&request.generation)
            });
            if !held && !mutant!("stale-generation-accepted") {
                let topic = self.topic_names.get(&key.topic).map_or("a deleted topic", String::as_str);
                let (partition, generation) = (key.partition, request.generation);
                let message =
                    format!("group `{name}`: {topic}/{partition} is no longer read by generation {generation}");
                return fail(ErrorCode::StaleGeneration, message);
            }
        }
        Ok(())
    }

    fn check_partition(&self, key: TopicPartition) -> Result<(), Failure> {
        let Some(name) = self.topic_names.get(&key.topic) else {
            if mutant!("commit-for-a-deleted-topic") {
                return Ok(());
            }
            return fail(ErrorCode::UnknownTopic, format!("no topic has the id {}", key.topic));
        };
        match self.topics.get(name) {
            Some(topic) if key.partition.0 < topic.partitions => Ok(()),
            _ => fail(ErrorCode::UnknownPartition, format!("topic `{name}` has no partition {}", key.partition)),
        }
    }

    fn check_delete(&self, request: &DeleteGroup) -> Result<Vec<Entry>, Failure> {
        let name = &request.group;
        if self.pipelines.contains(name) {
            return fail(
                ErrorCode::InUse,
                format!("group `{name}` belongs to a pipeline; delete the pipeline instead"),
            );
        }
        if let Some(group) = self.groups.get(name) {
            let members = group.members.len();
            return fail(ErrorCode::GroupNotEmpty, format!("group `{name}` has {members} members; stop them first"));
        }
        if self.offsets.of(name).is_none() && !self.offsets.is_writing(name) {
            return fail(ErrorCode::UnknownGroup, format!("there is no group `{name}`"));
        }
        Ok(self.offsets.tombstones(name))
    }
}

fn check_group_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > GROUP_BYTES_MAX {
        let message = format!("group name must have 1 to {GROUP_BYTES_MAX} bytes, got {}", name.len());
        return fail(ErrorCode::InvalidRequest, message);
    }
    Ok(())
}

fn unknown_member(group: &str, member: &str) -> Failure {
    let message = format!("group `{group}` does not know member `{member}` (any more); join again");
    Failure::new(ErrorCode::UnknownMember, message)
}

fn fail<T>(code: ErrorCode, message: String) -> Result<T, Failure> {
    Err(Failure::new(code, message))
}

/// At most `bytes` of `text`, cut between characters.
fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
