//! Reading and consuming: positions, committed offsets, rebalances, members that die.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_client::prelude::*;
use millstream_client::{ConsumerBuilder, ErrorCode};
use support::{Server, run, values};
use tokio::sync::mpsc;

const SESSION: Duration = Duration::from_millis(1500);

async fn produce(client: &Client, range: std::ops::Range<u32>) {
    let producer = client.producer("t").batch_bytes(500).linger(ms(0)).build();
    for i in range {
        drop(producer.send(Record::new(format!("{i}")).key(format!("{i}")).timestamp(i64::from(i))).await.unwrap());
    }
    producer.close().await.unwrap();
}

fn group(client: &Client) -> ConsumerBuilder {
    client.consumer("g").topics(["t"]).from(Earliest).session_timeout(SESSION)
}

/// Numbers from batches until `count` were seen.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(values(&consumer.next().await.unwrap().unwrap()).iter().map(|value| value.parse::<u32>().unwrap()));
    }
    seen
}

#[test]
fn a_reader_starts_and_stops_where_it_is_told() {
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        produce(&client, 0..100).await;
        let check = async |start: Start, expected: std::ops::Range<u32>| {
            let mut reader = client.reader("t").from(start).to_end().open().await.unwrap();
            let mut found: Vec<u32> = Vec::new();
            while let Some(batch) = reader.next().await {
                found.extend(values(&batch.unwrap()).iter().map(|value| value.parse::<u32>().unwrap()));
            }
            assert_eq!(found, expected.collect::<Vec<_>>(), "{start:?}");
        };
        check(Earliest, 0..100).await;
        check(Latest, 100..100).await;
        check(Start::Offset(37), 37..100).await;
        check(Start::Offset(100), 100..100).await;
        check(Start::Timestamp(41), 41..100).await;
        check(Start::Timestamp(1000), 100..100).await;
        assert_eq!(client.admin().delete_records("t", 0, Some(50)).await.unwrap(), 50);
        check(Earliest, 50..100).await;
        // A position that is gone: from the oldest record there is.
        check(Start::Offset(3), 50..100).await;

        let mut reader = client.reader("t").from(Latest).open().await.unwrap();
        produce(&client, 100..101).await;
        assert_eq!(values(&reader.next().await.unwrap().unwrap()), ["100"]);
        assert_eq!(reader.positions(), BTreeMap::from([(0, 101)]));
        let error = client.reader("t").partitions([1]).open().await.err().unwrap();
        assert_eq!(error.to_string(), "topic `t` has 1 partitions, there is no partition 1");
        assert_eq!(client.reader("none").open().await.err().unwrap().code(), ErrorCode::UnknownTopic);
    });
}

#[test]
fn a_group_goes_on_where_it_committed() {
    run(async {
        let (_server, client) = Server::with_topic(2).await;
        produce(&client, 0..100).await;
        let mut consumer = group(&client).subscribe().await.unwrap();
        let first: BTreeSet<u32> = take(&mut consumer, 100).await.into_iter().collect();
        assert_eq!(first.len(), 100);
        consumer.commit().await.unwrap();
        produce(&client, 100..110).await;
        // Read and not committed.
        take(&mut consumer, 10).await;
        consumer.close().await.unwrap();

        let mut consumer = group(&client).auto_commit(ms(1)).subscribe().await.unwrap();
        let again: BTreeSet<u32> = take(&mut consumer, 10).await.into_iter().collect();
        assert_eq!(again, (100..110).collect());
        consumer.close().await.unwrap();

        let group_now = client.admin().describe_group("g").await.unwrap();
        assert_eq!((group_now.state.as_str(), group_now.members.len()), ("empty", 0));
        assert!(group_now.partitions.iter().all(|partition| partition.lag == Some(0)), "{group_now:?}");
        client.admin().set_offsets("g", "t", &[(0, 0), (1, 0)]).await.unwrap();
        let mut assigned = client.consumer("g").assign([("t", 0), ("t", 1)]).await.unwrap();
        assert_eq!(take(&mut assigned, 110).await.len(), 110);
        assigned.commit().await.unwrap();
        client.admin().delete_group("g").await.unwrap();
        assert_eq!(client.admin().describe_group("g").await.unwrap_err().code(), ErrorCode::UnknownGroup);
    });
}

