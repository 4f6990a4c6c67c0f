//! From a YAML text to everything its tasks need: the checked plan, the exact plugin of each step, the
//! compiled plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_cluster::metadata::PluginUse;
use millstream_pipeline::config::Variables;
use millstream_pipeline::plan::PluginStep;
use millstream_pipeline::{Plan, parse};
use millstream_plugin_host::limits::OUTPUTS_MAX;
use millstream_protocol::{ErrorCode, Failure, Secret};

use super::guest::{Ending, GuestSpec, Home};
use super::logs::Logs;
use super::masks::Masks;
use crate::plugins::Plugins;

/// A pipeline that could run.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) yaml: String,
    pub(super) variables: BTreeMap<String, Secret>,
    pub(super) plan: Arc<Plan>,
    /// One per plugin step, in their order.
    pub(super) uses: Vec<PluginUse>,
    pub(super) guests: Vec<Arc<GuestSpec>>,
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidPipeline, message)
}

/// Checks and compiles the text.
pub(super) fn read(yaml: &str, variables: &BTreeMap<String, Secret>) -> Result<Plan, Failure> {
    let spec = parse(yaml, "pipeline").map_err(|found| invalid(found.plain()))?;
    let exposed = variables.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let variables: Variables = exposed.collect();
    Plan::new(&spec, &variables).map_err(|found| invalid(found.plain()))
}

/// The newest plugin each step's reference fits.
pub(super) fn choose(plugins: &Plugins, plan: &Plan) -> Result<Vec<PluginUse>, Failure> {
    plan.plugins()
        .map(|PluginStep { step, reference, .. }| {
            let named =
                |failure: Failure| Failure::new(failure.code, format!("step `{}`: {}", step.name, failure.message));
            let found = plugins.resolve(reference).map_err(named)?;
            Ok(PluginUse { step: step.name.clone(), name: found.name, version: found.version, digest: found.digest })
        })
        .collect()
}

/// Loads the plugins and checks that they are what the plan takes them for.
pub(super) async fn load(
    plugins: &Plugins,
    plan: &Plan,
    uses: &[PluginUse],
    masks: &Masks,
) -> Result<Vec<Arc<GuestSpec>>, Failure> {
    let mut guests = Vec::with_capacity(uses.len());
    for (PluginStep { step, config, limits, .. }, used) in plan.plugins().zip(uses) {
        let plugin = plugins.load(used.digest).await?;
        let declared = &plugin.manifest().outputs;
        if let Some(unknown) =
            step.outputs[1..].iter().find(|output| !declared.is_empty() && !declared.contains(output))
        {
            let (step, name) = (&step.name, &used.name);
            return Err(invalid(format!(
                "step `{step}`: plugin `{name}` has no output `{unknown}`, it has {}",
                declared.join(", ")
            )));
        }
        // Outputs the plugin has and nobody takes are allowed, their rows dropped.
        let mut outputs = step.outputs.clone();
        let untaken = declared.iter().filter(|output| !step.outputs.contains(output));
        outputs.extend(untaken.take(OUTPUTS_MAX.saturating_sub(step.outputs.len())).cloned());
        let (step, config, masks) = (step.name.clone(), config.clone(), masks.clone());
        guests.push(Arc::new(GuestSpec { step, plugin, config, limits, outputs, masks }));
    }
    Ok(guests)
}

/// Starts every guest once and lets it go, so that bad settings are told to who applies them.
pub(super) async fn try_start(plan: &Plan, guests: &[Arc<GuestSpec>]) -> Result<(), Failure> {
    let home = Home {
        topic: plan.inputs[0].topic.clone(),
        partition: 0,
        logs: Arc::new(Logs::default()),
        ending: Arc::new(Ending::default()),
        counted: Arc::default(),
    };
    let guests = guests.to_vec();
    let tried = tokio::task::spawn_blocking(move || {
        let start =
            |guest: &Arc<GuestSpec>| guest.start(&home).map_err(|e| invalid(format!("step `{}`: {e}", guest.step)));
        guests.iter().try_for_each(|guest| start(guest).map(drop))
    });
    tried.await.unwrap_or_else(|e| Err(Failure::new(ErrorCode::Internal, e.to_string())))
}
