//! `top`: what goes through the broker right now: rates of topics, lag of groups, rates of pipelines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_pipeline::units;
use millstream_protocol::message::{DescribeTopics, GroupSummary, ListGroups, ListPipelines, PipelineSummary};
use serde_json::{Value, json};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{Server, ServerArgs};
use crate::ending::Ending;
use crate::format::{bytes, count};
use crate::json::pipeline_state;
use crate::table::{Format, Listing, print_line};

/// Moves the cursor home and clears what is below it.
const REDRAW: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream top
  millstream top --interval 5s --iterations 12
  millstream top --output json | jq '.topics[] | select(.records_per_s > 0)'

Topics are sorted by the bytes that come in. At a terminal the view is drawn anew, elsewhere each look follows the last.")]
pub(crate) struct Args {
    /// Time between two looks, over which rates are means
    #[arg(long, default_value = "2s", value_parser = units::duration_ms, value_name = "TIME")]
    interval: u64,
    /// Stop after so many looks
    #[arg(short = 'n', long, value_name = "N")]
    iterations: Option<u64>,
    /// Internal topics too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Counters at a moment.
struct Look {
    at: Instant,
    topics: BTreeMap<String, Topic>,
    groups: Vec<GroupSummary>,
    pipelines: Vec<PipelineSummary>,
}

#[derive(Clone, Copy, Default)]
struct Topic {
    partitions: usize,
    /// Ends of all partitions together: it grows by one with each record.
    end: i64,
    bytes: u64,
}

/// What happened between two looks, a row each.
struct Rates {
    topics: Vec<TopicRate>,
    pipelines: Vec<(PipelineSummary, u64, u64)>,
    groups: Vec<GroupSummary>,
}

struct TopicRate {
    name: String,
    partitions: usize,
    records: u64,
    /// Retention makes a topic shrink; nothing came in then, as far as can be told.
    bytes: u64,
    stored: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    block_on(async {
        let mut ending = Ending::new()?;
        let server = args.server.connect().await?;
        let mut before = look(&server, args.internal).await?;
        let mut looks = 0;
        while args.iterations.is_none_or(|most| looks < most) {
            let pause = tokio::time::sleep(Duration::from_millis(args.interval.max(1)));
            if ending.unless(pause).await.is_none() {
                return Ok(());
            }
            let now = look(&server, args.internal).await?;
            let rates = rates(&before, &now);
            match context.format {
                Format::Json => print_line(&rates.json().to_string())?,
                Format::Table => rates.print()?,
            }
            before = now;
            looks += 1;
        }
        Ok(())
    })
}

async fn look(server: &Server, include_internal: bool) -> Result<Look> {
    let topics = server.call(DescribeTopics { names: Vec::new(), include_internal }).await?.topics;
    let groups = server.call(ListGroups).await?.groups;
    let pipelines = server.call(ListPipelines).await?.pipelines;
    let topics = topics.into_iter().map(|topic| {
        let end = topic.partitions.iter().map(|partition| partition.high_watermark.0).sum();
        let bytes = topic.partitions.iter().map(|partition| partition.bytes).sum();
        (topic.name, Topic { partitions: topic.partitions.len(), end, bytes })
    });
    Ok(Look { at: Instant::now(), topics: topics.collect(), groups, pipelines })
}

fn rates(before: &Look, now: &Look) -> Rates {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let per_second = |from: u64, to: u64| (to.saturating_sub(from) as f64 / seconds).round() as u64;
    let mut topics: Vec<TopicRate> = now
        .topics
        .iter()
        .map(|(name, topic)| {
            // A topic that was not there before began with nothing.
            let was = before.topics.get(name).copied().unwrap_or_default();
            TopicRate {
                name: name.clone(),
                partitions: topic.partitions,
                records: per_second(was.end.max(0) as u64, topic.end.max(0) as u64),
                bytes: per_second(was.bytes, topic.bytes),
                stored: topic.bytes,
            }
        })
        .collect();
    topics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let pipelines = now.pipelines.iter().map(|pipeline| {
        let was = before.pipelines.iter().find(|was| was.name == pipeline.name);
        // Counters of tasks that started anew begin at 0.
        let (records_in, records_out) = was.map_or((0, 0), |was| (was.records_in, was.records_out));
        let rates = (per_second(records_in, pipeline.records_in), per_second(records_out, pipeline.records_out));
        (pipeline.clone(), rates.0, rates.1)
    });
    Rates { topics, pipelines: pipelines.collect(), groups: now.groups.clone() }
}

impl Rates {
    fn print(&self) -> Result<()> {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            print_line(REDRAW)?;
        }
        let mut topics = Listing::new(&["topic", ">partitions", ">records/s", ">bytes/s", ">stored"]);
        for topic in &self.topics {
            topics.row([
                topic.name.clone(),
                topic.partitions.to_string(),
                count(topic.records),
                bytes(topic.bytes),
                bytes(topic.stored),
            ]);
        }
        topics.print("")?;
        if !self.pipelines.is_empty() {
            print_line("")?;
            let mut pipelines = Listing::new(&["pipeline", "state", ">in/s", ">out/s", ">lag", ">dead letters"]);
            for (pipeline, records_in, records_out) in &self.pipelines {
                pipelines.row([
                    pipeline.name.clone(),
                    pipeline_state(pipeline.state).to_owned(),
                    count(*records_in),
                    count(*records_out),
                    count(pipeline.lag),
                    count(pipeline.dead_letters),
                ]);
            }
            pipelines.print("")?;
        }
        if !self.groups.is_empty() {
            print_line("")?;
            let mut groups = Listing::new(&["group", "state", ">members", ">lag"]);
            for group in &self.groups {
                groups.row([group.group.clone(), group.state.clone(), group.members.to_string(), count(group.lag)]);
            }
            groups.print("")?;
        }
        Ok(print_line("")?)
    }

