//! Producing and reading record batches. Batches travel in the payload, uncopied, in the order of the
//! body's entries.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{Failure, Offset, PartitionIndex, ProducerId, TopicId};

/// When a produce request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Acks {
    /// As soon as the leader has it in its page cache.
    Leader,
    /// When the topic's durability is met (the default).
    All,
}

/// Payload: the batches of entry 0, then of entry 1, …
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Produce {
    pub acks: Acks,
    pub entries: Vec<ProduceEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProduceEntry {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// Payload bytes of this entry: whole batches.
    pub bytes: u32,
}

/// One result per entry, in order.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProduceAck {
    pub results: Vec<ProduceResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProduceResult {
    /// Offset of the entry's first record. A recognised duplicate gets the offset of the first time.
    pub base_offset: Offset,
    pub log_start: Offset,
    pub failure: Option<Failure>,
}

/// Asks for a producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct InitProducer;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct InitProducerAck {
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
}

/// Reads once from one partition, whole batches: the first one contains `offset` (so it may start before it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Fetch {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub offset: Offset,
    /// At least one batch is returned even when it is larger.
    pub bytes_max: u32,
    /// How long to wait for data at the end of the log.
    pub wait_ms: u32,
}

/// Payload: the batches; empty at the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FetchAck {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Turns its stream into a push subscription: the broker answers with [`Batches`] frames for as long as
/// the stream is open. The client ends it by resetting the stream; nothing else may be sent on it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Subscribe {
    pub entries: Vec<SubscribeEntry>,
    /// Soft limit of a frame's payload, bytes; a single larger batch is sent whole.
    pub bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SubscribeEntry {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// First offset wanted; a batch that contains it is sent whole.
    pub offset: Offset,
}

/// One pushed frame: batches of one partition in the payload, or the failure that ends that partition's
/// part of the subscription.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Batches {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub failure: Option<Failure>,
}

/// Where in a partition to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Position {
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record with this timestamp (ms) or a later one; the end when there is none.
    Timestamp(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListOffsets {
    pub topic: TopicId,
    pub partitions: Vec<PartitionIndex>,
    pub position: Position,
}

/// One entry per asked partition, in order.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListOffsetsAck {
    pub offsets: Vec<Offset>,
}
