//! Connects what was read: names the steps, resolves every `from`, orders the steps, and checks what
//! concerns more than one part: names used twice, circles, topics that feed themselves, unused parts.

use std::collections::HashMap;

use super::fields::Reader;
use super::step::{RawStep, STEP_OUTPUTS_MAX};
use super::{Raw, RawOutput};
use crate::diagnostic::Diagnostic;
use crate::spec::{InputSpec, OnError, OutputSpec, Source, Spec, StepKind, StepLimits, StepSpec};
use crate::yaml::{At, Span};

pub(super) fn connect(reader: &mut Reader, raw: Raw) -> Option<Spec> {
    let Raw { name, guarantee, inputs, mut steps, outputs } = raw;
    check_inputs(reader, &inputs);
    let names = name_steps(reader, &inputs, &steps);
    let mut wires = Wires { names: &names, inputs: &inputs, steps: &mut steps };
    let step_sources: Vec<Vec<Source>> = (0..names.len()).map(|i| wires.of_step(reader, i)).collect();
    let output_sources: Vec<Vec<Source>> = outputs.iter().map(|output| wires.of_output(reader, output)).collect();
    let order = order(reader, &names, &step_sources);
    check_topics(reader, &inputs, &steps, &outputs);
    if reader.diagnostics.has_errors() {
        return None;
    }
    check_unused(reader, &inputs, &names, &steps, (&step_sources, &output_sources));
    let steps = names.into_iter().zip(steps).zip(step_sources).map(|((name, step), from)| StepSpec {
        name,
        from,
        kind: step.kind.expect("a step without kind was reported as an error"),
        outputs: step.outputs,
        on_error: step.on_error,
        limits: step.limits,
    });
    let mut spec = Spec {
        name: name?,
        guarantee,
        inputs,
        steps: steps.collect(),
        order: order?,
        outputs: Vec::new(),
        warnings: reader.diagnostics.clone(),
    };
    for (output, from) in outputs.into_iter().zip(output_sources) {
        add_output(&mut spec, output, from);
    }
    Some(spec)
}

/// An output's own `key` is a step before it.
fn add_output(spec: &mut Spec, output: RawOutput, mut from: Vec<Source>) {
    if let Some(key) = output.key {
        spec.order.push(spec.steps.len());
        spec.steps.push(StepSpec {
            name: At::new(format!("{}.key", output.topic.value), output.topic.span.clone()),
            from,
            kind: StepKind::KeyBy(key),
            outputs: vec![String::new()],
            on_error: OnError::default(),
            limits: StepLimits::default(),
        });
        from = vec![Source::Step { step: spec.steps.len() - 1, output: 0 }];
    }
    let RawOutput { topic, trace, partitions, .. } = output;
    spec.outputs.push(OutputSpec { topic, from, trace, partitions });
}

fn check_inputs(reader: &mut Reader, inputs: &[InputSpec]) {
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    for input in inputs {
        if let Some(first) = seen.get(input.topic.value.as_str()) {
            let message = format!("topic `{}` is an input already", input.topic.value);
            let diagnostic =
                Diagnostic::error(message, input.topic.span.clone()).related((*first).clone(), "first here");
            reader.report(diagnostic);
        } else {
            seen.insert(&input.topic.value, &input.topic.span);
        }
    }
}

/// The steps' names: their own, else what they do, made unique.
fn name_steps(reader: &mut Reader, inputs: &[InputSpec], steps: &[RawStep]) -> Vec<At<String>> {
    let mut taken: HashMap<String, Span> = HashMap::new();
    for name in steps.iter().filter_map(|step| step.name.as_ref()) {
        if let Some(first) = taken.get(&name.value) {
            let diagnostic = Diagnostic::error(format!("two steps are named `{}`", name.value), name.span.clone())
                .related(first.clone(), "first here");
            reader.report(diagnostic);
        }
        if let Some(input) = inputs.iter().find(|input| input.topic.value == name.value) {
            let message = format!("step `{}` has the name of an input topic: `from` could mean either", name.value);
            let diagnostic = Diagnostic::error(message, name.span.clone())
                .related(input.topic.span.clone(), "the input")
                .help("give the step another name");
            reader.report(diagnostic);
        }
        taken.entry(name.value.clone()).or_insert_with(|| name.span.clone());
    }
    let mut names = Vec::with_capacity(steps.len());
    for step in steps {
        if let Some(name) = &step.name {
            names.push(name.clone());
            continue;
        }
        let base = match &step.kind {
            Some(StepKind::Plugin { reference, .. }) => reference.value.name.clone(),
            Some(kind) => kind.name().to_string(),
            None => "step".to_string(),
        };
        let free = |name: &String| !taken.contains_key(name) && inputs.iter().all(|input| input.topic.value != *name);
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(free).expect("numbers do not run out");
        taken.insert(name.clone(), step.span.clone());
        names.push(At::new(name, step.span.clone()));
    }
    names
}

