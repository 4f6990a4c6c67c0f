//! Goes over a [`History`] once and counts what may never happen. Linear in the number of records.

use std::collections::BTreeMap;
use std::fmt;

use super::history::{Fate, History, Mark, Observed, Run};

/// Violations described in words; the others are only counted.
const EXAMPLES_MAX: usize = 20;

/// What was found. Everything but the first three counts and `repeated` is a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) records: u64,
    pub(crate) acknowledged: u64,
    /// Sent, and never told what became of them.
    pub(crate) unknown: u64,
    /// Acknowledged and not in the log.
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Behind a later record of the same producer and partition.
    pub(crate) disordered: u64,
    /// In the log, though nobody sent it.
    pub(crate) invented: u64,
    /// An offset that had two values, or an acknowledgement that named another offset.
    pub(crate) conflicting: u64,
    /// Times that a reader left out records or went back.
    pub(crate) jumped: u64,
    /// Committed offsets that went back.
    pub(crate) regressed: u64,
    /// Below the group's committed offset, and handed to none of its members.
    pub(crate) uncovered: u64,
    /// Inputs of a pipeline without an output.
    pub(crate) unprocessed: u64,
    /// Outputs of an input beyond the first: allowed, at least once is the promise.
    pub(crate) repeated: u64,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    pub(crate) fn violations(&self) -> u64 {
        self.lost
            + self.duplicated
            + self.disordered
            + self.invented
            + self.conflicting
            + self.jumped
            + self.regressed
            + self.uncovered
            + self.unprocessed
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { records, acknowledged, unknown, lost, duplicated, disordered, invented, .. } = self;
        let Verdict { conflicting, jumped, regressed, uncovered, unprocessed, repeated, examples, .. } = self;
        write!(
            f,
            "{records} records in the log, {acknowledged} acknowledged, {unknown} unknown: {lost} lost, {duplicated} \
             duplicated, {disordered} out of order, {invented} invented, {conflicting} conflicting, {jumped} jumps, \
             {regressed} commits regressed, {uncovered} uncovered, {unprocessed} without output ({repeated} outputs \
             repeated)"
        )?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

/// What the records of one producer in one partition add up to.
struct Lane<'a> {
    fates: &'a [Fate],
    /// Where each record was found; -1 while it wasn't.
    found: Vec<i64>,
    last: Option<usize>,
}

pub(crate) fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let mut lanes: BTreeMap<(u16, u32), Lane<'_>> = history
        .sent
        .iter()
        .map(|(lane, fates)| (*lane, Lane { fates, found: vec![-1; fates.len()], last: None }))
        .collect();
    check_log(&history.log, &mut lanes, &mut verdict);
    for ((producer, partition), lane) in &lanes {
        check_fates((*producer, *partition), lane, &mut verdict);
    }
    for reader in &history.readers {
        for (partition, runs) in &reader.0 {
            verdict.jumped += runs.len() as u64 - 1;
            if let [first, second, ..] = runs.as_slice() {
                verdict.example(|| format!("a reader of {partition} went from {} to {}", first.end(), second.start));
            }
        }
        compare(reader, &history.log, &mut verdict);
    }
    history.members.iter().for_each(|member| compare(member, &history.log, &mut verdict));
    check_group(history, &mut verdict);
    if let Some(copy) = &history.copy {
        check_copy(copy, &lanes, &mut verdict);
    }
    verdict
}

fn check_log(log: &Observed, lanes: &mut BTreeMap<(u16, u32), Lane<'_>>, verdict: &mut Verdict) {
    for (partition, runs) in &log.0 {
        verdict.jumped += runs.len() as u64 - 1;
        for (offset, mark) in runs.iter().flat_map(|run| (run.start..).zip(&run.marks)) {
            verdict.records += 1;
            let lane = lanes.get_mut(&(mark.producer(), *partition));
            let Some(lane) = lane.filter(|lane| mark.number() < lane.fates.len()) else {
                verdict.invented += 1;
                verdict.example(|| format!("{partition}@{offset}: {mark:?} was never sent there"));
                continue;
            };
            let number = mark.number();
            if lane.found[number] >= 0 {
                verdict.duplicated += 1;
                let first = lane.found[number];
                verdict.example(|| format!("{partition}@{offset}: record {number} is at {first} already"));
                continue;
            }
            lane.found[number] = offset;
            if lane.last.is_some_and(|last| number < last) {
                verdict.disordered += 1;
                verdict.example(|| format!("{partition}@{offset}: record {number} follows {:?}", lane.last));
            }
            lane.last = lane.last.max(Some(number));
        }
    }
}

