//! The vocabulary every part shares: ids, records in columns, Kafka's record batch, and the native
//! requests and responses with their frames. Pure: no IO, no clock, no async.
//!
//! - [`ids`]: topic ids, partitions, offsets, epochs.
//! - [`access`], [`secret`]: rights of tokens in their text form; text that is never shown.
//! - [`batch`]: Kafka's record batch, byte for byte.
//! - [`columns`]: many records as columns, the shape pipelines and plugins work on.
//! - [`error`]: error codes of the native protocol and who may retry.
//! - [`frame`]: the 20-byte frame header around every native message.
//! - [`message`]: the bodies, one rkyv archive each.
//! - [`partitioner`]: which partition a key belongs to.
//! - [`pool`]: large buffers, used again.

pub mod access;
pub mod batch;
pub mod columns;
pub mod error;
pub mod frame;
pub mod ids;
pub mod message;
pub mod mutant;
pub mod partitioner;
pub mod pool;
pub mod secret;

pub use columns::{Columns, Row};
pub use error::{ErrorCode, Failure};
pub use ids::{LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition};
pub use secret::Secret;
