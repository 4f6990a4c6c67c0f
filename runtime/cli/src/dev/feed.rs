//! Feeds a project's inputs: each line of a file becomes a record. What was fed is noted in the data folder,
//! so that a restart does not feed it again, and a deleted folder does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_client::{Client, Producer, Record};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use super::{Feed, Options};
use crate::format::plural;
use crate::manifest::{Input, Project};
use crate::problem::Problem;

/// Name of the note in the data folder: a JSON list of inputs that were fed to their end.
const NOTE: &str = "dev-fed.json";
const LINE_BYTES_MAX: u64 = 1 << 20;

/// One input and its way to the topic.
pub(super) struct Feeder {
    client: Client,
    path: PathBuf,
    input: Input,
    /// Feed to the end once, as fast as the broker takes it.
    bounded: bool,
    /// Of every so many lines, feed one.
    every: u64,
}

impl Feeder {
    pub(super) fn new(client: Client, project: &Project, input: &Input, options: &Options) -> Self {
        let path = project.path(&input.file);
        Feeder { client, path, input: input.clone(), bounded: options.once, every: 1 }
    }

    /// Feeds about `lines` lines from all over the file, once; nothing where the input is repeated by itself.
    ///
    /// # Errors
    /// As [`Feeder::run`].
    pub(super) async fn some(mut self, lines: u64) -> Result<u64> {
        if self.input.repeat {
            return Ok(0);
        }
        let mut file = BufReader::new(File::open(&self.path).await.map_err(|error| unreadable(&self.path, &error))?);
        let (mut line, mut all) = (Vec::new(), 0_u64);
        while next_line(&mut file, &mut line).await.with_context(|| self.path.display().to_string())? {
            all += 1;
        }
        self.every = all.div_ceil(lines.max(1)).max(1);
        self.bounded = true;
        self.run().await
    }

    /// `sample/access.log -> access-log`
    pub(super) fn label(&self) -> String {
        format!("{} -> {}", self.input.file.display(), self.input.topic)
    }

    /// Feeds to the end of the file; a repeated input has none. Gives the number of lines.
    ///
    /// # Errors
    /// The file can't be read, or a record can't be stored.
    pub(super) async fn run(self) -> Result<u64> {
        let producer = self.client.producer(&self.input.topic).build();
        let partitions = producer.partitions().await?;
        let mut fed = 0;
        loop {
            let begin = fed;
            let file = File::open(&self.path).await.map_err(|error| unreadable(&self.path, &error))?;
            self.feed(BufReader::new(file), &producer, partitions, &mut fed).await?;
            producer.flush().await?;
            // An empty file must not spin.
            if !self.input.repeat || self.bounded || fed == begin {
                return Ok(fed);
            }
        }
    }

    async fn feed(
        &self,
        mut lines: impl AsyncBufRead + Unpin,
        producer: &Producer,
        partitions: u32,
        fed: &mut u64,
    ) -> Result<()> {
        let start = Instant::now();
        let begin = *fed;
        let (mut line, mut number) = (Vec::new(), 0_u64);
        while next_line(&mut lines, &mut line).await.with_context(|| self.path.display().to_string())? {
            number += 1;
            if !number.is_multiple_of(self.every) {
                continue;
            }
            if let Some(rate) = self.input.rate.filter(|rate| *rate > 0.0 && !self.bounded) {
                tokio::time::sleep_until(start + Duration::from_secs_f64((*fed - begin) as f64 / rate)).await;
            }
            let record = match split_key(&line, self.input.key_separator.as_deref()) {
                (Some(key), value) => Record::new(value.to_vec()).key(key.to_vec()),
                // In turn: a small sample shall reach every task.
                (None, value) => Record::new(value.to_vec()).partition((*fed % u64::from(partitions.max(1))) as u32),
            };
            drop(producer.send(record).await?);
            *fed += 1;
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found(format!("there is no input file {}", path.display()))
            .help("`inputs` of millstream.yaml names it, relative to its own folder"),
        _ => Problem::failure(format!("{}: {error}", path.display())),
    }
    .into()
}

/// Reads a line without its end into `line`; `false` at the end of the input.
async fn next_line(lines: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<bool> {
    use tokio::io::AsyncReadExt as _;
    line.clear();
    if lines.take(LINE_BYTES_MAX + 1).read_until(b'\n', line).await? == 0 {
        return Ok(false);
    }
    anyhow::ensure!(line.len() as u64 <= LINE_BYTES_MAX, "a line is longer than 1 MiB");
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(true)
}

fn split_key<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes).filter(|separator| !separator.is_empty()) else {
        return (None, line);
    };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// What this data folder was fed.
pub(super) struct Note {
    file: PathBuf,
    fed: BTreeSet<String>,
}

impl Note {
    /// An unreadable note counts as none: feeding twice is better than never.
    pub(super) fn read(data_dir: &Path) -> Self {
        let file = data_dir.join(NOTE);
        let fed = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Note { file, fed }
    }

    pub(super) fn wants(&self, label: &str, feed: Feed) -> bool {
        match feed {
            Feed::Once => !self.fed.contains(label),
            Feed::Again => true,
            Feed::Never => false,
        }
    }

    /// # Errors
    /// The data folder can't be written.
    pub(super) fn add(&mut self, label: &str) -> Result<()> {
        self.fed.insert(label.to_owned());
        std::fs::write(&self.file, serde_json::to_vec(&self.fed)?).with_context(|| self.file.display().to_string())
    }
}

/// `sample/access.log -> access-log  2,000 lines`
pub(super) fn fed_line(label: &str, lines: u64) -> String {
    format!("{label}  {}", plural(lines, "line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines() {
        let check = async |text: &str, expected: &[&str]| {
            let mut reader = text.as_bytes();
            let (mut line, mut found) = (Vec::new(), Vec::new());
            while next_line(&mut reader, &mut line).await.unwrap() {
                found.push(String::from_utf8(line.clone()).unwrap());
            }
            assert_eq!(found, expected);
        };
        check("", &[]).await;
        check("a\nb\n", &["a", "b"]).await;
        check("a\r\n\nb", &["a", "", "b"]).await;
        let mut long = &vec![b'x'; LINE_BYTES_MAX as usize + 1][..];
        assert!(next_line(&mut long, &mut Vec::new()).await.is_err());
    }

    #[test]
    fn keys() {
        let check = |line: &str, separator: Option<&str>, key: Option<&str>, value: &str| {
            let found = split_key(line.as_bytes(), separator);
            assert_eq!(found, (key.map(str::as_bytes), value.as_bytes()), "{line}");
        };
        check("k:v:w", Some(":"), Some("k"), "v:w");
        check("k->v", Some("->"), Some("k"), "v");
        check("v", Some(":"), None, "v");
        check("k:v", None, None, "k:v");
    }

    #[test]
    fn each_input_once_per_data_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut note = Note::read(dir.path());
        assert!(note.wants("a -> t", Feed::Once) && !note.wants("a -> t", Feed::Never));
        note.add("a -> t").unwrap();
        let note = Note::read(dir.path());
        assert!(!note.wants("a -> t", Feed::Once) && note.wants("b -> t", Feed::Once));
        assert!(note.wants("a -> t", Feed::Again));
    }
}
