//! Runs plugins: WebAssembly components of the world in `sdk/wit`, one call per batch of records.
//!
//! An [`Engine`] compiles a component once per content (and keeps the machine code on disk); a [`Plugin`]
//! is the compiled component with its [`Manifest`]; an [`Instance`] is one guest with its own memory,
//! owned by one pipeline task. A guest can do nothing but what the world gives it, and every call is
//! bounded in time, memory, output and log lines ([`Limits`]). What goes wrong in a guest is a value
//! ([`Failure`]), never a panic of the host.
//!
//! Absent on purpose: WASI, async calls, precompiled code from outside, retries and the search for the
//! record at fault (the pipeline's runner does that, with fresh instances).

mod absent;
mod cache;
mod call;
mod code;
mod compiler;
mod component;
mod cost;
mod counts;
mod courtesy;
mod engine;
mod failure;
mod instance;
pub mod limits;
mod logger;
mod memory;
mod plugin;
#[cfg(feature = "testing")]
pub mod testing;
mod ticker;
mod world;

pub use cache::is_whole_code;
pub use component::{Inspection, Kind, MANIFEST_SECTION, Manifest, componentize, inspect, with_manifest};
pub use cost::{Cost, cost};
pub use counts::{EngineCounts, FAILURE_KINDS, failure_kind};
pub use courtesy::release as release_core;
pub use engine::{Engine, EngineConfig};
pub use failure::{Failure, LoadError};
pub use instance::{Counter, Instance, InstanceConfig, LogSink, Processed, Rejected};
pub use limits::Limits;
pub use plugin::{Plugin, digest};
pub use world::Level;
