//! One replica's log: batches in segment files, sparse indexes beside them, group commit, recovery,
//! retention, idempotent producers. Batches stay the opaque bytes that producers made; only the two header
//! fields outside their checksum are written here. Pure but for [`DiskStorage`]: time is an argument, and
//! everything durable goes through [`Storage`]. [`Volume`] is the same for a tree of folders.
//!
//! A record's way in: [`Log::append`] (the page cache) -> [`Log::begin_sync`] -> [`SyncJob::run`] on another
//! thread -> [`Log::finish_sync`] (durable). Its way out: [`Reader::read`], from any thread, beside both.
//!
//! Invariants: offsets of batches follow one another without gaps; bytes below the synced mark are never
//! changed and never cut; a log that failed a write or a sync in an unknown way is never written again.
//! Deliberately absent: compaction, truncation by a follower, transactions' index of aborted batches.

mod checkpoint;
mod config;
mod disk;
mod disk_volume;
mod dump;
mod epochs;
mod error;
mod finding;
mod index;
mod inspect;
mod log;
mod memory;
mod names;
mod producers;
mod reader;
mod recovery;
mod repair;
mod retention;
mod room;
mod segment;
mod snapshot;
mod storage;
mod sync;
mod verify;
mod volume;
mod walk;

pub use config::{APPEND_BYTES_MAX, Config, SEGMENT_BYTES_MAX};
pub use disk::DiskStorage;
pub use disk_volume::DiskVolume;
pub use dump::{Dump, Dumped, dump};
pub use error::Error;
pub use finding::{Finding, FindingKind};
pub use log::{Appended, Description, Log};
pub use memory::MemoryStorage;
pub use reader::{Extent, Reader};
pub use recovery::Recovery;
pub use repair::{Repaired, repair};
pub use storage::{File, Storage, delete_if_there, read_file, read_full_at, replace_file, write_all_at};
pub use sync::{SyncDone, SyncJob};
pub use verify::{Report, verify};
pub use volume::{Volume, split_path};
