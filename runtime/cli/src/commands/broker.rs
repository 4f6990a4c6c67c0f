//! `broker settings`: what `serve` would run with, and where each value comes from.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::serve;
use crate::args::Context;
use crate::table::{Format, Listing, print_json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every setting that `serve` would run with, and where its value comes from
    Settings(SettingsArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream broker settings
  millstream broker settings --config config/broker.yaml
  MILLSTREAM_QUIC=127.0.0.1:9194 millstream broker settings --output json

Takes what `serve` takes, and asks no broker: secrets are in files of their own, of which the names are shown.")]
pub(crate) struct SettingsArgs {
    /// Every setting, also those at their default
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    settings: serve::SettingArgs,
}

/// A setting by its path in the file: `limits.connections_max`.
struct Setting {
    name: String,
    value: Value,
    from: &'static str,
}

pub(crate) fn run(command: &Command, context: &Context) -> Result<()> {
    let Command::Settings(args) = command;
    let (config, file) = serve::settings(&args.settings)?;
    let values = serde_json::to_value(&config)?;
    let mut settings = Vec::new();
    collect("", &values, file.as_ref(), &mut settings);
    for (name, flag) in args.settings.given() {
        settings.iter_mut().filter(|setting| setting.name == name).for_each(|setting| setting.from = flag);
    }
    if context.format == Format::Json {
        let rows = settings.iter().map(|it| json!({ "setting": it.name, "value": it.value, "from": it.from }));
        return Ok(print_json(&rows.collect())?);
    }
    let mut listing = Listing::new(&["setting", "value", "from"]);
    let shown = |setting: &&Setting| args.all || setting.from != "default";
    for setting in settings.iter().filter(shown) {
        let value = setting.value.as_str().map_or_else(|| setting.value.to_string(), str::to_owned);
        listing.row([setting.name.clone(), value, setting.from.to_owned()]);
    }
    Ok(listing.print("every setting has its default: --all shows them")?)
}

/// Settings of a section and of those in it, in the order of their names.
fn collect(section: &str, values: &Value, file: Option<&Value>, into: &mut Vec<Setting>) {
    let empty = Map::new();
    for (key, value) in values.as_object().unwrap_or(&empty) {
        let name = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        let of_file = file.and_then(|file| file.get(key));
        match value {
            Value::Object(_) => collect(&name, value, of_file, into),
            value => {
                let from = if of_file.is_some() { "file" } else { "default" };
                into.push(Setting { name, value: value.clone(), from });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_origin() {
        let values = json!({ "quic": "a", "limits": { "x": 1, "y": 2 }, "tls": null });
        let file = json!({ "limits": { "y": 2 } });
        let mut settings = Vec::new();
        collect("", &values, Some(&file), &mut settings);
        let mut shown: Vec<(&str, &str)> = settings.iter().map(|it| (it.name.as_str(), it.from)).collect();
        shown.sort_unstable();
        assert_eq!(shown, [("limits.x", "default"), ("limits.y", "file"), ("quic", "default"), ("tls", "default")]);
    }
}
