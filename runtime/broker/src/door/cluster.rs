//! The broker's account of itself. It waits for no disk: somebody may be looking for the one that hangs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_protocol::Failure;
use millstream_protocol::message::{ClusterStatus, ClusterStatusAck, NodeStatus, OfflinePartition};

use super::Core;

/// How long the group loop is waited for.
const GROUPS_MAX: Duration = Duration::from_secs(2);

pub(super) async fn status(core: Arc<Core>, _request: ClusterStatus) -> Result<ClusterStatusAck, Failure> {
    let service = &core.service;
    let state = service.state();
    let partitions = service.topics().all_partitions();
    let offline = partitions.iter().filter_map(|partition| {
        let reason = partition.offline()?.message.clone();
        Some(OfflinePartition { topic: partition.topic().to_owned(), partition: partition.index().0, reason })
    });
    let node = NodeStatus {
        node_id: service.data_dir.meta().node_id,
        quic_address: core.address.to_string(),
        http_address: core.http.map(|address| address.to_string()).unwrap_or_default(),
        uptime_ms: u64::try_from(service.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        data_dir: service.data_dir.root().display().to_string(),
        log_bytes: partitions.iter().map(|partition| partition.extent().bytes).sum(),
        disk_free_bytes: disk_free(service.data_dir.root()),
        connections: service.connections.load(Ordering::Relaxed),
    };
    let findings = core.observer.findings();
    // Groups that hang or are out of service are a finding, not a reason to say nothing.
    let groups = tokio::time::timeout(GROUPS_MAX, service.groups().count()).await;
    Ok(ClusterStatusAck {
        cluster_id: service.data_dir.meta().cluster_id.clone(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes: vec![node],
        topics: count(state.topics().len()),
        partitions: count(partitions.len()),
        offline: offline.collect(),
        groups: count(groups.map_or(0, Result::unwrap_or_default)),
        plugins: count(state.plugins().count()),
        pipelines: count(state.pipelines().len()),
        ready: !findings.iter().any(|finding| finding.cause.makes_unready()),
        findings,
    })
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Bytes that unprivileged processes may still write; 0 when the system does not tell.
fn disk_free(folder: &std::path::Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
