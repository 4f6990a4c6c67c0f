//! Answers of the broker as JSON, for `--output json`: the message's own field names, digests and topic ids
//! as hex, times as milliseconds. Names here are an interface: they only grow.

use millstream_protocol::message::{
    ApplyPipelineAck, ClusterStatusAck, DescribeGroupAck, DescribePipelineAck, Durability, GroupSummary, LogLine,
    PipelineState, PipelineSummary, PluginDescription, TokenDescription, TopicConfig, TopicDescription,
};
use serde_json::{Value, json};

use crate::format::hex;

pub(crate) fn topic(topic: &TopicDescription) -> Value {
    let partitions = topic.partitions.iter().map(|partition| {
        json!({
            "partition": partition.partition.0, "leader": partition.leader, "log_start": partition.log_start.0,
            "high_watermark": partition.high_watermark.0, "log_end": partition.log_end.0, "bytes": partition.bytes,
            "segments": partition.segments, "oldest_timestamp": partition.oldest_timestamp, "offline": partition.offline,
        })
    });
    json!({
        "name": topic.name, "id": topic.id.to_string(), "internal": topic.internal, "created_at_ms": topic.created_at_ms,
        "config": topic_config(&topic.config), "effective": topic_config(&topic.effective),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn topic_config(config: &TopicConfig) -> Value {
    json!({
        "retention_ms": config.retention_ms, "retention_bytes": config.retention_bytes,
        "segment_bytes": config.segment_bytes, "segment_ms": config.segment_ms,
        "batch_bytes_max": config.batch_bytes_max, "durability": config.durability.map(durability),
    })
}

pub(crate) fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Disk => "disk",
        Durability::Replicated => "replicated",
    }
}

pub(crate) fn group_summary(group: &GroupSummary) -> Value {
    json!({ "group": group.group, "state": group.state, "members": group.members, "lag": group.lag })
}

pub(crate) fn group(group: &DescribeGroupAck) -> Value {
    let members = group.members.iter().map(|member| {
        json!({ "member_id": member.member_id, "client_name": member.client_name,
            "session_timeout_ms": member.session_timeout_ms })
    });
    let partitions = group.partitions.iter().map(|partition| {
        json!({
            "topic": partition.topic, "partition": partition.partition.0, "committed": partition.committed.map(|o| o.0),
            "log_end": partition.log_end.0, "lag": partition.lag, "member_id": partition.member_id,
            "metadata": partition.metadata,
        })
    });
    json!({ "group": group.group, "state": group.state, "generation": group.generation,
        "members": members.collect::<Vec<_>>(), "partitions": partitions.collect::<Vec<_>>() })
}

pub(crate) fn plugin(plugin: &PluginDescription) -> Value {
    json!({
        "name": plugin.name, "version": plugin.version, "digest": hex(&plugin.digest), "bytes": plugin.bytes,
        "uploaded_at_ms": plugin.uploaded_at_ms, "asks": plugin.asks, "description": plugin.description,
        "used_by": plugin.used_by,
    })
}

pub(crate) fn pipeline_state(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => "running",
        PipelineState::Paused => "paused",
        PipelineState::Failed => "failed",
    }
}

pub(crate) fn pipeline_summary(pipeline: &PipelineSummary) -> Value {
    json!({
        "name": pipeline.name, "state": pipeline_state(pipeline.state), "revision": pipeline.revision,
        "tasks": pipeline.tasks, "lag": pipeline.lag, "records_in": pipeline.records_in,
        "records_out": pipeline.records_out, "dead_letters": pipeline.dead_letters,
    })
}

pub(crate) fn pipeline(pipeline: &DescribePipelineAck) -> Value {
    let plugins = pipeline.plugins.iter().map(|plugin| {
        json!({ "step": plugin.step, "name": plugin.name, "version": plugin.version, "digest": hex(&plugin.digest) })
    });
    let tasks = pipeline.tasks.iter().map(|task| {
        json!({
            "topic": task.topic, "partition": task.partition, "position": task.position.0, "lag": task.lag,
            "records_in": task.records_in, "rate": task.rate, "cost_ns": task.cost_ns, "state": task.state,
        })
    });
    let steps = pipeline.steps.iter().map(|step| {
        json!({
            "step": step.step, "records_in": step.records_in, "records_out": step.records_out, "failed": step.failed,
            "dead_letters": step.dead_letters, "skipped": step.skipped, "restarts": step.restarts,
            "batch_us_p99": step.batch_us_p99,
            "counters": step.counters.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        })
    });
    json!({
        "name": pipeline.name, "state": pipeline_state(pipeline.state), "revision": pipeline.revision,
        "started_at_ms": pipeline.started_at_ms, "guarantee": pipeline.guarantee, "yaml": pipeline.yaml,
        "plugins": plugins.collect::<Vec<_>>(), "tasks": tasks.collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(),
        "outputs": pipeline.outputs,
    })
}

pub(crate) fn applied(ack: &ApplyPipelineAck) -> Value {
    let swaps = ack.swaps.iter().map(|swap| {
        json!({
            "step": swap.step, "plugin": swap.plugin, "old": hex(&swap.old), "new": hex(&swap.new), "topic": swap.topic,
            "partition": swap.partition, "offset": swap.offset.0, "pause_us": swap.pause_us,
        })
    });
    json!({ "pipeline": ack.pipeline, "revision": ack.revision, "plan": ack.plan, "tasks": ack.tasks,
        "swaps": swaps.collect::<Vec<_>>() })
}

pub(crate) fn log_line(line: &LogLine) -> Value {
    json!({
        "sequence": line.sequence, "at_ms": line.at_ms, "level": line.level, "step": line.step, "topic": line.topic,
        "partition": line.partition, "message": line.message,
    })
}

pub(crate) fn token(token: &TokenDescription) -> Value {
    json!({
        "id": token.id, "rights": token.rights, "created_at_ms": token.created_at_ms,
        "rotated_at_ms": token.rotated_at_ms, "expires_at_ms": token.expires_at_ms,
        "previous_until_ms": token.previous_until_ms,
    })
}

pub(crate) fn cluster(status: &ClusterStatusAck) -> Value {
    let nodes = status.nodes.iter().map(|node| {
        json!({
            "node_id": node.node_id, "quic_address": node.quic_address, "http_address": node.http_address, "uptime_ms": node.uptime_ms,
            "data_dir": node.data_dir, "log_bytes": node.log_bytes, "disk_free_bytes": node.disk_free_bytes,
            "connections": node.connections,
        })
    });
    let offline = status.offline.iter().map(
        |partition| json!({ "topic": partition.topic, "partition": partition.partition, "reason": partition.reason }),
    );
    let findings = status.findings.iter().map(|finding| {
        let unready = finding.cause.makes_unready();
        json!({ "cause": finding.cause.name(), "unready": unready, "message": finding.message })
    });
    json!({
        "ready": status.ready, "findings": findings.collect::<Vec<_>>(),
        "cluster_id": status.cluster_id, "server_version": status.server_version, "nodes": nodes.collect::<Vec<_>>(),
        "topics": status.topics, "partitions": status.partitions, "offline": offline.collect::<Vec<_>>(),
        "groups": status.groups, "plugins": status.plugins, "pipelines": status.pipelines,
    })
}
