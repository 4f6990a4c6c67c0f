//! What must hold, whatever goes wrong, as small machines that are told what was seen and answer with what is
//! wrong about it. They know nothing of the broker: histories that are known to be bad test them.

mod pipeline;

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{TopicId, TopicPartition};

pub use pipeline::{Input, Output, check_pipeline};

/// A sentence about what is wrong.
pub type Violation = String;

/// One record as it was read, whoever read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub value: Vec<u8>,
}

/// An offset names one record for ever, and what was read once is there for ever.
#[derive(Debug, Default)]
pub struct Offsets {
    seen: BTreeMap<(TopicPartition, i64), Vec<u8>>,
    ends: BTreeMap<TopicPartition, i64>,
}

impl Offsets {
    pub fn read(&mut self, at: TopicPartition, record: &Seen) -> Result<(), Violation> {
        let end = self.ends.entry(at).or_default();
        *end = (*end).max(record.offset + 1);
        match self.seen.get(&(at, record.offset)) {
            Some(before) if *before != record.value => Err(format!(
                "{}@{} was {} and is {}",
                show(at),
                record.offset,
                String::from_utf8_lossy(before),
                String::from_utf8_lossy(&record.value)
            )),
            Some(_) => Ok(()),
            None => {
                self.seen.insert((at, record.offset), record.value.clone());
                Ok(())
            }
        }
    }

    /// The values of the records `from` to `to`, as far as anybody read them.
    pub fn seen(&self, at: TopicPartition, (from, to): (i64, i64)) -> Vec<&[u8]> {
        self.seen.range((at, from)..(at, to)).map(|(_, value)| &value[..]).collect()
    }

    /// A promise that everything before `end` is durable.
    pub fn promised(&mut self, at: TopicPartition, end: i64) {
        let known = self.ends.entry(at).or_default();
        *known = (*known).max(end);
    }

    /// A log was opened again and ends here.
    pub fn reopened(&self, at: TopicPartition, end: i64) -> Result<(), Violation> {
        match self.ends.get(&at) {
            Some(known) if end < *known => {
                Err(format!("{} ends at {end} after a restart, although {known} was acknowledged or read", show(at)))
            }
            _ => Ok(()),
        }
    }

    /// What lay behind `end` was lost, and might be: its offsets are given anew. Whether anything was.
    pub fn cut(&mut self, at: TopicPartition, end: i64) -> bool {
        self.seen.retain(|(own, offset), _| *own != at || *offset < end);
        let known = self.ends.entry(at).or_default();
        let lost = *known > end;
        *known = (*known).min(end);
        lost
    }
}

/// What producers sent to one partition and what they were told, by producer and number.
#[derive(Debug, Default)]
pub struct Sent {
    lanes: BTreeMap<(usize, bool), Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    /// The first record that was sent here, and the one after the last.
    first: Option<u64>,
    sent: u64,
    /// Number of a record and the offset it was acknowledged at.
    acked: BTreeMap<u64, i64>,
    /// Some of it may be there twice or late.
    lost: bool,
}

impl Sent {
    /// `idempotent`: the producer's records are there once, not at least once.
    pub fn sent(&mut self, producer: usize, idempotent: bool, number: u64) {
        let lane = self.lanes.entry((producer, idempotent)).or_default();
        lane.sent = lane.sent.max(number + 1);
        lane.first = Some(lane.first.map_or(number, |first| first.min(number)));
    }

    /// What lay from `end` on was lost, and might be, and with it what the broker knew of its producers: a late copy
    /// of a request is as good as new.
    pub fn cut(&mut self, end: i64) {
        for lane in self.lanes.values_mut() {
            lane.acked.retain(|_, offset| *offset < end);
            lane.lost = true;
        }
    }

    pub fn acked(&mut self, producer: usize, idempotent: bool, number: u64, offset: i64) {
        self.lanes.entry((producer, idempotent)).or_default().acked.insert(number, offset);
    }

    /// Compares with everything that the partition holds from `start` on: producer, number and offset of each
    /// record, in order.
    pub fn check(&self, start: i64, found: &[(usize, u64, i64)]) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for ((producer, idempotent), lane) in &self.lanes {
            let own: Vec<(u64, i64)> =
                found.iter().filter(|(by, ..)| by == producer).map(|(_, number, offset)| (*number, *offset)).collect();
            check_lane(*producer, *idempotent && !lane.lost, lane, (start, &own), &mut wrong);
        }
        let known: BTreeSet<usize> = self.lanes.keys().map(|(producer, _)| *producer).collect();
        if let Some((producer, number, offset)) = found.iter().find(|(producer, ..)| !known.contains(producer)) {
            wrong.push(format!("record {number} of producer {producer} at {offset} was never sent"));
        }
        wrong
    }
}

