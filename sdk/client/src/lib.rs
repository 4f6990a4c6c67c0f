//! The Millstream client: produce and consume records, look after topics, groups, plugins and pipelines,
//! over one QUIC connection that is made again when it is lost.
//!
//! ```standalone_crate
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/embedded.inc"));
//! use millstream_client::prelude::*;
//! # fn handle(_: &[u8]) -> Result<(), Error> { Ok(()) }
//! # fn main() { run(|server| async move {
//! let client = Client::connect(server).await?;                   // "127.0.0.1:9094", or several with commas
//!
//! let producer = client.producer("orders").linger(ms(5)).compression(Zstd).build();
//! let receipt = producer.send(Record::new("a mill").key("o-17")).await?;  // queued: waits while the buffer is full
//! let at = receipt.await?;                                       // on disk, at this partition and offset
//! println!("partition {}, offset {}", at.partition, at.offset);
//! producer.close().await?;
//!
//! let mut orders = client.consumer("billing").topics(["orders"]).from(Earliest).subscribe().await?;
//! while let Some(batch) = orders.next().await {
//!     for record in &batch? { handle(record.value())?; }
//!     orders.commit().await?;
//! #   break;
//! }
//! # Ok(()) }) }
//! ```
//!
//! A [`Reader`] reads without a group, from any position, to the end if asked:
//!
//! ```standalone_crate
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/embedded.inc"));
//! use millstream_client::prelude::*;
//! # fn main() { run(|server| async move {
//! # let client = Client::connect(server).await?;
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Order { id: u32, net: i64 }
//!
//! let producer = client.producer("orders").build();
//! for id in 0..100 {
//!     // A receipt may be dropped: `flush` tells of the first delivery that failed.
//!     drop(producer.send(Record::json(&Order { id, net: 5 })?.key(id.to_string())).await?);
//! }
//! producer.flush().await?;
//!
//! let mut total = 0;
//! let mut reader = client.reader("orders").from(Earliest).to_end().open().await?;
//! while let Some(batch) = reader.next().await {
//!     for record in &batch? { total += record.json::<Order>()?.net; }
//! }
//! assert_eq!(total, 500);
//!
//! let orders = client.admin().describe_topic("orders").await?;
//! assert_eq!(orders.partitions.iter().map(|partition| partition.log_end.0).sum::<i64>(), 100);
//! # Ok(()) }) }
//! ```
//!
//! What it promises: records of a key are stored in the order they were sent, each once, also when the broker
//! goes away and comes back meanwhile (unless [`ProducerBuilder::idempotent`] is off); a reader sees every record
//! once and in order per partition; a group sees every record at least once. Every [`Error`] says whether the same
//! call may succeed later: [`Error::is_retriable`]. What can be retried without harm was retried before.
//!
//! - `client`, `profile`: how to reach a cluster. `link`: the one connection, `backoff`: pauses between attempts.
//! - `producer`: `accumulator` (records into batches; `ready`: batches a program fills) -> `driver` (the task) ->
//!   `lane` (order and sequences) -> `receipt`.
//! - `feed`: a push subscription with positions. `reader` and `consumer` (with its `membership`) stand on it.
//! - `admin`: one method per request.
//!
//! Not here: transactions, and brokers that lead different partitions.

mod admin;
mod backoff;
mod batch;
mod client;
mod consumer;
mod error;
mod feed;
mod link;
mod position;
mod producer;
mod profile;
mod reader;
mod record;

pub use admin::{Admin, UploadOptions};
pub use batch::{Batch, Received};
pub use client::{Client, ClientBuilder};
pub use consumer::{Consumer, ConsumerBuilder};
pub use error::Error;
pub use position::Start;
pub use producer::{Delivered, Producer, ProducerBuilder, ReadyBatch, Receipt};
pub use profile::registered_servers;
pub use reader::{Reader, ReaderBuilder};
pub use record::Record;

pub use millstream_protocol::batch::Compression;
pub use millstream_protocol::message::Acks;
pub use millstream_protocol::{ErrorCode, Secret, access, message};

/// What most programs use, the words of the builders included.
pub mod prelude {
    pub use crate::Compression::{Gzip, Lz4, Snappy, Zstd};
    pub use crate::Start::{Earliest, Latest};
    pub use crate::{Acks, Client, Compression, Consumer, Error, Producer, Reader, Receipt, Record, Start};

    /// So many milliseconds.
    pub fn ms(milliseconds: u64) -> std::time::Duration {
        std::time::Duration::from_millis(milliseconds)
    }
}
