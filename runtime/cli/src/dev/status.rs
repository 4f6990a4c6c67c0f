//! What the project's pipelines have done so far, in one line; and what they complain about: tasks that
//! stopped, lines that plugins log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use millstream_protocol::message::{
    DescribePipeline, DescribePipelineAck, ListPipelines, LogLine, PipelineLogs, PipelineState,
};

use crate::connect::Server;
use crate::console::{Console, Tone};
use crate::format::{count, nanoseconds};

/// Log lines taken and shown per pipeline and look; of more the number is told.
const LOG_LINES_MAX: u32 = 1_000;
const LOG_LINES_SHOWN_MAX: usize = 5;

/// Sums over pipelines, since their tasks started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) dead_letters: u64,
    pub(super) lag: u64,
    /// CPU time in the steps, nanoseconds.
    pub(super) cost_ns: u64,
}

impl Totals {
    /// `in 2,000   out 43   dead letters 1   lag 0   0.90 µs per record`
    pub(super) fn line(&self) -> String {
        let Totals { records_in, records_out, dead_letters, lag, cost_ns } = *self;
        let mut line = format!(
            "in {}   out {}   dead letters {}   lag {}",
            count(records_in),
            count(records_out),
            count(dead_letters),
            count(lag)
        );
        if records_in > 0 {
            line.push_str(&format!("   {} per record", nanoseconds(cost_ns as f64 / records_in as f64)));
        }
        line
    }
}

/// Looks at the pipelines again and again, and says each thing once.
pub(super) struct Status {
    server: Server,
    console: Console,
    /// Tasks that were reported as stopped.
    stopped: BTreeSet<(String, String)>,
    /// Last log line seen, by pipeline.
    logged: BTreeMap<String, u64>,
}

impl Status {
    pub(super) fn new(server: Server, console: Console) -> Self {
        Status { server, console, stopped: BTreeSet::new(), logged: BTreeMap::new() }
    }

    /// What the pipelines among `names` have done; tells of new troubles and log lines on the way.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) async fn look(&mut self, names: &BTreeSet<String>) -> Result<Totals> {
        let mut totals = Totals::default();
        for pipeline in self.server.call(ListPipelines).await?.pipelines {
            if !names.contains(&pipeline.name) {
                continue;
            }
            totals.records_in += pipeline.records_in;
            totals.records_out += pipeline.records_out;
            totals.dead_letters += pipeline.dead_letters;
            totals.lag += pipeline.lag;
            let about = self.server.call(DescribePipeline { name: pipeline.name.clone() }).await?;
            totals.cost_ns += about.tasks.iter().map(|task| task.cost_ns.saturating_mul(task.records_in)).sum::<u64>();
            self.tell_stopped(&about);
            self.tell_logs(&pipeline.name).await?;
        }
        Ok(totals)
    }

    /// Whether any task of the project stopped on an error.
    pub(super) fn any_stopped(&self) -> bool {
        !self.stopped.is_empty()
    }

    fn tell_stopped(&mut self, about: &DescribePipelineAck) {
        let mut stopped = BTreeSet::new();
        if about.state == PipelineState::Failed {
            for task in &about.tasks {
                if !matches!(task.state.as_str(), "running" | "paused" | "idle") {
                    let place = format!("{}/{}@{}", task.topic, task.partition, task.position);
                    stopped.insert((about.name.clone(), format!("{place}: {}", task.state)));
                }
            }
        }
        for (pipeline, trouble) in stopped.difference(&self.stopped) {
            self.console.toned(Tone::Bad, "Stopped", &format!("{pipeline}  {trouble}"));
        }
        self.stopped.retain(|(pipeline, _)| *pipeline != about.name);
        self.stopped.extend(stopped);
    }

    async fn tell_logs(&mut self, pipeline: &str) -> Result<()> {
        let after = self.logged.get(pipeline).copied().unwrap_or(0);
        let request = PipelineLogs { name: pipeline.to_owned(), after, lines_max: LOG_LINES_MAX };
        let lines = self.server.call(request).await?.lines;
        let Some(last) = lines.last() else { return Ok(()) };
        self.logged.insert(pipeline.to_owned(), last.sequence);
        for line in lines.iter().take(LOG_LINES_SHOWN_MAX) {
            let LogLine { level, topic, partition, step, message, .. } = line;
            self.console.toned(tone(line), level, &format!("{topic}/{partition} {step}: {message}"));
        }
        if lines.len() > LOG_LINES_SHOWN_MAX {
            let more = count((lines.len() - LOG_LINES_SHOWN_MAX) as u64);
            self.console.toned(Tone::Plain, "", &format!("and {more} more lines: millstream pipeline logs {pipeline}"));
        }
        Ok(())
    }
}

fn tone(line: &LogLine) -> Tone {
    match line.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Warn,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_read_well() {
        let check = |totals: Totals, expected: &str| assert_eq!(totals.line(), expected);
        check(Totals::default(), "in 0   out 0   dead letters 0   lag 0");
        let totals = Totals { records_in: 2_000, records_out: 43, dead_letters: 1, lag: 0, cost_ns: 1_800_000 };
        check(totals, "in 2,000   out 43   dead letters 1   lag 0   0.90 µs per record");
    }
}
