//! What a broker shows over HTTP: its metrics for Prometheus and whether it is alive and ready. Read-only, loopback
//! by default, and never on the way of a record: everything is collected when somebody asks.
//!
//! The crate owns the names and the form; the numbers come from whoever implements [`Source`], which is the broker.
//!
//! - [`metrics`]: every metric there is, with its kind, labels and meaning; `METRICS.md` is made from it.
//! - [`page`]: the samples of one scrape, and their text.
//! - [`server`]: the listener and its limits; `routes`: what is answered.
//!
//! Deliberately absent: TLS and authentication (put a proxy in front where others can reach it), and anything that
//! changes something.

pub mod metrics;
pub mod page;
mod routes;
pub mod server;

use std::future::Future;
use std::pin::Pin;

use millstream_protocol::message::Finding;

pub use page::{Histogram, Page};
pub use server::{Error, Limits, Server};

/// What a [`Source`] is busy with.
pub type Collecting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Who is asked. Called for every request, so it must be cheap, and it must not wait for a disk.
pub trait Source: Send + Sync + 'static {
    /// Puts a sample of everything on the page.
    fn collect<'a>(&'a self, page: &'a mut Page) -> Collecting<'a>;

    /// What is worth knowing about the node now; it is ready when none of it [makes it
    /// unready](millstream_protocol::message::Cause::makes_unready).
    fn findings(&self) -> Vec<Finding>;
}
