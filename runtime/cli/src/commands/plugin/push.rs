//! `plugin push`: builds a plugin, or takes a component of any toolchain, and uploads it unless it is there.

use anyhow::{Context as _, Result};
use millstream_plugin_host::digest;
use millstream_protocol::message::{ListPlugins, PluginDescription, UploadPluginAck};
use tokio::sync::Notify;

use super::list::asks;
use super::{QUIET, SourceArgs, about_to_compile, label};
use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs};
use crate::console::Console;
use crate::format::{bytes, short_digest};
use crate::json;
use crate::plugin_source::{Built, Show};
use crate::problem::Problem;
use crate::table::{Format, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin push
  millstream plugin push plugins/redact
  millstream plugin push shout.wasm --name shout --plugin-version 1.0.0")]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Name, for a component that does not carry one
    #[arg(long)]
    name: Option<String>,
    /// Version, for a component that does not carry one
    #[arg(long = "plugin-version", value_name = "VERSION")]
    plugin_version: Option<String>,
    /// Replace this version if it exists with other contents; meant for development
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let (verb, about) = block_on(push(args, context.console.clone()))?;
    if context.format == Format::Json {
        return Ok(print_json(&json::plugin(&about))?);
    }
    context.console.verb(verb, &describe(&about));
    Ok(())
}

/// Asks for what is there before anything takes long: a build, then an upload.
async fn push(args: Args, console: Console) -> Result<(&'static str, PluginDescription)> {
    let Args { source: from, name, plugin_version, replace, server } = args;
    let source = from.open(&console)?;
    let name = name.unwrap_or_else(|| source.manifest().name.clone());
    let version = plugin_version.unwrap_or_else(|| source.manifest().version.clone());
    if name.is_empty() || version.is_empty() {
        return Err(Problem::usage(format!("{} carries no name and version", from.plugin.display()))
            .help("give them: --name NAME --plugin-version 1.0.0")
            .into());
    }
    let server = server.connect().await?;
    let there = server.call(ListPlugins { name: name.clone() }).await?.plugins;
    let there = there.into_iter().find(|plugin| plugin.name == name && plugin.version == version);
    let file = source.manifest_file();
    let building = console.clone();
    let mut built = tokio::task::spawn_blocking(move || source.build(&building, Show::Calm)).await??;
    (built.name, built.version) = (name, version);
    match there {
        Some(there) if there.digest == digest(&built.component) => return Ok(("Exists", there)),
        Some(there) if !replace => {
            let PluginDescription { name, version, digest, .. } = there;
            return Err(Problem::refused(format!(
                "`{name}@{version}` exists with other contents ({}): raise the version",
                short_digest(&digest)
            ))
            .help(format!("the version is in {file}; in development, --replace puts this in its place"))
            .into());
        }
        _ => {}
    }
    let ack = upload(&server, &built, replace, &console).await?;
    let about = ack.plugin.context("the broker did not say what it received")?;
    Ok((if ack.existed { "Exists" } else { "Pushed" }, about))
}

/// `price@0.1.0  9c41d0aa  112 KiB, asks for nothing`
pub(crate) fn describe(plugin: &PluginDescription) -> String {
    let PluginDescription { name, version, digest, bytes: size, asks: wants, .. } = plugin;
    format!("{name}@{version}  {}  {}, asks for {}", short_digest(digest), bytes(*size), asks(wants))
}

/// Uploads a component in chunks, with a bar; tells when the broker takes long to compile it.
///
/// # Errors
/// The broker's reasons to refuse it, in words for its author.
pub(crate) async fn upload(
    server: &Server,
    built: &Built,
    replace: bool,
    console: &Console,
) -> Result<UploadPluginAck> {
    let size = built.component.len() as u64;
    let bar = console.bar("Uploading", Some(size));
    bar.set_message(label(built));
    let all_sent = Notify::new();
    let sent = |sent| {
        bar.set_position(sent);
        if sent >= size {
            all_sent.notify_one();
        }
    };
    let uploading = server.upload_plugin(built, replace, sent);
    tokio::pin!(uploading);
    // What the broker does with it once it has it all: it compiles, unless it knows it already.
    let busy = async {
        all_sent.notified().await;
        tokio::time::sleep(QUIET).await;
    };
    let ack = tokio::select! {
        ack = &mut uploading => Err(ack),
        () = busy => Ok(()),
    };
    bar.finish_and_clear();
    if let Err(ack) = ack {
        return ack;
    }
    let step = console.step("Compiling", &about_to_compile(built));
    let ack = uploading.await?;
    step.done("Compiled", &label(built));
    Ok(ack)
}
