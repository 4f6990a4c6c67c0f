//! What applying a pipeline changes: topics to create, and what becomes of the tasks. Worked out before
//! anything is touched, so that it can be shown first.

use std::sync::Arc;

use millstream_cluster::metadata::State;
use millstream_pipeline::Plan;
use millstream_pipeline::plan::Role;
use millstream_pipeline::spec::Start;
use millstream_protocol::message::{CreateTopic, TopicConfig};
use millstream_protocol::{ErrorCode, Failure};

use super::guest::GuestSpec;
use super::resolve::Resolved;
use super::running::Running;

/// What becomes of the tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    New,
    Nothing,
    /// New guests for these plugin steps; the tasks go on.
    Swap(Vec<usize>),
    /// The tasks end and new ones begin at the committed offsets.
    Restart,
}

pub(super) fn of(before: Option<&Running>, after: &Resolved) -> Change {
    let Some(before) = before else { return Change::New };
    let (old, new) = (&before.resolved, after);
    if !old.plan.same_shape(&new.plan) {
        return Change::Restart;
    }
    let differs = |plugin: &usize| !old.guests[*plugin].is_same(&new.guests[*plugin]);
    let changed: Vec<usize> = (0..new.guests.len()).filter(differs).collect();
    // Outputs a guest may emit to are part of how its rows are numbered.
    let renumbered = changed.iter().any(|plugin| {
        let known = |guest: &Arc<GuestSpec>, plan: &Plan| {
            let steps = plan.plugins().nth(*plugin).map_or(0, |plugin| plugin.step.outputs.len());
            guest.outputs[..steps].to_vec()
        };
        known(&old.guests[*plugin], &old.plan) != known(&new.guests[*plugin], &new.plan)
    });
    match (renumbered, changed.is_empty()) {
        (true, _) => Change::Restart,
        (false, false) => Change::Swap(changed),
        (false, true) if old.yaml == new.yaml && old.variables == new.variables => Change::Nothing,
        // Comments or layout: a new revision, the same behaviour.
        (false, true) => Change::Swap(Vec::new()),
    }
}

/// Topics that do not exist yet. Inputs must exist unless the file says with how many partitions to create
/// them.
pub(super) fn new_topics(state: &State, plan: &Plan, create_partitions: u32) -> Result<Vec<CreateTopic>, Failure> {
    let mut topics = Vec::new();
    let mut create = |name: &str, partitions: u32| {
        let config = TopicConfig::default();
        topics.push(CreateTopic { name: name.to_owned(), partitions, config, if_not_exists: true });
    };
    let mut first_input = 1;
    for (index, input) in plan.inputs.iter().enumerate() {
        let partitions = match (state.topic(&input.topic), input.partitions) {
            (Some(topic), _) => topic.partitions,
            (None, Some(partitions)) => {
                create(&input.topic, partitions);
                partitions
            }
            (None, None) => {
                let name = &input.topic;
                let message = format!(
                    "input topic `{name}` does not exist: create it with `millstream topic create {name}`, or give \
                     the input `partitions: N` to have it created"
                );
                return Err(Failure::new(ErrorCode::UnknownTopic, message));
            }
        };
        if index == 0 {
            first_input = partitions;
        }
    }
    for sink in plan.sinks.iter().filter(|sink| state.topic(&sink.topic).is_none()) {
        let default = if create_partitions == 0 { first_input } else { create_partitions };
        create(&sink.topic, sink.partitions.unwrap_or(default));
    }
    Ok(topics)
}

/// The plan for people, a line each.
pub(super) fn lines(
    state: &State,
    before: Option<&Running>,
    after: &Resolved,
    topics: &[CreateTopic],
    change: &Change,
) -> Vec<String> {
    let mut lines: Vec<String> = topics
        .iter()
        .map(|topic| format!("create topic {} ({})", topic.name, count(topic.partitions as usize, "partition")))
        .collect();
    let partitions = |name: &str| {
        let new = topics.iter().find(|topic| topic.name == name).map(|topic| topic.partitions);
        new.or_else(|| state.topic(name).map(|topic| topic.partitions)).unwrap_or(0)
    };
    match (change, before) {
        (Change::New, _) => {
            for (step, used) in after.uses.iter().map(|used| (&used.step, used)) {
                let digest = used.digest.to_string();
                lines.push(format!("step {step} runs {}@{} ({})", used.name, used.version, &digest[..8]));
            }
            for input in &after.plan.inputs {
                let from = match input.from {
                    Start::Earliest => "the first record".to_owned(),
                    Start::Latest => "the end".to_owned(),
                    Start::Timestamp(ms) => format!("timestamp {ms} ms"),
                };
                let tasks = count(partitions(&input.topic) as usize, "task");
                lines.push(format!("start {tasks} on {} from {from}, or from offsets committed before", input.topic));
            }
        }
        (Change::Swap(changed), Some(before)) => {
            for plugin in changed {
                lines.push(swap_line(before, after, *plugin));
            }
            if changed.is_empty() {
                lines.push("no step changes".to_owned());
            }
        }
        (Change::Restart, Some(before)) => {
            let tasks = count(before.tasks().len(), "task");
            lines.push(format!("end {tasks} and start anew from the committed offsets: the steps change"));
        }
        (Change::Nothing, _) => lines.push("nothing changes".to_owned()),
        (Change::Swap(_) | Change::Restart, None) => {}
    }
    if before.is_some_and(|before| before.paused) {
        lines.push("the pipeline stays paused".to_owned());
    }
    lines
}

fn swap_line(before: &Running, after: &Resolved, plugin: usize) -> String {
    let (old, new) = (&before.resolved.uses[plugin], &after.uses[plugin]);
    let short = |used: &millstream_cluster::metadata::PluginUse| used.digest.to_string()[..8].to_owned();
    if old.digest == new.digest {
        return format!("swap step {}: new settings for {}@{}", new.step, new.name, new.version);
    }
    let (name, from, to) = (&new.name, &old.version, &new.version);
    format!("swap step {}: {name}@{from} ({}) -> {name}@{to} ({})", new.step, short(old), short(new))
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Topics of dead letters.
pub(super) fn dead_letter_topics(plan: &Plan) -> Vec<String> {
    plan.sinks.iter().filter(|sink| sink.role == Role::DeadLetter).map(|sink| sink.topic.clone()).collect()
}
