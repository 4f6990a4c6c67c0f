//! Settings of one log; most of them are a topic's. All can be changed while the log is open.

/// See each field. `None` means without limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment that would grow beyond is closed and a new one begun. At most [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// A segment is closed this long after its first append, at the next append or retention run.
    pub segment_ms: i64,
    /// Bytes of log between two index entries.
    pub index_interval_bytes: u64,
    /// A segment is deleted this long after its last append. The broker's clock counts, not the records'
    /// timestamps: old data that is loaded today stays as long as any other.
    pub retention_ms: Option<i64>,
    /// The oldest segments are deleted while the rest is larger than this.
    pub retention_bytes: Option<u64>,
    /// Largest batch that is accepted.
    pub batch_bytes_max: usize,
    /// Room is reserved on the disk in steps of this size once a segment has reached it; 0 for never.
    pub preallocate_bytes: u64,
    /// Producer ids whose last batches are remembered; the ones idle longest are forgotten first.
    pub producers_max: usize,
    /// A producer id idle for this long is forgotten.
    pub producer_expiry_ms: i64,
    /// Reads check the checksum of every batch they return.
    pub verify_reads: bool,
    /// Most bytes a batch may have decompressed when a timestamp is looked for in it.
    pub decompressed_bytes_max: usize,
    /// Bytes in the page cache only, at most before a sync is due although nobody waits for it. Small: while the disk works
    /// off a large one, whoever needs a block for the next append waits, for tens of milliseconds with 256 MiB. From 32 to
    /// 2 MiB the 99th percentile of latencies fell, and no producer was slower.
    pub unsynced_bytes_max: u64,
    /// The synced mark is itself synced at most after so many bytes ...
    pub mark_bytes: u64,
    /// ... or so much time.
    pub mark_ms: i64,
}

/// Positions within a segment are 32-bit numbers in Kafka's index, and an append may go beyond.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Most bytes of one append, all its batches together.
pub const APPEND_BYTES_MAX: usize = 1 << 30;

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            batch_bytes_max: 1 << 20,
            preallocate_bytes: 16 << 20,
            producers_max: 10_000,
            producer_expiry_ms: 24 * 3_600_000,
            verify_reads: true,
            decompressed_bytes_max: 64 << 20,
            unsynced_bytes_max: 2 << 20,
            mark_bytes: 16 << 20,
            mark_ms: 1_000,
        }
    }
}
