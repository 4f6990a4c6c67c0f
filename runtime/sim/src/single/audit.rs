//! The reading at the end: everything that is in the logs against everything that was sent, acknowledged, read,
//! committed and made.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_pipeline::dead_letter;
use millstream_protocol::batch::decode_batches;
use millstream_protocol::{Columns, Offset, Row, TopicPartition};

use super::checks::{Input, Output, Seen, check_pipeline, show};
use super::guest::Fare;
use super::history::History;
use super::node::Node;
use super::schedule::{GROUPS, LETTERS, ORDERS, PIPELINE, RESULTS, RETAINED};
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
}

pub(crate) fn audit(node: &Node, history: &mut History, chance: &mut Chance) {
    let mut contents: BTreeMap<(&str, u32), Vec<Found>> = BTreeMap::new();
    for topic in [ORDERS, RETAINED, RESULTS, LETTERS] {
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
    for topic in [ORDERS, RETAINED] {
        for at in node.partitions(topic) {
            let Some(found) = contents.get(&(topic, at.partition.0)) else { continue };
            check_sent(at, found, history);
            check_groups(node, at, (topic, found), history);
        }
    }
    check_outputs(node, &contents, history);
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
        let own = dead_letter::provenance(row).filter(|own| own.pipeline == PIPELINE);
        own.map(|own| (own.topic, own.partition, own.offset))
    } else {
        let header = row.headers.iter().find(|(name, _)| *name == dead_letter::ORIGIN.as_bytes());
        header.and_then(|(_, value)| place_of(std::str::from_utf8(value?).ok()?))
    };
    let value = row.value.unwrap_or_default().to_vec();
    Found { offset: row.offset, timestamp: row.timestamp, value, origin }
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

fn check_outputs(node: &Node, contents: &BTreeMap<(&str, u32), Vec<Found>>, history: &mut History) {
    let mut inputs = BTreeMap::new();
    for at in node.partitions(ORDERS) {
        for record in contents.get(&(ORDERS, at.partition.0)).into_iter().flatten() {
            let fare = Fare::of(&record.value);
            let input = Input { value: record.value.clone(), results: fare.results(), poison: fare.is_poison() };
            inputs.insert((ORDERS.to_owned(), at.partition.0, record.offset), input);
        }
    }
    // Inputs that were deleted meanwhile can't be compared any more; their outputs are left out.
    let starts: BTreeMap<u32, i64> = node
        .partitions(ORDERS)
        .iter()
        .map(|at| {
            let first = contents.get(&(ORDERS, at.partition.0)).and_then(|found| found.first());
            (at.partition.0, first.map_or(i64::MAX, |first| first.offset))
        })
        .collect();
    let mut made: [Vec<Output>; 2] = [Vec::new(), Vec::new()];
    for (place, topic) in [RESULTS, LETTERS].into_iter().enumerate() {
        for at in node.partitions(topic) {
            for record in contents.get(&(topic, at.partition.0)).into_iter().flatten() {
                let Some(origin) = record.origin.clone() else {
                    history.wrong(format!("{topic}/{}@{} does not say its origin", at.partition, record.offset));
                    continue;
                };
                if starts.get(&origin.1).is_some_and(|start| origin.2 < *start) {
                    continue;
                }
                let (value, at) = (record.value.clone(), (at.partition.0, record.offset));
                made[place].push(Output { origin, value, at });
            }
        }
    }
    let mut results: BTreeMap<&(String, u32, i64), usize> = BTreeMap::new();
    made[0].iter().for_each(|output| *results.entry(&output.origin).or_default() += 1);
    if results.iter().any(|(origin, count)| inputs.get(*origin).is_some_and(|input| *count > input.results)) {
        history.note("record done again after a crash");
    }
    let wrong = check_pipeline(&inputs, &made[0], &made[1]);
    wrong.into_iter().for_each(|violation| history.wrong(violation));
}
