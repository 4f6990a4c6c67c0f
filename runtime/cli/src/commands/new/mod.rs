//! `new`: a project that works at once and on any machine, made of the files in `templates` and a copy of the SDK.

mod templates;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::args::Context;
use crate::bundle;
use crate::plugin_source;
use crate::problem::Problem;
use templates::{Language, NPM_LOCK};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream new shop && cd shop && millstream dev
  millstream new shop --lang typescript
  millstream new shop --lang python
  millstream new ~/projects/shop --sdk ~/src/millstream/sdk/plugin")]
pub(crate) struct Args {
    /// The project's name or folder
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// What the plugin is written in
    #[arg(long, value_enum, default_value_t, value_name = "LANGUAGE")]
    lang: Language,
    /// Depend on the plugin SDK in this folder, for work on the SDK [default: a copy in the project]
    #[arg(long, env = "MILLSTREAM_SDK", value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Download nothing: only tell what building it will need
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let name = project_name(&args.folder, args.lang)?;
    if args.folder.exists() {
        return Err(Problem::refused(format!("{} exists already", args.folder.display()))
            .help("choose another name, or delete it first")
            .into());
    }
    let sdk = match &args.sdk {
        Some(sources) => find_sdk(sources, args.lang)?,
        None => Path::new(bundle::FOLDER).join(args.lang.sdk()),
    };
    let fill = filler(&name, &sdk, args.lang)?;
    for (path, template) in args.lang.files() {
        bundle::write_file(&args.folder.join(path), fill(template).as_bytes())?;
    }
    if args.lang == Language::Rust {
        bundle::write_file(&args.folder.join("Cargo.lock"), bundle::rust_lock(&name).as_bytes())?;
    }
    if args.sdk.is_none() {
        args.lang.bundle().write(&args.folder.join(bundle::FOLDER))?;
        if args.lang == Language::Typescript {
            bundle::write_file(&args.folder.join("package-lock.json"), fill(NPM_LOCK).as_bytes())?;
        }
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

/// Fills in a template. Strings of JSON are strings of TOML and Python too.
fn filler(name: &str, sdk: &Path, language: Language) -> Result<impl Fn(&str) -> String> {
    let quoted = |path: &Path| serde_json::to_string(path);
    let dependency = match language {
        Language::Rust => format!("{{ path = {} }}", quoted(sdk)?),
        Language::Typescript => serde_json::to_string(&format!("file:{}", sdk.display()))?,
        Language::Python => quoted(sdk)?,
    };
    let (name, sources) = (name.to_owned(), quoted(&sdk.join("src"))?);
    Ok(move |template: &str| {
        let filled =
            template.replace("{{name}}", &name).replace("{{sdk}}", &dependency).replace("{{sdk_src}}", &sources);
        filled.replace("{{toolchain}}", tested_toolchain())
    })
}

/// The toolchain that the SDK is tested with, from this repository's own file.
fn tested_toolchain() -> &'static str {
    let own = include_str!("../../../../../rust-toolchain.toml");
    let channel = own.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.map_or("stable", |channel| channel.trim_matches('"'))
}

/// The folder's name, which becomes a crate's, a plugin's and part of a pipeline's.
fn project_name(folder: &Path, language: Language) -> Result<String> {
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
    if language.taken().contains(&name.as_str()) {
        return Err(Problem::usage(format!("`{name}` is the name of a package that the project uses"))
            .help("choose another name")
            .into());
    }
    Ok(name)
}

/// The SDK's folder in `sources`, which is that folder or the one of all sources.
fn find_sdk(sources: &Path, language: Language) -> Result<PathBuf> {
    let (file, line) = language.sdk_mark();
    let is_sdk = |folder: &Path| {
        let manifest = std::fs::read_to_string(folder.join(file));
        manifest.is_ok_and(|text| text.lines().any(|own| own.trim() == line))
    };
    let inside = Path::new("sdk").join(language.sdk());
    let places = [sources.to_path_buf(), sources.join(&inside)];
    match places.iter().find(|folder| is_sdk(folder)) {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string()),
        None => Err(Problem::not_found(format!("the plugin SDK is not in {}", sources.display()))
            .help(format!("--sdk names the folder of Millstream's sources, or {} in it", inside.display()))
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, good: bool| {
            assert_eq!(project_name(Path::new(name), Language::Rust).is_ok(), good, "{name}");
        };
        check("shop", true);
        check("/tmp/web-shop2", true);
        check("Shop", false);
        check("2shop", false);
        check("web shop", false);
        check("serde", false);
        check("..", false);
        assert!(project_name(Path::new("serde"), Language::Python).is_ok());
        assert!(project_name(Path::new("esbuild"), Language::Typescript).is_err());
    }
}
