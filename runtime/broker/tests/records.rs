//! Producing, fetching and subscribing against an embedded broker over loopback QUIC.

mod support;

use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, TopicId};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produced_records_are_fetched_and_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 2).await;
    assert_eq!(client.produce(topic, 0, batch(&["a", "b"])).await, Ok(Offset(0)));
    assert_eq!(client.produce(topic, 0, batch(&["c"])).await, Ok(Offset(2)));
    assert_eq!(client.produce(topic, 1, batch(&["d"])).await, Ok(Offset(0)));
    assert_eq!(client.fetch(topic, 0, 0).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(client.fetch(topic, 0, 1).await.unwrap(), ["b", "c"]);
    assert_eq!(client.fetch(topic, 0, 3).await.unwrap(), [""; 0]);
    assert_eq!(code(&client.fetch(topic, 0, 4).await.unwrap_err()), ErrorCode::OffsetOutOfRange);

    let (_writer, mut reader) = client.subscribe(vec![from(topic, 0, 1), from(topic, 1, 0)], 1 << 20).await;
    let mut pushed = [Vec::new(), Vec::new()];
    for round in 0..2 {
        while pushed.iter().map(Vec::len).sum::<usize>() < 3 + round {
            let frame = reader.read(FRAME_BYTES_MAX).await.unwrap().unwrap();
            let head = frame.response::<Subscribe>().unwrap();
            assert_eq!(head.failure, None);
            let at = head.partition.0 as usize;
            let position = if at == 0 { pushed[0].len() as i64 + 1 } else { pushed[1].len() as i64 };
            pushed[at].extend(values(&frame.payload, Offset(position)));
        }
        client.produce(topic, 1, batch(&[&format!("later-{round}")])).await.unwrap();
    }
    assert_eq!(pushed, [vec!["b", "c"], vec!["d", "later-0"]]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_records() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let (partition, offset) = (PartitionIndex(0), Offset(0));
    let waiting = client.rpc.submit(&Fetch { topic, partition, offset, bytes_max: 1, wait_ms: 20_000 }, vec![]).await;
    client.produce(topic, 0, batch(&["first"])).await.unwrap();
    let reply = waiting.unwrap().await.unwrap();
    assert_eq!(values(&reply.payload, offset), ["first"]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_appended_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let small = TopicConfig { batch_bytes_max: Some(1024), ..TopicConfig::default() };
    let topic = client.create_with("small", 1, small).await;
    let refused = async |topic, partition, bytes| client.produce(topic, partition, bytes).await.unwrap_err().code;
    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let cut = batch(&["x"]).slice(..40);
    assert_eq!(refused(TopicId(7), 0, batch(&["x"])).await, ErrorCode::UnknownTopic);
    assert_eq!(refused(topic, 9, batch(&["x"])).await, ErrorCode::UnknownPartition);
    assert_eq!(refused(topic, 0, batch(&["x".repeat(2000).as_str()])).await, ErrorCode::BatchTooLarge);
    assert_eq!(refused(topic, 0, corrupt.into()).await, ErrorCode::InvalidBatch);
    assert_eq!(refused(topic, 0, cut).await, ErrorCode::InvalidBatch);
    assert_eq!(client.produce(topic, 0, batch(&["fine"])).await, Ok(Offset(0)));
    let offsets = client.describe("__consumer_offsets").await.unwrap();
    assert_eq!(refused(offsets.id, 0, batch(&["x"])).await, ErrorCode::Forbidden);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_batches_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let mut sent = Vec::new();
    for number in 0..500 {
        let bytes = batch(&[&number.to_string()]);
        let entry = ProduceEntry { topic, partition: PartitionIndex(0), bytes: bytes.len() as u32 };
        let request = Produce { acks: Acks::All, entries: vec![entry] };
        sent.push(client.rpc.submit(&request, vec![bytes]).await.unwrap());
    }
    for (number, pending) in sent.into_iter().enumerate() {
        let result = pending.await.unwrap().response.results.remove(0);
        assert_eq!((result.base_offset, result.failure), (Offset(number as i64), None));
    }
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    assert_eq!(client.fetch_all(topic, 0).await, expected);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_batches_are_recognised_even_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let id = client.rpc.call(&InitProducer).await.unwrap();
    let numbered = |sequence: i32, value: &str| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_simple(1, None, Some(value.as_bytes()));
        builder.set_producer(id.producer_id, id.producer_epoch, sequence);
        builder.build()
    };
    assert_eq!(client.produce(topic, 0, numbered(0, "a")).await, Ok(Offset(0)));
    assert_eq!(client.produce(topic, 0, numbered(1, "b")).await, Ok(Offset(1)));
    assert_eq!(client.produce(topic, 0, numbered(0, "a")).await, Ok(Offset(0)));
    drop(broker);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.produce(topic, 0, numbered(1, "b")).await, Ok(Offset(1)));
    let gap = client.produce(topic, 0, numbered(7, "h")).await.unwrap_err();
    assert_eq!(gap.code, ErrorCode::OutOfOrderSequence);
    assert_eq!(client.produce(topic, 0, numbered(2, "c")).await, Ok(Offset(2)));
    assert_eq!(client.fetch_all(topic, 0).await, ["a", "b", "c"]);
    // Five later ones, and it is known only that the first was stored.
    for sequence in 3..8 {
        client.produce(topic, 0, numbered(sequence, "d")).await.unwrap();
    }
    let old = client.produce(topic, 0, numbered(1, "b")).await.unwrap_err();
    assert_eq!(old.code, ErrorCode::DuplicateSequence, "{old}");
    broker.shutdown().await;
}
