//! One call of a plugin per batch, on one thread, without broker; against the same work on the same columns in
//! native Rust. Times are CPU time of the thread, so a busy machine disturbs little.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use millstream_plugin_host::{Engine, EngineConfig, InstanceConfig, Plugin, Processed};
use millstream_protocol::Columns;
use rustix::time::ClockId;

use super::parts;
use crate::commands::bench::Stage;
use crate::commands::bench::args::{Args, Load};
use crate::commands::bench::measure::{Sample, Stopwatch, clock};
use crate::commands::bench::rounds::{Compare, Scene};
use crate::commands::bench::values::Values;
use crate::console::Console;
use crate::format::{bytes, count};
use crate::plugin_source::{Built, PluginSource, Show};
use crate::problem::Problem;

/// Records of a call unless told otherwise.
const BATCH_RECORDS: usize = 256;
/// Calls before the measured ones: they fill caches and grow memory.
const WARM_UP: usize = 10;

#[derive(Clone, Copy)]
enum Part {
    Plugin,
    Native,
}

pub(in super::super) async fn plugin(stage: &mut Stage<'_>) -> Result<Scene> {
    let built = find(stage.args, &stage.console)?;
    let load = &stage.load;
    let engine = Engine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() })?;
    let plugin = engine.compile(&built.component)?;
    let batch = Arc::new(batch(load, &stage.values));
    let calls = (load.records / batch.len() as u64).max(1);
    let title = format!(
        "{}@{}, records of {}, {} per call, CPU time of one thread",
        built.name,
        built.version,
        bytes(load.record_bytes as u64),
        count(batch.len() as u64)
    );
    let scene = Scene { what: "plugin", title, compare: Compare::Cost, series: Vec::new() };
    // The same work is known for the one that passes records on.
    let both = [(Part::Plugin, "guest call"), (Part::Native, "native columns")];
    let all = if built.name == "identity" { &both[..] } else { &both[..1] };
    scene
        .play((load.runs, &stage.bar), &parts(load, all), async |part| {
            let (plugin, batch) = (Arc::clone(&plugin), Arc::clone(&batch));
            let config_json = stage.args.with.clone().unwrap_or_else(|| "null".to_owned());
            let run = move || match part {
                Part::Plugin => guest(&plugin, config_json, &batch, calls),
                Part::Native => Ok(native(&batch, calls)),
            };
            tokio::task::spawn_blocking(run).await?
        })
        .await
}

/// The plugin asked for, or the repository's that does nothing, if we are in the repository.
///
/// # Errors
/// There is none, or it does not build.
pub(super) fn find(args: &Args, console: &Console) -> Result<Built> {
    let own = Path::new("plugins/identity");
    let path = match &args.plugin {
        Some(path) => path.as_path(),
        None if own.join("Cargo.toml").exists() => own,
        None => {
            return Err(Problem::usage("there is no plugins/identity in the current folder")
                .help("name a plugin's folder or component with --plugin")
                .into());
        }
    };
    PluginSource::open(path, false, console)?.build(console, Show::Calm)
}

/// How a pipeline's step names it: `name@version`, with its configuration.
pub(super) fn reference(built: &Built, args: &Args) -> String {
    let with = args.with.as_ref().map(|json| format!(", with: {json}")).unwrap_or_default();
    format!("{}@{}{with}", built.name, built.version)
}

fn batch(load: &Load, values: &Values) -> Columns {
    let records = if load.batch == 1 { BATCH_RECORDS } else { load.batch };
    let mut batch = Columns::default();
    for i in 0..records as u64 {
        batch.push(i as i64, 1_700_000_000_000 + i as i64, values.key(i), Some(values.value(i)));
    }
    batch
}

fn guest(plugin: &Arc<Plugin>, config_json: String, batch: &Columns, calls: u64) -> Result<Sample> {
    let outputs = std::iter::once(String::new()).chain(plugin.manifest().outputs.iter().cloned()).collect();
    let mut instance = plugin.instantiate(InstanceConfig { config_json, outputs, ..InstanceConfig::default() })?;
    let mut processed = Processed::default();
    for _ in 0..WARM_UP {
        instance.process(batch, &mut processed)?;
    }
    let mut failed = None;
    let sample = timed(batch, calls, || failed = failed.take().or(instance.process(batch, &mut processed).err()));
    match failed {
        None => Ok(sample),
        Some(failure) => Err(failure.into()),
    }
}

/// What the plugin that passes records on does, in the same columns.
fn native(batch: &Columns, calls: u64) -> Sample {
    let mut out = Columns::default();
    let mut pass = || {
        out.clear();
        batch.rows().for_each(|row| out.push_row(&row));
        std::hint::black_box(&out);
    };
    (0..WARM_UP).for_each(|_| pass());
    timed(batch, calls, pass)
}

fn timed(batch: &Columns, calls: u64, mut call: impl FnMut()) -> Sample {
    let watch = Stopwatch::start(None);
    let before = clock(ClockId::ThreadCPUTime);
    (0..calls).for_each(|_| call());
    let took = clock(ClockId::ThreadCPUTime).saturating_sub(before);
    let records = calls * batch.len() as u64;
    Sample { took, cpu: took, ..watch.stop(records, calls * batch.payload_bytes() as u64) }
}
