//! Reading partitions without a group: from where one says, to the end or for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::Stream;
use millstream_protocol::{PartitionIndex, TopicPartition};

use crate::feed::{Cursor, Feed};
use crate::link::Link;
use crate::position::{Start, resolve};
use crate::{Batch, Error};

/// How a topic is read; see [`crate::Client::reader`].
#[must_use]
pub struct ReaderBuilder {
    link: Arc<Link>,
    topic: String,
    partitions: Option<Vec<u32>>,
    start: Start,
    positions: BTreeMap<u32, i64>,
    until: Option<Start>,
}

/// The records of some partitions of a topic.
pub struct Reader {
    feed: Feed,
    /// The end offsets to stop at, of partitions that did not reach them yet.
    ends: Option<BTreeMap<TopicPartition, i64>>,
}

impl ReaderBuilder {
    pub(crate) fn new(link: Arc<Link>, topic: &str) -> Self {
        ReaderBuilder {
            link,
            topic: topic.to_owned(),
            partitions: None,
            start: Start::Earliest,
            positions: BTreeMap::new(),
            until: None,
        }
    }

    /// Only these partitions; all of them otherwise.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to start; at the earliest record otherwise.
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Starts one partition at an offset of its own.
    pub fn position(mut self, partition: u32, offset: i64) -> Self {
        self.positions.insert(partition, offset);
        self
    }

    /// Stops at the ends that the partitions have when the reader is opened.
    pub fn to_end(self) -> Self {
        self.until(Start::Latest)
    }

    /// Stops before these positions, or at the ends that the partitions have when the reader is opened.
    pub fn until(mut self, end: Start) -> Self {
        self.until = Some(end);
        self
    }

    /// Finds the positions and starts to read.
    ///
    /// # Errors
    /// There is no such topic or partition, or no broker to ask.
    pub async fn open(self) -> Result<Reader, Error> {
        let topic = self.link.refresh_topic(&self.topic).await?;
        let wanted = self.partitions.unwrap_or_else(|| (0..topic.partitions).collect());
        if let Some(partition) = wanted.iter().find(|partition| **partition >= topic.partitions) {
            let (name, count) = (&self.topic, topic.partitions);
            let message = format!("topic `{name}` has {count} partitions, there is no partition {partition}");
            return Err(Error::Invalid(message));
        }
        let wanted: Vec<PartitionIndex> = wanted.into_iter().map(PartitionIndex).collect();
        let starts = resolve(&self.link, topic.id, &wanted, self.start).await?;
        let key = |partition: &PartitionIndex| TopicPartition { topic: topic.id, partition: *partition };
        let cursors: BTreeMap<TopicPartition, Cursor> = wanted
            .iter()
            .zip(starts)
            .map(|(partition, start)| {
                let next = self.positions.get(&partition.0).copied().unwrap_or(start);
                (key(partition), Cursor { topic: Arc::clone(&topic.name), next })
            })
            .collect();
        let ends = match self.until {
            None => None,
            Some(until) => {
                let mut ends = resolve(&self.link, topic.id, &wanted, Start::Latest).await?;
                if until != Start::Latest {
                    let asked = resolve(&self.link, topic.id, &wanted, until).await?;
                    ends.iter_mut().zip(asked).for_each(|(end, asked)| *end = asked.min(*end));
                }
                let firsts = resolve(&self.link, topic.id, &wanted, Start::Earliest).await?;
                let left = wanted.iter().map(key).zip(ends).zip(firsts);
                let open = |((key, end), first): ((TopicPartition, i64), i64)| {
                    (cursors[&key].next.max(first) < end).then_some((key, end))
                };
                Some(left.filter_map(open).collect())
            }
        };
        let mut feed = Feed::new(Arc::clone(&self.link), self.start);
        feed.assign(cursors);
        let mut reader = Reader { feed, ends };
        reader.drop_finished();
        Ok(reader)
    }
}

impl Reader {
    /// The next records of any partition; `None` at the end, if it was asked to stop there. After an error
    /// it may be called again: a topic that is gone is no longer read, everything else is tried again.
    pub async fn next(&mut self) -> Option<Result<Batch, Error>> {
        loop {
            if self.ends.as_ref().is_some_and(BTreeMap::is_empty) || self.feed.cursors().is_empty() {
                return None;
            }
            let (key, batch) = match self.feed.next().await {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let Some(ends) = &mut self.ends else { return Some(Ok(batch)) };
            let Some(end) = ends.get(&key).copied() else { continue };
            let (last, batch) = (batch.next_offset() >= end, batch.cut(end));
            if last {
                ends.remove(&key);
                self.feed.remove(key);
            }
            if let Some(batch) = batch {
                return Some(Ok(batch));
            }
        }
    }

    fn drop_finished(&mut self) {
        let Some(ends) = &self.ends else { return };
        let done: Vec<TopicPartition> =
            self.feed.cursors().keys().filter(|key| !ends.contains_key(*key)).copied().collect();
        done.into_iter().for_each(|key| self.feed.remove(key));
    }

    /// The next offset of every partition that is read.
    pub fn positions(&self) -> BTreeMap<u32, i64> {
        self.feed.cursors().iter().map(|(key, cursor)| (key.partition.0, cursor.next)).collect()
    }

    /// As a stream, for combinators.
    pub fn into_stream(self) -> impl Stream<Item = Result<Batch, Error>> {
        futures_util::stream::unfold(self, async |mut reader| {
            let next = reader.next().await?;
            Some((next, reader))
        })
    }
}
