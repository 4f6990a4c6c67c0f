//! Random pipelines with random failing records against a model that takes one record at a time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const STEPS_MAX: usize = 4;

#[derive(Clone, Copy, Debug)]
struct StepCase {
    native: bool,
    policy: Policy,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Stop,
    Skip,
    DeadLetter,
}

/// What should come out: values by input offset, dead letters, and where it stops.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    results: Vec<(i64, String)>,
    dead: Vec<(i64, String)>,
    stop: Option<i64>,
}

fn model(chain: &[StepCase], values: &[String]) -> Expected {
    let mut expected = Expected::default();
    'records: for (offset, value) in (10..).zip(values) {
        let mut rows = vec![value.clone()];
        for (place, step) in chain.iter().enumerate() {
            let mut next = Vec::new();
            for row in rows {
                match one(step, place, &row) {
                    Some(made) => next.extend(made),
                    None if step.policy == Policy::Skip => {}
                    None if step.policy == Policy::DeadLetter => {
                        expected.dead.push((offset, value.clone()));
                        continue 'records;
                    }
                    None => {
                        expected.stop = Some(offset);
                        return expected;
                    }
                }
            }
            rows = next;
        }
        expected.results.extend(rows.into_iter().map(|row| (offset, row)));
    }
    expected
}

/// What a step makes of one row; `None`: it fails.
fn one(step: &StepCase, place: usize, row: &str) -> Option<Vec<String>> {
    let letter = row.as_bytes()[place];
    match letter {
        b'r' | b'i' | b'T' | b'L' => None,
        b'd' => Some(vec![]),
        b'x' if !step.native => Some(vec![format!("{row}0"), format!("{row}1")]),
        _ => Some(vec![row.to_string()]),
    }
}

fn yaml(chain: &[StepCase]) -> String {
    let mut text = "pipeline: p\ninputs: [{ topic: in }]\nsteps:\n".to_string();
    for (place, step) in chain.iter().enumerate() {
        let then = match step.policy {
            Policy::Stop => "stop: true".to_string(),
            Policy::Skip => "skip: true".to_string(),
            Policy::DeadLetter => "dead_letter: bad".to_string(),
        };
        if step.native {
            let letter = format!("value.charAt({place})");
            text += &format!(
                "  - filter: \"{letter} in ['r', 'i', 'T', 'L'] ? 1 / 0 > 0 : {letter} != 'd'\"\n    on_error: {{ {then} }}\n"
            );
        } else {
            let attempts = step.attempts;
            text += &format!(
                "  - plugin: {{ use: fake@1 }}\n    on_error: {{ retry: {{ attempts: {attempts} }}, {then} }}\n"
            );
        }
    }
    text + "outputs: [{ topic: out }]\n"
}

fn chains() -> impl Strategy<Value = Vec<StepCase>> {
    let policy = prop_oneof![1 => Just(Policy::Stop), 3 => Just(Policy::Skip), 3 => Just(Policy::DeadLetter)];
    let step =
        (any::<bool>(), policy, 1..=2u32).prop_map(|(native, policy, attempts)| StepCase { native, policy, attempts });
    prop::collection::vec(step, 1..=STEPS_MAX)
}

fn letters() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        16 => Just('o'), 2 => Just('x'), 2 => Just('d'), 1 => Just('r'), 1 => Just('i'), 1 => Just('T'), 1 => Just('L'), 1 => Just('f'),
    ];
    prop::collection::vec(letter, STEPS_MAX).prop_map(|letters| letters.into_iter().collect())
}

/// Drives a runner as a broker would, with appends becoming durable in any order.
#[derive(Default)]
struct Drive {
    results: Vec<(i64, String)>,
    dead: Vec<(i64, String)>,
    open: Vec<Ticket>,
    /// The batch (by the offset behind it) each append belongs to.
    batch_of: HashMap<Ticket, Offset>,
    committed: i64,
    stop: Option<i64>,
}

