//! Which records a command is about: where to begin and end, which partitions, which records of these. Shared by whatever
//! reads topics.

use std::collections::BinaryHeap;

use anyhow::Result;
use millstream_client::{Client, ReaderBuilder};
use millstream_pipeline::expr::{Expression, Origin};
use millstream_protocol::{Columns, Row};
use regex::bytes::{Regex, RegexBuilder};

use crate::problem::Problem;
use crate::start::Start;

/// The last records of several partitions are sorted by time, so they are kept; of one they are not.
const LAST_SORTED_MAX: u64 = 100_000;

/// Options of every command that reads records.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectArgs {
    /// earliest, latest, an offset, a time (2015-05-17T12:00Z), or an age (-15m) [default: earliest; latest with --follow]
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    pub(crate) from: Option<Start>,
    /// End before this offset, time or age
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    pub(crate) until: Option<Start>,
    /// The newest N records of all partitions together, by their time
    #[arg(long, value_name = "N", conflicts_with = "from")]
    pub(crate) last: Option<u64>,
    /// Only these partitions
    #[arg(short, long, value_name = "N")]
    pub(crate) partition: Vec<u32>,
    /// Only records whose key or value matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// Without regard to upper and lower case
    #[arg(short, long, requires = "grep")]
    pub(crate) ignore_case: bool,
    /// Only records that --grep does not match
    #[arg(long, requires = "grep")]
    pub(crate) invert_match: bool,
    /// Only records for which this expression is true: `value.status >= 500`
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) condition: Option<String>,
}

/// The tests that a record passes, compiled; and what was said of records that could not be tested.
#[derive(Default)]
pub(crate) struct Filter {
    grep: Option<Regex>,
    invert: bool,
    condition: Option<Expression>,
    /// Records that the expression failed on, and the first failure's words.
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

impl SelectArgs {
    /// # Errors
    /// The pattern or the expression has a mistake.
    pub(crate) fn filter(&self) -> Result<Filter> {
        let grep = self.grep.as_deref().map(|pattern| {
            RegexBuilder::new(pattern).case_insensitive(self.ignore_case).build().map_err(|error| {
                let words = error.to_string();
                let reason = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Problem::usage(format!("--grep: the pattern can't be read: {reason}"))
                    .help("a text with special characters is quoted by \\: \\[error\\]")
            })
        });
        let condition = self.condition.as_deref().map(|source| Expression::parse(source, "--where")).transpose()?;
        Ok(Filter { grep: grep.transpose()?, invert: self.invert_match, condition, ..Filter::default() })
    }

    pub(crate) fn start(&self, follow: bool) -> millstream_client::Start {
        match self.from {
            Some(start) => start.into(),
            None if follow => millstream_client::Start::Latest,
            None => millstream_client::Start::Earliest,
        }
    }

    pub(crate) fn wants(&self, partition: u32) -> bool {
        self.partition.is_empty() || self.partition.contains(&partition)
    }

    /// A reader of what is selected of a topic; with `follow` it goes on where nothing says how far.
    ///
    /// # Errors
    /// There is no such topic.
    pub(crate) async fn reader(&self, client: &Client, topic: &str, follow: bool) -> Result<ReaderBuilder> {
        let mut reader = client.reader(topic).from(self.start(follow));
        if !self.partition.is_empty() {
            reader = reader.partitions(self.partition.iter().copied());
        }
        if let Some(last) = self.last {
            let last = i64::try_from(last).unwrap_or(i64::MAX);
            let until = self.until.map_or(millstream_client::Start::Latest, Into::into);
            let ends = client.admin().offsets(topic, until).await?;
            for (partition, end) in (0..).zip(ends) {
                reader = reader.position(partition, end.saturating_sub(last).max(0));
            }
        }
        Ok(match self.until {
            Some(until) => reader.until(until.into()),
            None if follow => reader,
            None => reader.to_end(),
        })
    }

