//! Who may do what, on a real broker over QUIC.
//!
//! - [`matrix`]: every API against every kind of token, in one table.
//! - [`lives`]: tokens that are rotated, expire, are deleted, while they are in use.
//! - [`hidden`]: names outside a token's rights are not told; what a pipeline needs; the broker's own topics.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod hidden;
mod lives;
mod matrix;
#[path = "../support/mod.rs"]
mod support;
mod world;