#[test]
fn a_member_that_joins_or_leaves_moves_partitions() {
    run(async {
        let (_server, client) = Server::with_topic(4).await;
        let mut first = group(&client).subscribe().await.unwrap();
        produce(&client, 0..200).await;
        assert_eq!(take(&mut first, 200).await.len(), 200);
        first.commit().await.unwrap();
        assert_eq!(first.assignment().len(), 4);
        let mut second = group(&client).subscribe().await.unwrap();
        // Both work until the partitions are shared, committing as they go: nobody reads what the other did.
        let (mut seen, mut next) = (Vec::new(), 200);
        while first.assignment().len() != 2 || second.assignment().len() != 2 {
            produce(&client, next..next + 10).await;
            next += 10;
            for consumer in [&mut first, &mut second] {
                while let Ok(batch) = tokio::time::timeout(ms(50), consumer.next()).await {
                    seen.extend(values(&batch.unwrap().unwrap()));
                    consumer.commit().await.unwrap();
                }
            }
        }
        let all: BTreeSet<&String> = seen.iter().collect();
        assert_eq!((seen.len(), all.len()), (next as usize - 200, next as usize - 200));
        assert!(first.assignment().iter().all(|partition| !second.assignment().contains(partition)));

        second.close().await.unwrap();
        produce(&client, next..next + 200).await;
        let rest: BTreeSet<u32> = take(&mut first, 200).await.into_iter().collect();
        assert_eq!(rest, (next..next + 200).collect());
        assert_eq!(first.assignment().len(), 4);
    });
}

#[test]
fn the_survivor_takes_over_from_a_member_that_dies() {
    run(async {
        let (_server, client) = Server::with_topic(4).await;
        let (sender, mut handled) = mpsc::unbounded_channel();
        let consume = |name: &'static str| {
            let (client, sender) = (client.clone(), sender.clone());
            tokio::spawn(async move {
                let mut consumer = group(&client).subscribe().await.unwrap();
                loop {
                    let batch = consumer.next().await.unwrap().unwrap();
                    for value in values(&batch) {
                        sender.send((name, value.parse::<u32>().unwrap())).unwrap();
                    }
                    consumer.commit().await.unwrap();
                }
            })
        };
        let (victim, _survivor) = (consume("victim"), consume("survivor"));
        let mut next = 0;
        let mut seen: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        let mut workers = BTreeSet::new();
        while workers.len() < 2 {
            produce(&client, next..next + 50).await;
            next += 50;
            while seen.len() < next as usize {
                let (name, number) = handled.recv().await.unwrap();
                workers.insert(name);
                seen.entry(number).or_default().push(name);
            }
        }
        victim.abort();
        produce(&client, next..next + 200).await;
        next += 200;
        while seen.len() < next as usize {
            let (name, number) = handled.recv().await.unwrap();
            seen.entry(number).or_default().push(name);
        }
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (0..next).collect::<Vec<_>>());
        let members = client.admin().describe_group("g").await.unwrap().members;
        assert_eq!(members.len(), 1, "the victim's session has ended: {members:?}");
    });
}

/// The session would outlast the test: who waits for it to run out fails.
#[test]
fn a_consumer_that_ends_leaves_its_group() {
    const LONG: Duration = Duration::from_secs(290);
    run(async {
        let (_server, client) = Server::with_topic(2).await;
        produce(&client, 0..20).await;
        let members = async || match client.admin().describe_group("g").await {
            Ok(group) => group.members.len(),
            Err(_) => 0,
        };
        let gone = async || {
            while members().await > 0 {
                tokio::time::sleep(ms(10)).await;
            }
        };
        let mut consumer = group(&client).session_timeout(LONG).subscribe().await.unwrap();
        take(&mut consumer, 20).await;
        consumer.commit().await.unwrap();
        assert_eq!(members().await, 1);
        drop(consumer);
        gone().await;

        // Outside of the runtime, and as a stream.
        let consumer = group(&client).session_timeout(LONG).subscribe().await.unwrap();
        let stream = Box::pin(consumer.into_stream());
        std::thread::spawn(move || drop(stream)).join().unwrap();
        gone().await;

        // Joining that is given up while the request is on its way, at any moment.
        for wait in [0, 1, 2, 5, 10, 20] {
            let joining = group(&client).session_timeout(LONG).subscribe();
            drop(tokio::time::timeout(Duration::from_micros(wait * 100), joining).await);
        }
        let mut next = group(&client).session_timeout(LONG).subscribe().await.unwrap();
        produce(&client, 20..40).await;
        // All of it, from where the first one committed: nobody holds a partition.
        let rest: BTreeSet<u32> = take(&mut next, 20).await.into_iter().collect();
        assert_eq!(rest, (20..40).collect());
        next.close().await.unwrap();
        gone().await;
        client.admin().set_offsets("g", "t", &[(0, 0)]).await.unwrap();
    });
}

