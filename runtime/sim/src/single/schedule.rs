//! The scenario: which topics, groups and clients there are, and when what goes wrong.

use millstream_protocol::TopicId;

use super::message::{Admin, DiskFault, End, Event};
use crate::chance::Chance;

pub(crate) const ORDERS: &str = "orders";
/// A topic that keeps only so many bytes.
pub(crate) const RETAINED: &str = "recent";
pub(crate) const RETENTION_BYTES: u64 = 5_000;
pub(crate) const RESULTS: &str = "results";
pub(crate) const LETTERS: &str = "bad";
pub(crate) const OFFSETS: &str = millstream_broker::core::groups::TOPIC;
pub(crate) const PIPELINE: &str = "prices";

pub(crate) const TOPICS: &[(&str, u32)] = &[(ORDERS, 3), (RETAINED, 1), (RESULTS, 2), (LETTERS, 1), (OFFSETS, 1)];

/// Groups and what they read.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[("billing", &[ORDERS]), ("audit", &[ORDERS, RETAINED])];
pub(crate) const MEMBERS_PER_GROUP: usize = 3;

pub(crate) const YAML: &str = "pipeline: prices
inputs: [{ topic: orders, from: earliest }]
steps:
  - plugin: { use: fake@1 }
    on_error: { retry: { attempts: 2 }, dead_letter: bad }
outputs: [{ topic: results, trace: true }]
";

/// How long things go wrong.
pub(crate) const FAULTS_US: u64 = 30_000_000;
/// How long everything may take to end after that.
pub(crate) const LIVENESS_US: u64 = 120_000_000;

pub(crate) fn topic_id(name: &str) -> TopicId {
    let number = TOPICS.iter().position(|(topic, _)| *topic == name).expect("a topic of the scenario");
    TopicId(0xa000 + number as u128)
}

/// What is planned for one run, by time.
pub(crate) fn plan(chance: &mut Chance, clients: usize) -> Vec<(u64, Event)> {
    let mut plan = vec![(0, Event::Start), (FAULTS_US, Event::Heal)];
    // Each run has its own mixture: some are quiet, some are rough.
    let ends = chance.below(7);
    for _ in 0..ends {
        let at = moment(chance);
        plan.push((at, Event::End(end(chance))));
        if chance.one_in(3) {
            // While it is down or coming up again.
            let fault = *chance.pick(&[DiskFault::Reads, DiskFault::Write(0), DiskFault::Sync(1)]);
            plan.push((at + 50_000, Event::Disk(fault)));
            plan.push((at + 4_000_000, Event::Disk(DiskFault::None)));
        }
    }
    for _ in 0..chance.below(6) {
        let at = moment(chance);
        plan.push((at, Event::Disk(disk_fault(chance))));
        plan.push((at + 100_000 + chance.below(3_000_000), Event::Disk(DiskFault::None)));
    }
    for _ in 0..chance.below(4) {
        let at = moment(chance);
        let jump = chance.below(7_200_000) as i64 - 3_600_000;
        plan.push((at, Event::Jump(jump)));
    }
    for _ in 0..chance.below(10) {
        let at = moment(chance);
        let client = chance.index(clients);
        let ms = 100 + chance.below(4_000);
        plan.push((at, if chance.one_in(3) { Event::Die { client } } else { Event::Pause { client, ms } }));
    }
    for _ in 0..1 + chance.below(8) {
        let at = moment(chance);
        plan.push((at, Event::Admin(*chance.pick(&[Admin::Swap, Admin::Swap, Admin::DeleteRecords]))));
    }
    for _ in 0..chance.below(3) {
        let at = moment(chance);
        plan.push((at, Event::Admin(Admin::Pause)));
        plan.push((at + 200_000 + chance.below(2_000_000), Event::Admin(Admin::Resume)));
    }
    plan
}

fn moment(chance: &mut Chance) -> u64 {
    500_000 + chance.below(FAULTS_US - 1_000_000)
}

fn end(chance: &mut Chance) -> End {
    match chance.below(10) {
        0..3 => End::Power,
        3..6 => End::PowerAt(chance.below(60)),
        6..9 => End::Kill,
        _ => End::Clean,
    }
}

fn disk_fault(chance: &mut Chance) -> DiskFault {
    match chance.below(8) {
        0 | 1 => DiskFault::Sync(chance.below(20)),
        2 => DiskFault::Write(chance.below(40)),
        3 => DiskFault::Reads,
        4 => DiskFault::Short,
        5 | 6 => DiskFault::Full(chance.below(4_000)),
        _ => DiskFault::Slow,
    }
}
