//! `pipeline check`: the file alone; with `--server` also the topics and plugins it names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use millstream_pipeline::config::Variables;
use millstream_pipeline::spec::StepKind;
use millstream_pipeline::{Diagnostics, Plan, Spec};
use millstream_protocol::message::ApplyPipeline;
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::console::Console;
use crate::format::plural;
use crate::problem::{Exit, Problem, Shown};
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream pipeline check pipelines/orders.yaml
  millstream pipeline check pipelines/*.yaml --server 127.0.0.1:9094")]
pub(crate) struct Args {
    /// Pipeline files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let mut good = Vec::new();
    let mut broken = 0;
    for file in &args.files {
        match parse_file(file)? {
            Ok(spec) => {
                show(&context.console, &spec.warnings);
                good.push((file, spec));
            }
            Err(diagnostics) => {
                show(&context.console, &diagnostics);
                broken += 1;
            }
        }
    }
    if broken > 0 {
        return Err(Shown(Exit::Refused).into());
    }
    if args.server.was_named() {
        let console = context.console.clone();
        let texts: Vec<(Spec, String)> = good.iter().map(|(_, spec)| (spec.clone(), spec.text().to_owned())).collect();
        block_on(check_with_broker(args.server, texts, console))?;
    }
    if context.format == Format::Json {
        let files = good.iter().map(|(file, spec)| json!({ "file": file, "pipeline": spec.name.value, "valid": true }));
        return Ok(print_json(&files.collect())?);
    }
    for (file, spec) in &good {
        let what = format!(
            "{}  {}: {}, {}, {}",
            file.display(),
            spec.name.value,
            plural(spec.inputs.len() as u64, "input"),
            plural(spec.steps.len() as u64, "step"),
            plural(spec.outputs.len() as u64, "output")
        );
        context.console.verb("Valid", &what);
    }
    Ok(())
}

/// A dry run of applying each file.
async fn check_with_broker(server: ServerArgs, specs: Vec<(Spec, String)>, console: Console) -> Result<()> {
    let server = server.connect().await?;
    for (spec, yaml) in specs {
        let request = ApplyPipeline { yaml, variables: variables(&spec)?, create_partitions: 0, dry_run: true };
        for line in server.call(request).await?.plan {
            console.verb("Would", &line);
        }
    }
    Ok(())
}

/// Reads and parses a pipeline file; mistakes in it are the inner error.
///
/// # Errors
/// The file can't be read.
pub(crate) fn parse_file(file: &Path) -> Result<Result<Spec, Diagnostics>> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found(format!("there is no file {}", file.display())),
        std::io::ErrorKind::InvalidData => Problem::refused(format!("{} is not UTF-8 text", file.display())),
        _ => Problem::failure(format!("{}: {error}", file.display())),
    })?;
    Ok(millstream_pipeline::parse(&text, &file.to_string_lossy()))
}

/// Shows findings as the compiler of Rust shows its own.
pub(crate) fn show(console: &Console, diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        let shown = if console.is_coloured() { diagnostics.coloured() } else { diagnostics.plain() };
        console.line(&format!("{shown}\n"));
    }
}

/// The values of `${env:NAME}` and `${secret:NAME}` in a file: from the environment, secrets under the
/// name `MILLSTREAM_SECRET_NAME`, or from the file that `MILLSTREAM_SECRET_NAME_FILE` names.
///
/// # Errors
/// One has no value; all of them are shown at their places.
pub(crate) fn variables(spec: &Spec) -> Result<Vec<(String, String)>> {
    let mut values: Vec<(String, String)> = Vec::new();
    for step in &spec.steps {
        let StepKind::Plugin { with, .. } = &step.kind else { continue };
        for reference in with.references() {
            let name = &reference.value;
            if values.iter().any(|(known, _)| known == name) {
                continue;
            }
            if let Some(value) = resolve(name)? {
                values.push((name.clone(), value));
            }
        }
    }
    match Plan::new(spec, &values.iter().cloned().collect::<Variables>()) {
        Ok(_) => Ok(values),
        Err(missing) => Err(Problem::refused(format!("a value is missing\n{missing}"))
            .help("set the environment variable NAME for ${env:NAME}, MILLSTREAM_SECRET_NAME (or _FILE) for ${secret:NAME}")
            .into()),
    }
}

fn resolve(reference: &str) -> Result<Option<String>> {
    let Some(name) = reference.strip_prefix("secret:") else {
        return Ok(std::env::var(reference.trim_start_matches("env:")).ok());
    };
    let variable = format!("MILLSTREAM_SECRET_{name}");
    if let Ok(file) = std::env::var(format!("{variable}_FILE")) {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{variable}_FILE: {file}"))?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(std::env::var(variable).ok())
}
