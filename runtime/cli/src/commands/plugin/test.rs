//! `plugin test`: the real component against `fixtures/*.yaml`, with the host's own limits.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use millstream_plugin_host::{Failure, InstanceConfig, Level, Plugin, Processed};

use super::{FixtureArgs, SourceArgs, compile};
use crate::args::Context;
use crate::fixtures::{Case, Fixture, differences};
use crate::format::plural;
use crate::plugin_source::Show;
use crate::problem::{Exit, Shown};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin test
  millstream plugin test plugins/redact
  millstream plugin test examples/plugin-python
  millstream plugin test shout.wasm --fixtures fixtures")]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    fixtures: FixtureArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let fixtures = args.fixtures.load(&args.source.plugin)?;
    let source = args.source.open(&context.console)?;
    let built = source.build(&context.console, Show::Calm)?;
    let plugin = compile(&source, &built, &context.console)?;
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for (path, fixture) in &fixtures {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        for case in &fixture.cases {
            let differences = check(&plugin, fixture, case);
            if differences.is_empty() {
                passed += 1;
                context.console.verb("Passed", &format!("{file}: {}", case.name));
                continue;
            }
            failed += 1;
            context.console.toned(crate::console::Tone::Bad, "Failed", &format!("{file}: {}", case.name));
            for difference in differences {
                context.console.line(&format!("  {difference}"));
            }
        }
    }
    let manifest = plugin.manifest();
    let summary = format!("{}@{}  {} passed, {failed} failed", manifest.name, manifest.version, plural(passed, "case"));
    context.console.verb("Tested", &summary);
    if failed > 0 { Err(Shown(Exit::Failure).into()) } else { Ok(()) }
}

/// Runs one case in an instance of its own; what differs.
fn check(plugin: &Arc<Plugin>, fixture: &Fixture, case: &Case) -> Vec<String> {
    let config = case.config.as_ref().unwrap_or(&fixture.config);
    let mut names = vec![String::new()];
    names.extend(plugin.manifest().outputs.iter().cloned());
    names.extend(case.outputs.keys().filter(|name| !plugin.manifest().outputs.contains(name)).cloned());
    let logs = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&logs);
    let log = move |level: Level, line: &str| {
        sink.lock().expect("nothing panics while holding the log").push(format!("log {level:?}: {line}"));
    };
    let setup = InstanceConfig {
        config_json: config.to_string(),
        outputs: names.clone(),
        log: Box::new(log),
        ..InstanceConfig::default()
    };
    let mut instance = match plugin.instantiate(setup) {
        Ok(_) if case.refused.is_some() => return vec!["expected the plugin to refuse to start".to_owned()],
        Ok(instance) => instance,
        Err(failure) => return refusal(case, &failure),
    };
    let mut processed = Processed::default();
    let mut found = match instance.process(&case.batch(), &mut processed) {
        Ok(()) => compare(case, &names, &processed),
        Err(failure) => vec![failure.to_string()],
    };
    if !found.is_empty() {
        found.append(&mut logs.lock().expect("nothing panics while holding the log"));
    }
    found
}

fn refusal(case: &Case, failure: &Failure) -> Vec<String> {
    let message = failure.to_string();
    match &case.refused {
        Some(words) if message.contains(words.as_str()) => Vec::new(),
        Some(words) => vec![format!("expected a refusal with `{words}`, found: {message}")],
        None => vec![message],
    }
}

fn compare(case: &Case, names: &[String], processed: &Processed) -> Vec<String> {
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let columns = processed.outputs.iter().find(|(own, _)| *own == index).map(|(_, columns)| columns);
        let expected =
            if index == 0 { case.output.as_slice() } else { case.outputs.get(name).map_or(&[][..], Vec::as_slice) };
        found.extend(differences(name, expected, columns));
    }
    for expected in &case.rejected {
        match processed.rejected.iter().find(|rejected| rejected.index == expected.index) {
            None => found.push(format!("input {}: expected a rejection, found none", expected.index)),
            Some(rejected) if !rejected.message.contains(&expected.contains) => {
                found.push(format!(
                    "input {}: expected a rejection with `{}`, found: {}",
                    expected.index, expected.contains, rejected.message
                ));
            }
            Some(_) => {}
        }
    }
    for rejected in &processed.rejected {
        if !case.rejected.iter().any(|expected| expected.index == rejected.index) {
            found.push(format!("input {}: rejected: {}", rejected.index, rejected.message));
        }
    }
    found
}
