//! Consuming in a group: members share the partitions of their topics, and the group remembers how far it
//! has read. The consumer reads what its membership tells it to, and lets go only between two batches.

mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use millstream_protocol::message::{CommitOffsets, CommittedOffset, FetchOffsets, TopicPartitions};
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, TopicPartition};

use crate::feed::{Cursor, Feed};
use crate::link::{Link, Topic};
use crate::position::{Start, resolve};
use crate::{Batch, Error};
use membership::Membership;

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a group consumes; see [`crate::Client::consumer`].
#[must_use]
pub struct ConsumerBuilder {
    link: Arc<Link>,
    group: String,
    topics: Vec<String>,
    start: Start,
    session_timeout: Duration,
    auto_commit: Option<Duration>,
}

/// Reads the partitions that the group gives it. [`Consumer::close`] leaves the group, and returns when others may have
/// its partitions. Dropping it leaves as well as it can: in the background, for two seconds at most, and only as long as
/// the runtime goes on; where that fails its partitions go to the other members when the session times out, as after a
/// crash. Neither commits by itself, unless [`ConsumerBuilder::auto_commit`] is on and the consumer is closed.
pub struct Consumer {
    link: Arc<Link>,
    group: String,
    start: Start,
    topics: Vec<String>,
    feed: Feed,
    /// `None`: the partitions were assigned by hand.
    membership: Option<Membership>,
    /// The life of the membership that the feed's partitions belong to.
    epoch: u64,
    /// Read when the session had run out; handed out when it turns out to go on.
    held: Option<(TopicPartition, Batch)>,
    /// Handed out and not committed: the next offset to read.
    delivered: BTreeMap<TopicPartition, i64>,
    auto_commit: Option<Duration>,
    committed_at: Instant,
}

impl ConsumerBuilder {
    pub(crate) fn new(link: Arc<Link>, group: &str) -> Self {
        ConsumerBuilder {
            link,
            group: group.to_owned(),
            topics: Vec::new(),
            start: Start::Latest,
            session_timeout: SESSION_TIMEOUT,
            auto_commit: None,
        }
    }

    /// Adds topics to read.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Where to start in partitions that the group has not committed yet; at the end otherwise.
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How long the group waits for a member that is silent before others get its partitions (10 s).
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Commits what was handed out by earlier calls of [`Consumer::next`], this often. Otherwise call
    /// [`Consumer::commit`].
    pub fn auto_commit(mut self, every: Duration) -> Self {
        self.auto_commit = Some(every);
        self
    }

    /// Joins the group.
    ///
    /// # Errors
    /// A topic does not exist, the group refuses, or there is no broker to ask.
    pub async fn subscribe(self) -> Result<Consumer, Error> {
        if self.topics.is_empty() {
            return Err(Error::Invalid("a consumer needs at least one topic".to_owned()));
        }
        for topic in &self.topics {
            self.link.refresh_topic(topic).await?;
        }
        let link = Arc::clone(&self.link);
        let membership = Membership::join(link, &self.group, &self.topics, self.session_timeout).await?;
        let mut consumer = self.consumer();
        consumer.membership = Some(membership);
        Ok(consumer)
    }

    /// Reads these partitions without joining the group; commits work while the group has no members.
    ///
    /// # Errors
    /// A topic or partition does not exist, or there is no broker to ask.
    pub async fn assign<T: Into<String>>(
        mut self,
        partitions: impl IntoIterator<Item = (T, u32)>,
    ) -> Result<Consumer, Error> {
        let mut keys = BTreeSet::new();
        for (name, partition) in partitions {
            let name = name.into();
            let topic = self.link.topic(&name).await?;
            if partition >= topic.partitions {
                let count = topic.partitions;
                let message = format!("topic `{name}` has {count} partitions, there is no partition {partition}");
                return Err(Error::Invalid(message));
            }
            keys.insert(TopicPartition { topic: topic.id, partition: PartitionIndex(partition) });
            self.topics.push(name);
        }
        let mut consumer = self.consumer();
        consumer.begin(&keys).await?;
        Ok(consumer)
    }

