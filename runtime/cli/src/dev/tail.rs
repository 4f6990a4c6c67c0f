//! Prints the records that come to the topics under `tail`, from where these ended when `dev` started. A
//! dead letter is followed by its cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_client::{Batch, Reader, Received, Start};
use millstream_pipeline::dead_letter;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connect::Server;
use crate::console::Console;
use crate::format::text;
use crate::problem::Problem;

/// How long the last records may take to be printed.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
const CATCH_UP_EVERY: Duration = Duration::from_millis(10);
/// What a record takes on the screen at most.
const SHOWN_CHARS_MAX: usize = 4_096;

/// The next offset to print, by topic and partition.
type Printed = Arc<Mutex<BTreeMap<(String, u32), i64>>>;

pub(super) struct Tails {
    server: Server,
    console: Console,
    topics: BTreeSet<String>,
    tasks: JoinSet<Result<()>>,
    printed: Printed,
}

impl Tails {
    pub(super) fn new(server: Server, console: Console) -> Self {
        Tails { server, console, topics: BTreeSet::new(), tasks: JoinSet::new(), printed: Printed::default() }
    }

    /// Prints these topics too, from their ends as they are now.
    ///
    /// # Errors
    /// There is no such topic.
    pub(super) async fn follow(&mut self, topics: &[String]) -> Result<()> {
        for topic in topics {
            if !self.topics.insert(topic.clone()) {
                continue;
            }
            let ends = self.server.client.admin().offsets(topic, Start::Latest).await.map_err(|error| {
                Problem::refused(format!("`tail` names {topic}: {error}"))
                    .help("name topics of `topics` in millstream.yaml")
            })?;
            let mut reader = self.server.client.reader(topic);
            for (partition, end) in (0..).zip(ends) {
                reader = reader.position(partition, end);
                lock(&self.printed).insert((topic.clone(), partition), end);
            }
            let reader = reader.open().await?;
            self.tasks.spawn(print(reader, self.console.clone(), Arc::clone(&self.printed)));
        }
        Ok(())
    }

    /// Waits until a topic can't be read on, or nobody reads stdout any more. May be dropped and called again.
    pub(super) async fn failed(&mut self) -> Result<()> {
        loop {
            match self.tasks.join_next().await {
                Some(ended) => ended.context("printing records")??,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until everything that is in the topics now is printed.
    ///
    /// # Errors
    /// As [`Tails::failed`], or it takes too long.
    pub(super) async fn caught_up(&mut self) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for topic in &self.topics {
            let ends = self.server.client.admin().offsets(topic, Start::Latest).await?;
            wanted.extend((0..).zip(ends).map(|(partition, end)| ((topic.clone(), partition), end)));
        }
        let printed = Arc::clone(&self.printed);
        let done = async {
            while !wanted.iter().all(|(key, end)| lock(&printed).get(key).is_some_and(|next| next >= end)) {
                sleep(CATCH_UP_EVERY).await;
            }
        };
        tokio::select! {
            result = self.failed() => result,
            waited = timeout(CATCH_UP_MAX, done) => waited.context("not all outputs could be read"),
        }
    }
}

fn lock(printed: &Printed) -> std::sync::MutexGuard<'_, BTreeMap<(String, u32), i64>> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn print(mut reader: Reader, console: Console, printed: Printed) -> Result<()> {
    while let Some(batch) = reader.next().await {
        match batch {
            Ok(batch) => {
                show(&batch, &console)?;
                lock(&printed).insert((batch.topic().to_owned(), batch.partition()), batch.next_offset());
            }
            Err(error) if error.is_retriable() => sleep(CATCH_UP_EVERY).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn show(batch: &Batch, console: &Console) -> Result<()> {
    let lines: Vec<String> = batch.iter().map(|record| line(&record)).collect();
    // One write for all, so that printing does not slow the sample down.
    Ok(console.data(&lines.join("\n"))?)
}

/// `web-errors/1  {"status":404}`
fn line(record: &Received<'_>) -> String {
    let value = if record.is_tombstone() { "(no value)".into() } else { text(record.value()) };
    let mut line = format!("{}/{}  {}", record.topic(), record.partition(), cut(&value));
    if let Some(cause) = record.header(dead_letter::ERROR) {
        let step = record.header(dead_letter::STEP).map(text).unwrap_or_default();
        line.push_str(&format!("   ({step}: {})", cut(&text(cause))));
    }
    line
}

/// One line of it, and not an endless one.
fn cut(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < value.len() && value.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str(" …");
    }
    shown
}