impl Drive {
    fn take(&mut self, plan: &Plan, outputs: Vec<Output>, batch_end: Offset) {
        for output in outputs {
            match output {
                Output::Append { ticket, sink, columns } => {
                    let rows = columns.rows().map(|row| (row.offset, text(row.value)));
                    match plan.sinks[sink].topic.as_str() {
                        "out" => self.results.extend(rows),
                        _ => self.dead.extend(rows),
                    }
                    self.open.push(ticket);
                    self.batch_of.insert(ticket, batch_end);
                }
                Output::Commit { offset } => {
                    assert!(offset.0 >= self.committed, "commits only grow");
                    self.committed = offset.0;
                    let early = self.open.iter().find(|ticket| self.batch_of[ticket].0 <= offset.0);
                    assert_eq!(early, None, "commit {offset} before an append of its records is durable");
                }
                Output::Stop(stop) => {
                    assert!(self.open.is_empty(), "it stops when all it wrote is durable");
                    assert_eq!(self.committed.max(10), stop.offset.0, "everything before the stop is committed");
                    self.stop = Some(stop.offset.0);
                }
                Output::Swapped { .. } | Output::Log { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_do_what_single_records_would(
        chain in chains(),
        values in prop::collection::vec(letters(), 1..60),
        cuts in prop::collection::vec(1..20usize, 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        // Without a second try `f` depends on how often its neighbours made the batch fail.
        let tame = |value: &String| value.chars().enumerate().map(|(place, letter)| match chain.get(place) {
            Some(step) if letter == 'f' && step.attempts == 1 => 'o',
            _ => letter,
        }).collect();
        let values: Vec<String> = values.iter().map(tame).collect();
        let plan = plan(&yaml(&chain));
        let fakes = chain.iter().enumerate().filter(|(_, step)| !step.native);
        let guests = fakes.map(|(place, _)| Box::new(Fake::at(place)) as Box<dyn Guest>).collect();
        let mut runner = runner(&plan, guests);
        let mut drive = Drive { committed: 10, ..Drive::default() };
        let (mut cuts, mut order) = (cuts.iter().cycle(), order.iter().cycle());
        let mut at = 0;
        while at < values.len() || !drive.open.is_empty() {
            let fetch = at < values.len() && !runner.is_full();
            if !fetch && drive.open.is_empty() {
                break;
            }
            let mut out = Vec::new();
            if fetch && (drive.open.is_empty() || order.next().unwrap().index(2) == 0) {
                let end = (at + cuts.next().unwrap()).min(values.len());
                runner.handle(fetched(10 + at as i64, &values[at..end]), &mut out);
                at = end;
            } else {
                let ticket = drive.open.remove(order.next().unwrap().index(drive.open.len()));
                runner.handle(Event::Durable { ticket }, &mut out);
            }
            let end = runner.next();
            drive.take(&plan, out, end);
        }
        let expected = model(&chain, &values);
        prop_assert_eq!(&drive.results, &expected.results);
        let dead: BTreeSet<_> = drive.dead.iter().cloned().collect();
        prop_assert_eq!(dead.len(), drive.dead.len(), "one dead letter per record");
        prop_assert_eq!(dead, expected.dead.into_iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(drive.stop, expected.stop);
        prop_assert_eq!(drive.committed, expected.stop.unwrap_or(10 + values.len() as i64));
    }

    #[test]
    fn a_swap_splits_the_records_exactly(
        batches in prop::collection::vec(1..9usize, 1..12),
        swap_before in any::<prop::sample::Index>(),
    ) {
        let plan = plan("pipeline: p\ninputs: [{ topic: in }]\nsteps: [{ plugin: { use: fake@1 } }]\noutputs: [{ topic: out }]\n");
        let guest = |mark| Box::new(Fake { mark, ..Fake::at(0) });
        let mut runner = runner(&plan, vec![guest("old")]);
        let (mut out, mut swapped_at) = (Vec::new(), None);
        let swap_before = swap_before.index(batches.len());
        for (index, count) in batches.iter().enumerate() {
            if index == swap_before {
                runner.handle(Event::Swap { plugin: 0, guest: guest("newer") }, &mut out);
            }
            let next = runner.next().0;
            runner.handle(fetched(next, &vec!["o"; *count]), &mut out);
            let tickets: Vec<_> = out.iter().filter_map(|output| match output {
                Output::Append { ticket, .. } => Some(*ticket),
                _ => None,
            }).collect();
            tickets.into_iter().for_each(|ticket| runner.handle(Event::Durable { ticket }, &mut out));
        }
        let mut rows = Vec::new();
        for output in &out {
            match output {
                Output::Swapped { offset, .. } => swapped_at = Some(offset.0),
                Output::Append { columns, .. } => rows.extend(columns.rows().map(|row| (row.offset, text(row.value)))),
                _ => {}
            }
        }
        let swapped_at = swapped_at.unwrap();
        let total: usize = batches.iter().sum();
        prop_assert_eq!(rows.len(), total);
        for (expected_offset, (offset, value)) in (10..).zip(rows) {
            prop_assert_eq!(offset, expected_offset);
            prop_assert_eq!(value, if offset < swapped_at { "oold" } else { "onewer" });
        }
    }
}
