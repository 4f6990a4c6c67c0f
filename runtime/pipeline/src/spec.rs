//! A pipeline as its file declares it: typed, checked, every name resolved. Made only by `parse`, so
//! code that holds a [`Spec`] need not check it again.

use std::sync::Arc;

use crate::Diagnostics;
use crate::config::Template;
use crate::expr::Expression;
use crate::yaml::At;

/// A checked pipeline file.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: At<String>,
    pub guarantee: Guarantee,
    pub inputs: Vec<InputSpec>,
    /// In the order of the file; [`Spec::order`] is the order they run in.
    pub steps: Vec<StepSpec>,
    /// Indexes into `steps`, every step after all it takes records from.
    pub order: Vec<usize>,
    pub outputs: Vec<OutputSpec>,
    /// Findings that do not prevent running, with the file's name and text.
    pub warnings: Diagnostics,
}

impl Spec {
    /// The file's text.
    pub fn text(&self) -> &str {
        self.warnings.text()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Every record's outputs are written; after a crash some may be written twice.
    #[default]
    AtLeastOnce,
}

impl Guarantee {
    pub fn name(self) -> &'static str {
        match self {
            Guarantee::AtLeastOnce => "at_least_once",
        }
    }
}

#[derive(Clone, Debug)]
pub struct InputSpec {
    pub topic: At<String>,
    pub from: Start,
    /// Create the topic with so many partitions when it does not exist.
    pub partitions: Option<u32>,
}

/// Where a pipeline begins that has no committed offset yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// The first record with this timestamp or a later one, milliseconds since the epoch.
    Timestamp(i64),
}

/// Where records come from: an input, or one of the outputs of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Input(usize),
    /// `output` counts in [`StepSpec::outputs`].
    Step {
        step: usize,
        output: usize,
    },
}

#[derive(Clone, Debug)]
pub struct StepSpec {
    pub name: At<String>,
    pub from: Vec<Source>,
    pub kind: StepKind,
    /// Names of its outputs. The main one is "" and comes first; a branch has no main output.
    pub outputs: Vec<String>,
    pub on_error: OnError,
    pub limits: StepLimits,
}

#[derive(Clone, Debug)]
pub enum StepKind {
    Plugin {
        reference: At<PluginRef>,
        with: Template,
    },
    Filter(Arc<Expression>),
    Map {
        value: Option<Arc<Expression>>,
        key: Option<Arc<Expression>>,
        /// Set after a header of the same name is dropped.
        headers: Vec<(String, Arc<Expression>)>,
    },
    KeyBy(Arc<Expression>),
    /// One test per output; the first that holds takes the record. `None` takes what is left. A record
    /// no arm takes is dropped.
    Branch(Vec<Option<Arc<Expression>>>),
}

impl StepKind {
    pub fn name(&self) -> &'static str {
        match self {
            StepKind::Plugin { .. } => "plugin",
            StepKind::Filter(_) => "filter",
            StepKind::Map { .. } => "map",
            StepKind::KeyBy(_) => "key_by",
            StepKind::Branch(_) => "branch",
        }
    }
}

/// `name@version`, or `name@version/sha256:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRef {
    pub name: String,
    /// `1.2.0`, or the beginning of one (`1.2`, `1`): the highest version that begins so.
    pub version: String,
    /// The first hex digits of the component's sha256, 8 to 64 of them.
    pub digest: Option<String>,
}

impl std::fmt::Display for PluginRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "/sha256:{digest}"))
    }
}

/// What becomes of a record a step fails on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnError {
    /// Tries before the record counts as failed. Only plugin steps have more than one.
    pub retry: Retry,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All tries of a record, the first included.
    pub attempts: u32,
    /// Pause before the second try, doubled before each further one up to [`BACKOFF_MS_MAX`].
    pub backoff_ms: u64,
}

/// Longest pause between two tries of a record.
pub const BACKOFF_MS_MAX: u64 = 10_000;

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 1, backoff_ms: 100 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// The task stops before the record: nothing is lost, and nothing goes on.
    #[default]
    Stop,
    /// The record is dropped and counted.
    Skip,
    /// The input record goes to this topic, its cause in headers.
    DeadLetter(String),
}

/// Limits of a plugin; what is absent has the host's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepLimits {
    pub memory_bytes: Option<u64>,
    pub batch_ms: Option<u64>,
    pub output_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct OutputSpec {
    pub topic: At<String>,
    pub from: Vec<Source>,
    /// Every record gets a header `ms-origin` with the place of the input record it was made from.
    pub trace: bool,
    /// Create the topic with so many partitions when it does not exist.
    pub partitions: Option<u32>,
}
