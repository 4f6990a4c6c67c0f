//! The reading at the end: everything that is in the logs against everything that was sent, acknowledged, read,
//! committed and made.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_pipeline::dead_letter;
use millstream_protocol::batch::decode_batches;
use millstream_protocol::{Columns, Offset, Row, TopicPartition};

use super::checks::{Input, Output, Seen, check_pipeline, show};
use super::guest::{Fare, is_redriven};
use super::history::History;
use super::node::Node;
use super::schedule::{
    BRIEF, CHECKS, FAST, GROUPS, LETTERS, ORDERS, PAYMENTS, PIPELINES, PRICES, PRODUCED, RESULTS, RETAINED, VERDICTS,
};
use crate::chance::Chance;

/// Timestamps and offsets looked up per partition.
const LOOKUPS: usize = 12;

/// A record as the audit found it.
struct Found {
    offset: i64,
    timestamp: i64,
    value: Vec<u8>,
    /// Where it says it comes from.
    origin: Option<(String, u32, i64)>,
    redriven: bool,
}

pub(crate) fn audit(node: &Node, history: &mut History, chance: &mut Chance) {
    let mut contents: BTreeMap<(&str, u32), Vec<Found>> = BTreeMap::new();
    for topic in [ORDERS, RETAINED, FAST, BRIEF, PAYMENTS, RESULTS, LETTERS, VERDICTS] {
        for at in node.partitions(topic) {
            match read_all(node, at, topic == LETTERS) {
                Ok(found) => {
                    check_contents(at, &found, history);
                    look_up(node, at, &found, (history, chance));
                    contents.insert((topic, at.partition.0), found);
                }
                Err(violation) => history.wrong(violation),
            }
        }
    }
    for (topic, _) in PRODUCED.iter().copied() {
        for at in node.partitions(topic) {
            let Some(found) = contents.get(&(topic, at.partition.0)) else { continue };
            check_sent(at, found, history);
            check_groups(node, at, (topic, found), history);
        }
    }
    check_outputs(node, (PRICES, &[ORDERS]), &contents, history);
    check_outputs(node, (CHECKS, &[PAYMENTS, BRIEF]), &contents, history);
}

fn read_all(node: &Node, at: TopicPartition, letters: bool) -> Result<Vec<Found>, String> {
    let (reader, end) = node.reader(at).ok_or_else(|| format!("{} is out of service at the end", show(at)))?;
    let mut found = Vec::new();
    let mut next = reader.start_offset();
    while next < end {
        let bytes: Bytes = reader.read(next, 900, end).map_err(|e| format!("{}@{next}: {e}", show(at)))?;
        let mut columns = Columns::default();
        decode_batches(&bytes, next, 1 << 20, &mut columns).map_err(|e| format!("{}@{next}: {e}", show(at)))?;
        let Some(last) = columns.offsets.last().copied() else {
            return Err(format!("{} has nothing at {next} and ends at {end}", show(at)));
        };
        found.extend(columns.rows().map(|row| found_in(&row, letters)));
        next = Offset(last + 1);
    }
    Ok(found)
}

fn found_in(row: &Row<'_>, letter: bool) -> Found {
    let origin = if letter {
        let own = dead_letter::provenance(row).filter(|own| own.pipeline == PIPELINES[PRICES]);
        own.map(|own| (own.topic, own.partition, own.offset))
    } else {
        let header = row.headers.iter().find(|(name, _)| *name == dead_letter::ORIGIN.as_bytes());
        header.and_then(|(_, value)| place_of(std::str::from_utf8(value?).ok()?))
    };
    let value = row.value.unwrap_or_default().to_vec();
    Found { offset: row.offset, timestamp: row.timestamp, value, origin, redriven: is_redriven(row) }
}

/// `topic/partition@offset`
fn place_of(text: &str) -> Option<(String, u32, i64)> {
    let (place, offset) = text.rsplit_once('@')?;
    let (topic, partition) = place.rsplit_once('/')?;
    Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
}

fn check_contents(at: TopicPartition, found: &[Found], history: &mut History) {
    for pair in found.windows(2) {
        if pair[1].offset != pair[0].offset + 1 {
            history.wrong(format!("{} has a gap between {} and {}", show(at), pair[0].offset, pair[1].offset));
        }
    }
    for record in found {
        let check = history.offsets.read(at, &Seen { offset: record.offset, value: record.value.clone() });
        history.check(check);
    }
    let end = found.last().map_or(0, |last| last.offset + 1);
    if !found.is_empty() {
        let check = history.offsets.reopened(at, end);
        history.check(check);
    }
}

/// Searches give what a scan gives.
fn look_up(node: &Node, at: TopicPartition, found: &[Found], (history, chance): (&mut History, &mut Chance)) {
    let Some((reader, end)) = node.reader(at) else { return };
    if found.is_empty() {
        return;
    }
    for _ in 0..LOOKUPS {
        let wanted = chance.pick(found).timestamp + chance.below(3) as i64 - 1;
        let scanned = found.iter().find(|record| record.timestamp >= wanted).map(|record| record.offset);
        match reader.offset_for_timestamp(wanted, end) {
            Ok(answer) if answer.map(|offset| offset.0) == scanned => {}
            answer => history.wrong(format!("{}: time {wanted} is at {scanned:?}, not at {answer:?}", show(at))),
        }
        let offset = chance.pick(found).offset;
        match reader.read(Offset(offset), 1, end) {
            Ok(bytes) => {
                let mut columns = Columns::default();
                let decoded = decode_batches(&bytes, Offset(offset), 1 << 20, &mut columns);
                if decoded.is_err() || columns.offsets.first() != Some(&offset) {
                    history.wrong(format!("{}: a read at {offset} gives {:?}", show(at), columns.offsets.first()));
                }
            }
            Err(error) => history.wrong(format!("{}: a read at {offset}: {error}", show(at))),
        }
    }
}

