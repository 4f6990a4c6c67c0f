//! A pipeline ready to run: steps in running order, every topic written counted once as a sink,
//! settings filled in. Shared by all tasks of a pipeline.

use std::sync::Arc;

use crate::config::{Config, Variables};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::expr::Expression;
use crate::spec::{Guarantee, InputSpec, PluginRef, Retry, Source, Spec, Start, StepKind, StepLimits, Then};

/// What every task of a pipeline follows.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    pub guarantee: Guarantee,
    pub inputs: Vec<Input>,
    /// Each after all it takes records from.
    pub steps: Vec<Step>,
    pub outputs: Vec<Route>,
    /// Every topic written, outputs first, then dead letters.
    pub sinks: Vec<Sink>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub topic: String,
    pub from: Start,
    pub partitions: Option<u32>,
}

#[derive(Debug)]
pub struct Step {
    pub name: String,
    pub from: Vec<Source>,
    pub action: Action,
    /// As [`crate::spec::StepSpec::outputs`].
    pub outputs: Vec<String>,
    pub retry: Retry,
    pub then: Fate,
}

/// What a step does, compiled.
#[derive(Debug)]
pub enum Action {
    Plugin {
        /// Counts the plugin steps: which of a runner's guests it is.
        guest: usize,
        reference: PluginRef,
        config: Config,
        limits: StepLimits,
    },
    Filter(Arc<Expression>),
    Map {
        value: Option<Arc<Expression>>,
        key: Option<Arc<Expression>>,
        headers: Vec<(String, Arc<Expression>)>,
    },
    KeyBy(Arc<Expression>),
    Branch(Vec<Option<Arc<Expression>>>),
}

/// What becomes of a record a step fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stop,
    Skip,
    DeadLetter { sink: usize },
}

/// Records from steps to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub sink: usize,
    pub from: Vec<Source>,
    pub trace: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    pub topic: String,
    pub role: Role,
    /// Wanted partitions, where the file says.
    pub partitions: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Output,
    DeadLetter,
}

impl Plan {
    /// Compiles a checked file, with values for its `${env:..}` and `${secret:..}` references.
    ///
    /// # Errors
    /// One finding per reference that has no value.
    pub fn new(spec: &Spec, variables: &Variables) -> Result<Plan, Diagnostics> {
        check_variables(spec, variables)?;
        let mut sinks: Vec<Sink> = Vec::new();
        let position = running_positions(spec);
        let outputs: Vec<Route> = spec
            .outputs
            .iter()
            .map(|output| Route {
                sink: sink(&mut sinks, &output.topic.value, Role::Output, output.partitions),
                from: reindex(&output.from, &position),
                trace: output.trace,
            })
            .collect();
        let mut guests = 0;
        let steps = spec.order.iter().map(|index| {
            let step = &spec.steps[*index];
            Step {
                name: step.name.value.clone(),
                from: reindex(&step.from, &position),
                action: action(&step.kind, step.limits, variables, &mut guests),
                outputs: step.outputs.clone(),
                retry: step.on_error.retry,
                then: match &step.on_error.then {
                    Then::Stop => Fate::Stop,
                    Then::Skip => Fate::Skip,
                    Then::DeadLetter(topic) => {
                        Fate::DeadLetter { sink: sink(&mut sinks, topic, Role::DeadLetter, None) }
                    }
                },
            }
        });
        let steps = steps.collect();
        let inputs = spec.inputs.iter().map(|InputSpec { topic, from, partitions }| Input {
            topic: topic.value.clone(),
            from: *from,
            partitions: *partitions,
        });
        let inputs = inputs.collect();
        Ok(Plan { name: spec.name.value.clone(), guarantee: spec.guarantee, inputs, steps, outputs, sinks })
    }