    fn consumer(self) -> Consumer {
        Consumer {
            feed: Feed::new(Arc::clone(&self.link), self.start),
            link: self.link,
            group: self.group,
            start: self.start,
            topics: self.topics,
            membership: None,
            epoch: 0,
            held: None,
            delivered: BTreeMap::new(),
            auto_commit: self.auto_commit,
            committed_at: Instant::now(),
        }
    }
}

impl Consumer {
    /// The next records of any partition, in order per partition. Waits for them, and for a broker that is
    /// away; takes part in rebalances meanwhile. May be cancelled. Never `None`; after an error it may be
    /// called again.
    ///
    /// A consumer that was silent for longer than its session timeout (its process was stopped, or the broker away) gets
    /// nothing until the group has said what is still its to read.
    pub async fn next(&mut self) -> Option<Result<Batch, Error>> {
        loop {
            if let Some(membership) = &self.membership {
                membership.confirmed().await;
            }
            if let Err(error) = self.follow().await {
                return Some(Err(error));
            }
            if self.auto_commit_due().is_some_and(|wait| wait.is_zero())
                && let Err(error) = self.commit().await
            {
                return Some(Err(error));
            }
            if self.held.is_none() {
                let wait = self.auto_commit_due();
                let found = tokio::select! {
                    biased;
                    () = changed(self.membership.as_ref()) => continue,
                    found = self.feed.next() => found,
                    () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => continue,
                };
                match found {
                    Ok(found) => self.held = Some(found),
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.membership.as_ref().is_some_and(Membership::is_lapsed) {
                continue;
            }
            if let Some((key, batch)) = self.held.take() {
                self.delivered.insert(key, batch.next_offset());
                return Some(Ok(batch));
            }
        }
    }

    /// How long until a commit is due; `None` when there is nothing to commit by itself.
    fn auto_commit_due(&self) -> Option<Duration> {
        let every = self.auto_commit.filter(|_| !self.delivered.is_empty())?;
        Some(every.saturating_sub(self.committed_at.elapsed()))
    }

    /// Does what the membership says: stops what was revoked, starts what was given.
    async fn follow(&mut self) -> Result<(), Error> {
        let Some(membership) = &self.membership else { return Ok(()) };
        let (epoch, target) = membership.target()?;
        if epoch != self.epoch {
            // Thrown out: others may be reading these already.
            self.feed.assign(BTreeMap::new());
            self.delivered.clear();
            self.held = None;
            self.epoch = epoch;
        }
        let revoked: Vec<TopicPartition> =
            self.feed.cursors().keys().filter(|key| !target.contains(key)).copied().collect();
        if !revoked.is_empty() && self.auto_commit.is_some() {
            self.commit().await?;
        }
        for key in revoked {
            self.feed.remove(key);
            self.delivered.remove(&key);
            self.held.take_if(|(held, _)| *held == key);
        }
        if let Some(membership) = &self.membership {
            membership.release(epoch, &target);
        }
        self.begin(&target).await
    }

    /// Starts the partitions of `keys` that are not being read, where the group was.
    async fn begin(&mut self, keys: &BTreeSet<TopicPartition>) -> Result<(), Error> {
        let new: Vec<TopicPartition> =
            keys.iter().filter(|key| !self.feed.cursors().contains_key(key)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let topics = self.topics_of(&new).await?;
        let request = FetchOffsets { group: self.group.clone(), partitions: by_topic(&new) };
        let committed = self.link.call(&request).await?.offsets;
        let mut cursors = self.feed.cursors().clone();
        for offset in committed {
            let key = TopicPartition { topic: offset.topic, partition: offset.partition };
            if let Some(topic) = topics.iter().find(|topic| topic.id == key.topic) {
                cursors.insert(key, Cursor { topic: Arc::clone(&topic.name), next: offset.offset.0 });
            }
        }
        for topic in &topics {
            let fresh = |key: &&TopicPartition| key.topic == topic.id && !cursors.contains_key(*key);
            let fresh: Vec<PartitionIndex> = new.iter().filter(fresh).map(|key| key.partition).collect();
            if fresh.is_empty() {
                continue;
            }
            let starts = resolve(&self.link, topic.id, &fresh, self.start).await?;
            for (partition, next) in fresh.into_iter().zip(starts) {
                let key = TopicPartition { topic: topic.id, partition };
                cursors.insert(key, Cursor { topic: Arc::clone(&topic.name), next });
            }
        }
        self.feed.assign(cursors);
        Ok(())
    }

    /// The topics that `keys` belong to; those that were deleted meanwhile are left out.
    async fn topics_of(&self, keys: &[TopicPartition]) -> Result<Vec<Topic>, Error> {
        let mut topics = Vec::new();
        for name in self.topics.iter().collect::<BTreeSet<_>>() {
            let mut topic = self.link.topic(name).await;
            if topic.as_ref().is_ok_and(|topic| !keys.iter().any(|key| key.topic == topic.id)) {
                // Perhaps it was deleted and created again.
                topic = self.link.refresh_topic(name).await;
            }
            match topic {
                Ok(topic) => topics.push(topic),
                Err(Error::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(topics)
    }

    /// Commits everything handed out so far: the group goes on after it. Partitions that went to another
    /// member meanwhile (this one was silent for too long) are not committed: that member reads their last
    /// records again, and a warning is logged.
    ///
    /// # Errors
    /// The broker can't be reached or refuses.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.committed_at = Instant::now();
        if self.delivered.is_empty() {
            return Ok(());
        }
        let offset = |(key, next): (&TopicPartition, &i64)| CommittedOffset {
            topic: key.topic,
            partition: key.partition,
            offset: Offset(*next),
            metadata: String::new(),
        };
        let offsets: Vec<CommittedOffset> = self.delivered.iter().map(offset).collect();
        let committed = self.link.retry(async || {
            let (member_id, generation) = match &self.membership {
                // A session that has run out commits nothing; lost, it has no name to commit with.
                Some(membership) => {
                    membership.confirmed().await;
                    membership.identity(self.epoch)
                }
                None => (String::new(), 0),
            };
            let (group, offsets) = (self.group.clone(), offsets.clone());
            self.link.call_once(&CommitOffsets { group, member_id, generation, offsets }).await
        });
        match committed.await {
            Ok(_) => self.delivered.clear(),
            Err(error) if matches!(error.code(), ErrorCode::UnknownMember | ErrorCode::StaleGeneration) => {
                tracing::warn!(group = self.group, "{error}; its new reader gets the records not committed again");
                self.delivered.clear();
                if let Some(membership) = &self.membership {
                    membership.rejoin(self.epoch);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Commits everything handed out so far, but of this partition only what lies before `offset`: for a consumer that
    /// ends in the middle of a batch. The rest of the batch is for whoever reads the partition next, not for this one.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_before(&mut self, topic: &str, partition: u32, offset: i64) -> Result<(), Error> {
        let mut cursors = self.feed.cursors().iter();
        let found = cursors.find(|(key, cursor)| &*cursor.topic == topic && key.partition.0 == partition);
        if let Some(next) = found.and_then(|(key, _)| self.delivered.get_mut(key)) {
            *next = offset.min(*next);
        }
        self.commit().await
    }

    /// What is being read now: topic and partition.
    pub fn assignment(&self) -> Vec<(String, u32)> {
        self.feed.cursors().iter().map(|(key, cursor)| (cursor.topic.to_string(), key.partition.0)).collect()
    }

    /// As a stream, for combinators. It commits by itself or not at all.
    pub fn into_stream(self) -> impl Stream<Item = Result<Batch, Error>> {
        futures_util::stream::unfold(self, async |mut consumer| {
            let next = consumer.next().await?;
            Some((next, consumer))
        })
    }

    /// Leaves the group, so that others get its partitions at once; commits before if that is automatic.
    ///
    /// # Errors
    /// The broker can't be reached or refuses.
    pub async fn close(mut self) -> Result<(), Error> {
        if self.auto_commit.is_some() {
            self.commit().await?;
        }
        match self.membership.take() {
            Some(membership) => membership.leave().await,
            None => Ok(()),
        }
    }
}

/// Resolves when the membership has news.
async fn changed(membership: Option<&Membership>) {
    match membership {
        Some(membership) => membership.changed().await,
        None => std::future::pending().await,
    }
}

/// `keys` in order of topic.
fn by_topic<'a>(keys: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<_, Vec<PartitionIndex>> = BTreeMap::new();
    for key in keys {
        topics.entry(key.topic).or_default().push(key.partition);
    }
    topics.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect()
}