fn check_lane(
    producer: usize,
    idempotent: bool,
    lane: &Lane,
    (start, own): (i64, &[(u64, i64)]),
    wrong: &mut Vec<Violation>,
) {
    let mut at: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (number, offset) in own {
        at.entry(*number).or_default().push(*offset);
        if *number >= lane.sent || lane.first.is_none_or(|first| *number < first) {
            wrong.push(format!("record {number} of producer {producer} at {offset} was never sent"));
        }
    }
    for (number, offset) in lane.acked.iter().filter(|(_, offset)| **offset >= start) {
        match at.get(number) {
            None => wrong.push(format!("record {number} of producer {producer}, acknowledged at {offset}, is lost")),
            Some(found) if !found.contains(offset) => {
                wrong.push(format!("record {number} of producer {producer} is at {found:?}, not at {offset}"));
            }
            Some(_) => {}
        }
    }
    if idempotent {
        for (number, found) in at.iter().filter(|(_, found)| found.len() > 1) {
            wrong.push(format!("record {number} of idempotent producer {producer} is there at {found:?}"));
        }
    }
    // Of a record that may be repeated, the first time counts: repetitions of a batch come as a whole.
    let mut last = None;
    let mut first_times = BTreeSet::new();
    for (number, offset) in own.iter().filter(|(number, _)| first_times.insert(*number)) {
        if last.is_some_and(|last| last > *number) && idempotent {
            wrong.push(format!("record {number} of producer {producer} at {offset} stands behind a later one"));
        }
        last = Some(*number);
    }
}

/// Committed offsets never go back.
#[derive(Debug, Default)]
pub struct Commits {
    durable: BTreeMap<(String, TopicPartition), i64>,
}

impl Commits {
    /// A commit was acknowledged.
    pub fn acked(&mut self, group: &str, at: TopicPartition, offset: i64) -> Result<(), Violation> {
        let known = self.durable.entry((group.to_owned(), at)).or_insert(offset);
        if offset < *known {
            return Err(format!("group {group} committed {} at {offset} after {known}", show(at)));
        }
        *known = offset;
        Ok(())
    }

    /// The broker says what is committed.
    pub fn seen(&self, group: &str, at: TopicPartition, offset: Option<i64>) -> Result<(), Violation> {
        match self.durable.get(&(group.to_owned(), at)) {
            Some(known) if offset.is_none_or(|offset| offset < *known) => {
                let found = offset.map_or("nothing".to_owned(), |offset| offset.to_string());
                Err(format!("group {group} had committed {} at {known}; now it is {found}", show(at)))
            }
            _ => Ok(()),
        }
    }

    pub fn of(&self, group: &str, at: TopicPartition) -> Option<i64> {
        self.durable.get(&(group.to_owned(), at)).copied()
    }

    /// What a group has committed.
    pub fn partitions(&self, group: &str) -> Vec<TopicPartition> {
        self.durable.keys().filter(|(own, _)| own == group).map(|(_, at)| *at).collect()
    }
}

/// Who reads which partition of a group: one member at a time.
#[derive(Debug, Default)]
pub struct Owners {
    owners: BTreeMap<(String, TopicPartition), BTreeMap<usize, u64>>,
}

impl Owners {
    /// `member` reads it from `now` on, at most until its session ends.
    pub fn owns(
        &mut self,
        (group, at): (&str, TopicPartition),
        member: usize,
        now: u64,
        until: u64,
    ) -> Result<(), Violation> {
        let owners = self.owners.entry((group.to_owned(), at)).or_default();
        owners.insert(member, until);
        match owners.iter().find(|(other, until)| **other != member && now < **until) {
            Some((other, _)) => Err(format!("members {other} and {member} of group {group} both read {}", show(at))),
            None => Ok(()),
        }
    }

    /// The broker is gone, and with it every connection: nobody reads, and nobody is remembered.
    pub fn all_let_go(&mut self) {
        self.owners.clear();
    }

    pub fn lets_go(&mut self, group: &str, at: TopicPartition, member: usize) {
        if let Some(owners) = self.owners.get_mut(&(group.to_owned(), at)) {
            owners.remove(&member);
        }
    }
}

/// A group's members together read every record, and each from where the group left off.
#[derive(Debug, Default)]
pub struct Coverage {
    ends: BTreeMap<(String, TopicPartition), i64>,
}

