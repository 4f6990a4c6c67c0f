//! A plugin as the runner sees it: the broker puts `plugin-host`'s instances behind it, tests have their own.

use std::time::Duration;

use millstream_protocol::Columns;

pub use millstream_plugin_host::{Failure, Processed, Rejected};

/// One running instance of a plugin, owned by one task.
pub trait Guest: Send {
    /// Hands over one batch. What `processed` held before is gone.
    ///
    /// # Errors
    /// The whole batch failed and nothing in `processed` counts. Unless it is [`Failure::Rejected`] the
    /// guest must be restarted before the next call.
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure>;

    /// The part of the time it may take that the last call took, 1 being all of it; 0 where nobody measures. It decides how
    /// many records the next calls get, and nothing about any record.
    fn time_used(&self) -> f64 {
        0.0
    }

    /// Replaces a dead instance by a fresh one.
    ///
    /// # Errors
    /// It does not start: its step cannot go on.
    fn restart(&mut self) -> Result<(), Failure>;

    /// Waits between two tries of a record; may return early when the task is to end.
    fn pause(&mut self, time: Duration);

    /// sha256 of the component.
    fn digest(&self) -> [u8; 32];
}

/// Whether the instance is gone after this failure.
pub(crate) fn is_deadly(failure: &Failure) -> bool {
    !matches!(failure, Failure::Rejected { .. })
}
