//! The batch loop: calls a transform for every record of a batch, takes back what a failing record wrote
//! and reports it, and goes on. The same loop runs in a component and under [`crate::testing`].

use serde::de::DeserializeOwned;

use crate::columns::Columns;
use crate::{Output, Record, Result, report};

/// A function that `#[transform]` accepts: `fn(Record, &Config, &mut Output) -> Result<()>`, or the same without
/// a configuration. `Shape` only tells the two apart, callers leave it to inference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transform",
    note = "a transform is `fn(Record, &Config, &mut Output) -> Result<()>` or `fn(Record, &mut Output) -> Result<()>`",
    note = "`Config` must implement `Deserialize` and own its data"
)]
pub trait Transform<Shape>: 'static {
    /// The step's `with`; `()` for a transform without one.
    type Config: DeserializeOwned + 'static;

    /// Handles one record.
    ///
    /// # Errors
    /// The record's failure.
    fn call(&self, record: Record<'_>, config: &Self::Config, out: &mut Output) -> Result<()>;
}

impl<F, C> Transform<(C,)> for F
where
    F: Fn(Record<'_>, &C, &mut Output) -> Result<()> + 'static,
    C: DeserializeOwned + 'static,
{
    type Config = C;

    fn call(&self, record: Record<'_>, config: &C, out: &mut Output) -> Result<()> {
        self(record, config, out)
    }
}

impl<F> Transform<()> for F
where
    F: Fn(Record<'_>, &mut Output) -> Result<()> + 'static,
{
    type Config = ();

    fn call(&self, record: Record<'_>, _config: &(), out: &mut Output) -> Result<()> {
        self(record, out)
    }
}

/// Checks at compile time, natively too, that a function is a transform.
#[doc(hidden)]
pub const fn check<T: Transform<Shape>, Shape>(_transform: &T) {}

/// Runs a transform over one batch; `reject` gets each failing record's index and message.
pub(crate) fn run_batch<T: Transform<Shape>, Shape>(
    (transform, config): (&T, &T::Config),
    input: &Columns,
    out: &mut Output,
    mut reject: impl FnMut(u32, &str),
) {
    report::set_now(input.timestamps.iter().copied().max().unwrap_or_default());
    for (index, record) in (0..).zip(input.records()) {
        out.begin_record(&record);
        if let Err(error) = transform.call(record, config, out) {
            out.roll_back();
            reject(index, &error.to_string());
        }
    }
}
