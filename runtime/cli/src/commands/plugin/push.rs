//! `plugin push`: builds a crate, or takes a component of any toolchain, and uploads it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use millstream_plugin_host::{Kind, inspect};
use millstream_protocol::message::{PluginDescription, UploadPluginAck};

use super::FolderArgs;
use super::list::asks;
use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs};
use crate::console::Console;
use crate::format::{bytes, short_digest};
use crate::json;
use crate::plugin_crate::{Built, Show};
use crate::problem::Problem;
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin push
  millstream plugin push plugins/redact
  millstream plugin push shout.wasm --name shout --plugin-version 1.0.0")]
pub(crate) struct Args {
    /// A plugin's folder, or a component's file
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    plugin: PathBuf,
    /// Name, for a component that does not carry one
    #[arg(long)]
    name: Option<String>,
    /// Version, for a component that does not carry one
    #[arg(long = "plugin-version", value_name = "VERSION")]
    plugin_version: Option<String>,
    /// Replace this version if it exists with other contents; meant for development
    #[arg(long)]
    replace: bool,
    /// Download nothing: build with the crates and the WebAssembly target that are here
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let Args { plugin, name, plugin_version, replace, offline, server } = args;
    let mut built = if plugin.is_dir() {
        FolderArgs { folder: plugin.clone(), offline }.open(&context.console)?.build(&context.console, Show::Calm)?
    } else {
        read_component(&plugin)?
    };
    built.name = name.unwrap_or(built.name);
    built.version = plugin_version.unwrap_or(built.version);
    if built.name.is_empty() || built.version.is_empty() {
        return Err(Problem::usage(format!("{} carries no name and version", plugin.display()))
            .help("give them: --name NAME --plugin-version 1.0.0")
            .into());
    }
    let ack = block_on(async {
        let server = server.connect().await?;
        upload(&server, &built, replace, &context.console).await
    })?;
    let about = ack.plugin.as_ref().context("the broker did not say what it received")?;
    if context.format == Format::Json {
        return Ok(print_json(&json::plugin(about))?);
    }
    let verb = if ack.existed { "Exists" } else { "Pushed" };
    context.console.verb(verb, &describe(about));
    Ok(())
}

/// `price@0.1.0  9c41d0aa  112 KiB, asks for nothing`
pub(crate) fn describe(plugin: &PluginDescription) -> String {
    let PluginDescription { name, version, digest, bytes: size, asks: wants, .. } = plugin;
    format!("{name}@{version}  {}  {}, asks for {}", short_digest(digest), bytes(*size), asks(wants))
}

/// Reads a component made by any toolchain.
///
/// # Errors
/// It is no file, or no component.
pub(crate) fn read_component(path: &Path) -> Result<Built> {
    let component = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found(format!("there is no {}", path.display()))
            .help("name a plugin's folder, or a component's file"),
        _ => Problem::failure(format!("{}: {error}", path.display())),
    })?;
    let refused = |cause: String| Problem::refused(format!("{}: {cause}", path.display()));
    let found = inspect(&component).map_err(|error| refused(error.to_string()))?;
    if found.kind == Kind::CoreModule {
        return Err(refused(millstream_plugin_host::LoadError::CoreModule.to_string()).into());
    }
    let manifest = found.manifest.unwrap_or_default();
    Ok(Built { name: manifest.name, version: manifest.version, component, took: std::time::Duration::ZERO })
}

/// Uploads a component in chunks, with a bar.
///
/// # Errors
/// The broker's reasons to refuse it, in words for its author.
pub(crate) async fn upload(
    server: &Server,
    built: &Built,
    replace: bool,
    console: &Console,
) -> Result<UploadPluginAck> {
    let bar = console.bar("Uploading", Some(built.component.len() as u64));
    bar.set_message(format!("{}@{}", built.name, built.version));
    let ack = server.upload_plugin(built, replace, |sent| bar.set_position(sent)).await;
    bar.finish_and_clear();
    ack
}
