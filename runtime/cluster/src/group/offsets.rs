//! Committed offsets of all groups: what is durable, and the writes on their way. Only durable offsets are
//! shown; a snapshot for the log counts those on their way too, for they lie before it in the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_protocol::{Failure, TopicId, TopicPartition, mutant};

use super::codec::{Committed, Entry};
use super::{Ticket, WriteId};

type ByPartition = BTreeMap<TopicPartition, Committed>;

#[derive(Default)]
pub(super) struct Offsets {
    groups: BTreeMap<String, ByPartition>,
    writes: VecDeque<Write>,
    next: WriteId,
}

struct Write {
    id: WriteId,
    ticket: Ticket,
    entries: Vec<Entry>,
}

impl Offsets {
    /// The group's durable offsets; `None` when it has none.
    pub(super) fn of(&self, group: &str) -> Option<&ByPartition> {
        self.groups.get(group)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &String> {
        self.groups.keys()
    }

    /// Whether a write of the group is on its way.
    pub(super) fn is_writing(&self, group: &str) -> bool {
        self.writes.iter().any(|write| write.entries.iter().any(|entry| entry.group == group))
    }

    /// Whether a write of the group for this partition is on its way.
    pub(super) fn is_writing_of(&self, group: &str, key: &TopicPartition) -> bool {
        let mut entries = self.writes.iter().flat_map(|write| &write.entries);
        entries.any(|entry| entry.partition == *key && entry.group == group)
    }

    /// The entries that forget everything the group has or is about to have.
    pub(super) fn tombstones(&self, group: &str) -> Vec<Entry> {
        let durable = self.of(group).into_iter().flat_map(BTreeMap::keys).copied();
        let coming = self.writes.iter().flat_map(|write| &write.entries).filter(|entry| entry.group == group);
        let keys: BTreeSet<TopicPartition> = durable.chain(coming.map(|entry| entry.partition)).collect();
        keys.into_iter().map(|partition| Entry { group: group.to_owned(), partition, committed: None }).collect()
    }

    /// Numbers a write; its entries count once [`Offsets::persisted`] says so.
    pub(super) fn begin(&mut self, ticket: Ticket, entries: Vec<Entry>) -> WriteId {
        let id = self.next;
        self.next.0 += 1;
        self.writes.push_back(Write { id, ticket, entries });
        id
    }

    /// The tickets whose writes are durable now, in order.
    pub(super) fn persisted(&mut self, up_to: WriteId) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while let Some(write) = self.writes.pop_front_if(|write| write.id <= up_to) {
            write.entries.into_iter().for_each(|entry| self.apply(entry));
            tickets.push(write.ticket);
        }
        tickets
    }

    /// Takes a failed write back.
    pub(super) fn failed(&mut self, id: WriteId, failure: Failure) -> Option<(Ticket, Failure)> {
        let index = self.writes.iter().position(|write| write.id == id)?;
        self.writes.remove(index).map(|write| (write.ticket, failure))
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        let Some(committed) = entry.committed else {
            if let Some(offsets) = self.groups.get_mut(&entry.group) {
                offsets.remove(&entry.partition);
                if offsets.is_empty() {
                    self.groups.remove(&entry.group);
                }
            }
            return;
        };
        self.groups.entry(entry.group).or_default().insert(entry.partition, committed);
    }

    /// Keeps offsets of these topics only; what is on its way for another counts for nothing when it is durable.
    pub(super) fn forget_topics(&mut self, keep: impl Fn(TopicId) -> bool) {
        if mutant!("offsets-outlive-their-topic") {
            return;
        }
        self.writes.iter_mut().for_each(|write| write.entries.retain(|entry| keep(entry.partition.topic)));
        self.groups.retain(|_, offsets| {
            offsets.retain(|key, _| keep(key.topic));
            !offsets.is_empty()
        });
    }

    pub(super) fn snapshot(&self) -> Vec<Entry> {
        let mut all: BTreeMap<(&str, TopicPartition), &Committed> = BTreeMap::new();
        for (group, offsets) in &self.groups {
            all.extend(offsets.iter().map(|(key, committed)| ((group.as_str(), *key), committed)));
        }
        let writes = self.writes.iter().filter(|_| !mutant!("snapshot-forgets-writes"));
        for entry in writes.flat_map(|write| &write.entries) {
            let key = (entry.group.as_str(), entry.partition);
            match &entry.committed {
                Some(committed) => all.insert(key, committed),
                None => all.remove(&key),
            };
        }
        let entry = |((group, partition), committed): ((&str, TopicPartition), &Committed)| Entry {
            group: group.to_owned(),
            partition,
            committed: Some(committed.clone()),
        };
        all.into_iter().map(entry).collect()
    }
}
