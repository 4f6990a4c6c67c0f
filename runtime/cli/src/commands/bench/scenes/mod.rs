//! One file per measurement: what is run, and what it is compared with.

mod consume;
mod end_to_end;
mod log;
mod pipeline;
mod plugin;
mod produce;
mod quic;
mod swap;

pub(super) use consume::consume;
pub(super) use end_to_end::{end_to_end, run as steady};
pub(super) use log::log;
pub(super) use pipeline::pipeline;
pub(super) use plugin::plugin;
pub(super) use produce::produce;
pub(super) use quic::quic;
pub(super) use swap::swap;

use super::args::Load;
use super::bare::Cargo;
use super::values::Values;

/// Parts of a scene, where they are the subject and bare transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Subject,
    Quic,
    Tcp,
    /// QUIC and a file; see [`kept`](super::kept).
    Kept,
}

const BARE_PARTS: [(Part, &str); 4] = [
    (Part::Subject, "millstream"),
    (Part::Quic, "bare QUIC"),
    (Part::Tcp, "bare TCP"),
    (Part::Kept, "bare QUIC and file"),
];

/// All of the parts, or the subject alone.
fn parts<P: Copy>(load: &Load, all: &[(P, &'static str)]) -> Vec<(P, &'static str)> {
    all[..if load.references { all.len() } else { 1 }].to_vec()
}

/// Records of one batch as the producer fills it.
fn batch_records(load: &Load) -> usize {
    match load.batch {
        1 => (load.batch_bytes / (load.record_bytes + super::values::key_bytes(load.keys) + 10)).max(1),
        records => records,
    }
}

/// What is on the wire for a run, and the size of its pieces.
fn cargo(load: &Load, values: &Values) -> (Cargo, usize) {
    let records = batch_records(load);
    let batch = values.batch(records, load).len();
    let wire = (batch as f64 * load.records as f64 / records as f64) as u64;
    (Cargo { records: load.records, payload: load.payload(), wire }, batch)
}
