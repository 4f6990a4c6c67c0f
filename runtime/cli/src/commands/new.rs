//! `new`: a project that works at once and on any machine, made of the files in `templates/project` and a
//! copy of the SDK.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::args::Context;
use crate::bundle::{self, Bundle};
use crate::plugin_source;
use crate::problem::Problem;

/// Each file of a new project; `{{…}}` in it is filled in.
const FILES: [(&str, &str); 9] = [
    ("Cargo.toml", include_str!("../../templates/project/Cargo.toml.in")),
    ("rust-toolchain.toml", include_str!("../../templates/project/rust-toolchain.toml.in")),
    (".gitignore", include_str!("../../templates/project/gitignore.in")),
    ("millstream.yaml", include_str!("../../templates/project/millstream.yaml.in")),
    ("pipelines/pricing.yaml", include_str!("../../templates/project/pipelines/pricing.yaml.in")),
    ("src/lib.rs", include_str!("../../templates/project/src/lib.rs.in")),
    ("fixtures/orders.yaml", include_str!("../../templates/project/fixtures/orders.yaml.in")),
    ("sample/orders.ndjson", include_str!("../../templates/project/sample/orders.ndjson.in")),
    ("README.md", include_str!("../../templates/project/README.md.in")),
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream new shop && cd shop && millstream dev
  millstream new ~/projects/shop --sdk ~/src/millstream/sdk/plugin")]
pub(crate) struct Args {
    /// The project's name or folder
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// Depend on the plugin SDK in this folder, for work on the SDK [default: a copy in the project]
    #[arg(long, env = "MILLSTREAM_SDK", value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Download nothing: only tell what building it will need
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let name = project_name(&args.folder)?;
    if args.folder.exists() {
        return Err(Problem::refused(format!("{} exists already", args.folder.display()))
            .help("choose another name, or delete it first")
            .into());
    }
    let sdk = match &args.sdk {
        Some(sources) => find_sdk(sources)?,
        None => Path::new(bundle::FOLDER).join("plugin"),
    };
    // A TOML string escapes what a JSON string escapes.
    let dependency = format!("{{ path = {} }}", serde_json::to_string(&sdk)?);
    for (path, template) in FILES {
        let content = template
            .replace("{{name}}", &name)
            .replace("{{sdk}}", &dependency)
            .replace("{{toolchain}}", tested_toolchain());
        write(&args.folder.join(path), content.as_bytes())?;
    }
    write(&args.folder.join("Cargo.lock"), bundle::rust_lock(&name).as_bytes())?;
    if args.sdk.is_none() {
        Bundle::Rust.write(&args.folder.join(bundle::FOLDER))?;
    }
    context.console.verb("Created", &format!("{}  plugin, pipeline, sample data, tests", args.folder.display()));
    // The project is there either way, and its first build would tell the same.
    if let Err(error) = plugin_source::prepare(&args.folder, args.offline, &context.console) {
        context.console.warn(&format!("{error:#}"));
        if let Some(help) = error.downcast_ref::<Problem>().and_then(|problem| problem.help.as_ref()) {
            context.console.help(help);
        }
    }
    context.console.line(&format!("\n  cd {} && millstream dev\n", args.folder.display()));
    Ok(())
}

/// The toolchain that the SDK is tested with, from this repository's own file.
fn tested_toolchain() -> &'static str {
    let own = include_str!("../../../../rust-toolchain.toml");
    let channel = own.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.map_or("stable", |channel| channel.trim_matches('"'))
}

/// The folder's name, which becomes a crate's, a plugin's and part of a pipeline's.
fn project_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(fits)
        || name.ends_with('-')
    {
        return Err(Problem::usage(format!("`{name}` can't name a project"))
            .help("use lower-case letters, digits and `-`, beginning with a letter: `web-shop`")
            .into());
    }
    if ["test", "core", "std", "alloc", "serde", "millstream-plugin"].contains(&name.as_str()) {
        return Err(Problem::usage(format!("`{name}` is the name of a crate that the project uses"))
            .help("choose another name")
            .into());
    }
    Ok(name)
}

/// The SDK's folder in `sources`, which is that folder or the one of all sources.
fn find_sdk(sources: &Path) -> Result<PathBuf> {
    let places = [sources.to_path_buf(), sources.join("sdk/plugin")];
    match places.iter().find(|folder| is_sdk(folder)) {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string()),
        None => Err(Problem::not_found(format!("the plugin SDK is not in {}", sources.display()))
            .help("--sdk names the folder of Millstream's sources, or sdk/plugin in it")
            .into()),
    }
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
    manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"millstream-plugin\""))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, good: bool| assert_eq!(project_name(Path::new(name)).is_ok(), good, "{name}");
        check("shop", true);
        check("/tmp/web-shop2", true);
        check("Shop", false);
        check("2shop", false);
        check("web shop", false);
        check("serde", false);
        check("..", false);
    }

    #[test]
    fn the_templates_pipeline_is_valid() {
        let (path, template) = FILES.iter().find(|(path, _)| path.starts_with("pipelines/")).unwrap();
        let text = template.replace("{{name}}", "shop");
        millstream_pipeline::parse(&text, path).unwrap();
    }
}