    /// The plugin steps, in the order of a runner's guests.
    pub fn plugins(&self) -> impl Iterator<Item = PluginStep<'_>> {
        self.steps.iter().enumerate().filter_map(|(index, step)| match &step.action {
            Action::Plugin { reference, config, limits, .. } => {
                Some(PluginStep { index, step, reference, config, limits: *limits })
            }
            _ => None,
        })
    }

    /// Topics dead letters go to.
    pub fn dead_letter_topics(&self) -> impl Iterator<Item = &str> {
        let used = |sink: &usize| self.steps.iter().any(|step| step.then == Fate::DeadLetter { sink: *sink });
        (0..self.sinks.len()).filter(used).map(|sink| self.sinks[sink].topic.as_str())
    }

    /// Whether `other` is this plan with other plugins or settings at most: the same inputs, steps,
    /// expressions, policies and outputs, so that its tasks can go on with new guests.
    pub fn same_shape(&self, other: &Plan) -> bool {
        let same_step = |(a, b): (&Step, &Step)| {
            a.name == b.name
                && a.from == b.from
                && a.outputs == b.outputs
                && a.retry == b.retry
                && a.then == b.then
                && same_action(&a.action, &b.action)
        };
        self.name == other.name
            && self.guarantee == other.guarantee
            && self.inputs == other.inputs
            && self.outputs == other.outputs
            && self.sinks == other.sinks
            && self.steps.len() == other.steps.len()
            && self.steps.iter().zip(&other.steps).all(same_step)
    }
}

/// One plugin step of a plan.
#[derive(Clone, Copy, Debug)]
pub struct PluginStep<'p> {
    /// Its place in [`Plan::steps`].
    pub index: usize,
    pub step: &'p Step,
    pub reference: &'p PluginRef,
    pub config: &'p Config,
    pub limits: StepLimits,
}

fn same_action(a: &Action, b: &Action) -> bool {
    match (a, b) {
        (Action::Plugin { guest: a, reference: one, .. }, Action::Plugin { guest: b, reference: two, .. }) => {
            a == b && one.name == two.name
        }
        (Action::Filter(a), Action::Filter(b)) | (Action::KeyBy(a), Action::KeyBy(b)) => a == b,
        (Action::Map { value: v1, key: k1, headers: h1 }, Action::Map { value: v2, key: k2, headers: h2 }) => {
            v1 == v2 && k1 == k2 && h1 == h2
        }
        (Action::Branch(a), Action::Branch(b)) => a == b,
        _ => false,
    }
}

fn check_variables(spec: &Spec, variables: &Variables) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::new(spec.warnings.file(), spec.text());
    for step in &spec.steps {
        let StepKind::Plugin { with, .. } = &step.kind else { continue };
        for missing in with.missing(variables) {
            let (kind, name) = missing.value.split_once(':').unwrap_or(("env", &missing.value));
            let what = if kind == "env" { "environment variable" } else { "secret" };
            let diagnostic = Diagnostic::error(format!("{what} `{name}` is not set"), missing.span.clone());
            found.push(diagnostic.label("used here"));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Where each step of the file comes in the running order.
fn running_positions(spec: &Spec) -> Vec<usize> {
    let mut position = vec![0; spec.steps.len()];
    for (running, step) in spec.order.iter().enumerate() {
        position[*step] = running;
    }
    position
}

fn reindex(from: &[Source], position: &[usize]) -> Vec<Source> {
    let moved = from.iter().map(|source| match source {
        Source::Input(input) => Source::Input(*input),
        Source::Step { step, output } => Source::Step { step: position[*step], output: *output },
    });
    moved.collect()
}

fn sink(sinks: &mut Vec<Sink>, topic: &str, role: Role, partitions: Option<u32>) -> usize {
    if let Some(found) = sinks.iter().position(|sink| sink.topic == topic) {
        sinks[found].partitions = sinks[found].partitions.or(partitions);
        return found;
    }
    sinks.push(Sink { topic: topic.to_string(), role, partitions });
    sinks.len() - 1
}

fn action(kind: &StepKind, limits: StepLimits, variables: &Variables, guests: &mut usize) -> Action {
    match kind {
        StepKind::Plugin { reference, with } => {
            *guests += 1;
            let config = with.resolve(variables);
            Action::Plugin { guest: *guests - 1, reference: reference.value.clone(), config, limits }
        }
        StepKind::Filter(test) => Action::Filter(Arc::clone(test)),
        StepKind::Map { value, key, headers } => {
            Action::Map { value: value.clone(), key: key.clone(), headers: headers.clone() }
        }
        StepKind::KeyBy(by) => Action::KeyBy(Arc::clone(by)),
        StepKind::Branch(arms) => Action::Branch(arms.clone()),
    }
}
