//! A plugin as the runner sees it. The real one lives in `plugin-host`; tests have their own.

use std::time::Duration;

use millstream_protocol::Columns;
use thiserror::Error;

/// One running instance of a plugin, owned by one task.
pub trait Guest: Send {
    /// Hands over one batch. What `processed` held before is gone.
    ///
    /// # Errors
    /// The whole batch failed and nothing in `processed` counts. After [`Failure::is_deadly`] the guest
    /// must be restarted before the next call.
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure>;

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

/// What a guest made of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processed {
    /// Rows by declared output (index into the step's outputs), in the order they were emitted.
    pub outputs: Vec<(usize, Columns)>,
    /// Records that failed; rows made from them do not count.
    pub rejected: Vec<Rejected>,
    pub counters: Vec<(String, u64)>,
}

impl Processed {
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.rejected.clear();
        self.counters.clear();
    }
}

/// One record a guest refused, counted from 0 in its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub index: u32,
    pub message: String,
}

/// Why a whole batch failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("the plugin trapped: {0}")]
    Trap(String),
    #[error("{0}")]
    Deadline(String),
    #[error("{0}")]
    Memory(String),
    /// Too much output, or columns that do not fit together.
    #[error("{0}")]
    Output(String),
    /// The guest's own error, with the record where it names one.
    #[error("{message}")]
    Rejected { index: Option<u32>, message: String },
    #[error("the plugin does not start: {0}")]
    Init(String),
}

impl Failure {
    /// Whether the instance is gone.
    pub fn is_deadly(&self) -> bool {
        matches!(self, Failure::Trap(_) | Failure::Deadline(_) | Failure::Memory(_) | Failure::Init(_))
    }
}
