//! `produce`: each line of standard input becomes a record; other ends of records are `framing`'s.

use std::collections::VecDeque;
use std::io::{BufReader, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use millstream_client::{Client, Compression, Producer, Receipt, Record};
use tokio::sync::mpsc;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::{bytes, count, duration, plural};
use crate::framing::{CHUNK_FRAMES, Frame, Framing};
use crate::json_line;
use crate::nearest;
use crate::problem::Problem;

/// Chunks read ahead of the producer.
const CHUNKS_AHEAD: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  zcat access.log.gz | millstream produce access-log
  echo 'o-17:{\"net\":100}' | millstream produce orders --key-separator :
  millstream produce orders --key o-17 < order.json --delimiter '\\0'
  millstream consume orders --output json | millstream produce orders-copy --json

What --json takes, a line: {\"key\":\"k\",\"value\":\"text\",\"headers\":[{\"name\":\"n\",\"value\":\"v\"}],\"timestamp\":1431864000250}.
Every part may be missing or null; bytes that are no text are \"key_base64\", \"value_base64\"; a value that is no string
is sent as its JSON text.")]
pub(crate) struct Args {
    topic: String,
    /// What separates the key from the value; a line without it has no key
    #[arg(short, long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// Key of every record
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["json", "key_separator"])]
    key: Option<String>,
    /// Lines are objects: key, value, headers, timestamp (as `consume --output json` prints them)
    #[arg(long)]
    json: bool,
    /// Put each record into the partition that its line names
    #[arg(long, requires = "json", conflicts_with = "partition")]
    keep_partitions: bool,
    /// What ends a record: a text with \\n \\r \\t \\0 \\xHH in it, or `length`: four bytes before it, big-endian
    #[arg(short = 'D', long, default_value = "\\n", value_name = "TEXT", conflicts_with = "json")]
    delimiter: Framing,
    /// Header of every record; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Lines with this value become tombstones
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Put all records into this partition instead of choosing it by key
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    #[command(flatten)]
    tuning: Tuning,
    #[command(flatten)]
    server: ServerArgs,
}

/// How records are sent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tuning {
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none", value_parser = compression, value_name = "CODEC")]
    pub(crate) compression: Compression,
    /// How long a record may wait for others of its batch
    #[arg(long, default_value = "5ms", value_parser = millstream_pipeline::units::duration_ms, value_name = "TIME")]
    pub(crate) linger: u64,
    /// Largest batch
    #[arg(long, value_parser = millstream_pipeline::units::size_bytes, value_name = "SIZE")]
    pub(crate) batch_bytes: Option<u64>,
}

pub(crate) fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|_| "write none, gzip, snappy, lz4 or zstd".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    if std::io::stdin().is_terminal() {
        context.console.help("type a record per line; ctrl-d ends");
    }
    block_on(produce(args, context.clone()))
}

async fn produce(args: Args, context: Context) -> Result<()> {
    let start = Instant::now();
    let server = args.server.connect().await?;
    let producer = args.tuning.producer(&server.client, &args.topic);
    let bar = context.console.bar("Producing", None);
    let fed = args.feed(&producer, &bar, start).await;
    // Also after a line that is no record: those before it were taken.
    let closed = producer.close().await;
    bar.finish_and_clear();
    let (lines, size) = match fed.and_then(|fed| Ok(closed.map(|()| fed)?)) {
        Ok(fed) => fed,
        Err(error) => return Err(nearest::explain(&server.client, error).await),
    };
    let took = start.elapsed();
    let what = format!(
        "{}  {}, {}, {}, {}/s",
        args.topic,
        plural(lines, "record"),
        bytes(size),
        duration(took),
        count(per_second(lines, took))
    );
    context.console.verb("Produced", &what);
    Ok(())
}

pub(crate) fn per_second(records: u64, took: Duration) -> u64 {
    (records as f64 / took.as_secs_f64().max(1e-6)) as u64
}

