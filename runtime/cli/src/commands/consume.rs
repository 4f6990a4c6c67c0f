//! `consume`: records of topics on standard output.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use millstream_client::{Batch, Client, Consumer};
use millstream_protocol::Columns;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::console::Console;
use crate::ending::Ending;
use crate::framing::Framing;
use crate::nearest;
use crate::problem::{Exit, Problem};
use crate::records::{Place, Style};
use crate::select::{Filter, Newest, SelectArgs};
use crate::table::Format;

/// With a group and without `--follow`: nothing more came for so long.
const GROUP_IDLE: Duration = Duration::from_millis(1_000);

/// A write that was begun may end within this time when the command is told to end.
const WRITE_GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream consume web-errors --max 5
  millstream consume orders --last 5
  millstream consume 'web-*' --from -1h --grep timeout --format '%t %d %v'
  millstream consume access-log --where 'value.status >= 500' --until 2015-05-18T00:00Z
  millstream consume access-log --from 2015-05-17T12:00Z --format '%t/%p@%o %k %v'
  millstream consume orders --follow --output json | jq .value
  millstream consume orders --group billing --follow
  millstream consume pages --delimiter '\\0' | xargs -0 -n 1 wc -c

--output json: one object a line; bytes that are no text are \"key_base64\", \"value_base64\"; produce --json takes it.
Format: %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp (ms), %d time, %% a `%`;
\\n \\t \\0 \\\\.")]
pub(crate) struct Args {
    /// Topics; `*` in a name stands for anything
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<u64>,
    /// Stay at the end, and print new records as they come
    #[arg(short, long, conflicts_with_all = ["until", "last"])]
    follow: bool,
    /// Read as a member of this group: share partitions, start at its positions, commit
    #[arg(short, long, conflicts_with_all = ["partition", "until", "last"])]
    group: Option<String>,
    #[command(flatten)]
    select: SelectArgs,
    /// How a record is written
    #[arg(long, default_value = "%v", value_name = "FORMAT")]
    format: String,
    /// What ends a record: a text with \\n \\r \\t \\0 \\xHH in it, or `length`: four bytes before it, big-endian
    #[arg(short = 'D', long, default_value = "\\n", value_name = "TEXT")]
    delimiter: Framing,
    /// Stands for a key or a value that is absent [default: nothing]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    null: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Writes records until there are enough of them.
struct Printer {
    style: Style,
    filter: Filter,
    left: u64,
    /// Something was printed.
    started: bool,
    /// The offset after the last record printed.
    next: i64,
    buffer: Vec<u8>,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    All,
    /// Up to the record that was asked for last.
    Enough,
    /// The command was told to end while the reader of its output let it wait.
    Cut,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let style = if context.format == Format::Json { Style::Json } else { args.style()? };
    let filter = args.select.filter()?;
    let mut printer =
        Printer { style, filter, left: args.max.unwrap_or(u64::MAX), started: false, next: 0, buffer: Vec::new() };
    if args.max == Some(0) {
        return Ok(());
    }
    block_on(async {
        let mut ending = Ending::new()?;
        let Some(server) = ending.unless(args.server.connect()).await else { return Ok(()) };
        let client = server?.client;
        let console = &context.console;
        let outcome = match (&args.group, args.select.last) {
            (Some(group), _) => consume_as_member(&client, group, &args, (&mut printer, &mut ending)).await,
            (None, Some(last)) => consume_last(&client, &args, last, (&mut printer, &mut ending)).await,
            (None, None) => consume_alone(&client, &args, (&mut printer, &mut ending), console).await,
        };
        if let Some(complaint) = printer.filter.complaint() {
            console.warn(&complaint);
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(nearest::explain(&client, error).await),
        }
    })
}

impl Args {
    fn style(&self) -> Result<Style, Problem> {
        let mut style = Style::parse(&self.format)?;
        if let Style::Format(layout) = &mut style {
            layout.framing = self.delimiter.clone();
            layout.null = self.null.clone().into_bytes();
        }
        Ok(style)
    }
}

async fn consume_alone(
    client: &Client,
    args: &Args,
    (printer, ending): (&mut Printer, &mut Ending),
    console: &Console,
) -> Result<()> {
    let mut readers = Vec::new();
    for topic in &SelectArgs::topics(client, &args.topics).await? {
        if let millstream_client::Start::Offset(from) = args.select.start(args.follow) {
            let ends = client.admin().offsets(topic, millstream_client::Start::Latest).await?;
            for late in beyond_the_end(topic, from, &ends, args) {
                console.warn(&late);
            }
        }
        let reader = args.select.reader(client, topic, args.follow).await?;
        let Some(reader) = ending.unless(reader.open()).await else { return Ok(()) };
        readers.push(Box::pin(reader?.into_stream()));
    }
    let mut batches: SelectAll<_> = select_all(readers);
    while let Some(batch) = ending.unless(batches.next()).await.flatten() {
        match batch {
            Ok(batch) => {
                if printer.print(&batch, ending).await? != Printed::All {
                    return Ok(());
                }
            }
            // The reader tries again by itself; a person should know why nothing comes.
            Err(error) if error.is_retriable() => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The newest records, in order of time.
async fn consume_last(
    client: &Client,
    args: &Args,
    last: u64,
    (printer, ending): (&mut Printer, &mut Ending),
) -> Result<()> {
    let topics = SelectArgs::topics(client, &args.topics).await?;
    let mut newest = Newest::new(last)?;
    for topic in &topics {
        let mut reader = args.select.reader(client, topic, false).await?.open().await?;
        while let Some(batch) = ending.unless(reader.next()).await.flatten() {
            match batch {
                Ok(batch) => {
                    let rows = batch.columns().rows();
                    rows.for_each(|row| newest.add(batch.topic(), batch.partition(), &row));
                }
                Err(error) if error.is_retriable() => tracing::warn!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (topic, partition, columns) in newest.into_rows() {
        if printer.rows(Place { topic: &topic, partition }, &columns, ending).await? != Printed::All {
            break;
        }
    }
    Ok(())
}

/// What to say of partitions that end before the offset to start at: nothing comes of them, or nothing yet.
fn beyond_the_end(topic: &str, from: i64, ends: &[i64], args: &Args) -> Vec<String> {
    let short = (0..).zip(ends).filter(|(partition, end)| args.select.wants(*partition) && **end < from);
    let wait = if args.follow { ": waiting for it" } else { "" };
    short.map(|(partition, end)| format!("{topic}/{partition} ends at {end}, before offset {from}{wait}")).collect()
}

/// However it ends, it leaves the group: what it printed is committed then, and what it did not print is not.
async fn consume_as_member(
    client: &Client,
    group: &str,
    args: &Args,
    (printer, ending): (&mut Printer, &mut Ending),
) -> Result<()> {
    let from = args.select.from.map_or(millstream_client::Start::Earliest, Into::into);
    let joining = client.consumer(group).topics(args.topics.clone()).from(from).subscribe();
    let Some(consumer) = ending.in_time(joining).await else { return Ok(()) };
    let mut consumer = consumer?;
    let outcome = read_as_member(&mut consumer, args.follow, printer, ending).await;
    let left = ending.in_time(consumer.close()).await;
    outcome?;
    match left {
        Some(left) => Ok(left?),
        None => {
            Err(Problem::new(Exit::Unavailable, format!("the broker did not answer that this left group `{group}`"))
                .help("others get its partitions when its session has run out, in ten seconds")
                .into())
        }
    }
}

async fn read_as_member(
    consumer: &mut Consumer,
    follow: bool,
    printer: &mut Printer,
    ending: &mut Ending,
) -> Result<()> {
    loop {
        let next = if follow {
            ending.unless(consumer.next()).await
        } else {
            // What the other members hold is not ours to wait for.
            match ending.unless(tokio::time::timeout(GROUP_IDLE, consumer.next())).await {
                Some(Ok(next)) => Some(next),
                Some(Err(_)) if consumer.assignment().is_empty() && !printer.started => continue,
                Some(Err(_)) | None => None,
            }
        };
        let Some(batch) = next.flatten() else { return Ok(()) };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) if error.is_retriable() => {
                tracing::warn!("{error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let printed = printer.print(&batch, ending).await?;
        // After printing: a crash in between prints again, and loses nothing.
        let commit = async {
            match printed {
                Printed::All => consumer.commit().await,
                Printed::Enough => consumer.commit_before(batch.topic(), batch.partition(), printer.next).await,
                Printed::Cut => Ok(()),
            }
        };
        let Some(committed) = ending.in_time(commit).await else {
            let late = Problem::new(Exit::Unavailable, "the broker did not answer the commit of what was printed last");
            return Err(late.help("the next reader of the group may get it again").into());
        };
        committed?;
        if printed != Printed::All {
            return Ok(());
        }
    }
}

impl Printer {
    async fn print(&mut self, batch: &Batch, ending: &mut Ending) -> Result<Printed> {
        let place = Place { topic: batch.topic(), partition: batch.partition() };
        self.rows(place, batch.columns(), ending).await
    }

    async fn rows(&mut self, place: Place<'_>, columns: &Columns, ending: &mut Ending) -> Result<Printed> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.started = true;
        for row in columns.rows() {
            if self.left == 0 {
                break;
            }
            self.next = row.offset + 1;
            if !self.filter.takes(place.topic, place.partition, &row) {
                continue;
            }
            self.left -= 1;
            self.style.write(place, &row, &mut buffer);
        }
        // A reader that does not read keeps this waiting; signals are heard meanwhile.
        let mut write = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&buffer)?;
            out.flush()?;
            std::io::Result::Ok(buffer)
        });
        let written = match ending.unless(&mut write).await {
            Some(written) => written,
            // What its reader has may be committed: only a reader that does not read is not waited for.
            None => match tokio::time::timeout(WRITE_GRACE, write).await {
                Ok(written) => written,
                Err(_) => return Ok(Printed::Cut),
            },
        };
        self.buffer = written.context("writing to stdout")??;
        Ok(if self.left == 0 { Printed::Enough } else { Printed::All })
    }
}
