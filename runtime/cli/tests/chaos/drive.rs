//! The clients of a run, by the SDK: producers, readers, members of a group, and whoever watches what the group
//! commits. Each works until it is told to stop, whatever happens to the broker, and returns what it saw.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_client::message::Cause;
use millstream_client::prelude::*;
use millstream_client::{Batch, ClientBuilder, ErrorCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::history::{Fate, Mark, Observed};
use super::support::{PATIENCE, Server};

/// Records to one partition before it is the next one's turn, so that batches fill.
pub(crate) const STRIDE: u64 = 256;
/// Records between two looks at what was acknowledged.
const LOOK: u64 = 256;
/// Between two looks at what a group has committed.
const WATCH: Duration = Duration::from_millis(50);

/// Tells clients to stop.
pub(crate) struct Stop(watch::Sender<bool>);

#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn new() -> (Stop, Stopping) {
        let (stop, stopping) = watch::channel(false);
        (Stop(stop), Stopping(stopping))
    }

    pub(crate) fn stop(self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

pub(crate) fn builder(server: &Server) -> ClientBuilder {
    Client::builder().server(&server.address()).profile(server.data("profile.yaml"))
}

pub(crate) async fn client(server: &Server) -> Client {
    let start = Instant::now();
    loop {
        match builder(server).connect().await {
            Ok(client) => return client,
            Err(error) if start.elapsed() > PATIENCE => panic!("{error}\n{}", server.log()),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Runs a test on two workers, as programs that use the SDK do.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(test);
    runtime.shutdown_background();
    result
}

/// Waits for a condition of the cluster.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the cluster's status names a trouble, or no longer does.
pub(crate) async fn wait_for_finding(client: &Client, cause: Cause, there: bool) {
    until(&format!("the status has {cause:?}: {there}"), || async {
        let status = client.admin().cluster_status().await;
        status.is_ok_and(|status| status.findings.iter().any(|finding| finding.cause == cause) == there)
    })
    .await;
}

/// One producer of one topic.
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) topic: &'static str,
    pub(crate) producer: u16,
    pub(crate) partitions: u32,
    /// Records to one partition before it is the next one's turn.
    pub(crate) stride: u64,
    /// Records per second; as fast as they are taken without.
    pub(crate) rate: Option<u64>,
    /// Counts acknowledged records, of several sources maybe.
    pub(crate) acknowledged: Arc<AtomicU64>,
}

/// The fates of a source's records by lane.
pub(crate) type Sent = BTreeMap<(u16, u32), Vec<Fate>>;

/// Sends numbered records until told to stop, and waits until all of them are settled. A record that was not taken is
/// sent again; one that was taken is the SDK's.
pub(crate) async fn produce(source: Source, stopping: Stopping) -> Sent {
    let producer = source.client.producer(source.topic).build();
    let lane = |partition: u32| (source.producer, partition);
    let mut sent: Sent = (0..source.partitions).map(|partition| (lane(partition), Vec::new())).collect();
    let mut receipts: VecDeque<(u32, usize, Receipt)> = VecDeque::new();
    let start = Instant::now();
    for count in 0u64.. {
        if stopping.is_set() {
            break;
        }
        if let Some(rate) = source.rate {
            let due = start + Duration::from_micros(count * 1_000_000 / rate);
            if due > Instant::now() {
                sleep_until(due).await;
            }
        }
        let partition = (count / source.stride) as u32 % source.partitions;
        let fates = sent.get_mut(&lane(partition)).unwrap();
        let number = fates.len();
        let value = Mark::new(source.producer, number).value(0);
        let receipt = loop {
            match producer.send(Record::new(value.clone()).partition(partition)).await {
                Ok(receipt) => break receipt,
                Err(error) => {
                    assert!(error.is_retriable(), "a record was refused for good: {error}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        fates.push(Fate::Unknown);
        receipts.push_back((partition, number, receipt));
        if count % LOOK == 0 {
            while receipts.front().is_some_and(|(_, _, receipt)| receipt.try_result().is_some()) {
                let (partition, number, receipt) = receipts.pop_front().unwrap();
                settle(&mut sent, lane(partition), number, receipt.await, &source.acknowledged);
            }
        }
    }
    // What failed shows in the fates.
    let _ = producer.close().await;
    for (partition, number, receipt) in receipts {
        settle(&mut sent, lane(partition), number, receipt.await, &source.acknowledged);
    }
    sent
}

fn settle(
    sent: &mut Sent,
    lane: (u16, u32),
    number: usize,
    result: Result<millstream_client::Delivered, Error>,
    acknowledged: &AtomicU64,
) {
    match result {
        Ok(at) => {
            assert_eq!(at.partition, lane.1, "a record went to another partition than it was sent to");
            sent.get_mut(&lane).unwrap()[number] = Fate::Stored(at.offset);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => eprintln!("record {number} of {lane:?} failed: {error}"),
    }
}

fn note(seen: &mut Observed, batch: &Batch) {
    for record in batch {
        seen.saw(record.partition(), record.offset(), Mark::of(record.value()).0);
    }
}

/// Everything that a topic holds now.
pub(crate) async fn read_all(client: &Client, topic: &str) -> Observed {
    let mut reader = client.reader(topic).from(Earliest).to_end().open().await.unwrap();
    let mut seen = Observed::default();
    while let Some(batch) = reader.next().await {
        note(&mut seen, &batch.unwrap());
    }
    seen
}

/// Reads along from the start of a topic until told to stop.
pub(crate) async fn follow(client: Client, topic: &'static str, mut stopping: Stopping) -> Observed {
    let mut reader = client.reader(topic).from(Earliest).open().await.unwrap();
    let mut seen = Observed::default();
    loop {
        tokio::select! {
            batch = reader.next() => note(&mut seen, &batch.unwrap().unwrap()),
            () = stopping.wait() => return seen,
        }
    }
}

/// One member of a group.
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) group: &'static str,
    pub(crate) topic: &'static str,
    pub(crate) session_timeout: Duration,
}

/// Consumes in a group until told to stop, committing after every batch.
pub(crate) async fn consume(member: Member, mut stopping: Stopping) -> Observed {
    let subscribe = || {
        let consumer = member.client.consumer(member.group).topics([member.topic]).from(Earliest);
        consumer.session_timeout(member.session_timeout).subscribe()
    };
    let mut seen = Observed::default();
    let mut consumer = loop {
        match subscribe().await {
            Ok(consumer) => break consumer,
            Err(error) => assert!(error.is_retriable(), "the group refuses for good: {error}"),
        }
    };
    loop {
        let batch = tokio::select! {
            batch = consumer.next() => batch.unwrap(),
            () = stopping.wait() => break,
        };
        let outcome = match batch {
            Ok(batch) => {
                note(&mut seen, &batch);
                consumer.commit().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            assert!(error.is_retriable(), "consuming failed for good: {error}");
        }
    }
    consumer.close().await.unwrap();
    seen
}

/// Looks at what a group has committed again and again.
pub(crate) async fn watch_commits(client: Client, group: &'static str, stopping: Stopping) -> Vec<(u32, i64)> {
    let mut commits = Vec::new();
    while !stopping.is_set() {
        // While the broker is away there is nothing to see.
        if let Ok(offsets) = client.admin().committed_offsets(group).await {
            commits.extend(offsets.iter().map(|offset| (offset.partition.0, offset.offset.0)));
        }
        sleep(WATCH).await;
    }
    commits
}

/// Waits until a group has read and committed everything.
pub(crate) async fn wait_for_group(client: &Client, group: &str) {
    until(&format!("group {group} has read everything"), || async {
        let described = client.admin().describe_group(group).await;
        match described {
            Ok(described) => described.partitions.iter().all(|partition| partition.lag == Some(0)),
            Err(error) => {
                assert!(error.is_retriable() || error.code() == ErrorCode::UnknownGroup, "{error}");
                false
            }
        }
    })
    .await;
}

/// Waits until a pipeline has committed everything.
pub(crate) async fn wait_for_pipeline(client: &Client, name: &str) {
    until(&format!("pipeline {name} has read everything"), || async {
        match client.admin().describe_pipeline(name).await {
            Ok(described) => !described.tasks.is_empty() && described.tasks.iter().all(|task| task.lag == 0),
            Err(error) => {
                assert!(error.is_retriable(), "{error}");
                false
            }
        }
    })
    .await;
}
