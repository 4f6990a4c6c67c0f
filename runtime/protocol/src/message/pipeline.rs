//! Pipelines: apply a YAML text, look at what runs, control it, redrive its dead letters.

use rkyv::{Archive, Deserialize, Serialize};

use crate::Offset;

/// Creates a pipeline or changes the running one: a changed plugin is swapped at a batch boundary, a
/// changed shape restarts its tasks from their committed offsets.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ApplyPipeline {
    pub yaml: String,
    /// Environment and secret values the YAML refers to, resolved by whoever applies it. Never logged.
    pub variables: Vec<(String, String)>,
    /// Output and dead-letter topics that do not exist are created with this many partitions
    /// (0: as many as the first input has).
    pub create_partitions: u32,
    /// Only check and report the plan.
    pub dry_run: bool,
}

impl std::fmt::Debug for ApplyPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ApplyPipeline").field("yaml", &self.yaml).field("variables", &names).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ApplyPipelineAck {
    pub pipeline: String,
    pub revision: u32,
    /// What applying does, a line each, for people: `create topic orders-bad (3 partitions)`.
    pub plan: Vec<String>,
    /// Swaps that took place, a row per step and input partition.
    pub swaps: Vec<Swap>,
    pub tasks: u32,
}

/// Plugin `new` owns every record from `offset` on, `old` all before.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Swap {
    pub step: String,
    pub plugin: String,
    pub old: [u8; 32],
    pub new: [u8; 32],
    pub topic: String,
    pub partition: u32,
    pub offset: Offset,
    pub pause_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListPipelines;

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListPipelinesAck {
    pub pipelines: Vec<PipelineSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PipelineSummary {
    pub name: String,
    pub state: PipelineState,
    pub revision: u32,
    pub tasks: u32,
    pub lag: u64,
    pub records_in: u64,
    pub records_out: u64,
    pub dead_letters: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PipelineState {
    Running,
    Paused,
    /// At least one task stopped on an error; the others go on.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribePipeline {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribePipelineAck {
    pub name: String,
    pub state: PipelineState,
    pub revision: u32,
    pub started_at_ms: i64,
    pub guarantee: String,
    pub yaml: String,
    pub plugins: Vec<PipelinePlugin>,
    pub tasks: Vec<TaskStatus>,
    pub steps: Vec<StepStatus>,
    pub outputs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PipelinePlugin {
    pub step: String,
    pub name: String,
    pub version: String,
    pub digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TaskStatus {
    pub topic: String,
    pub partition: u32,
    /// The next offset to commit: everything before it is done.
    pub position: Offset,
    pub lag: u64,
    pub records_in: u64,
    /// Records read per second, over the last ten seconds, rounded.
    pub rate: u64,
    /// CPU time per record in its steps, nanoseconds, since start.
    pub cost_ns: u64,
    /// `running`, `paused`, `idle`, or the error that stopped it.
    pub state: String,
}

/// Totals over all tasks since they started.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct StepStatus {
    pub step: String,
    pub records_in: u64,
    pub records_out: u64,
    /// Records this step failed on, whatever the policy did with them.
    pub failed: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    pub restarts: u64,
    /// 99th percentile of the time of one batch, microseconds.
    pub batch_us_p99: u64,
    /// Counters of the plugin's own.
    pub counters: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ControlPipeline {
    pub name: String,
    pub action: PipelineAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PipelineAction {
    Pause,
    Resume,
    /// Stops it and forgets it; its committed offsets go too.
    Delete,
    /// Starts failed tasks again from their committed offsets.
    Restart,
    /// Back to the revision before.
    Rollback,
}

/// The newest lines first-in first-out, from a bounded buffer in memory.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PipelineLogs {
    pub name: String,
    /// Only lines with a higher sequence number.
    pub after: u64,
    pub lines_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PipelineLogsAck {
    pub lines: Vec<LogLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LogLine {
    pub sequence: u64,
    pub at_ms: i64,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    pub step: String,
    pub topic: String,
    pub partition: u32,
    pub message: String,
}

/// Sends every dead letter of the pipeline that was not redriven before back through it, once.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RedrivePipeline {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RedrivePipelineAck {
    pub redriven: u64,
    /// Dead letters that failed again and were dead-lettered anew.
    pub failed: u64,
}
