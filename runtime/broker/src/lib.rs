//! The broker process: it owns a data folder, keeps metadata and partitions there, and serves clients over QUIC.
//!
//! The way of a produced record: [`door`] (`stream` -> `dispatch` -> `produce`) -> [`partition`] -> `shard`
//! (`owner` is the thread, [`core::shard`] what it decides, the log appends; `sync` makes it durable) -> reply. The
//! way back: `door::subscribe` or `door::data` -> [`partition`], which reads the files where it is.
//!
//! - [`broker`]: starting and stopping.
//! - [`verify`]: checking a folder that no broker owns.
//! - [`config`], [`limits`]: everything that can be set.
//! - [`data_dir`], [`folder`], [`credentials`]: what lies in the data folder.
//! - `io`: the threads that serve clients.
//! - `access`: tokens and what they open; `door::guard` says which right a request needs.
//! - [`metadata`], [`topics`], [`groups`]: what the cluster agrees on, and committed offsets.
//! - [`core`]: the decisions of shards, groups and pipeline tasks, without their threads.
//! - `memory`: giving back what a burst leaves behind.
//! - [`stats`], [`observe`]: what is counted, and how the broker looks from outside.
//! - [`service`]: what the parts offer each other; [`plugins`] and [`pipelines`] build on it.
//!
//! What is durable beside the logs ([`data_dir::prepare`], [`folder`], [`metadata::Store`], [`plugins::Store`]) sees its
//! disk as a `millstream_log::Volume` and blocks; it is public so that the simulator can run it on its own disk.
//!
//! Threads: `io` serves clients, the caller's tokio runtime coordinates; shards, sync threads and the metadata store
//! have threads of their own. What serves clients never waits for a sync, nor for a read that is not in the page cache; it
//! appends by itself where nothing but a copy into the page cache is to be done (`shard::desk`).

mod access;
mod broker;
mod budget;
mod clock;
pub mod config;
pub mod core;
mod credentials;
pub mod data_dir;
mod door;
mod error;
pub mod folder;
pub mod groups;
mod io;
pub mod limits;
mod memory;
pub mod metadata;
mod observe;
pub mod partition;
pub mod pipelines;
pub mod plugins;
mod sealed;
pub mod service;
mod shard;
mod stats;
pub mod topics;
pub mod verify;

pub use broker::Broker;
pub use config::{Config, HttpDoor, LogFormat};
pub use error::StartError;
pub use shard::LogDescription;
