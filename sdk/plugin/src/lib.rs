//! Millstream's guest SDK: a plugin is one ordinary function from a record to any number of records.
//!
//! ```
//! use millstream_plugin::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Config { vat_percent: i64 }
//!
//! #[derive(Deserialize)]
//! struct Order<'a> { id: &'a str, net: i64 }
//!
//! #[transform]
//! fn price(order: Record, config: &Config, out: &mut Output) -> Result<()> {
//!     let order: Order = order.json()?;             // an Err is this record's failure, its neighbours go on
//!     let total = order.net * (100 + config.vat_percent) / 100;
//!     if total < 0 { out.to("refunds").key(order.id).json(&total)?; }
//!     else         { out.key(order.id).json(&total)?; }
//!     Ok(())
//! }
//!
//! use millstream_plugin::testing::{record, run};
//! let got = run(price, &Config { vat_percent: 20 }, [record(r#"{"id":"o-1","net":100}"#), record("not JSON")]);
//! assert_eq!(got.values(), ["120"]);
//! assert_eq!(got.rejected[0].index, 1);
//! ```
//!
//! The crate is a `cdylib` (and an `rlib`, for its own tests), and depends on `millstream-plugin` and `serde`. Its outputs
//! beside the main one are declared in `Cargo.toml`: `[package.metadata.millstream] outputs = ["refunds"]`.
//!
//! The function stays callable: `cargo test` runs it natively ([`testing`]), and only a build for
//! `wasm32-unknown-unknown` adds the component's exports ([`transform`]). A crate holds one transform.
//! Records cross the boundary as columns ([`columns`]); one call handles one batch.

// Expansions of the exports name this crate from the outside, also when it is this crate that expands them.
#[cfg(target_family = "wasm")]
extern crate self as millstream_plugin;

mod columns;
mod config;
mod error;
mod field;
mod number;
mod output;
mod record;
mod report;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod transform;
#[cfg(target_family = "wasm")]
mod wasm;

pub use error::{Context, Error, Result};
pub use millstream_plugin_macro::transform;
pub use output::{Emit, Output, Part};
pub use record::{Headers, Record};
pub use report::{Level, count, now};
pub use serde_json;
pub use transform::Transform;

/// What nearly every plugin needs.
pub mod prelude {
    pub use crate::{Context, Emit, Error, Output, Part, Record, Result, count, now, transform};
    pub use crate::{bail, debug, ensure, error, info, trace, warn};
    pub use serde::{Deserialize, Serialize};
}

/// For the macros of this crate; not part of its interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::report::log;
    pub use crate::transform::check;
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::{bindings, init, process};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;
}