/// A process that is stopped, as far as its own clock can tell: everything that it runs stands still until another member
/// reads its partition.
#[test]
fn a_member_that_stood_still_for_longer_than_its_session_reads_nothing_of_others() {
    run(async {
        let (server, client) = Server::with_topic(1).await;
        let producer = client.producer("t").linger(ms(0)).build();
        for i in 0..30 {
            // Ten of them fill what a broker pushes at once.
            let record = Record::new(format!("{i}")).key("k".repeat(100_000));
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await.unwrap();
        let (address, profile) = (server.address.to_string(), server.profile());
        let (say, mut said) = mpsc::unbounded_channel();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let stopped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::builder().server(&address).profile(profile).connect().await.unwrap();
                let mut consumer = group(&client).subscribe().await.unwrap();
                let first = take(&mut consumer, 1).await;
                consumer.commit().await.unwrap();
                say.send(first.clone()).unwrap();
                // More is pushed meanwhile, so that a member that did not look at its session would have it at once.
                tokio::time::sleep(ms(200)).await;
                // Nothing runs on this thread meanwhile.
                wait.recv().unwrap();
                tokio::select! {
                    biased;
                    batch = consumer.next() => panic!("read {:?}", values(&batch.unwrap().unwrap())),
                    // Its heartbeats, more than one, are answered before.
                    () = tokio::time::sleep(SESSION) => {}
                }
                first
            })
        });
        let first = said.recv().await.unwrap();
        assert!(first.len() < 20, "some batches are left, already on their way to the first member");
        let mut second = group(&client).subscribe().await.unwrap();
        let rest = take(&mut second, 30 - first.len()).await;
        assert_eq!([&first[..], &rest[..]].concat(), (0..30).collect::<Vec<_>>());
        go_on.send(()).unwrap();
        // The second member goes on as the owner.
        let first = tokio::task::spawn_blocking(move || stopped.join().unwrap());
        tokio::select! {
            first = first => drop(first.unwrap()),
            more = second.next() => panic!("read {:?}", values(&more.unwrap().unwrap())),
        }
        produce(&client, 100..101).await;
        assert_eq!(take(&mut second, 1).await, [100]);
        second.commit().await.unwrap();
    });
}

#[test]
fn what_a_group_refuses() {
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        let check = async |builder: ConsumerBuilder, code: ErrorCode, text: &str| {
            let error = builder.subscribe().await.err().expect("refused");
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        };
        check(client.consumer("g"), ErrorCode::InvalidRequest, "at least one topic").await;
        check(client.consumer("g").topics(["none"]), ErrorCode::UnknownTopic, "topic `none` does not exist").await;
        check(client.consumer("").topics(["t"]), ErrorCode::InvalidRequest, "group name").await;
        check(group(&client).session_timeout(ms(1)), ErrorCode::InvalidRequest, "session timeout").await;

        let _member = group(&client).subscribe().await.unwrap();
        let error = client.admin().set_offsets("g", "t", &[(0, 0)]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::GroupNotEmpty);
        assert_eq!(client.admin().delete_group("g").await.unwrap_err().code(), ErrorCode::GroupNotEmpty);
    });
}

#[test]
fn json_comes_back() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Order {
        id: u32,
        item: String,
    }
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        let producer = client.producer("t").build();
        let order = Order { id: 7, item: "mill".into() };
        producer.send(Record::json(&order).unwrap().key("o-7")).await.unwrap().await.unwrap();
        producer.send("not json").await.unwrap().await.unwrap();
        let mut reader = client.reader("t").to_end().open().await.unwrap();
        let batch = reader.next().await.unwrap().unwrap();
        let mut records = batch.iter();
        assert_eq!(records.next().unwrap().json::<Order>().unwrap(), order);
        let rest = match records.next() {
            Some(record) => record.json::<Order>().unwrap_err(),
            None => reader.next().await.unwrap().unwrap().iter().next().unwrap().json::<Order>().unwrap_err(),
        };
        assert!(rest.to_string().starts_with("t/0 at offset 1 is not the JSON expected"), "{rest}");
    });
}
