//! What a run saw, in a form that a checker can go through in one pass: what was sent and what became of it,
//! what the log holds in the end, what every observer read where, and what groups committed.

use std::collections::BTreeMap;

/// Bytes of a record's value.
pub(crate) const VALUE_BYTES: usize = 100;

/// Names a record within its partition: its producer, and its number among that producer's records there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark(u64);

impl Mark {
    /// What a value carries that no producer sent.
    pub(crate) const FOREIGN: Mark = Mark(u64::MAX);
    const NUMBER_BITS: u32 = 40;

    pub(crate) fn new(producer: u16, number: usize) -> Mark {
        Mark(u64::from(producer) << Mark::NUMBER_BITS | number as u64)
    }

    pub(crate) fn producer(self) -> u16 {
        (self.0 >> Mark::NUMBER_BITS) as u16
    }

    pub(crate) fn number(self) -> usize {
        (self.0 & ((1 << Mark::NUMBER_BITS) - 1)) as usize
    }

    /// The value of the record: the mark, a check over it, a time of the sender's choice, and bytes that only this
    /// mark has, so that a value put together from two records is noticed.
    pub(crate) fn value(self, at_us: u64) -> Vec<u8> {
        let check = self.check();
        let mut value = vec![check as u8; VALUE_BYTES];
        value[..8].copy_from_slice(&self.0.to_le_bytes());
        value[8..16].copy_from_slice(&check.to_le_bytes());
        value[16..24].copy_from_slice(&at_us.to_le_bytes());
        value
    }

    /// The mark of a value and its time; [`Mark::FOREIGN`] when it is not one of ours, to the byte.
    pub(crate) fn of(value: &[u8]) -> (Mark, u64) {
        let word = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().unwrap());
        if value.len() != VALUE_BYTES {
            return (Mark::FOREIGN, 0);
        }
        let mark = Mark(word(0));
        let check = mark.check();
        let whole = word(8) == check && value[24..].iter().all(|byte| *byte == check as u8);
        if whole { (mark, word(16)) } else { (Mark::FOREIGN, 0) }
    }

    fn check(self) -> u64 {
        (self.0 ^ 0x6d69_6c6c_7374_7265).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }
}

/// What became of a record that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody told, or it failed: it may be there, once.
    Unknown,
    /// Acknowledged at this offset.
    Stored(i64),
}

/// Records at consecutive offsets, as somebody saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: i64,
    pub(crate) marks: Vec<Mark>,
}

impl Run {
    pub(crate) fn end(&self) -> i64 {
        self.start + self.marks.len() as i64
    }
}

/// By partition, in the order of time. More than one run of a partition: the observer jumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed(pub(crate) BTreeMap<u32, Vec<Run>>);

impl Observed {
    pub(crate) fn saw(&mut self, partition: u32, offset: i64, mark: Mark) {
        let runs = self.0.entry(partition).or_default();
        match runs.last_mut() {
            Some(run) if run.end() == offset => run.marks.push(mark),
            _ => runs.push(Run { start: offset, marks: vec![mark] }),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.values().flatten().map(|run| run.marks.len() as u64).sum()
    }
}

/// One topic's history.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// By producer and partition: the fate of every record sent, by its number.
    pub(crate) sent: BTreeMap<(u16, u32), Vec<Fate>>,
    /// The whole log, read when everything was quiet.
    pub(crate) log: Observed,
    /// Readers without a group: each reads every partition once, from the start.
    pub(crate) readers: Vec<Observed>,
    /// Members of one group.
    pub(crate) members: Vec<Observed>,
    /// Partition and offset, in the order in which they were seen to be committed.
    pub(crate) commits: Vec<(u32, i64)>,
    /// The output of a pipeline that passes every record on to the same partition of another topic.
    pub(crate) copy: Option<Observed>,
}