fn check_fates((producer, partition): (u16, u32), lane: &Lane<'_>, verdict: &mut Verdict) {
    for (number, (fate, found)) in lane.fates.iter().zip(&lane.found).enumerate() {
        let Fate::Stored(offset) = *fate else {
            verdict.unknown += 1;
            continue;
        };
        verdict.acknowledged += 1;
        if *found < 0 {
            verdict.lost += 1;
            verdict.example(|| format!("{partition}@{offset}: record {number} of producer {producer} is lost"));
        } else if *found != offset {
            verdict.conflicting += 1;
            verdict.example(|| format!("record {number} was acknowledged at {partition}@{offset}, it is at {found}"));
        }
    }
}

/// Whatever was seen at an offset is there in the end.
fn compare(seen: &Observed, log: &Observed, verdict: &mut Verdict) {
    for (partition, runs) in &seen.0 {
        let held = log.0.get(partition).map_or(&[][..], Vec::as_slice);
        for run in runs {
            for (offset, mark) in (run.start..).zip(&run.marks) {
                let found = at(held, offset);
                if found != Some(*mark) {
                    verdict.conflicting += 1;
                    verdict.example(|| format!("{partition}@{offset} was {mark:?}, it is {found:?}"));
                }
            }
        }
    }
}

/// The record at an offset; the log of a topic is one run unless it is broken.
fn at(runs: &[Run], offset: i64) -> Option<Mark> {
    let run = runs.iter().find(|run| (run.start..run.end()).contains(&offset))?;
    run.marks.get(usize::try_from(offset - run.start).ok()?).copied()
}

fn check_group(history: &History, verdict: &mut Verdict) {
    let mut committed: BTreeMap<u32, i64> = BTreeMap::new();
    for (partition, offset) in &history.commits {
        let before = committed.entry(*partition).or_insert(*offset);
        if *offset < *before {
            verdict.regressed += 1;
            verdict.example(|| format!("the committed offset of {partition} went from {before} back to {offset}"));
        }
        *before = (*before).max(*offset);
    }
    for (partition, end) in committed {
        let runs = history.members.iter().flat_map(|member| member.0.get(&partition).into_iter().flatten());
        let mut handed: Vec<(i64, i64)> = runs.map(|run| (run.start, run.end())).collect();
        handed.sort_unstable();
        let mut covered = 0;
        for (start, run_end) in handed {
            if start.min(end) > covered {
                verdict.uncovered += (start.min(end) - covered) as u64;
                verdict.example(|| format!("{covered} to {start} of {partition} were committed, not handed out"));
            }
            covered = covered.max(run_end);
        }
        verdict.uncovered += u64::try_from(end - covered).unwrap_or(0);
    }
}

