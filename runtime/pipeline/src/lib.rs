//! Pipelines from text to records: a YAML file becomes a checked [`Spec`] (`read`), that a [`Plan`]
//! with compiled expressions and filled-in settings, and a `Runner` takes batches through it.
//!
//! Pure: no IO, clock, randomness or async. Guests stand behind a trait, time and topics behind whoever
//! feeds the runner.

pub mod config;
pub mod dead_letter;
pub mod diagnostic;
pub mod expr;
pub mod guest;
pub mod plan;
mod read;
pub mod runner;
pub mod schema;
pub mod spec;
pub mod units;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use guest::{Failure, Guest, Processed, Rejected};
pub use plan::Plan;
pub use read::{FILE_BYTES_MAX, PARTS_MAX, parse};
pub use runner::{Event, Output, Runner, Stop, Task, Ticket};
pub use schema::json_schema;
pub use spec::Spec;
pub use yaml::{At, Span};
