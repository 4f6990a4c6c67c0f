//! What must hold, whatever goes wrong, as small machines that are told what was seen and answer with what is
//! wrong about it. They know nothing of the broker: histories that are known to be bad test them.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::TopicPartition;

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
}

/// What producers sent to one partition and what they were told, by producer and number.
#[derive(Debug, Default)]
pub struct Sent {
    lanes: BTreeMap<(usize, bool), Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    sent: u64,
    /// Number of a record and the offset it was acknowledged at.
    acked: BTreeMap<u64, i64>,
}

impl Sent {
    /// `idempotent`: the producer's records are there once, not at least once.
    pub fn sent(&mut self, producer: usize, idempotent: bool, number: u64) {
        let lane = self.lanes.entry((producer, idempotent)).or_default();
        lane.sent = lane.sent.max(number + 1);
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
            check_lane(*producer, *idempotent, lane, (start, &own), &mut wrong);
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
        if *number >= lane.sent {
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

/// An input record of a pipeline, and what it should have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub value: Vec<u8>,
    /// Copies of the result; 0 for poison, and for what is dropped.
    pub results: usize,
    pub poison: bool,
}

/// A result or a dead letter, by the input record it says it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub origin: (String, u32, i64),
    pub value: Vec<u8>,
    /// Where it was written.
    pub at: (u32, i64),
}

/// At-least-once: every input gives its results or its dead letter, in order; nothing is invented.
/// `inputs` by topic, partition and offset; `outputs` and `letters` in the order of each partition.
pub fn check_pipeline(
    inputs: &BTreeMap<(String, u32, i64), Input>,
    outputs: &[Output],
    letters: &[Output],
) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let count = |all: &[Output]| {
        let mut counts: BTreeMap<(String, u32, i64), usize> = BTreeMap::new();
        all.iter().for_each(|output| *counts.entry(output.origin.clone()).or_default() += 1);
        counts
    };
    let (results, dead) = (count(outputs), count(letters));
    for (origin, input) in inputs {
        let (made, buried) = (results.get(origin).copied().unwrap_or(0), dead.get(origin).copied().unwrap_or(0));
        let shown = format!("{}/{}@{} ({})", origin.0, origin.1, origin.2, String::from_utf8_lossy(&input.value));
        if made < input.results {
            wrong.push(format!("{shown} has {made} results of {}", input.results));
        }
        if input.results == 0 && made > 0 {
            wrong.push(format!("{shown} has {made} results and should have none"));
        }
        if input.poison != (buried > 0) {
            wrong.push(format!("{shown} has {buried} dead letters"));
        }
    }
    for output in outputs {
        match inputs.get(&output.origin) {
            Some(input) if output.value.starts_with(&input.value) => {}
            found => wrong.push(format!("output {:?} is not made of {found:?}", output)),
        }
    }
    for letter in letters {
        match inputs.get(&letter.origin) {
            Some(input) if letter.value == input.value => {}
            found => wrong.push(format!("dead letter {letter:?} is not {found:?}")),
        }
    }
    check_order(outputs, "results", &mut wrong);
    check_order(letters, "dead letters", &mut wrong);
    wrong
}

/// Of each input partition, in each output partition: the first times of its records ascend, and a repetition
/// begins with records that were done again in order.
fn check_order(all: &[Output], what: &str, wrong: &mut Vec<Violation>) {
    let mut newest: BTreeMap<(&str, u32, u32), i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for output in all {
        let (topic, partition, offset) = &output.origin;
        let lane = (topic.as_str(), *partition, output.at.0);
        if !seen.insert((lane, *offset)) {
            continue;
        }
        let newest = newest.entry(lane).or_insert(*offset);
        if *offset < *newest {
            wrong.push(format!("{what} of {topic}/{partition}: {offset} stands behind {newest}"));
        }
        *newest = *offset;
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

    /// `w` gives one result, `t` two, `p` is poison; outputs and letters as offsets.
    fn pipeline(inputs: &str, outputs: &[i64], letters: &[i64]) -> bool {
        let input = |(offset, kind): (usize, char)| {
            let results = match kind {
                'w' => 1,
                't' => 2,
                _ => 0,
            };
            let input = Input { value: vec![kind as u8], results, poison: kind == 'p' };
            (("in".to_owned(), 0, offset as i64), input)
        };
        let inputs: BTreeMap<_, _> = inputs.chars().enumerate().map(input).collect();
        let made = |offset: &i64, mark: &[u8]| {
            let origin = ("in".to_owned(), 0, *offset);
            let value = inputs.get(&origin).map_or(b"?".to_vec(), |input| input.value.clone());
            Output { value: [&value[..], mark].concat(), origin, at: (0, 0) }
        };
        let outputs: Vec<_> = outputs.iter().map(|offset| made(offset, b"|v1")).collect();
        let letters: Vec<_> = letters.iter().map(|offset| made(offset, b"")).collect();
        check_pipeline(&inputs, &outputs, &letters).is_empty()
    }

    #[test]
    fn results_lost_invented_and_out_of_order_are_noticed() {
        assert!(pipeline("wptw", &[0, 2, 2, 3], &[1]));
        assert!(pipeline("wptw", &[0, 2, 2, 0, 2, 2, 3], &[1, 1]), "done again after a crash");
        assert!(!pipeline("wptw", &[0, 2, 2], &[1]), "a result is lost");
        assert!(!pipeline("wptw", &[0, 2, 3], &[1]), "one of two results is lost");
        assert!(pipeline("wptw", &[0, 2, 0, 2, 2, 3], &[1]), "half of it was done when the power went");
        assert!(!pipeline("wptw", &[0, 2, 2, 3], &[]), "a dead letter is lost");
        assert!(!pipeline("wptw", &[0, 1, 2, 2, 3], &[1]), "a poison record has a result");
        assert!(!pipeline("wptw", &[0, 2, 2, 3], &[1, 3]), "a good record has a dead letter");
        assert!(!pipeline("wptw", &[0, 3, 2, 2], &[1]), "out of order");
        assert!(!pipeline("wptw", &[0, 2, 2, 3, 4], &[1]), "invented");
        assert!(!pipeline("pp", &[], &[1, 0]), "dead letters out of order");
    }
}
