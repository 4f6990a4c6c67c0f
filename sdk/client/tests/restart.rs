//! A broker that crashes, or shuts down, and comes back on the same port while clients work on.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::BTreeSet;

use millstream_client::prelude::*;
use support::{Server, read_all, run, values};

/// Sends `count` records, taking the broker away twice meanwhile; every record arrives exactly once and in order.
fn check_exactly_once(partitions: u32, compression: Compression) {
    run(async move {
        let (mut server, client) = Server::with_topic(partitions).await;
        let producer = client.producer("t").batch_bytes(2_000).linger(ms(0)).compression(compression).build();
        let mut receipts = Vec::new();
        for i in 0..6000 {
            let record = Record::new(format!("{i}")).partition(i % partitions);
            receipts.push(producer.send(record).await.unwrap());
            match i {
                2000 => {
                    server.crash();
                    server.restart().await;
                }
                4000 => {
                    server.shutdown().await;
                    server.restart().await;
                }
                _ => {}
            }
        }
        producer.close().await.unwrap();
        let mut at = BTreeSet::new();
        for receipt in receipts {
            assert!(at.insert(receipt.await.unwrap()), "two records at one offset");
        }
        for (partition, values) in read_all(&client).await {
            let found: Vec<u32> = values.iter().map(|value| value.parse().unwrap()).collect();
            let sent: Vec<u32> = (0..6000).filter(|i| i % partitions == partition).collect();
            assert_eq!(found, sent, "partition {partition}");
        }
    });
}

#[test]
fn nothing_is_lost_or_stored_twice_on_one_partition() {
    check_exactly_once(1, Compression::None);
}

#[test]
fn nothing_is_lost_or_stored_twice_on_several_partitions() {
    check_exactly_once(3, Zstd);
}

#[test]
fn a_subscription_goes_on_where_it_was() {
    run(async {
        let (mut server, client) = Server::with_topic(2).await;
        let mut reader = client.reader("t").from(Latest).open().await.unwrap();
        let producer = client.producer("t").batch_bytes(2_000).linger(ms(0)).build();
        let sending = tokio::spawn(async move {
            for i in 0..4000 {
                drop(producer.send(Record::new(format!("{i}")).partition(i % 2)).await.unwrap());
                if i % 100 == 0 {
                    tokio::time::sleep(ms(2)).await;
                }
            }
            producer.close().await.unwrap();
        });
        let mut found = [Vec::new(), Vec::new()];
        let (mut count, mut restarts) = (0, 0);
        while count < 4000 {
            let batch = reader.next().await.unwrap().unwrap();
            let partition = batch.partition() as usize;
            found[partition].extend(values(&batch).iter().map(|value| value.parse::<u32>().unwrap()));
            count += batch.len();
            if count > 1000 * (restarts + 1) && restarts < 2 {
                restarts += 1;
                server.crash();
                server.restart().await;
            }
        }
        sending.await.unwrap();
        assert_eq!(restarts, 2);
        for (partition, found) in found.iter().enumerate() {
            let sent: Vec<u32> = (0..4000).filter(|i| *i as usize % 2 == partition).collect();
            assert_eq!(*found, sent, "partition {partition}");
        }
    });
}

#[test]
fn a_consumer_group_survives_the_broker() {
    run(async {
        let (mut server, client) = Server::with_topic(2).await;
        let producer = client.producer("t").linger(ms(0)).build();
        let mut consumer =
            client.consumer("g").topics(["t"]).from(Earliest).session_timeout(ms(2000)).subscribe().await.unwrap();
        let mut seen = BTreeSet::new();
        for round in 0..3 {
            for i in 0..100 {
                drop(producer.send(format!("{round} {i}")).await.unwrap());
            }
            producer.flush().await.unwrap();
            while seen.len() < 100 * (round + 1) {
                seen.extend(values(&consumer.next().await.unwrap().unwrap()));
                consumer.commit().await.unwrap();
            }
            server.crash();
            server.restart().await;
        }
        // A commit that met the restart did not count: its records are handed out again, and then it does.
        let admin = client.admin();
        while admin.describe_group("g").await.unwrap().partitions.iter().any(|partition| partition.lag != Some(0)) {
            seen.extend(values(&consumer.next().await.unwrap().unwrap()));
            consumer.commit().await.unwrap();
        }
        assert_eq!(seen.len(), 300);
    });
}
