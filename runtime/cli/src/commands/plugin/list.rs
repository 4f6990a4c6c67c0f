//! `plugin list`, and finding a plugin by name and version.

use anyhow::Result;
use millstream_protocol::message::{ListPlugins, PluginDescription};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs};
use crate::format::{ago, bytes, now_ms, short_digest};
use crate::json;
use crate::problem::Problem;
use crate::table::{Format, Listing, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin list
  millstream plugin list redact --output json")]
pub(crate) struct Args {
    /// Only versions of this plugin
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let request = ListPlugins { name: args.name };
    let plugins = block_on(async { Ok(args.server.connect().await?.call(request).await?.plugins) })?;
    if context.format == Format::Json {
        return Ok(print_json(&plugins.iter().map(json::plugin).collect())?);
    }
    let mut listing = Listing::new(&["plugin", "digest", ">size", "asks for", ">uploaded", "used by"]);
    for plugin in plugins {
        listing.row([
            format!("{}@{}", plugin.name, plugin.version),
            short_digest(&plugin.digest),
            bytes(plugin.bytes),
            asks(&plugin.asks),
            ago(plugin.uploaded_at_ms, now_ms()),
            plugin.used_by.join(", "),
        ]);
    }
    Ok(listing.print("there are no plugins: upload one with `millstream plugin push DIR`")?)
}

pub(crate) fn asks(asks: &[String]) -> String {
    if asks.is_empty() { "nothing".to_owned() } else { asks.join(", ") }
}

/// The plugin of this `NAME@VERSION`.
///
/// # Errors
/// There is none; the message lists the versions there are.
pub(crate) async fn find(server: &Server, reference: &str) -> Result<PluginDescription> {
    let (name, version) = split(reference)?;
    let plugins = server.call(ListPlugins { name: name.to_owned() }).await?.plugins;
    let versions: Vec<String> = plugins.iter().map(|plugin| plugin.version.clone()).collect();
    plugins.into_iter().find(|plugin| plugin.version == version).ok_or_else(|| {
        let problem = Problem::not_found(format!("plugin `{reference}` does not exist"));
        let help = if versions.is_empty() {
            "`millstream plugin list` shows what there is".to_owned()
        } else {
            format!("`{name}` has: {}", versions.join(", "))
        };
        problem.help(help).into()
    })
}

/// # Errors
/// No `@`.
pub(crate) fn split(reference: &str) -> Result<(&str, &str)> {
    let split = reference.split_once('@').filter(|(name, version)| !name.is_empty() && !version.is_empty());
    Ok(split.ok_or_else(|| Problem::usage(format!("`{reference}` is not NAME@VERSION")))?)
}
