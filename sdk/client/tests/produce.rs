//! Producing and reading back: every codec, order per key, backpressure, what is refused.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::BTreeMap;

use millstream_client::prelude::*;
use millstream_client::{Delivered, ErrorCode};
use support::{Server, read_all, run};

#[test]
fn every_codec_round_trips() {
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        for (round, codec) in Compression::ALL.into_iter().enumerate() {
            let producer = client.producer("t").compression(codec).linger(ms(0)).build();
            let record = Record::new(format!("value of {codec}")).key("k").header("codec", codec.name()).timestamp(77);
            let receipt = producer.send(record).await.unwrap();
            let tombstone = producer.send(Record::tombstone("gone")).await.unwrap();
            let base = 2 * round as i64;
            assert_eq!(receipt.await, Ok(Delivered { partition: 0, offset: base }));
            assert_eq!(tombstone.await, Ok(Delivered { partition: 0, offset: base + 1 }));
            producer.close().await.unwrap();
        }
        let mut reader = client.reader("t").to_end().open().await.unwrap();
        let mut seen = 0;
        while let Some(batch) = reader.next().await {
            for record in &batch.unwrap() {
                let codec = Compression::ALL[seen / 2];
                assert_eq!((record.topic(), record.partition(), record.offset()), ("t", 0, seen as i64));
                if seen % 2 == 0 {
                    assert_eq!((record.key(), record.timestamp()), (Some(&b"k"[..]), 77));
                    assert_eq!(record.value(), format!("value of {codec}").as_bytes());
                    assert_eq!(record.header("codec"), Some(codec.name().as_bytes()));
                } else {
                    assert_eq!((record.key(), record.is_tombstone()), (Some(&b"gone"[..]), true));
                    assert!(record.timestamp() > 1_600_000_000_000, "the time of sending");
                }
                seen += 1;
            }
        }
        assert_eq!(seen, 10);
    });
}

