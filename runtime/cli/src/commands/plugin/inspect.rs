//! `plugin inspect`: what a component says about itself, without running it. A file, or an uploaded plugin.

use std::path::Path;

use anyhow::{Context as _, Result};
use millstream_plugin_host::{Inspection, Kind, digest, inspect};
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::{bytes, hex};
use crate::table::{Format, print_json, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin inspect redact.wasm
  millstream plugin inspect redact@0.1.0")]
pub(crate) struct Args {
    /// A file, or NAME@VERSION of an uploaded plugin
    #[arg(value_name = "FILE|NAME@VERSION")]
    plugin: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let path = Path::new(&args.plugin);
    let component = if path.exists() {
        std::fs::read(path).with_context(|| args.plugin.clone())?
    } else if args.plugin.contains('@') {
        block_on(download(args))?
    } else {
        return Err(crate::problem::Problem::not_found(format!("there is no file {}", path.display()))
            .help("an uploaded plugin is named with its version: NAME@VERSION")
            .into());
    };
    let found = inspect(&component)?;
    print(&found, &digest(&component), context.format)
}

async fn download(args: Args) -> Result<Vec<u8>> {
    let server = args.server.connect().await?;
    let plugin = super::list::find(&server, &args.plugin).await?;
    server.download_plugin(plugin.digest).await
}

fn print(found: &Inspection, digest: &[u8; 32], format: Format) -> Result<()> {
    let manifest = found.manifest.clone().unwrap_or_default();
    if format == Format::Json {
        let kind = if found.kind == Kind::Component { "component" } else { "core module" };
        return Ok(print_json(&json!({
            "kind": kind, "digest": hex(digest), "bytes": found.bytes, "name": manifest.name, "version": manifest.version,
            "description": manifest.description, "outputs": manifest.outputs, "asks": manifest.asks, "sdk": manifest.sdk,
            "imports": found.imports, "exports": found.exports,
        }))?);
    }
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let line = |name: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { print_line(&format!("{name:<12} {value}")) }
    };
    match found.kind {
        Kind::Component => line("kind", "component")?,
        Kind::CoreModule => line("kind", "core module: build it with \"millstream plugin build\"")?,
    }
    if !manifest.name.is_empty() {
        line("name", &format!("{}@{}", manifest.name, manifest.version))?;
    }
    line("description", &manifest.description)?;
    line("digest", &hex(digest))?;
    line("size", &bytes(found.bytes as u64))?;
    line("outputs", &names(&manifest.outputs))?;
    line("asks for", &names(&manifest.asks))?;
    line("sdk", &manifest.sdk)?;
    line("imports", &names(&found.imports))?;
    line("exports", &names(&found.exports))?;
    Ok(())
}