fn check_copy(copy: &Observed, lanes: &BTreeMap<(u16, u32), Lane<'_>>, verdict: &mut Verdict) {
    let mut outputs: BTreeMap<(u16, u32), Vec<bool>> =
        lanes.iter().map(|(lane, inputs)| (*lane, vec![false; inputs.fates.len()])).collect();
    let mut furthest: BTreeMap<(u16, u32), usize> = BTreeMap::new();
    for (partition, mark) in copy.0.iter().flat_map(|(partition, runs)| {
        runs.iter().flat_map(move |run| run.marks.iter().map(move |mark| (*partition, *mark)))
    }) {
        let lane = (mark.producer(), partition);
        let input = lanes.get(&lane).and_then(|inputs| inputs.found.get(mark.number()));
        let Some((_, done)) = input.filter(|found| **found >= 0).zip(outputs.get_mut(&lane)) else {
            verdict.invented += 1;
            verdict.example(|| format!("an output of partition {partition} is none of an input: {mark:?}"));
            continue;
        };
        if std::mem::replace(&mut done[mark.number()], true) {
            verdict.repeated += 1;
            continue;
        }
        // Whole stretches may be repeated, but what comes for the first time comes in order.
        let next = furthest.entry(lane).or_insert(mark.number());
        if mark.number() < *next {
            verdict.disordered += 1;
            verdict.example(|| format!("the output of {mark:?} came behind that of a later record"));
        }
        *next = (*next).max(mark.number());
    }
    for (lane, inputs) in lanes {
        let missing = inputs.found.iter().zip(&outputs[lane]).filter(|(found, done)| **found >= 0 && !**done);
        verdict.unprocessed += missing.count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(runs: &[(i64, &[usize])]) -> Observed {
        let run = |(start, numbers): &(i64, &[usize])| Run {
            start: *start,
            marks: numbers.iter().map(|n| mark(*n)).collect(),
        };
        Observed([(0, runs.iter().map(run).collect())].into())
    }

    fn mark(number: usize) -> Mark {
        Mark::new(7, number)
    }

    /// Four records, the last not acknowledged; everybody saw what is right.
    fn good() -> History {
        let fates = vec![Fate::Stored(0), Fate::Stored(1), Fate::Stored(2), Fate::Unknown];
        History {
            sent: [((7, 0), fates)].into(),
            log: observed(&[(0, &[0, 1, 2, 3])]),
            readers: vec![observed(&[(0, &[0, 1, 2, 3])])],
            members: vec![observed(&[(0, &[0, 1])]), observed(&[(1, &[1, 2, 3])])],
            commits: vec![(0, 1), (0, 1), (0, 4)],
            copy: Some(observed(&[(0, &[0, 1, 0, 1, 2, 3])])),
        }
    }

    /// What one mistake in a good history is called, and how often it is counted.
    fn caught(expected: &str, spoil: impl FnOnce(&mut History)) {
        let mut history = good();
        spoil(&mut history);
        let verdict = check(&history);
        let counts = [
            ("lost", verdict.lost),
            ("duplicated", verdict.duplicated),
            ("disordered", verdict.disordered),
            ("invented", verdict.invented),
            ("conflicting", verdict.conflicting),
            ("jumped", verdict.jumped),
            ("regressed", verdict.regressed),
            ("uncovered", verdict.uncovered),
            ("unprocessed", verdict.unprocessed),
        ];
        let found: Vec<String> =
            counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
        assert_eq!(found.join(", "), expected, "{verdict}");
    }

    #[test]
    fn a_good_history_passes() {
        caught("", |_| {});
        let verdict = check(&good());
        assert_eq!((verdict.records, verdict.acknowledged, verdict.unknown, verdict.repeated), (4, 3, 1, 2));
        // A record that was never acknowledged may also be missing.
        caught("", |history| {
            history.log = observed(&[(0, &[0, 1, 2])]);
            history.readers = vec![observed(&[(0, &[0, 1])])];
            history.members = vec![observed(&[(0, &[0, 1, 2])])];
            history.commits = vec![(0, 3)];
            history.copy = Some(observed(&[(0, &[0, 1, 2])]));
        });
    }

    #[test]
    fn every_kind_of_violation_is_seen() {
        let only = |spoil: fn(&mut History)| {
            move |history: &mut History| {
                *history = History { sent: history.sent.clone(), log: history.log.clone(), ..History::default() };
                spoil(history);
            }
        };
        caught("lost 1", only(|history| history.log = observed(&[(0, &[0, 1])])));
        caught("duplicated 1", only(|history| history.log = observed(&[(0, &[0, 1, 2, 2, 3])])));
        caught("disordered 1, conflicting 2", only(|history| history.log = observed(&[(0, &[0, 2, 1, 3])])));
        caught("invented 1", only(|history| history.log = observed(&[(0, &[0, 1, 2, 3, 9])])));
        caught("conflicting 1", only(|history| history.readers = vec![observed(&[(0, &[0, 1, 3])])]));
        caught("conflicting 1", only(|history| history.readers = vec![observed(&[(0, &[0, 1, 2, 3, 4])])]));
        caught("jumped 1", only(|history| history.readers = vec![observed(&[(0, &[0]), (2, &[2])])]));
        caught("jumped 1", only(|history| history.readers = vec![observed(&[(0, &[0, 1]), (1, &[1])])]));
        caught("regressed 1", |history| history.commits = vec![(0, 4), (0, 3), (0, 4)]);
        caught("uncovered 1", |history| history.members[1] = observed(&[(3, &[3])]));
        caught("uncovered 1", |history| history.members[1] = observed(&[(1, &[1, 2])]));
        caught("unprocessed 1", |history| history.copy = Some(observed(&[(0, &[0, 1, 3])])));
        caught("disordered 1", |history| history.copy = Some(observed(&[(0, &[0, 2, 1, 3])])));
        caught("invented 1", |history| history.copy = Some(observed(&[(0, &[0, 1, 2, 3, 4])])));
        caught("lost 3, conflicting 9", |history| {
            history.log = Observed::default();
            history.copy = None;
        });
    }

    #[test]
    fn a_value_is_only_its_own() {
        let value = mark(5).value(77);
        assert_eq!(Mark::of(&value), (mark(5), 77));
        for at in (0..16).chain(24..value.len()) {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert_eq!(Mark::of(&damaged).0, Mark::FOREIGN, "byte {at}");
        }
        assert_eq!(Mark::of(&value[1..]).0, Mark::FOREIGN);
    }
}
