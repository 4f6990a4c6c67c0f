//! Test only: bytes and code from somebody who means harm. Bodies of the fuzz targets (each a plain function of
//! bytes that panics when something is wrong), the loop that feeds them on stable Rust, and the allocator that
//! sees how much they take. `fuzz/` at the top of the repository runs the same bodies under cargo-fuzz.
//!
//! What every target holds: no panic, no hang, and at most [`allocation::RATIO`] times the input's bytes plus
//! [`allocation::SLACK_BYTES`] at a time, where the target does not say why it may be more.

pub mod allocation;
pub mod fuzz;
mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
