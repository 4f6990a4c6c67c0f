//! An embedded broker and a bare client for the broker's tests: frames by hand, no retries, nothing hidden.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

pub mod http;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{Broker, Config, HttpDoor, StartError};
use millstream_protocol::batch::{BatchBuilder, Compression, decode_batches};
use millstream_protocol::message::*;
use millstream_protocol::{Columns, ErrorCode, Failure, Offset, PartitionIndex, TopicId};
use millstream_transport::{ClientTls, Error, FrameReader, FrameWriter, Rpc, open_stream};

/// A broker on a folder, waiting for a former owner (dropped a moment ago) to let go.
pub async fn start(folder: &Path) -> Broker {
    start_with(config(folder)).await
}

/// A broker for tests, with a console on a free port.
pub fn config(folder: &Path) -> Config {
    Config {
        io_threads: 2,
        shards: 2,
        http: HttpDoor::At(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Config::embedded(folder)
    }
}

pub async fn start_with(config: Config) -> Broker {
    for _ in 0..200 {
        match Broker::start(config.clone()).await {
            Ok(broker) => return broker,
            Err(StartError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data folder stays in use");
}

/// A connected, authenticated client with one stream of requests.
pub struct Client {
    pub connection: quinn::Connection,
    pub rpc: Rpc,
}

pub fn token(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("admin.token")).unwrap()
}

pub async fn connect_anonymous(broker: &Broker, folder: &Path) -> quinn::Connection {
    let ca_pem = std::fs::read_to_string(folder.join("tls/ca.pem")).unwrap();
    let tls = ClientTls { ca_pem, server_name: "localhost".into() };
    millstream_transport::connect(broker.quic_addr(), &tls).await.unwrap()
}

pub fn hello(token: String) -> Hello {
    Hello { token, client_name: "test".into(), client_version: "0".into() }
}

pub async fn connect(broker: &Broker, folder: &Path) -> Client {
    let connection = connect_anonymous(broker, folder).await;
    let rpc = Rpc::open(&connection).await.unwrap();
    rpc.call(&hello(token(folder))).await.unwrap();
    Client { connection, rpc }
}

/// One batch of records without keys.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    values.iter().for_each(|value| builder.push_simple(1, None, Some(value.as_bytes())));
    builder.build()
}

pub fn values(batches: &Bytes, from: Offset) -> Vec<String> {
    let mut columns = Columns::default();
    decode_batches(batches, from, 1 << 26, &mut columns).unwrap();
    columns.rows().map(|row| String::from_utf8(row.value.unwrap().to_vec()).unwrap()).collect()
}

pub fn code(error: &Error) -> ErrorCode {
    match error {
        Error::Failure(failure) => failure.code,
        other => panic!("{other}"),
    }
}

impl Client {
    pub async fn create(&self, name: &str, partitions: u32) -> TopicId {
        self.create_with(name, partitions, TopicConfig::default()).await
    }

    pub async fn create_with(&self, name: &str, partitions: u32, config: TopicConfig) -> TopicId {
        let request = CreateTopic { name: name.into(), partitions, config, if_not_exists: false };
        self.rpc.call(&request).await.unwrap().id
    }

    pub async fn produce(&self, topic: TopicId, partition: u32, bytes: Bytes) -> Result<Offset, Failure> {
        self.produce_with(topic, partition, bytes, Acks::All).await
    }

    pub async fn produce_with(
        &self,
        topic: TopicId,
        partition: u32,
        bytes: Bytes,
        acks: Acks,
    ) -> Result<Offset, Failure> {
        let entry = ProduceEntry { topic, partition: PartitionIndex(partition), bytes: bytes.len() as u32 };
        let reply = self.rpc.call_with(&Produce { acks, entries: vec![entry] }, vec![bytes]).await.unwrap();
        let result = reply.response.results.into_iter().next().unwrap();
        result.failure.map_or(Ok(result.base_offset), Err)
    }

    pub async fn fetch(&self, topic: TopicId, partition: u32, offset: i64) -> Result<Vec<String>, Error> {
        let (partition, offset) = (PartitionIndex(partition), Offset(offset));
        let request = Fetch { topic, partition, offset, bytes_max: 1 << 20, wait_ms: 0 };
        Ok(values(&self.rpc.call_with(&request, Vec::new()).await?.payload, offset))
    }

    /// All values of a partition, however many fetches that takes.
    pub async fn fetch_all(&self, topic: TopicId, partition: u32) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let next = self.fetch(topic, partition, all.len() as i64).await.unwrap();
            if next.is_empty() {
                return all;
            }
            all.extend(next);
        }
    }

    pub async fn describe(&self, name: &str) -> Option<TopicDescription> {
        let request = DescribeTopics { names: vec![name.into()], include_internal: true };
        self.rpc.call(&request).await.unwrap().topics.into_iter().next()
    }

    pub async fn subscribe(&self, entries: Vec<SubscribeEntry>, bytes_max: u32) -> (FrameWriter, FrameReader) {
        let (mut writer, reader) = open_stream(&self.connection).await.unwrap();
        writer.send_request(1, &Subscribe { entries, bytes_max }, Vec::new()).await.unwrap();
        (writer, reader)
    }
}

pub fn from(topic: TopicId, partition: u32, offset: i64) -> SubscribeEntry {
    SubscribeEntry { topic, partition: PartitionIndex(partition), offset: Offset(offset) }
}