impl Coverage {
    /// Records from `from` to `to` were read, in order; those before `start` were deleted.
    pub fn read(
        &mut self,
        (group, at): (&str, TopicPartition),
        start: i64,
        (from, to): (i64, i64),
    ) -> Result<(), Violation> {
        let end = self.ends.entry((group.to_owned(), at)).or_default();
        let before = *end;
        *end = before.max(to);
        if from > before.max(start) {
            return Err(format!("group {group} read {} from {from} on, but only to {before} before", show(at)));
        }
        Ok(())
    }

    /// A commit says that everything before `offset` was read.
    pub fn committed(&self, (group, at): (&str, TopicPartition), start: i64, offset: i64) -> Result<(), Violation> {
        let end = self.ends.get(&(group.to_owned(), at)).copied().unwrap_or(0);
        if offset > end.max(start) {
            return Err(format!("group {group} committed {} at {offset} and read to {end}", show(at)));
        }
        Ok(())
    }

    pub fn end(&self, group: &str, at: TopicPartition) -> i64 {
        self.ends.get(&(group.to_owned(), at)).copied().unwrap_or(0)
    }
}

/// Topics by their ids: one that was deleted never comes back, and one that was made stays.
#[derive(Debug, Default)]
pub struct Lives {
    made: BTreeSet<TopicId>,
    /// Somebody asked for it, and may not have heard whether it happened.
    deleting: BTreeSet<TopicId>,
    dead: BTreeSet<TopicId>,
}

impl Lives {
    pub fn made(&mut self, id: TopicId) -> Result<(), Violation> {
        if self.dead.contains(&id) || !self.made.insert(id) {
            return Err(format!("a topic was made with the id {:x}, which another had", id.0));
        }
        Ok(())
    }

    pub fn deleting(&mut self, id: TopicId) {
        self.deleting.insert(id);
    }

    pub fn deleted(&mut self, id: TopicId) {
        self.dead.insert(id);
    }

    pub fn is_dead(&self, id: TopicId) -> bool {
        self.dead.contains(&id)
    }

    /// Whether any topic had its life.
    pub fn any_died(&self) -> bool {
        !self.dead.is_empty()
    }

    /// The broker was started and has these topics.
    pub fn restarted(&mut self, there: &BTreeSet<TopicId>) -> Result<(), Violation> {
        if let Some(id) = there.iter().find(|id| self.dead.contains(id)) {
            return Err(format!("topic {:x} was deleted and is there again", id.0));
        }
        self.made.extend(there);
        for id in self.made.difference(there).filter(|id| !self.dead.contains(id)) {
            if !self.deleting.contains(id) {
                return Err(format!("topic {:x} is gone, and nobody deleted it", id.0));
            }
        }
        let gone: Vec<TopicId> = self.made.difference(there).copied().collect();
        self.dead.extend(gone);
        Ok(())
    }
}

pub(crate) fn show(at: TopicPartition) -> String {
    format!("{:x}/{}", at.topic.0, at.partition.0)
}

#[cfg(test)]
mod tests {
    use millstream_protocol::{PartitionIndex, TopicId};

    use super::*;

