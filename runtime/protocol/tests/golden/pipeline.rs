//! Examples of the messages about pipelines.

use millstream_protocol::Offset;
use millstream_protocol::message::*;

use super::plugin::digest;
use super::{Row, row};

fn apply() -> ApplyPipeline {
    ApplyPipeline {
        yaml: "pipeline: web-errors\n".into(),
        variables: vec![("KEY".into(), "value".into())],
        create_partitions: 3,
        dry_run: true,
    }
}

fn apply_ack() -> ApplyPipelineAck {
    ApplyPipelineAck {
        pipeline: "web-errors".into(),
        revision: 2,
        plan: vec!["create topic web-errors (3 partitions)".into()],
        swaps: vec![Swap {
            step: "parse".into(),
            plugin: "parse-access-log@0.1.0".into(),
            old: digest(0),
            new: digest(32),
            topic: "access-log".into(),
            partition: 2,
            offset: Offset(1_234_567_890_123),
            pause_us: 1500,
        }],
        tasks: 3,
    }
}

fn description() -> DescribePipelineAck {
    DescribePipelineAck {
        name: "web-errors".into(),
        state: PipelineState::Failed,
        revision: 2,
        started_at_ms: 1_700_000_000_000,
        guarantee: "at_least_once".into(),
        yaml: "pipeline: web-errors\n".into(),
        plugins: vec![PipelinePlugin {
            step: "parse".into(),
            name: "parse-access-log".into(),
            version: "0.1.0".into(),
            digest: digest(0),
        }],
        tasks: vec![TaskStatus {
            topic: "access-log".into(),
            partition: 2,
            position: Offset(90),
            lag: 10,
            records_in: 1000,
            rate: 200,
            cost_ns: 450,
            state: "running".into(),
        }],
        steps: vec![StepStatus {
            step: "parse".into(),
            records_in: 1000,
            records_out: 990,
            failed: 10,
            dead_letters: 7,
            skipped: 3,
            restarts: 1,
            batch_us_p99: 800,
            counters: vec![("bots".into(), 5)],
        }],
        outputs: vec!["web-errors".into()],
    }
}

fn summary() -> PipelineSummary {
    PipelineSummary {
        name: "web-errors".into(),
        state: PipelineState::Running,
        revision: 2,
        tasks: 3,
        lag: 10,
        records_in: 1000,
        records_out: 990,
        dead_letters: 7,
    }
}

fn log_line() -> LogLine {
    LogLine {
        sequence: 42,
        at_ms: 1_700_000_000_000,
        level: "warn".into(),
        step: "parse".into(),
        topic: "access-log".into(),
        partition: 2,
        message: "a line without a date".into(),
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let name = || "web-errors".to_owned();
    vec![
        row(apply(), apply_ack()),
        row(ListPipelines, ListPipelinesAck { pipelines: vec![summary()] }),
        row(DescribePipeline { name: name() }, description()),
        row(ControlPipeline { name: name(), action: PipelineAction::Rollback }, Done),
        row(PipelineLogs { name: name(), after: 41, lines_max: 100 }, PipelineLogsAck { lines: vec![log_line()] }),
        row(RedrivePipeline { name: name() }, RedrivePipelineAck { redriven: 7, failed: 1 }),
    ]
}
