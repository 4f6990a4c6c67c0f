//! What must hold of a pipeline: its results and dead letters against the records it read.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;

/// An input record of a pipeline, and what it should have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub value: Vec<u8>,
    /// Copies of the result; 0 for poison, and for what is dropped.
    pub results: usize,
    /// Ends as a dead letter.
    pub poison: bool,
    /// A redrive mends it: then it gives one result.
    pub mended: bool,
}

/// A result or a dead letter, by the input record it says it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub origin: (String, u32, i64),
    pub value: Vec<u8>,
    /// Where it was written: partition and offset.
    pub at: (u32, i64),
    /// Made by a redrive, which has an order of its own.
    pub redriven: bool,
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
    let (mended, usual): (Vec<Output>, Vec<Output>) = outputs.iter().cloned().partition(|output| output.redriven);
    let (results, again, dead) = (count(&usual), count(&mended), count(letters));
    for (origin, input) in inputs {
        let (made, buried) = (results.get(origin).copied().unwrap_or(0), dead.get(origin).copied().unwrap_or(0));
        let shown = format!("{}/{}@{} ({})", origin.0, origin.1, origin.2, String::from_utf8_lossy(&input.value));
        if made < input.results {
            wrong.push(format!("{shown} has {made} results of {}", input.results));
        }
        if input.results == 0 && made > 0 {
            wrong.push(format!("{shown} has {made} results and should have none"));
        }
        let redriven = again.get(origin).copied().unwrap_or(0);
        if input.mended != (redriven > 0) {
            wrong.push(format!("{shown} has {redriven} results of a redrive"));
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
    let mut newest: BTreeMap<(&str, u32, u32, bool), i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for output in all {
        let (topic, partition, offset) = &output.origin;
        let lane = (topic.as_str(), *partition, output.at.0, output.redriven);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `w` gives one result, `t` two, `p` is poison, `m` too until it is redriven; outputs and letters as offsets,
    /// outputs of a redrive from 100 on.
    fn pipeline(inputs: &str, outputs: &[i64], letters: &[i64]) -> bool {
        let input = |(offset, kind): (usize, char)| {
            let results = match kind {
                'w' => 1,
                't' => 2,
                _ => 0,
            };
            let (poison, mended) = (matches!(kind, 'p' | 'm'), kind == 'm');
            let input = Input { value: vec![kind as u8], results, poison, mended };
            (("in".to_owned(), 0, offset as i64), input)
        };
        let inputs: BTreeMap<_, _> = inputs.chars().enumerate().map(input).collect();
        let made = |offset: &i64, mark: &[u8]| {
            let (redriven, offset) = (*offset >= 100, offset % 100);
            let origin = ("in".to_owned(), 0, offset);
            let value = inputs.get(&origin).map_or(b"?".to_vec(), |input| input.value.clone());
            Output { value: [&value[..], mark].concat(), origin, at: (0, 0), redriven }
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
        assert!(pipeline("mw", &[1, 100], &[0]), "a redrive comes late");
        assert!(!pipeline("mw", &[1], &[0]), "what a redrive mends is lost");
        assert!(!pipeline("mw", &[0, 1, 100], &[0]), "it had a result before the redrive");
        assert!(!pipeline("pw", &[1, 100], &[0]), "a redrive made a result of poison");
    }
}