    const AT: TopicPartition = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };

    fn seen(offset: i64, value: &str) -> Seen {
        Seen { offset, value: value.as_bytes().to_vec() }
    }

    #[test]
    fn an_offset_with_two_records_is_noticed() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.read(AT, &seen(3, "a")), Ok(()));
        assert_eq!(offsets.read(AT, &seen(3, "a")), Ok(()));
        assert!(offsets.read(AT, &seen(3, "b")).is_err());
        assert_eq!(offsets.reopened(AT, 4), Ok(()));
        assert!(offsets.reopened(AT, 3).is_err());
        offsets.promised(AT, 6);
        assert!(offsets.reopened(AT, 5).is_err());
    }

    /// One producer sent 0 to 3 and was told that 0 to 2 are at 10 to 12.
    fn check_sent(idempotent: bool, start: i64, found: &[(u64, i64)], well: bool) {
        let mut sent = Sent::default();
        (0..4).for_each(|number| sent.sent(7, idempotent, number));
        (0..3).for_each(|number| sent.acked(7, idempotent, number, 10 + number as i64));
        let found: Vec<_> = found.iter().map(|(number, offset)| (7, *number, *offset)).collect();
        let wrong = sent.check(start, &found);
        assert_eq!(wrong.is_empty(), well, "{found:?}: {wrong:?}");
    }

    #[test]
    fn lost_repeated_invented_and_displaced_records_are_noticed() {
        for idempotent in [false, true] {
            check_sent(idempotent, 0, &[(0, 10), (1, 11), (2, 12)], true);
            check_sent(idempotent, 0, &[(0, 10), (1, 11), (2, 12), (3, 13)], true);
            check_sent(idempotent, 11, &[(1, 11), (2, 12), (3, 13)], true);
            check_sent(idempotent, 0, &[(0, 10), (2, 12)], false);
            check_sent(idempotent, 0, &[(0, 10), (1, 11), (2, 13)], false);
            check_sent(idempotent, 0, &[(0, 10), (1, 11), (2, 12), (4, 13)], false);
        }
        let twice = [(0, 10), (1, 11), (2, 12), (1, 13)];
        check_sent(false, 0, &twice, true);
        check_sent(true, 0, &twice, false);
        check_sent(true, 10, &[(3, 9), (0, 10), (1, 11), (2, 12)], false);
        assert!(!Sent::default().check(0, &[(1, 1, 1)]).is_empty());
        let mut sent = Sent::default();
        sent.sent(7, true, 5);
        assert!(!sent.check(0, &[(7, 4, 0), (7, 5, 1)]).is_empty(), "4 was sent to an earlier topic of the name");
    }

    #[test]
    fn what_may_be_lost_is_forgotten_and_nothing_else() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.read(AT, &seen(3, "a")), Ok(()));
        offsets.promised(AT, 6);
        assert!(!offsets.cut(AT, 6));
        assert!(offsets.cut(AT, 3));
        assert_eq!(offsets.reopened(AT, 3), Ok(()));
        assert_eq!(offsets.read(AT, &seen(3, "b")), Ok(()), "its offset was given anew");
        let mut sent = Sent::default();
        for number in 0..2 {
            sent.sent(7, true, number);
            sent.acked(7, true, number, 10 + number as i64);
        }
        sent.cut(11);
        assert_eq!(sent.check(0, &[(7, 0, 10)]), Vec::<Violation>::new());
        assert!(!sent.check(0, &[]).is_empty());
    }

    #[test]
    fn topics_that_return_or_vanish_are_noticed() {
        let [one, two, three] = [1, 2, 3].map(TopicId);
        let mut lives = Lives::default();
        assert_eq!((lives.made(one), lives.made(two)), (Ok(()), Ok(())));
        assert!(lives.made(two).is_err());
        lives.deleting(one);
        assert_eq!(lives.restarted(&[one, two, three].into()), Ok(()), "it may not have happened");
        lives.deleted(one);
        assert!(lives.is_dead(one) && lives.made(one).is_err());
        assert!(lives.restarted(&[one, two, three].into()).is_err());
        assert!(lives.restarted(&[two].into()).is_err(), "three is gone");
        lives.deleting(three);
        assert_eq!(lives.restarted(&[two].into()), Ok(()));
        assert!(lives.is_dead(three) && lives.any_died());
    }

    #[test]
    fn a_commit_that_goes_back_is_noticed() {
        let mut commits = Commits::default();
        assert_eq!(commits.acked("g", AT, 5), Ok(()));
        assert_eq!(commits.acked("g", AT, 7), Ok(()));
        assert_eq!(commits.acked("h", AT, 1), Ok(()));
        assert_eq!(commits.seen("g", AT, Some(7)), Ok(()));
        assert!(commits.seen("g", AT, Some(6)).is_err());
        assert!(commits.seen("g", AT, None).is_err());
        assert_eq!(commits.seen("i", AT, None), Ok(()));
        assert!(commits.acked("g", AT, 6).is_err());
    }

    #[test]
    fn two_readers_are_noticed() {
        let mut owners = Owners::default();
        assert_eq!(owners.owns(("g", AT), 1, 10, 100), Ok(()));
        assert_eq!(owners.owns(("g", AT), 1, 50, 150), Ok(()));
        assert_eq!(owners.owns(("h", AT), 2, 50, 150), Ok(()));
        assert!(owners.owns(("g", AT), 2, 60, 160).is_err());
        owners.lets_go("g", AT, 2);
        assert_eq!(owners.owns(("g", AT), 3, 150, 200), Ok(()), "the first one's session is over");
        owners.lets_go("g", AT, 3);
        assert_eq!(owners.owns(("g", AT), 1, 151, 200), Ok(()));
    }

    #[test]
    fn a_gap_in_what_a_group_read_is_noticed() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.read(("g", AT), 0, (0, 5)), Ok(()));
        assert_eq!(coverage.read(("g", AT), 0, (3, 8)), Ok(()));
        assert_eq!(coverage.committed(("g", AT), 0, 8), Ok(()));
        assert!(coverage.committed(("g", AT), 0, 9).is_err());
        assert_eq!(coverage.read(("g", AT), 10, (10, 12)), Ok(()), "what lay between was deleted");
        assert!(coverage.read(("g", AT), 0, (13, 14)).is_err());
    }
}