    fn json(&self) -> Value {
        let topics = self.topics.iter().map(|topic| {
            json!({ "topic": topic.name, "partitions": topic.partitions, "records_per_s": topic.records,
                "bytes_per_s": topic.bytes, "bytes": topic.stored })
        });
        let pipelines = self.pipelines.iter().map(|(pipeline, records_in, records_out)| {
            json!({ "pipeline": pipeline.name, "state": pipeline_state(pipeline.state), "in_per_s": records_in,
                "out_per_s": records_out, "lag": pipeline.lag, "dead_letters": pipeline.dead_letters })
        });
        json!({ "topics": topics.collect::<Vec<_>>(), "pipelines": pipelines.collect::<Vec<_>>(),
            "groups": self.groups.iter().map(crate::json::group_summary).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, topics: &[(&str, i64, u64)], pipelines: &[(&str, u64)]) -> Look {
        // Any origin will do.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let origin = *ORIGIN.get_or_init(Instant::now);
        let topic = |(name, end, bytes): &(&str, i64, u64)| {
            ((*name).to_owned(), Topic { partitions: 1, end: *end, bytes: *bytes })
        };
        let pipeline = |(name, records_in): &(&str, u64)| PipelineSummary {
            name: (*name).to_owned(),
            state: millstream_protocol::message::PipelineState::Running,
            revision: 1,
            tasks: 1,
            lag: 7,
            records_in: *records_in,
            records_out: *records_in / 2,
            dead_letters: 0,
        };
        Look {
            at: origin + Duration::from_secs(seconds),
            topics: topics.iter().map(topic).collect(),
            groups: Vec::new(),
            pipelines: pipelines.iter().map(pipeline).collect(),
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let before = at(10, &[("a", 100, 1_000), ("shrinks", 50, 9_000)], &[("p", 100), ("again", 500)]);
        let now = at(12, &[("a", 300, 5_000), ("shrinks", 60, 4_000), ("new", 10, 50)], &[("p", 300), ("again", 20)]);
        let rates = rates(&before, &now);
        let topics: Vec<(&str, u64, u64)> =
            rates.topics.iter().map(|topic| (topic.name.as_str(), topic.records, topic.bytes)).collect();
        assert_eq!(topics, [("a", 100, 2_000), ("new", 5, 25), ("shrinks", 5, 0)]);
        let pipelines: Vec<(&str, u64, u64)> =
            rates.pipelines.iter().map(|(pipeline, into, out)| (pipeline.name.as_str(), *into, *out)).collect();
        assert_eq!(pipelines, [("p", 100, 50), ("again", 0, 0)]);
    }
}
