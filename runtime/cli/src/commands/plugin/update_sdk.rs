//! `plugin update-sdk`: brings a project's copy of the SDK to this command's version.

use std::path::PathBuf;

use anyhow::Result;

use crate::args::Context;
use crate::bundle::{Age, Bundle, FOLDER, VERSION, find_copies, shown};
use crate::problem::Problem;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream plugin update-sdk
  millstream plugin update-sdk ~/projects/shop
  millstream plugin update-sdk --force     # over changes made by hand, or back to an older version

The copy is the one that `millstream new` wrote, in `sdk` of the project. Its files are replaced;
the project's own, and the versions in its Cargo.lock that still fit, stay.")]
pub(crate) struct Args {
    /// The project's folder, or one in it
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Replace files that were changed by hand, and a newer version
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let folder = &args.folder;
    let copies = find_copies(folder).ok_or_else(|| {
        Problem::not_found(format!("there is no copy of the SDK in {} or the folders around it", folder.display()))
            .help(format!("a project made by `millstream new` has one in {FOLDER}"))
    })?;
    let shown = shown(&copies);
    for bundle in Bundle::ALL {
        let from = match bundle.age(&copies)? {
            Age::Absent => continue,
            Age::Same if bundle.edited(&copies)?.is_empty() => {
                context.console.verb("Unchanged", &format!("{}  {VERSION}", shown.display()));
                continue;
            }
            Age::Newer(version) if !args.force => {
                let cause = format!("{} is {version}, newer than this command ({VERSION})", shown.display());
                return Err(Problem::refused(cause)
                    .help("install that version of the command; --force goes back to this one")
                    .into());
            }
            Age::Same | Age::OtherBuild => VERSION.to_owned(),
            Age::Older(version) | Age::Newer(version) => version,
        };
        let edited: Vec<PathBuf> = bundle.edited(&copies)?.into_iter().collect();
        if let Some(first) = edited.first().filter(|_| !args.force) {
            let cause =
                format!("{} of {} was changed by hand", first.strip_prefix(&copies)?.display(), shown.display());
            return Err(Problem::refused(cause)
                .help("keep the change elsewhere (`millstream new --sdk DIR` uses an SDK of your own), then repeat with --force")
                .into());
        }
        bundle.write(&copies)?;
        context.console.verb("Updated", &format!("{}  {from} -> {VERSION}", shown.display()));
    }
    Ok(())
}
