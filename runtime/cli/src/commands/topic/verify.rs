//! `topic verify`: checks a data folder's files, byte by byte, without a broker; mends what is safe to mend.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use millstream_broker::data_dir::Lock;
use millstream_broker::verify::{self, Checked};
use millstream_log::{DiskVolume, Finding, FindingKind};
use serde_json::{Value, json};

use crate::args::Context;
use crate::format::{bytes, count, now_ms, plural};
use crate::problem::{Exit, Problem, Shown};
use crate::table::{Format, print_json, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic verify millstream-data
  millstream topic verify millstream-data --repair
  millstream topic verify millstream-data/topics/access-log-0 --output json

Exits with 1 when a file is not what was written. An unfinished write at the end of a log is none of that: a crash
leaves it, and the next start cuts it off.

--repair makes indexes, checkpoints, producers' state and compiled code again, and cuts unfinished writes off. It never
touches a record that had been synced: restore those from a backup, or delete the topic.")]
pub(crate) struct Args {
    /// A data folder, or one partition's folder in it; no broker may be running on it
    path: PathBuf,
    /// Mend what is made from other files; say what was done
    #[arg(long)]
    repair: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let path = args.path.canonicalize().with_context(|| args.path.display().to_string())?;
    let whole = verify::is_data_folder(&path);
    let owner = if whole { Some(path.as_path()) } else { path.ancestors().nth(2) };
    let _lock = match owner.filter(|owner| verify::is_data_folder(owner)) {
        Some(owner) => Some(Lock::take(owner).map_err(|e| Problem::refused(e.to_string()))?),
        None => None,
    };
    let repair = args.repair.then(now_ms);
    let volume = DiskVolume::new(&path);
    let checked = if whole {
        verify::data_folder(&volume, repair).with_context(|| path.display().to_string())?
    } else if is_partition(&path) {
        vec![verify::partition(&volume, "", None, repair).with_context(|| path.display().to_string())?]
    } else {
        return Err(Problem::not_found(format!("{} is neither a data folder nor a partition's", path.display()))
            .help("name the broker's data folder, or DATA_DIR/topics/TOPIC-PARTITION")
            .into());
    };
    match context.format {
        Format::Json => print_json(&Value::Array(checked.iter().map(|one| as_json(&path, one)).collect()))?,
        Format::Table => show(&path, &checked, context)?,
    }
    let is_sound = |finding: &Finding| finding.kind == FindingKind::TornTail;
    let sound = checked.iter().flat_map(|one| &one.findings).all(is_sound);
    if sound { Ok(()) } else { Err(Shown(Exit::Failure).into()) }
}

fn is_partition(path: &Path) -> bool {
    let is_log = |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "log");
    path.join("partition.json").exists()
        || std::fs::read_dir(path).is_ok_and(|entries| entries.filter_map(Result::ok).any(is_log))
}

fn show(path: &Path, checked: &[Checked], context: &Context) -> Result<()> {
    for one in checked {
        for done in &one.repaired {
            context.console.verb("Repaired", &path.join(&one.place).join(done).display().to_string());
        }
        for finding in &one.findings {
            let place = path.join(&one.place).join(&finding.file);
            context.console.warn(&format!("{} at byte {}: {}", place.display(), finding.position, finding.reason));
        }
    }
    let files: usize = checked.iter().map(|one| one.files).sum();
    let size: u64 = checked.iter().map(|one| one.bytes).sum();
    let records: u64 = checked.iter().map(|one| one.records).sum();
    let of = |kind| checked.iter().flat_map(|one| &one.findings).filter(|finding| finding.kind == kind).count() as u64;
    let (damaged, derived) = (of(FindingKind::Damage), of(FindingKind::Derived));
    let verdict = match (damaged, derived) {
        (0, 0) => "all as written".to_owned(),
        (0, _) => format!("{} in files that --repair makes again", plural(derived, "fault")),
        _ => format!("{} in what was synced", plural(damaged, "fault")),
    };
    let files = plural(files as u64, "file");
    Ok(print_line(&format!("{files}, {}, {} records: {verdict}", bytes(size), count(records)))?)
}

fn as_json(path: &Path, checked: &Checked) -> Value {
    let finding = |finding: &Finding| {
        let kind = match finding.kind {
            FindingKind::Derived => "derived",
            FindingKind::TornTail => "torn_tail",
            FindingKind::Damage => "damage",
        };
        json!({ "file": finding.file, "position": finding.position, "kind": kind, "reason": finding.reason })
    };
    json!({
        "folder": path.join(&checked.place), "files": checked.files, "bytes": checked.bytes, "records": checked.records,
        "findings": checked.findings.iter().map(finding).collect::<Vec<_>>(), "repaired": checked.repaired,
    })
}