    /// The topics that are meant by these names, of which some may be patterns with `*`.
    ///
    /// # Errors
    /// A pattern fits none.
    pub(crate) async fn topics(client: &Client, names: &[String]) -> Result<Vec<String>> {
        if !names.iter().any(|name| name.contains('*')) {
            return Ok(names.to_vec());
        }
        let known = client.admin().list_topics().await?;
        let mut topics = Vec::new();
        for name in names {
            if !name.contains('*') {
                topics.push(name.clone());
                continue;
            }
            let before = topics.len();
            topics.extend(known.iter().map(|topic| &topic.name).filter(|known| fits(name, known)).cloned());
            if topics.len() == before {
                return Err(Problem::not_found(format!("no topic fits `{name}`"))
                    .help("`millstream topic list` shows what there is")
                    .into());
            }
        }
        topics.sort();
        topics.dedup();
        Ok(topics)
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

impl Filter {
    pub(crate) fn takes(&mut self, topic: &str, partition: u32, row: &Row<'_>) -> bool {
        if let Some(grep) = &self.grep {
            let found = [row.key, row.value].into_iter().flatten().any(|part| grep.is_match(part));
            if found == self.invert {
                return false;
            }
        }
        let Some(condition) = &self.condition else { return true };
        match condition.test(row, Origin { topic, partition }) {
            Ok(taken) => taken,
            Err(words) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| format!("{topic}/{partition}@{}: {words}", row.offset));
                false
            }
        }
    }

    /// What to say at the end of records that could not be tested.
    pub(crate) fn complaint(&self) -> Option<String> {
        let first = self.first_failure.as_ref()?;
        Some(match self.failed {
            1 => format!("--where failed on a record, which is left out: {first}"),
            failed => format!("--where failed on {failed} records, which are left out; the first: {first}"),
        })
    }
}

/// Keeps the newest records of several partitions.
pub(crate) struct Newest {
    max: usize,
    kept: BinaryHeap<std::cmp::Reverse<Kept>>,
}

/// A record by its time; among equal times as it lies.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    timestamp: i64,
    topic: String,
    partition: u32,
    offset: i64,
    row: OneRow,
}

/// A batch of one record. All are alike, as far as their order goes.
struct OneRow(Columns);

impl PartialEq for OneRow {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for OneRow {}

impl PartialOrd for OneRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OneRow {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Newest {
    /// # Errors
    /// More than can be sorted.
    pub(crate) fn new(last: u64) -> Result<Newest> {
        if last > LAST_SORTED_MAX {
            return Err(Problem::usage(format!(
                "--last sorts at most {LAST_SORTED_MAX} records of several partitions, asked for {last}"
            ))
            .help("name one partition with -p, or a time with --from")
            .into());
        }
        Ok(Newest { max: last as usize, kept: BinaryHeap::new() })
    }

    pub(crate) fn add(&mut self, topic: &str, partition: u32, row: &Row<'_>) {
        let mut columns = Columns::default();
        columns.push_row(row);
        let (timestamp, offset) = (row.timestamp, row.offset);
        let kept = Kept { timestamp, topic: topic.to_owned(), partition, offset, row: OneRow(columns) };
        self.kept.push(std::cmp::Reverse(kept));
        if self.kept.len() > self.max {
            self.kept.pop();
        }
    }

    /// In order of time: topic, partition and the record as a batch of one.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = (String, u32, Columns)> {
        let kept: Vec<Kept> = self.kept.into_sorted_vec().into_iter().rev().map(|kept| kept.0).collect();
        kept.into_iter().map(|kept| (kept.topic, kept.partition, kept.row.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check =
            |pattern: &str, name: &str, expected: bool| assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        check("web-*", "web-errors", true);
        check("web-*", "web-", true);
        check("web-*", "web", false);
        check("*", "anything", true);
        check("*-bad", "access-log-bad", true);
        check("a*c*e", "abcde", true);
        check("a*a", "a", false);
        check("orders", "orders", true);
        check("orders", "orders-2", false);
    }

    #[test]
    fn the_newest_are_kept_in_order() {
        let mut newest = Newest::new(3).unwrap();
        for (partition, offset, timestamp) in [(0, 0, 5), (1, 0, 9), (0, 1, 7), (1, 1, 8), (2, 0, 7)] {
            let mut columns = Columns::default();
            columns.push(offset, timestamp, None, Some(b"v"));
            newest.add("t", partition, &columns.rows().next().unwrap());
        }
        let order: Vec<(u32, i64)> =
            newest.into_rows().map(|(_, partition, row)| (partition, row.rows().next().unwrap().timestamp)).collect();
        assert_eq!(order, [(2, 7), (1, 8), (1, 9)]);
        assert!(Newest::new(1_000_000_000).is_err());
    }
}
