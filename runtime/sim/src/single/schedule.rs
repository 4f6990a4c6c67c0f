//! The scenario: which topics, groups, pipelines and clients there are, and when what goes wrong.

use millstream_cluster::metadata::TopicConfig;
use millstream_protocol::TopicId;

use super::message::{Admin, DiskFault, End, Event};
use crate::chance::Chance;

pub(crate) const ORDERS: &str = "orders";
/// A topic that keeps only so many bytes.
pub(crate) const RETAINED: &str = "recent";
pub(crate) const RETENTION_BYTES: u64 = 5_000;
/// A topic whose appends are acknowledged from the page cache.
pub(crate) const FAST: &str = "fast";
/// A topic that is deleted and made again.
pub(crate) const BRIEF: &str = "brief";
pub(crate) const PAYMENTS: &str = "payments";
pub(crate) const RESULTS: &str = "results";
pub(crate) const LETTERS: &str = "bad";
pub(crate) const VERDICTS: &str = "verdicts";
pub(crate) const OFFSETS: &str = millstream_broker::core::groups::TOPIC;

/// Topics that are always there. `BRIEF` comes and goes.
pub(crate) const TOPICS: &[(&str, u32)] =
    &[(ORDERS, 3), (RETAINED, 1), (FAST, 1), (PAYMENTS, 1), (RESULTS, 2), (LETTERS, 1), (VERDICTS, 1), (OFFSETS, 1)];
pub(crate) const BRIEF_PARTITIONS: u32 = 2;

/// What the producers write to.
pub(crate) const PRODUCED: &[(&str, u32)] =
    &[(ORDERS, 3), (RETAINED, 1), (FAST, 1), (BRIEF, BRIEF_PARTITIONS), (PAYMENTS, 1)];

/// Groups and what they read.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[("billing", &[ORDERS]), ("audit", &[ORDERS, RETAINED, BRIEF])];
pub(crate) const MEMBERS_PER_GROUP: usize = 3;

/// The pipelines, by their place here.
pub(crate) const PIPELINES: [&str; 2] = ["prices", "checks"];
/// Buries what fails, and is redriven.
pub(crate) const PRICES: usize = 0;
/// Stops at what fails, until an operator lets it skip such records.
pub(crate) const CHECKS: usize = 1;

const PRICES_YAML: &str = "pipeline: prices
inputs: [{ topic: orders, from: earliest }]
steps:
  - plugin: { use: fake@1 }
    on_error: { retry: { attempts: 2 }, dead_letter: bad }
outputs: [{ topic: results, trace: true }]
";

const CHECKS_YAML: &str = "pipeline: checks
inputs: [{ topic: payments, from: earliest }, { topic: brief, from: earliest, partitions: 2 }]
steps:
  - plugin: { use: fake@1 }
    on_error: { retry: { attempts: 2 }, stop: true }
outputs: [{ topic: verdicts, trace: true }]
";

/// How long things go wrong.
pub(crate) const FAULTS_US: u64 = 30_000_000;
/// How long everything may take to end after that.
pub(crate) const LIVENESS_US: u64 = 120_000_000;

/// A pipeline's file; `lenient`: it skips what fails where it would stop.
pub(crate) fn yaml(pipeline: usize, lenient: bool) -> String {
    match (pipeline, lenient) {
        (PRICES, _) => PRICES_YAML.to_owned(),
        (_, false) => CHECKS_YAML.to_owned(),
        (_, true) => CHECKS_YAML.replace("stop: true", "skip: true"),
    }
}

/// Of a topic that is always there.
pub(crate) fn topic_id(name: &str) -> TopicId {
    let number = TOPICS.iter().position(|(topic, _)| *topic == name).expect("a topic that is always there");
    TopicId(0xa000 + number as u128)
}

pub(crate) fn config(topic: &str) -> TopicConfig {
    TopicConfig { replicated: (topic == FAST).then_some(true), ..TopicConfig::default() }
}

/// What is planned for one run, by time.
pub(crate) fn plan(chance: &mut Chance, clients: usize) -> Vec<(u64, Event)> {
    let mut plan = vec![(0, Event::Start), (FAULTS_US, Event::Heal), (20_000, Event::Admin(Admin::CreateTopic))];
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
    administer(chance, &mut plan);
    plan
}

/// What people with rights do.
fn administer(chance: &mut Chance, plan: &mut Vec<(u64, Event)>) {
    for _ in 0..1 + chance.below(8) {
        let at = moment(chance);
        let admin = *chance.pick(&[Admin::Swap, Admin::Swap, Admin::DeleteRecords, Admin::Redrive]);
        plan.push((at, Event::Admin(admin)));
    }
    for _ in 0..chance.below(4) {
        let at = moment(chance);
        let pause = *chance.pick(&[Admin::Pause, Admin::PauseAtCommit, Admin::PauseAtCommit]);
        plan.push((at, Event::Admin(pause)));
        plan.push((at + 200_000 + chance.below(2_000_000), Event::Admin(Admin::Resume)));
    }
    for _ in 0..chance.below(4) {
        let at = moment(chance);
        plan.push((at, Event::Admin(Admin::DeleteTopic)));
        match chance.below(4) {
            // In the middle of it, or soon after.
            0 => plan.push((at - 1, Event::End(End::PowerAt(chance.below(12))))),
            1 => {
                plan.push((at - 1, Event::Disk(DiskFault::Write(chance.below(12)))));
                plan.push((at + 3_500_000, Event::Disk(DiskFault::None)));
            }
            _ => {}
        }
        let pause = if chance.one_in(2) { 1_000 } else { chance.below(3_000_000) };
        plan.push((at + pause, Event::Admin(Admin::CreateTopic)));
    }
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
