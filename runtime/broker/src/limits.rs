//! Every limit of the broker, with its default. What a limit refuses is answered with `LimitExceeded`,
//! `BatchTooLarge` or `Busy`, or slows the sender down; nothing grows without one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits an operator may change; the `limits` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// QUIC connections at a time.
    pub connections_max: u32,
    /// Time a new connection has for its first request after the TLS handshake, ms.
    pub handshake_ms_max: u64,
    /// Requests of one stream that are not answered yet; the stream isn't read further beyond.
    pub requests_in_flight_per_stream_max: usize,
    /// Bytes of record batches received and not yet appended, over all connections; producers wait beyond.
    pub produce_bytes_in_flight_max: usize,
    /// Partitions of one produce request.
    pub produce_entries_max: usize,
    /// Partitions of one subscription.
    pub subscription_partitions_max: usize,
    /// Payload of one answered fetch or pushed frame, bytes; a single larger batch is sent whole.
    pub fetch_bytes_max: u32,
    /// Bytes of fetched batches that a connection has not acknowledged yet; its next fetches wait beyond.
    pub fetch_bytes_in_flight_per_connection_max: usize,
    /// Longest wait of a fetch at the end of a log, ms.
    pub fetch_wait_ms_max: u32,
    /// Largest `batch_bytes_max` a topic may have.
    pub batch_bytes_max: u32,
    pub topics_max: usize,
    pub partitions_per_topic_max: u32,
    /// Partitions of all topics on this broker; each costs a few open files.
    pub partitions_max: usize,
    pub groups_max: usize,
    pub members_per_group_max: usize,
    /// Bytes of the client's note beside a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// Records of the offsets topic after which it is cut back to a snapshot.
    pub offsets_records_max: u64,
    pub plugin_bytes_max: u64,
    /// Running instances of plugins: one per plugin step and task.
    pub guests_max: u32,
    /// Memory of all of them together.
    pub guest_memory_bytes_max: usize,
    pub pipelines_max: usize,
    /// Bytes of a pipeline's YAML text.
    pub pipeline_bytes_max: usize,
    /// HTTP connections at a time.
    pub http_connections_max: usize,
    /// Topics, groups and pipelines (each) that have series of their own in the metrics.
    pub metrics_labels_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            handshake_ms_max: 5_000,
            requests_in_flight_per_stream_max: 1_024,
            produce_bytes_in_flight_max: 256 << 20,
            produce_entries_max: 1024,
            subscription_partitions_max: 1024,
            fetch_bytes_max: 8 << 20,
            fetch_bytes_in_flight_per_connection_max: 64 << 20,
            fetch_wait_ms_max: 30_000,
            batch_bytes_max: 8 << 20,
            topics_max: 4_096,
            partitions_per_topic_max: 1_024,
            partitions_max: 4_096,
            groups_max: 4_096,
            members_per_group_max: 1_024,
            offset_metadata_bytes_max: 4_096,
            offsets_records_max: 50_000,
            plugin_bytes_max: 32 << 20,
            guests_max: 1_024,
            guest_memory_bytes_max: 4 << 30,
            pipelines_max: 256,
            pipeline_bytes_max: 1 << 20,
            http_connections_max: 64,
            metrics_labels_max: 256,
        }
    }
}

/// Commands a shard's mailbox holds; senders wait beyond.
pub(crate) const SHARD_MAILBOX_MAX: usize = 4_096;
/// Partitions that are opened or closed at a time: their syncs share the file system's commits.
pub(crate) const OPENINGS_MAX: usize = 32;
/// Files that a partition keeps open: its folder and its last segment.
pub(crate) const PARTITION_FILES: u64 = 2;
/// Files that opening a partition takes for a moment beside those, unless it has many segments.
pub(crate) const OPENING_FILES: u64 = 4;
/// Commands a shard handles before it asks for syncs, so that a flood can't put off durability for ever.
pub(crate) const SHARD_DRAIN_MAX: usize = 1_024;
/// How often a shard lets other threads run before it asks for a sync, while those whom the last one answered have not
/// appended again. Each time takes a microsecond or two when nobody else wants the core.
pub(crate) const GATHER_YIELDS_MAX: usize = 32;
/// An append into the page cache that takes longer waits for the disk …
pub(crate) const QUICK_APPEND_MAX: Duration = Duration::from_millis(10);
/// … and for so long afterwards all of that shard are its own thread's again.
pub(crate) const QUICK_AGAIN: Duration = Duration::from_secs(10);
/// Metadata commands that wait for the store.
pub(crate) const METADATA_MAILBOX_MAX: usize = 256;
/// Commands of the metadata log after which it is replaced by a snapshot.
pub(crate) const METADATA_LOG_MAX: u64 = 512;
/// Requests that wait for the group loop.
pub(crate) const GROUP_MAILBOX_MAX: usize = 4_096;
/// Producer ids reserved in metadata at a time.
pub(crate) const PRODUCER_IDS_BLOCK: u32 = 1_000;
/// Bytes of a client's name that are kept.
pub(crate) const CLIENT_NAME_BYTES_MAX: usize = 256;
/// The answer to a wrong token waits so long, ms.
pub(crate) const WRONG_TOKEN_MS: u64 = 100;
/// Whether a token that expires has done so is looked at this often at least, ms: clocks are set.
pub(crate) const EXPIRY_LOOK_MS: u64 = 60_000;
/// A connection whose token is not accepted any more is closed so long after that was seen, ms.
pub(crate) const ENDED_MS: u64 = 500;
/// A graceful stop gives requests in flight this long, ms.
pub(crate) const DRAIN_MS_MAX: u64 = 2_000;
/// … and pipelines this long to finish their batches, ms; guests that take longer are left behind.
pub(crate) const PIPELINES_STOP_MS_MAX: u64 = 2_000;
/// Threads that serve clients get this long to end, once nothing is left to do.
pub(crate) const IO_STOP: Duration = Duration::from_millis(200);
/// How often a shard looks after retention, rolling by age and what no sync has reached yet, ms.
pub(crate) const SHARD_TICK_MS: u64 = 5_000;
