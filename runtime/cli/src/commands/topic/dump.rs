//! `topic dump`: what a partition's segment files hold, read straight from disk. Works on a running broker's
//! files too: they are only read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use millstream_protocol::Columns;
use millstream_protocol::batch::{self, BatchHeader, HEADER_LEN};
use serde_json::json;

use crate::args::Context;
use crate::format::{plural, timestamp};
use crate::problem::{Exit, Problem, Shown};
use crate::records::{Place, Style};
use crate::table::Format;

/// Ceiling on a batch's records after decompression, bytes.
const DECOMPRESSED_MAX: usize = 256 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream topic dump data/topics/access-log-0
  millstream topic dump data/topics/access-log-0 --records --from 100 --max 10
  millstream topic dump data/topics/access-log-0/00000000000000000000.log --output json")]
pub(crate) struct Args {
    /// A partition's folder, or one segment file
    path: PathBuf,
    /// Show each record
    #[arg(long)]
    records: bool,
    /// Begin at this offset
    #[arg(long, default_value_t = 0, value_name = "OFFSET")]
    from: i64,
    /// Stop after so many batches, or records with --records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
}

struct Dump<'a> {
    args: &'a Args,
    format: Format,
    topic: String,
    partition: u32,
    shown: u64,
    /// Findings about damage, for the end.
    damage: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let files = segments(&args.path)?;
    let (topic, partition) = partition_of(&files[0]);
    let mut dump = Dump { args, format: context.format, topic, partition, shown: 0, damage: Vec::new() };
    for file in &files {
        if dump.is_full() {
            break;
        }
        dump.segment(file)?;
    }
    for damage in &dump.damage {
        context.console.warn(damage);
    }
    if dump.damage.is_empty() { Ok(()) } else { Err(Shown(Exit::Failure).into()) }
}

fn segments(path: &Path) -> Result<Vec<PathBuf>> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let mut files = if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_log).collect()
    } else if path.exists() {
        vec![path.to_path_buf()]
    } else {
        Vec::new()
    };
    files.sort();
    if files.is_empty() {
        return Err(Problem::not_found(format!("there is no segment file at {}", path.display()))
            .help("name a partition's folder in the data folder: DATA_DIR/topics/TOPIC-PARTITION")
            .into());
    }
    Ok(files)
}

/// Topic and partition from the folder's name, `access-log-0`.
fn partition_of(file: &Path) -> (String, u32) {
    let folder = file.canonicalize().ok();
    let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name).map(|name| name.to_string_lossy());
    let name = name.as_deref().unwrap_or("");
    let split = name.rsplit_once('-').and_then(|(topic, partition)| Some((topic.to_owned(), partition.parse().ok()?)));
    split.unwrap_or_else(|| (name.to_owned(), 0))
}

impl Dump<'_> {
    fn is_full(&self) -> bool {
        self.args.max.is_some_and(|max| self.shown >= max)
    }

    fn segment(&mut self, file: &Path) -> Result<()> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let mut at = 0;
        while at < bytes.len() && !self.is_full() {
            let rest = &bytes[at..];
            // Space reserved ahead of the writer is zeros.
            if rest.iter().take(HEADER_LEN).all(|byte| *byte == 0) {
                let zeros = rest.iter().all(|byte| *byte == 0);
                if !zeros {
                    self.damaged(file, at, "zeros before further data");
                }
                break;
            }
            let Some(header) = BatchHeader::decode(rest).ok().filter(|header| header.total_len() <= rest.len()) else {
                self.damaged(file, at, "no whole batch here: a torn tail, or damage");
                break;
            };
            let batch = &rest[..header.total_len()];
            at += batch.len();
            if header.last_offset().0 < self.args.from {
                continue;
            }
            let sound = batch::check_batch(batch);
            if let Err(error) = &sound {
                self.damaged(file, at - batch.len(), &error.to_string());
            }
            if self.args.records && sound.is_ok() {
                self.records(batch)?;
            } else {
                self.batch(file, at - batch.len(), &header)?;
            }
        }
        Ok(())
    }

    fn damaged(&mut self, file: &Path, at: usize, what: &str) {
        self.damage.push(format!("{} at byte {at}: {what}", file.display()));
    }

    fn batch(&mut self, file: &Path, at: usize, header: &BatchHeader) -> Result<()> {
        let compression = header.compression().map_or("unknown".to_owned(), |compression| compression.to_string());
        let mut out = std::io::stdout().lock();
        if self.format == Format::Json {
            let batch = json!({
                "file": file, "position": at, "base_offset": header.base_offset.0, "last_offset": header.last_offset().0,
                "records": header.record_count, "bytes": header.total_len(), "leader_epoch": header.leader_epoch.0,
                "compression": compression, "base_timestamp": header.base_timestamp,
                "max_timestamp": header.max_timestamp, "producer_id": header.producer_id.0,
                "producer_epoch": header.producer_epoch, "base_sequence": header.base_sequence,
                "transactional": header.is_transactional(), "control": header.is_control(), "crc": header.crc,
            });
            writeln!(out, "{batch}")?;
        } else {
            let producer = match header.producer_id.0 {
                -1 => String::new(),
                id => format!("  producer {id} epoch {} sequence {}", header.producer_epoch, header.base_sequence),
            };
            writeln!(
                out,
                "{}@{at}  offsets {}..={}  {}  {} bytes  {compression}  epoch {}  {}{producer}",
                file.file_name().unwrap_or_default().to_string_lossy(),
                header.base_offset,
                header.last_offset(),
                plural(header.record_count.max(0) as u64, "record"),
                header.total_len(),
                header.leader_epoch.0,
                timestamp(header.base_timestamp),
            )?;
        }
        self.shown += 1;
        Ok(())
    }

    fn records(&mut self, batch: &[u8]) -> Result<()> {
        let mut columns = Columns::default();
        let from = millstream_protocol::Offset(self.args.from);
        batch::decode_batch(batch, from, DECOMPRESSED_MAX, &mut columns)?;
        let style = if self.format == Format::Json { Style::Json } else { Style::parse("%t/%p@%o  %d  %k  %v")? };
        let place = Place { topic: &self.topic, partition: self.partition };
        let mut out = Vec::new();
        for row in columns.rows() {
            if self.args.max.is_some_and(|max| self.shown >= max) {
                break;
            }
            style.write(place, &row, &mut out);
            self.shown += 1;
        }
        std::io::stdout().lock().write_all(&out)?;
        Ok(())
    }
}