struct Wires<'r> {
    names: &'r [At<String>],
    inputs: &'r [InputSpec],
    steps: &'r mut Vec<RawStep>,
}

impl Wires<'_> {
    fn of_step(&mut self, reader: &mut Reader, step: usize) -> Vec<Source> {
        match self.steps[step].from.clone() {
            Some(from) => from.iter().filter_map(|name| self.resolve(reader, name)).collect(),
            None if step == 0 => self.all_inputs(),
            None => {
                let span = self.steps[step].span.clone();
                self.main_of(reader, step - 1, &span).into_iter().collect()
            }
        }
    }

    fn of_output(&mut self, reader: &mut Reader, output: &RawOutput) -> Vec<Source> {
        match (&output.from, self.steps.len()) {
            (Some(from), _) => from.iter().filter_map(|name| self.resolve(reader, name)).collect(),
            (None, 0) => self.all_inputs(),
            (None, steps) => self.main_of(reader, steps - 1, &output.topic.span).into_iter().collect(),
        }
    }

    fn all_inputs(&self) -> Vec<Source> {
        (0..self.inputs.len()).map(Source::Input).collect()
    }

    fn resolve(&mut self, reader: &mut Reader, name: &At<String>) -> Option<Source> {
        if let Some(step) = self.step_named(&name.value) {
            return self.main_of(reader, step, &name.span);
        }
        if let Some(input) = self.inputs.iter().position(|input| input.topic.value == name.value) {
            return Some(Source::Input(input));
        }
        if let Some((step, output)) = name.value.rsplit_once('.')
            && let Some(step) = self.step_named(step)
        {
            return self.named_output(reader, step, output, name);
        }
        let candidates = self.candidates();
        let diagnostic = Diagnostic::error(format!("no input or step is named `{}`", name.value), name.span.clone())
            .did_you_mean(&name.value, candidates.iter().map(String::as_str))
            .help(format!("records come from: {}", candidates.join(", ")));
        reader.report(diagnostic);
        None
    }

    fn step_named(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own.value == name)
    }

    fn candidates(&self) -> Vec<String> {
        let inputs = self.inputs.iter().map(|input| input.topic.value.clone());
        let steps = self.names.iter().zip(self.steps.iter()).flat_map(|(name, step)| match &step.kind {
            Some(StepKind::Branch(_)) => step.outputs.iter().map(|output| format!("{}.{output}", name.value)).collect(),
            _ => vec![name.value.clone()],
        });
        inputs.chain(steps).collect()
    }

    /// The main output of a step; a branch has none.
    fn main_of(&self, reader: &mut Reader, step: usize, span: &Span) -> Option<Source> {
        let raw = &self.steps[step];
        if !matches!(raw.kind, Some(StepKind::Branch(_))) {
            return Some(Source::Step { step, output: 0 });
        }
        let name = &self.names[step].value;
        let outputs: Vec<String> = raw.outputs.iter().map(|output| format!("{name}.{output}")).collect();
        let diagnostic = Diagnostic::error(format!("branch `{name}` has several outputs: say which one"), span.clone())
            .label("needs `from`")
            .help(format!("from: {}", outputs.join(" | ")));
        reader.report(diagnostic);
        None
    }

    fn named_output(&mut self, reader: &mut Reader, step: usize, output: &str, at: &At<String>) -> Option<Source> {
        let name = &self.names[step].value;
        let raw = &mut self.steps[step];
        if let Some(output) = raw.outputs.iter().position(|own| own == output) {
            return Some(Source::Step { step, output });
        }
        let diagnostic = match &raw.kind {
            None => return None,
            Some(StepKind::Plugin { .. }) if raw.outputs.len() < STEP_OUTPUTS_MAX => {
                raw.outputs.push(output.to_string());
                return Some(Source::Step { step, output: raw.outputs.len() - 1 });
            }
            Some(StepKind::Plugin { .. }) => {
                let message = format!("step `{name}` has more than {STEP_OUTPUTS_MAX} outputs");
                Diagnostic::error(message, at.span.clone())
            }
            Some(StepKind::Branch(_)) => {
                Diagnostic::error(format!("branch `{name}` has no output `{output}`"), at.span.clone())
                    .did_you_mean(output, raw.outputs.iter().map(String::as_str))
                    .help(format!("its outputs are: {}", raw.outputs.join(", ")))
            }
            Some(kind) => {
                let message = format!("step `{name}` is a {}: it has one output", kind.name());
                Diagnostic::error(message, at.span.clone()).label(format!("write `{name}`"))
            }
        };
        reader.report(diagnostic);
        None
    }
}

