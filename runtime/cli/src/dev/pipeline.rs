//! One pipeline of the project: checked and applied on save, and when a plugin it uses came out different.

use std::path::{Path, PathBuf};

use anyhow::Result;
use millstream_pipeline::Spec;
use millstream_pipeline::spec::StepKind;
use millstream_protocol::message::{ApplyPipeline, ApplyPipelineAck};

use crate::commands::pipeline::{parse_file, report_swaps, show, variables};
use crate::connect::Server;
use crate::console::{Console, Tone};
use crate::format::plural;
use crate::problem::{Exit, Shown, explain};

pub(super) struct Pipeline {
    pub(super) file: PathBuf,
    running: Option<Running>,
}

/// What was applied last.
struct Running {
    name: String,
    text: String,
    revision: u32,
    /// Names of plugins.
    uses: Vec<String>,
}

/// What applying a file did.
pub(super) struct Applied {
    /// Something else runs now, and that was told.
    pub(super) told: bool,
    /// Names of the plugins that were swapped.
    pub(super) swapped: Vec<String>,
}

impl Running {
    fn parse(&self) -> Spec {
        millstream_pipeline::parse(&self.text, "").expect("it was parsed before it was applied")
    }
}

impl Pipeline {
    pub(super) fn new(file: PathBuf) -> Self {
        Pipeline { file, running: None }
    }

    /// Its name, once it runs.
    pub(super) fn name(&self) -> Option<&str> {
        self.running.as_ref().map(|running| running.name.as_str())
    }

    /// Whether it runs and uses one of these plugins.
    pub(super) fn uses(&self, plugins: &[String]) -> bool {
        self.running.as_ref().is_some_and(|running| running.uses.iter().any(|name| plugins.contains(name)))
    }

    /// Checks and applies the file, and tells what that did.
    /// `anew` says whether also a text is applied that runs already; where the file is not valid, that text
    /// is, so that a mistake in it does not hold up a plugin.
    ///
    /// # Errors
    /// [`Shown`] when the checker has said it all; else what the broker says. What ran before goes on.
    pub(super) async fn apply(&mut self, server: &Server, console: &Console, anew: bool) -> Result<Applied> {
        let spec = match (parse_file(&self.file)?, &self.running) {
            (Ok(spec), _) => spec,
            (Err(_), Some(running)) if anew => running.parse(),
            (Err(mistakes), _) => {
                show(console, &mistakes);
                return Err(Shown(Exit::Refused).into());
            }
        };
        if !anew && self.running.as_ref().is_some_and(|running| running.text == spec.text()) {
            return Ok(Applied { told: false, swapped: Vec::new() });
        }
        show(console, &spec.warnings);
        let request = ApplyPipeline {
            yaml: spec.text().to_owned(),
            variables: variables(&spec)?,
            create_partitions: 0,
            dry_run: false,
        };
        let ack = server.call(request).await?;
        let before = self.running.replace(Running {
            name: ack.pipeline.clone(),
            text: spec.text().to_owned(),
            revision: ack.revision,
            uses: plugins_of(&spec),
        });
        let told = tell(before.as_ref(), spec.text(), &ack, console);
        if let Some(renamed) = before.filter(|before| before.name != ack.pipeline) {
            let advice = format!("{} still runs: millstream pipeline delete {}", renamed.name, renamed.name);
            console.warn(&format!("{} declares {} now; {advice}", shown(&self.file), ack.pipeline));
        }
        Ok(Applied { told, swapped: ack.swaps.iter().map(|swap| plugin_name(&swap.plugin)).collect() })
    }

    /// Tells why [`Pipeline::apply`] failed and what goes on running.
    pub(super) fn tell_failure(&self, error: &anyhow::Error, console: &Console) {
        if !error.is::<Shown>() {
            console.line(&format!("{}:", shown(&self.file)));
            explain(console, error);
        }
        match &self.running {
            Some(Running { name, revision, .. }) => {
                console.toned(Tone::Warn, "Keeping", &format!("{name}  revision {revision}"));
            }
            None => console.toned(Tone::Warn, "Waiting", &format!("{}  for a save that works", shown(&self.file))),
        }
    }

    /// Tells that the file is again what runs.
    pub(super) fn tell_mended(&self, console: &Console) {
        let runs = self.running.as_ref().map(|it| format!("{} runs revision {}", it.name, it.revision));
        console.verb("Mended", &format!("{}  {}", shown(&self.file), runs.unwrap_or_default()));
    }

    /// Tells that the file is gone, which stops nothing.
    pub(super) fn tell_gone(&self, console: &Console) {
        if let Some(name) = self.name() {
            console.warn(&format!(
                "{} is gone; {name} goes on, to stop it: millstream pipeline delete {name}",
                shown(&self.file)
            ));
        }
    }
}

/// Whether there was something to tell.
fn tell(before: Option<&Running>, text: &str, ack: &ApplyPipelineAck, console: &Console) -> bool {
    let ApplyPipelineAck { pipeline, revision, plan, swaps, tasks } = ack;
    report_swaps(console, swaps);
    match before {
        None => console.verb("Pipeline", &format!("{pipeline}  running, {}", plural(u64::from(*tasks), "task"))),
        // A swap alone says all there is to say.
        Some(before) if before.revision != *revision && (swaps.is_empty() || before.text != text) => {
            let what = plan.iter().fold(String::new(), |text, line| text + "; " + line);
            console.verb("Applied", &format!("{pipeline}  revision {revision}{what}"));
        }
        Some(_) => return !swaps.is_empty(),
    }
    true
}

fn plugins_of(spec: &Spec) -> Vec<String> {
    let plugin = |kind: &StepKind| match kind {
        StepKind::Plugin { reference, .. } => Some(reference.value.name.clone()),
        _ => None,
    };
    spec.steps.iter().filter_map(|step| plugin(&step.kind)).collect()
}

fn plugin_name(reference: &str) -> String {
    reference.split('@').next().unwrap_or(reference).to_owned()
}

fn shown(file: &Path) -> std::path::Display<'_> {
    file.display()
}
