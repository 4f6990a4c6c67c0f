//! Push subscriptions under load: slow readers, several partitions, and what else goes on meanwhile.

mod support;

use millstream_protocol::Offset;
use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::*;
use support::*;

/// More than QUIC's windows hold, so that a reader that does not read stops the broker's writes.
const BATCHES: usize = 40;
const VALUE_BYTES: usize = 700_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_nobody_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("big", 2).await;
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..BATCHES {
        for partition in 0..2 {
            client.produce(topic, partition, batch(&[&format!("{number} {value}")])).await.unwrap();
        }
    }
    let (_writer, mut reader) = client.subscribe(vec![from(topic, 0, 0), from(topic, 1, 0)], 1 << 20).await;
    // Nobody reads the subscription; others are served on the same connection.
    for number in 0..20 {
        client.produce(topic, 0, batch(&[&format!("{} late", BATCHES + number)])).await.unwrap();
    }
    assert_eq!(client.fetch(topic, 0, BATCHES as i64).await.unwrap().len(), 20);
    let mut next = [0_usize; 2];
    let mut turns = Vec::new();
    while next != [BATCHES + 20, BATCHES] {
        let frame = reader.read(FRAME_BYTES_MAX).await.unwrap().unwrap();
        let head = frame.response::<Subscribe>().unwrap();
        assert_eq!(head.failure, None);
        let at = head.partition.0 as usize;
        turns.push(at);
        for value in values(&frame.payload, Offset(next[at] as i64)) {
            let number: usize = value.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(number, next[at], "in order, nothing missing, nothing twice");
            next[at] += 1;
        }
    }
    let alternating = turns.iter().take(2 * BATCHES - 2).zip(turns.iter().skip(1)).filter(|(a, b)| a != b).count();
    assert!(alternating >= 2 * BATCHES - 6, "partitions take turns: {turns:?}");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_subscription_does_not_delay_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("quiet", 1).await;
    let (_writer, mut reader) = client.subscribe(vec![from(topic, 0, 0)], 1 << 20).await;
    client.produce(topic, 0, batch(&["one"])).await.unwrap();
    assert!(reader.read(FRAME_BYTES_MAX).await.unwrap().is_some());
    broker.shutdown().await;
    assert!(matches!(reader.read(FRAME_BYTES_MAX).await, Ok(None)), "the stream ends in order");
}