/// The steps in an order in which each comes after all it takes records from; a circle is an error.
fn order(reader: &mut Reader, names: &[At<String>], sources: &[Vec<Source>]) -> Option<Vec<usize>> {
    let before = |step: usize| {
        sources[step].iter().filter_map(|source| match source {
            Source::Step { step, .. } => Some(*step),
            Source::Input(_) => None,
        })
    };
    let mut order: Vec<usize> = Vec::with_capacity(names.len());
    let mut placed = vec![false; names.len()];
    while let Some(next) = (0..names.len()).find(|step| !placed[*step] && before(*step).all(|other| placed[other])) {
        placed[next] = true;
        order.push(next);
    }
    let Some(start) = placed.iter().position(|placed| !placed) else { return Some(order) };
    // Every unplaced step waits for an unplaced one, so walking back must meet a step twice.
    let mut walk = vec![start];
    loop {
        let last = walk[walk.len() - 1];
        let next = before(last).find(|other| !placed[*other]).expect("an unplaced step waits for one");
        if let Some(at) = walk.iter().position(|step| *step == next) {
            let mut circle: Vec<&str> = walk[at..].iter().rev().map(|step| names[*step].value.as_str()).collect();
            circle.push(circle[0]);
            let message = format!("records would go in a circle: {}", circle.join(" -> "));
            reader.report(Diagnostic::error(message, names[next].span.clone()));
            return None;
        }
        walk.push(next);
    }
}

fn check_topics(reader: &mut Reader, inputs: &[InputSpec], steps: &[RawStep], outputs: &[RawOutput]) {
    let input = |topic: &str| inputs.iter().find(|input| input.topic.value == topic);
    for output in outputs {
        if let Some(input) = input(&output.topic.value) {
            let message = format!("topic `{}` is input and output: the pipeline would feed itself", output.topic.value);
            let diagnostic =
                Diagnostic::error(message, output.topic.span.clone()).related(input.topic.span.clone(), "read here");
            reader.report(diagnostic);
        }
    }
    for topic in steps.iter().filter_map(|step| step.dead_letter.as_ref()) {
        if let Some(input) = input(&topic.value) {
            let message = format!("dead letters to the input `{}` would come back for ever", topic.value);
            let diagnostic =
                Diagnostic::error(message, topic.span.clone()).related(input.topic.span.clone(), "read here");
            reader.report(diagnostic);
        } else if let Some(output) = outputs.iter().find(|output| output.topic.value == topic.value) {
            let message = format!("dead letters and results would be mixed in `{}`", topic.value);
            let diagnostic =
                Diagnostic::warning(message, topic.span.clone()).related(output.topic.span.clone(), "results go here");
            reader.report(diagnostic);
        }
    }
}

fn check_unused(
    reader: &mut Reader,
    inputs: &[InputSpec],
    names: &[At<String>],
    steps: &[RawStep],
    (step_sources, output_sources): (&[Vec<Source>], &[Vec<Source>]),
) {
    let used: Vec<Source> = step_sources.iter().chain(output_sources).flatten().copied().collect();
    for (i, input) in inputs.iter().enumerate() {
        if !used.contains(&Source::Input(i)) {
            let message = format!("no step or output takes the records of `{}`", input.topic.value);
            reader.report(Diagnostic::warning(message, input.topic.span.clone()).label("read for nothing"));
        }
    }
    for (i, (name, step)) in names.iter().zip(steps).enumerate() {
        let takes_part = |source: &Source| matches!(source, Source::Step { step, .. } if *step == i);
        if !used.iter().any(takes_part) {
            let message = format!("no step or output takes the records of step `{}`", name.value);
            reader.report(Diagnostic::warning(message, step.span.clone()).label("runs for nothing"));
        }
    }
}
