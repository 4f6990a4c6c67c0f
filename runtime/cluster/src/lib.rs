//! The decisions of the cluster as pure state machines: no IO, no clock, no randomness, no async. Events and
//! commands come in, outputs and a new state go out; the broker carries them to disks and sockets.
//!
//! - [`group`]: consumer groups: members, assignment, committed offsets.
//! - [`metadata`]: topics, plugins, pipelines, producer ids: commands applied to one replicated state.
//! - [`replica`]: one partition's leader: high watermark and who may be acknowledged when.

pub mod group;
pub mod metadata;
pub mod replica;