#[test]
fn records_of_a_key_stay_in_order_on_their_partition() {
    run(async {
        let (_server, client) = Server::with_topic(3).await;
        // Small batches: many of them are in flight at the same time.
        let producer = client.producer("t").batch_bytes(500).linger(ms(0)).build();
        let mut receipts = Vec::new();
        for i in 0..5000 {
            let record = Record::new(format!("k{} {i}", i % 7)).key(format!("k{}", i % 7));
            receipts.push(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
        for receipt in receipts {
            assert!(receipt.try_result().expect("flushed").is_ok());
        }
        let mut of_key: BTreeMap<String, (u32, Vec<usize>)> = BTreeMap::new();
        for (partition, values) in read_all(&client).await {
            for value in values {
                let (key, i) = value.split_once(' ').unwrap();
                let entry = of_key.entry(key.to_owned()).or_insert((partition, Vec::new()));
                assert_eq!(entry.0, partition, "{key} lies on two partitions");
                entry.1.push(i.parse().unwrap());
            }
        }
        assert_eq!(of_key.len(), 7);
        for (key, (partition, found)) in of_key {
            assert_eq!(partition, millstream_protocol::partitioner::partition_for_key(key.as_bytes(), 3).0);
            let number: usize = key[1..].parse().unwrap();
            let sent: Vec<usize> = (0..5000).filter(|i| i % 7 == number).collect();
            assert_eq!(found, sent, "{key}");
        }
    });
}

#[test]
fn records_without_a_key_reach_every_partition() {
    run(async {
        let (_server, client) = Server::with_topic(3).await;
        let producer = client.producer("t").batch_bytes(1000).build();
        for i in 0..1000 {
            drop(producer.send(format!("value {i}")).await.unwrap());
        }
        drop(producer.send(Record::new("here").partition(2)).await.unwrap());
        producer.flush().await.unwrap();
        let all = read_all(&client).await;
        assert_eq!(all.values().map(Vec::len).sum::<usize>(), 1001);
        assert!(
            (0..3).all(|partition| all[&partition].len() > 200),
            "{:?}",
            all.values().map(Vec::len).collect::<Vec<_>>()
        );
        assert!(all[&2].contains(&"here".to_owned()));
    });
}

#[test]
fn a_full_buffer_makes_senders_wait() {
    run(async {
        let (mut server, client) = Server::with_topic(1).await;
        let producer = client.producer("t").buffer_bytes(10_000).linger(ms(0)).build();
        producer.send("first").await.unwrap().await.unwrap();
        server.crash();
        let value = vec![b'x'; 1000];
        let mut taken = 0;
        while let Some(receipt) = producer.try_send_bytes(None, &value).unwrap() {
            drop(receipt);
            taken += 1;
        }
        assert_eq!(taken, 10, "the buffer's size");
        let waiting = tokio::time::timeout(ms(100), producer.send_bytes(None, &value)).await;
        assert!(waiting.is_err(), "a sender must wait");
        server.restart().await;
        let at = producer.send_bytes(None, &value).await.unwrap().await.unwrap();
        assert_eq!(at.offset, 11);
        producer.close().await.unwrap();
    });
}

#[test]
fn ready_batches_stand_between_the_records_around_them() {
    run(async {
        let (_server, client) = Server::with_topic(2).await;
        let producer = client.producer("t").linger(ms(0)).build();
        let before = producer.send(Record::new("before").partition(1)).await.unwrap();
        let mut batch = producer.batch(1).await.unwrap();
        assert!(batch.is_empty());
        batch.push_bytes(Some(b"k"), b"first").unwrap();
        batch.push(&Record::new("second").header("h", "1").timestamp(77)).unwrap();
        batch.push(&Record::tombstone("gone")).unwrap();
        assert_eq!((batch.partition(), batch.len()), (1, 3));
        let receipt = producer.send_batch(batch).await.unwrap();
        let after = producer.send(Record::new("after").partition(1)).await.unwrap();
        let mut other = producer.batch(0).await.unwrap();
        other.push_bytes(None, b"other").unwrap();
        let other = producer.send_batch(other).await.unwrap();
        assert_eq!(before.await, Ok(Delivered { partition: 1, offset: 0 }));
        assert_eq!(receipt.await, Ok(Delivered { partition: 1, offset: 1 }));
        assert_eq!(after.await, Ok(Delivered { partition: 1, offset: 4 }));
        assert_eq!(other.await, Ok(Delivered { partition: 0, offset: 0 }));
        producer.close().await.unwrap();
        let all = read_all(&client).await;
        assert_eq!(all[&1], ["before", "first", "second", "", "after"]);
        let mut reader = client.reader("t").partitions([1]).position(1, 1).to_end().open().await.unwrap();
        let batch = reader.next().await.unwrap().unwrap();
        let records: Vec<_> = batch.iter().take(3).collect();
        assert_eq!(records[0].key(), Some(&b"k"[..]));
        assert!(records[0].timestamp() > 1_600_000_000_000, "the time of the batch");
        assert_eq!((records[1].header("h"), records[1].timestamp()), (Some(&b"1"[..]), 77));
        assert!(records[2].is_tombstone());
    });
}

#[test]
fn ready_batches_have_limits() {
    run(async {
        let (server, client) = Server::with_topic(2).await;
        let producer = client.producer("t").buffer_bytes(10_000).build();
        let refused = |error: Error, text: &str| assert!(error.to_string().contains(text), "{error}");
        refused(producer.batch(2).await.unwrap_err(), "there is no partition 2");
        let empty = producer.batch(0).await.unwrap();
        refused(producer.send_batch(empty).await.unwrap_err(), "without records");
        let mut batch = producer.batch(0).await.unwrap();
        refused(batch.push_bytes(None, &[0; 2 << 20]).unwrap_err(), "over the topic's limit of 1048576");
        batch.push_bytes(None, &[0; 600_000]).unwrap();
        refused(batch.push_bytes(None, &[0; 600_000]).unwrap_err(), "the batch of 1 records is full");
        assert_eq!(producer.send_batch(batch).await.unwrap().await.unwrap().offset, 0);

        // Another topic has fewer partitions.
        client.admin().create_topic("small", 1).await.unwrap();
        let small = client.producer("small").build();
        small.send("x").await.unwrap().await.unwrap();
        let mut foreign = producer.batch(1).await.unwrap();
        foreign.push_bytes(None, b"x").unwrap();
        refused(small.send_batch(foreign).await.unwrap_err(), "there is no partition 1");

        // What is on its way counts against the buffer.
        let mut first = producer.batch(0).await.unwrap();
        let mut second = producer.batch(0).await.unwrap();
        first.push_bytes(None, &[0; 20_000]).unwrap();
        second.push_bytes(None, b"waits").unwrap();
        let mut server = server;
        server.crash();
        drop(producer.send_batch(first).await.unwrap());
        let waiting = tokio::time::timeout(ms(100), producer.send_batch(second)).await;
        assert!(waiting.is_err(), "a sender must wait");
        server.restart().await;
        producer.flush().await.unwrap();
        let clone = producer.clone();
        let mut late = clone.batch(0).await.unwrap();
        late.push_bytes(None, b"late").unwrap();
        producer.close().await.unwrap();
        refused(clone.batch(0).await.unwrap_err(), "the producer is closed");
        refused(clone.send_batch(late).await.unwrap_err(), "the producer is closed");
    });
}

#[test]
fn what_can_not_be_produced() {
    run(async {
        let (server, client) = Server::with_topic(1).await;
        let error = client.producer("none").build().send("x").await.unwrap_err();
        assert_eq!((error.code(), error.is_retriable()), (ErrorCode::UnknownTopic, false));
        assert!(error.to_string().contains("topic `none` does not exist"), "{error}");

        let producer = client.producer("t").build();
        let error = producer.send(Record::new("x").partition(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "topic `t` has 1 partitions, there is no partition 1");
        let error = producer.send(vec![0; 2 << 20]).await.unwrap_err();
        assert!(error.to_string().contains("over the topic's limit of 1048576"), "{error}");
        let clone = producer.clone();
        producer.close().await.unwrap();
        assert_eq!(clone.send("x").await.unwrap_err().to_string(), "the producer is closed");

        let wrong = server.builder().token("guess").connect().await;
        assert_eq!(wrong.err().expect("refused").code(), ErrorCode::Unauthenticated);
        let nobody = Client::builder().server("127.0.0.1:1").profile(server.profile()).connect().await;
        let error = nobody.err().expect("nobody listens on port 1");
        assert!(error.is_retriable());
        assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("running there"), "{error}");
        let both = Client::builder().server(&format!("127.0.0.1:1, {}", server.address)).profile(server.profile());
        both.connect().await.expect("the second address answers");
    });
}

#[test]
fn a_deleted_topic_fails_its_records() {
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        let producer = client.producer("t").build();
        producer.send("a").await.unwrap().await.unwrap();
        client.admin().delete_topic("t").await.unwrap();
        let error = producer.send("b").await.unwrap().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownTopic);
        assert_eq!(producer.flush().await.unwrap_err().code(), ErrorCode::UnknownTopic);
        // Created again it is another topic; the producer goes on with it.
        client.admin().create_topic("t", 1).await.unwrap();
        assert_eq!(producer.send("c").await.unwrap().await.unwrap().offset, 0);
        producer.close().await.unwrap();
    });
}

#[test]
fn dropped_producers_still_deliver() {
    run(async {
        let (_server, client) = Server::with_topic(1).await;
        let receipt = {
            let producer = client.producer("t").linger(ms(10_000)).build();
            producer.send("late").await.unwrap()
        };
        assert_eq!(receipt.await.unwrap().offset, 0);
    });
}