fn check_sent(at: TopicPartition, found: &[Found], history: &mut History) {
    let mut records = Vec::new();
    for record in found {
        match sender(&record.value) {
            Some((producer, number)) => records.push((producer, number, record.offset)),
            None => {
                history.wrong(format!("{}@{} holds {:?}", show(at), record.offset, record.value));
            }
        }
    }
    let start = found.first().map_or(i64::MAX, |first| first.offset);
    let wrong = history.sent.get(&at).map(|sent| sent.check(start, &records)).unwrap_or_default();
    wrong.into_iter().for_each(|violation| history.wrong(format!("{}: {violation}", show(at))));
}

/// `p{producer}-{number}/…`
fn sender(value: &[u8]) -> Option<(usize, u64)> {
    let (who, _) = std::str::from_utf8(value).ok()?.strip_prefix('p')?.split_once('/')?;
    let (producer, number) = who.split_once('-')?;
    Some((producer.parse().ok()?, number.parse().ok()?))
}

fn check_groups(node: &Node, at: TopicPartition, (topic, found): (&str, &[Found]), history: &mut History) {
    let Some(end) = found.last().map(|last| last.offset + 1) else { return };
    for (group, _) in GROUPS.iter().filter(|(_, topics)| topics.contains(&topic)) {
        let read = history.coverage.end(group, at);
        if read != end {
            history.wrong(format!("group {group} read {} to {read} of {end}", show(at)));
        }
        let committed = node.committed(group, at).ok().flatten().map(|offset| offset.0);
        let check = history.commits.seen(group, at, committed);
        history.check(check);
    }
}

/// What a pipeline made of its inputs.
fn check_outputs(
    node: &Node,
    (pipeline, topics): (usize, &[&str]),
    contents: &BTreeMap<(&str, u32), Vec<Found>>,
    history: &mut History,
) {
    let mut inputs = BTreeMap::new();
    // Inputs that were deleted meanwhile can't be compared any more; their outputs are left out.
    let mut starts: BTreeMap<(String, u32), i64> = BTreeMap::new();
    for (topic, at) in topics.iter().flat_map(|topic| node.partitions(topic).into_iter().map(move |at| (*topic, at))) {
        let found = contents.get(&(topic, at.partition.0)).map_or(&[][..], |found| found);
        starts.insert((topic.to_owned(), at.partition.0), found.first().map_or(i64::MAX, |first| first.offset));
        for record in found {
            let (fare, value) = (Fare::of(&record.value), record.value.clone());
            let buries = pipeline == PRICES && fare.is_poison();
            let input = Input { value, results: fare.results(), poison: buries, mended: buries && fare == Fare::Late };
            inputs.insert((topic.to_owned(), at.partition.0, record.offset), input);
        }
    }
    let made = |topic: &'static str, history: &mut History| {
        let mut made = Vec::new();
        for at in node.partitions(topic) {
            for record in contents.get(&(topic, at.partition.0)).into_iter().flatten() {
                let Some(origin) = record.origin.clone() else {
                    history.wrong(format!("{topic}/{}@{} does not say its origin", at.partition, record.offset));
                    continue;
                };
                // Outputs of two lives of a topic can't be told apart if the same record had the same place in both.
                let told_apart = origin.0 != BRIEF || !history.lives.any_died();
                let lane = if told_apart { at.partition.0 } else { record.offset as u32 };
                let (value, at) = (record.value.clone(), (lane, record.offset));
                let place = (origin.0.clone(), origin.1);
                let output = Output { origin, value, at, redriven: record.redriven };
                let deleted = starts.get(&place).is_some_and(|start| output.origin.2 < *start);
                if !deleted && !is_of_an_earlier_life(&output, &inputs, history) {
                    made.push(output);
                }
            }
        }
        made
    };
    let (outputs, letters) = match pipeline {
        PRICES => (made(RESULTS, history), made(LETTERS, history)),
        _ => (made(VERDICTS, history), Vec::new()),
    };
    let mut results: BTreeMap<&(String, u32, i64), usize> = BTreeMap::new();
    outputs.iter().for_each(|output| *results.entry(&output.origin).or_default() += 1);
    if results.iter().any(|(origin, count)| inputs.get(*origin).is_some_and(|input| *count > input.results.max(1))) {
        history.note("record done again after a crash");
    }
    let wrong = check_pipeline(&inputs, &outputs, &letters);
    wrong.into_iter().for_each(|violation| history.wrong(violation));
}

/// Outputs name the topic they come from, and it may have been another of that name.
fn is_of_an_earlier_life(output: &Output, inputs: &BTreeMap<(String, u32, i64), Input>, history: &History) -> bool {
    let fits = inputs.get(&output.origin).is_some_and(|input| output.value.starts_with(&input.value));
    output.origin.0 == BRIEF && history.lives.any_died() && !fits
}
