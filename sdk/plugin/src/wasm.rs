//! The component's side of `sdk/wit`: exports that run a transform, and the host's functions. Only built
//! for WebAssembly; columns move in and out without being copied here.

use std::cell::RefCell;
use std::mem::take;

use crate::columns::Columns;
use crate::transform::run_batch;
use crate::{Level, Output, Transform, config, report};

use bindings::millstream::plugin::host;
use bindings::{Batch, Failure};

/// Generated from the one copy of the contract, and kept in the source because generating it in every
/// plugin's own build would take most of that build's time. After a change of `sdk/wit`, with wit-bindgen-cli 0.63.0:
///
/// ```sh
/// wit-bindgen rust sdk/wit --world plugin --format --pub-export-macro --export-macro-name export \
///     --runtime-path ::millstream_plugin::__private::wit_bindgen::rt --out-dir sdk/plugin/src
/// mv sdk/plugin/src/plugin.rs sdk/plugin/src/bindings.in
/// ```
#[allow(
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    reason = "generated: the canonical ABI passes pointers and lengths, as wit-bindgen proves for each type"
)]
pub mod bindings {
    include!("bindings.in");
}

/// A transform with its configuration and its outputs' buffers, which are kept from batch to batch.
trait Running {
    fn process(&mut self, input: &Columns);
}

struct Task<T: Transform<Shape>, Shape> {
    transform: T,
    config: T::Config,
    out: Output,
}

thread_local! {
    static RUNNING: RefCell<Option<Box<dyn Running>>> = const { RefCell::new(None) };
}

/// The export `init`.
///
/// # Errors
/// The configuration does not fit the transform's.
pub fn init<T: Transform<Shape>, Shape: 'static>(transform: T, config: &str) -> Result<(), String> {
    // A panic ends in a trap, which carries no message: the log is the only place that can tell it.
    std::panic::set_hook(Box::new(|panic| host::log(host::Level::Error, &panic.to_string())));
    let config = config::parse(config)?;
    let task = Task { transform, config, out: Output::new() };
    RUNNING.set(Some(Box::new(task)));
    Ok(())
}

/// The export `process`.
///
/// # Errors
/// `init` was not called before. Failures of records are reported one by one.
pub fn process(rows: Batch) -> Result<(), Failure> {
    let input = from_batch(rows);
    RUNNING.with_borrow_mut(|running| match running {
        Some(running) => {
            running.process(&input);
            Ok(())
        }
        None => Err(Failure { index: None, message: "process was called before init".to_owned() }),
    })
}

impl<T: Transform<Shape>, Shape: 'static> Running for Task<T, Shape> {
    fn process(&mut self, input: &Columns) {
        run_batch((&self.transform, &self.config), input, &mut self.out, host::reject);
        for named in self.out.outputs_mut() {
            if !named.rows.is_empty() {
                let rows = into_batch(take(&mut named.rows));
                host::emit(&named.name, &rows);
                named.rows = from_batch(rows);
                named.rows.clear();
            }
        }
        for (name, sum) in report::take_counters() {
            host::count(&name, sum);
        }
    }
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => host::Level::Trace,
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, message);
}

fn from_batch(batch: Batch) -> Columns {
    Columns {
        offsets: batch.offsets,
        timestamps: batch.timestamps,
        key_lens: batch.key_lens,
        keys: batch.keys,
        value_lens: batch.value_lens,
        values: batch.values,
        header_counts: batch.header_counts,
        header_lens: batch.header_lens,
        headers: batch.headers,
    }
}

fn into_batch(columns: Columns) -> Batch {
    Batch {
        offsets: columns.offsets,
        timestamps: columns.timestamps,
        key_lens: columns.key_lens,
        keys: columns.keys,
        value_lens: columns.value_lens,
        values: columns.values,
        header_counts: columns.header_counts,
        header_lens: columns.header_lens,
        headers: columns.headers,
    }
}

/// Exports a transform as the component's `init` and `process`. `#[transform]` expands to it.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_transform {
    ($transform:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::__private::bindings::Guest for Plugin {
                fn init(config: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::__private::init($transform, &config)
                }

                fn process(
                    rows: $crate::__private::bindings::Batch,
                ) -> ::core::result::Result<(), $crate::__private::bindings::Failure> {
                    $crate::__private::process(rows)
                }
            }

    $crate::__private::bindings::export!(Plugin with_types_in $crate::__private::bindings);
        };
    };
}