impl Tuning {
    pub(crate) fn producer(&self, client: &Client, topic: &str) -> Producer {
        let builder = client.producer(topic).linger(Duration::from_millis(self.linger)).compression(self.compression);
        match self.batch_bytes {
            Some(bytes) => builder.batch_bytes(usize::try_from(bytes).unwrap_or(usize::MAX)).build(),
            None => builder.build(),
        }
    }
}

/// Records of standard input, without their ends, in chunks: whole ones from a fast reader, what there is
/// from a slow one. Bounded: a reader ahead of the broker waits.
fn read_frames(framing: Framing) -> mpsc::Receiver<std::io::Result<Vec<Frame>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(256 * 1024, std::io::stdin().lock());
        loop {
            let chunk = framing.read_chunk(&mut input);
            let done = !matches!(&chunk, Ok(lines) if !lines.is_empty());
            let keep = match &chunk {
                Ok(lines) => !lines.is_empty(),
                Err(_) => true,
            };
            if keep && sender.blocking_send(chunk).is_err() || done {
                return;
            }
        }
    });
    receiver
}

impl Args {
    /// Sends the lines of standard input; how many, and their bytes.
    async fn feed(&self, producer: &Producer, bar: &ProgressBar, start: Instant) -> Result<(u64, u64)> {
        let (mut lines, mut size) = (0_u64, 0_u64);
        let mut chunks = read_frames(self.delimiter.clone());
        // A receipt of each chunk, to notice early that nothing gets through any more.
        let mut open: VecDeque<Receipt> = VecDeque::new();
        while let Some(chunk) = chunks.recv().await {
            for line in chunk? {
                lines += 1;
                size += line.as_ref().map_or(0, Vec::len) as u64;
                let record = self.record(line).map_err(|problem| wrong_line(problem, lines))?;
                let receipt = producer.send(record).await.with_context(|| format!("line {lines}"))?;
                if lines.is_multiple_of(CHUNK_FRAMES as u64) {
                    open.push_back(receipt);
                }
            }
            while let Some(result) = open.front().and_then(Receipt::try_result) {
                result?;
                open.pop_front();
            }
            bar.set_position(size);
            bar.set_message(format!("{} lines, {}/s", count(lines), count(per_second(lines, start.elapsed()))));
        }
        Ok((lines, size))
    }

    /// The record that a line says.
    ///
    /// # Errors
    /// With `--json`, what is not an object.
    pub(crate) fn record(&self, line: Frame) -> Result<Record, Problem> {
        let mut record = match line {
            Some(line) if self.json => json_line::decode(&line, self.keep_partitions)?,
            Some(line) => self.split(line),
            None => Record::default(),
        };
        if let Some(key) = &self.key {
            record = record.key(key.clone());
        }
        for (name, value) in &self.headers {
            record = record.header(name.clone(), value.clone());
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        Ok(record)
    }

    fn split(&self, line: Vec<u8>) -> Record {
        let separator = self.key_separator.as_deref().map(str::as_bytes).filter(|separator| !separator.is_empty());
        let at = separator.and_then(|separator| {
            line.windows(separator.len()).position(|window| window == separator).map(|at| (at, separator.len()))
        });
        let (key, value) = match at {
            Some((at, len)) => (Some(line[..at].to_vec()), line[at + len..].to_vec()),
            None => (None, line),
        };
        let is_null = self.null.as_deref().is_some_and(|null| null.as_bytes() == value);
        match (key, is_null) {
            (Some(key), true) => Record::tombstone(key),
            (Some(key), false) => Record::new(value).key(key),
            (None, true) => Record::default(),
            (None, false) => Record::new(value),
        }
    }
}

/// Says which line it is, and what became of the others.
fn wrong_line(problem: Problem, line: u64) -> Problem {
    let problem = problem.on_line(line);
    match (&problem.help, line) {
        (None, 2..) => problem.help("the lines before it were sent: correct it and go on from there"),
        _ => problem,
    }
}
