//! The Millstream client: produce and consume records, look after topics, groups, plugins and pipelines,
//! over one QUIC connection that is made again when it is lost.

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

pub use admin::Admin;
pub use admin::UploadOptions;
pub use batch::{Batch, Received};
pub use client::{Client, ClientBuilder};
pub use consumer::{Consumer, ConsumerBuilder};
pub use error::Error;
pub use position::Start;
pub use producer::{Delivered, Producer, ProducerBuilder, Receipt};
pub use reader::{Reader, ReaderBuilder};
pub use record::Record;

pub use millstream_protocol::batch::Compression;
pub use millstream_protocol::message::Acks;
pub use millstream_protocol::{ErrorCode, message};

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
