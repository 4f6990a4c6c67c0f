//! A damaged partition stops, by name and byte; what was not damaged is served, and its neighbours go on.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::Path;

use millstream_protocol::ErrorCode;
use support::*;

/// Flips a bit of a file below the data folder.
fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_partition_is_told_and_its_neighbours_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 2).await;
    for partition in 0..2 {
        for number in 0..5 {
            client.produce(topic, partition, batch(&[&format!("order {number}")])).await.unwrap();
        }
    }
    // While it runs: what is read is checked, and only that is refused.
    let segment = folder.path().join("topics/orders-0/00000000000000000000.log");
    let length = std::fs::metadata(&segment).unwrap().len() as usize / 5;
    flip(&segment, 2 * length + 65);
    assert_eq!(client.fetch(topic, 0, 0).await.unwrap(), ["order 0", "order 1"]);
    let refused = client.fetch(topic, 0, 2).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::CorruptData);
    assert!(
        refused.to_string().contains(&format!("00000000000000000000.log: damaged at byte {}", 2 * length)),
        "{refused}"
    );
    assert_eq!(client.fetch(topic, 0, 3).await.unwrap(), ["order 3", "order 4"]);
    assert_eq!(client.fetch_all(topic, 1).await.len(), 5);
    // A power loss, and a start that has to look at everything.
    drop(broker);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let described = client.describe("orders").await.unwrap();
    let offline = described.partitions[0].offline.clone().unwrap();
    assert!(offline.contains(&format!("damaged at byte {}", 2 * length)), "{offline}");
    assert_eq!(client.produce(topic, 0, batch(&["x"])).await.unwrap_err().code, ErrorCode::CorruptData);
    client.produce(topic, 1, batch(&["order 5"])).await.unwrap();
    assert_eq!(client.fetch_all(topic, 1).await.len(), 6);
    // Nothing was changed: once the byte is what it was, all is there.
    broker.shutdown().await;
    flip(&segment, 2 * length + 65);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.fetch_all(topic, 0).await.len(), 5);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_metadata_keeps_the_broker_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    client.create("orders", 1).await;
    broker.shutdown().await;
    let file = folder.path().join("metadata.redb");
    let text = std::fs::read(&file).unwrap();
    let at = text.windows(8).rposition(|window| window == b"\"orders\"").unwrap();
    flip(&file, at + 2);
    let refused = millstream_broker::Broker::start(millstream_broker::Config::embedded(folder.path())).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("metadata.redb is damaged"), "{refused}");
    // Where it may be, and the page at which it was seen.
    let place = refused.split_once(" in its bytes ").unwrap().1;
    let numbers: Vec<usize> = place.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let [0, size, from, to, ..] = numbers[..] else { panic!("{refused}") };
    assert_eq!(size, text.len(), "{refused}");
    assert!((from..to).contains(&(at + 2)) && to <= size, "byte {}: {refused}", at + 2);
    // Topics are not deleted because nobody knows them.
    assert!(folder.path().join("topics/orders-0/partition.json").exists());
    flip(&file, at + 2);
    let broker = start(folder.path()).await;
    assert!(connect(&broker, folder.path()).await.describe("orders").await.is_some());
    broker.shutdown().await;
}
