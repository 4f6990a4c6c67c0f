//! Random histories: members that join, read, commit, let go, leave, fall silent and come back as zombies.
//! The model counts who may be reading what from the members' side, independently of the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join,
    /// The member reports and takes its answer; `lost`: the answer does not arrive.
    Beat {
        member: usize,
        lost: bool,
    },
    Commit {
        member: usize,
        partition: u32,
    },
    /// A commit of a member that may be long gone, in a generation it once knew.
    Zombie {
        member: usize,
        partition: u32,
    },
    Leave {
        member: usize,
    },
    /// Stops without a word.
    Die {
        member: usize,
    },
    Wait {
        ms: i64,
    },
    Partitions {
        count: u32,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..8usize;
    let partition = 0..6u32;
    let step = prop_oneof![
        2 => Just(Step::Join),
        8 => (member.clone(), prop::bool::weighted(0.1)).prop_map(|(member, lost)| Step::Beat { member, lost }),
        4 => (member.clone(), partition.clone()).prop_map(|(member, partition)| Step::Commit { member, partition }),
        2 => (member.clone(), partition).prop_map(|(member, partition)| Step::Zombie { member, partition }),
        1 => member.clone().prop_map(|member| Step::Leave { member }),
        1 => member.prop_map(|member| Step::Die { member }),
        3 => (1..700i64).prop_map(|ms| Step::Wait { ms }),
        1 => (1..6u32).prop_map(|count| Step::Partitions { count }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Default)]
struct Reader {
    id: String,
    generation: u32,
    reading: BTreeSet<u32>,
    heard_at: i64,
    gone: bool,
}

struct World {
    coordinator: Coordinator,
    readers: Vec<Reader>,
    now: i64,
    partitions: u32,
    /// The highest offset committed per partition; every commit of a reader is one higher.
    committed: BTreeMap<u32, i64>,
    write: u64,
}

impl World {
    fn new() -> Self {
        let mut coordinator = Coordinator::new(Limits::default());
        coordinator.handle(topics(4), 0, &mut Vec::new());
        World { coordinator, readers: vec![], now: 0, partitions: 4, committed: BTreeMap::new(), write: 0 }
    }

    fn run(&mut self, event: Event) -> Option<Output> {
        let mut out = Vec::new();
        self.coordinator.handle(event, self.now, &mut out);
        assert!(out.len() <= 1, "{out:?}");
        out.pop()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join if self.readers.len() < 8 => {
                let id = format!("m{}", self.readers.len());
                self.readers.push(Reader { id: id.clone(), ..Reader::default() });
                let joined = self.run(join(&id));
                self.take(self.readers.len() - 1, joined);
            }
            Step::Beat { member, lost } => self.beat(member, lost),
            Step::Commit { member, partition } => self.commit(member, partition),
            Step::Zombie { member, partition } => self.zombie(member, partition),
            Step::Leave { member } => {
                let Some(reader) = self.readers.get_mut(member).filter(|reader| !reader.gone) else { return };
                reader.gone = true;
                reader.reading.clear();
                let id = reader.id.clone();
                self.run(leave(&id));
            }
            Step::Die { member } => {
                // It stops reading at latest when its session ends; here at once, as the model counts sessions.
                let Some(reader) = self.readers.get_mut(member) else { return };
                reader.gone = true;
            }
            Step::Wait { ms } => {
                self.now += ms;
                self.run(Event::Tick);
            }
            Step::Partitions { count } => {
                self.partitions = self.partitions.max(count);
                self.run(topics(self.partitions));
            }
            Step::Join => {}
        }
        self.check_exclusive();
    }

    fn beat(&mut self, member: usize, lost: bool) {
        let Some(reader) = self.readers.get(member).filter(|reader| !reader.gone) else { return };
        let reading: Vec<u32> = reader.reading.iter().copied().collect();
        let id = reader.id.clone();
        let answer = self.run(beat(&id, &reading));
        if !lost {
            self.take(member, answer);
        }
    }

    fn take(&mut self, member: usize, answer: Option<Output>) {
        let reader = &mut self.readers[member];
        match answer {
            Some(Output::Answer { result: Ok(Answer::Heartbeat(ack)), .. }) => {
                reader.generation = ack.generation;
                reader.heard_at = self.now;
                reader.reading = ack.assignment.iter().flat_map(|topic| &topic.partitions).map(|p| p.0).collect();
            }
            _ => {
                reader.gone = true;
                reader.reading.clear();
            }
        }
    }

    fn commit(&mut self, member: usize, partition: u32) {
        let next = self.committed.get(&partition).copied().unwrap_or(0) + 1;
        let Some(reader) = self.readers.get(member).filter(|reader| reader.reading.contains(&partition)) else {
            return;
        };
        let live = self.now < reader.heard_at + 1000;
        let event = commit(&reader.id, reader.generation, partition, next);
        match self.run(event) {
            Some(Output::Persist { write, .. }) => {
                assert_eq!(write.0, self.write);
                self.write += 1;
                self.committed.insert(partition, next);
                self.run(Event::Persisted { write });
            }
            refused => assert!(!live, "m{member} reads partition {partition} and may commit it: {refused:?}"),
        }
    }

    /// Offset 0 would be a step back for every partition that was committed.
    fn zombie(&mut self, member: usize, partition: u32) {
        let Some(reader) = self.readers.get(member) else { return };
        let holds = reader.reading.contains(&partition);
        let event = commit(&reader.id, reader.generation, partition, 0);
        if holds {
            return;
        }
        let answer = self.run(event);
        let refused = matches!(&answer, Some(Output::Answer { result: Err(_), .. }));
        // A lost answer gave it the partition without its knowledge: the one case it may commit.
        let given = self.coordinator.describe("g").is_some_and(|view| {
            let id = &self.readers[member].id;
            view.partitions.iter().any(|p| p.partition.0 == partition && p.member_id == *id)
        });
        assert!(refused || given, "m{member} committed partition {partition}: {answer:?}");
        if let Some(Output::Persist { write, .. }) = answer {
            self.write += 1;
            self.run(Event::PersistFailed { write, failure: Failure::new(ErrorCode::DiskFull, "full") });
        }
    }

    /// No two members with a live session read the same partition.
    fn check_exclusive(&self) {
        let mut readers = BTreeMap::new();
        for reader in self.readers.iter().filter(|reader| self.now < reader.heard_at + 1000) {
            for partition in &reader.reading {
                if let Some(other) = readers.insert(*partition, &reader.id) {
                    panic!("partition {partition} is read by {other} and {}", reader.id);
                }
            }
        }
        for (partition, offset) in &self.committed {
            let shown = self.coordinator.committed("g", &owned(&[*partition]));
            assert_eq!(shown.first().map(|committed| committed.offset), Some(Offset(*offset)));
        }
    }

    /// With everybody alive reporting, all partitions are read, evenly, after a few rounds.
    fn settle(&mut self) {
        self.now += 1000;
        for reader in &mut self.readers {
            reader.gone = true;
            reader.reading.clear();
        }
        self.run(Event::Tick);
        let first = self.readers.len();
        for i in 0..3 {
            let id = format!("s{i}");
            self.readers.push(Reader { id: id.clone(), ..Reader::default() });
            let joined = self.run(join(&id));
            self.take(first + i, joined);
        }
        for _ in 0..3 {
            (first..first + 3).for_each(|member| self.beat(member, false));
            self.check_exclusive();
        }
        let counts: Vec<usize> = self.readers[first..].iter().map(|reader| reader.reading.len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), self.partitions as usize);
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        assert_eq!(self.coordinator.describe("g").unwrap().state, GroupState::Stable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn partitions_have_one_reader_and_offsets_one_writer(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.settle();
    }
}
