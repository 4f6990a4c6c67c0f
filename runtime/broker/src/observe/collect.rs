//! The samples of one metrics page: one function per part of the broker.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_console::metrics as m;
use millstream_console::{Histogram, Page};
use millstream_pipeline::runner;
use millstream_plugin_host::FAILURE_KINDS;
use millstream_protocol::message::{Cause, Durability};

use super::findings::disk;
use super::labels::Shown;
use super::{Observer, process};
use crate::door::Core;
use crate::stats::{Count, LogStats, Stats, bounds, name_of};

/// Groups are asked through their loop; a page without them is better than none.
const GROUPS_MAX: Duration = Duration::from_secs(5);

impl Observer {
    /// Puts everything on the page.
    pub(super) async fn fill(&self, page: &mut Page) {
        self.about_itself(page);
        log(&self.stats.log, page);
        if let Some((free, size)) = disk(&self.folder) {
            page.put(&m::DISK_FREE, &[], free);
            page.put(&m::DISK_SIZE, &[], size);
        }
        page.put(&m::METADATA_FAILURES, &[], self.stats.metadata_failures.get());
        let Some(core) = self.core() else { return };
        door(&core, &self.stats, page);
        let topics = self.topics(&core, page);
        self.groups(&core, &topics, page).await;
        self.pipelines(&core, page);
        plugins(&core, page);
    }

    fn about_itself(&self, page: &mut Page) {
        page.put(&m::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1_u64);
        page.put(&m::UPTIME, &[], self.started.elapsed().as_secs_f64());
        page.put(&m::PROCESS_START, &[], self.started_at_ms as f64 / 1e3);
        page.put(&m::PROCESS_CPU, &[], process::cpu_seconds());
        if let Some((memory, threads)) = process::memory_and_threads() {
            page.put(&m::PROCESS_RESIDENT, &[], memory);
            page.put(&m::PROCESS_THREADS, &[], threads);
        }
        if let Some(files) = process::files() {
            page.put(&m::PROCESS_OPEN_FDS, &[], files.open);
            page.put(&m::PROCESS_MAX_FDS, &[], files.max);
        }
        page.put(&m::CLOCK_JUMPS, &[], self.stats.clock_jumps.get());
        let findings = self.findings();
        page.put(&m::READY, &[], !findings.iter().any(|finding| finding.cause.makes_unready()));
        for cause in Cause::ALL {
            let count = findings.iter().filter(|finding| finding.cause == *cause).count();
            page.put(&m::FINDINGS, &[cause.name()], count);
        }
    }

    /// Gives the topics that have series.
    fn topics(&self, core: &Core, page: &mut Page) -> Shown {
        let (service, state) = (&core.service, core.service.state());
        let shown = {
            let mut rosters = self.rosters.lock().unwrap_or_else(PoisonError::into_inner);
            rosters.topics.choose(state.topics().map(|topic| topic.name.as_str()), self.labels_max)
        };
        let (mut bytes, mut segments) = (0, 0);
        let mut by_durability = BTreeMap::from([("disk", 0_usize), ("replicated", 0)]);
        let mut offline: BTreeMap<String, usize> = BTreeMap::new();
        for topic in state.topics() {
            let durability = match service.topics().effective(topic).durability {
                Some(Durability::Replicated) => "replicated",
                Some(Durability::Disk) | None => "disk",
            };
            let partitions = service.topics().partitions_of(topic);
            *by_durability.entry(durability).or_default() += partitions.len();
            let reasons = partitions.iter().filter_map(|partition| partition.offline());
            let reasons: Vec<String> = reasons.map(|reason| name_of(reason.code)).collect();
            let refusing = reasons.len();
            reasons.into_iter().for_each(|reason| *offline.entry(reason).or_default() += 1);
            let extents: Vec<_> = partitions.iter().map(|partition| partition.extent()).collect();
            let own_bytes: u64 = extents.iter().map(|extent| extent.bytes).sum();
            let own_segments: usize = extents.iter().map(|extent| extent.segments).sum();
            bytes += own_bytes;
            segments += own_segments;
            let name = topic.name.as_str();
            if !shown.has(name) {
                continue;
            }
            let sum = |count: fn(&crate::partition::Partition) -> &Count| -> u64 {
                partitions.iter().map(|partition| count(partition).get()).sum()
            };
            page.put(&m::TOPIC_PARTITIONS, &[name, durability], partitions.len());
            page.put(&m::TOPIC_OFFLINE, &[name], refusing);
            page.put(&m::TOPIC_APPENDED_RECORDS, &[name], sum(|partition| &partition.appended_records));
            page.put(&m::TOPIC_APPENDED_BYTES, &[name], sum(|partition| &partition.appended_bytes));
            page.put(&m::TOPIC_READ_BYTES, &[name], sum(|partition| &partition.read_bytes));
            page.put(&m::TOPIC_LOG_BYTES, &[name], own_bytes);
            page.put(&m::TOPIC_SEGMENTS, &[name], own_segments);
            let deleted: u64 = extents.iter().map(|extent| extent.deleted_segments).sum();
            page.put(&m::TOPIC_DELETED_SEGMENTS, &[name], deleted);
        }
        page.put(&m::TOPICS, &[], state.topics().len());
        page.put(&m::LOG_BYTES, &[], bytes);
        page.put(&m::LOG_SEGMENTS, &[], segments);
        by_durability.into_iter().for_each(|(durability, count)| page.put(&m::PARTITIONS, &[durability], count));
        offline.into_iter().for_each(|(reason, count)| page.put(&m::PARTITIONS_OFFLINE, &[&reason], count));
        page.put(&m::LABELS_LEFT_OUT, &["topic"], shown.left_out);
        shown
    }

    async fn groups(&self, core: &Core, topics: &Shown, page: &mut Page) {
        for (outcome, count) in self.stats.commits.get() {
            page.put(&m::GROUP_COMMITS, &[&outcome], count);
        }
        let Ok(Ok(views)) = tokio::time::timeout(GROUPS_MAX, core.service.groups().views()).await else { return };
        let shown = {
            let mut rosters = self.rosters.lock().unwrap_or_else(PoisonError::into_inner);
            rosters.groups.choose(views.iter().map(|(view, _)| view.group.as_str()), self.labels_max)
        };
        let mut states: BTreeMap<String, usize> =
            ["empty", "stable", "rebalancing", "pipeline"].into_iter().map(|state| (state.to_owned(), 0)).collect();
        for (view, partitions) in &views {
            *states.entry(view.state.to_string()).or_default() += 1;
            let name = view.group.as_str();
            if !shown.has(name) {
                continue;
            }
            page.put(&m::GROUP_MEMBERS, &[name], view.members.len());
            page.put(&m::GROUP_REBALANCES, &[name], u64::from(view.generation));
            let mut lags: BTreeMap<&str, u64> = BTreeMap::new();
            for partition in partitions.iter().filter(|partition| topics.has(&partition.topic)) {
                *lags.entry(&partition.topic).or_default() += partition.lag.unwrap_or(0);
            }
            lags.into_iter().for_each(|(topic, lag)| page.put(&m::GROUP_LAG, &[name, topic], lag));
        }
        states.into_iter().for_each(|(state, count)| page.put(&m::GROUPS, &[&state], count));
        page.put(&m::LABELS_LEFT_OUT, &["group"], shown.left_out);
    }

    fn pipelines(&self, core: &Core, page: &mut Page) {
        let views = core.pipelines.views(&core.service);
        let shown = {
            let mut rosters = self.rosters.lock().unwrap_or_else(PoisonError::into_inner);
            rosters.pipelines.choose(views.iter().map(|view| view.name.as_str()), self.labels_max)
        };
        for state in ["running", "paused", "failed"] {
            let count = views.iter().filter(|view| view.state == state).count();
            page.put(&m::PIPELINES, &[state], count);
        }
        for view in views.iter().filter(|view| shown.has(&view.name)) {
            pipeline(view, page);
        }
        page.put(&m::LABELS_LEFT_OUT, &["pipeline"], shown.left_out);
    }
}

fn log(log: &LogStats, page: &mut Page) {
    page.put(&m::LOG_APPENDS, &[], log.appends.get());
    page.put(&m::LOG_APPENDED_BATCHES, &[], log.appended_batches.get());
    page.put(&m::LOG_APPENDED_BYTES, &[], log.appended_bytes.get());
    page.put(&m::LOG_APPENDED_RECORDS, &[], log.appended_records.get());
    log.refused.get().iter().for_each(|(reason, count)| page.put(&m::LOG_REFUSED_APPENDS, &[reason], *count));
    page.put(&m::LOG_SYNC_DURATION, &[], log.sync_took.get());
    page.put(&m::LOG_SYNCS_IN_FLIGHT, &[], log.syncing().0);
    page.put(&m::LOG_SYNC_FAILURES, &[], log.sync_failures.get());
    let outcomes = [
        ("clean", &log.recovered_clean),
        ("checked", &log.recovered_checked),
        ("cut", &log.recovered_cut),
        ("refused", &log.recovery_refused),
    ];
    outcomes.into_iter().for_each(|(outcome, count)| page.put(&m::LOG_RECOVERIES, &[outcome], count.get()));
    page.put(&m::LOG_RECOVERY_CUT, &[], log.recovery_cut_bytes.get());
    page.put(&m::LOG_RECOVERY_SCANNED, &[], log.recovery_scanned_bytes.get());
}

fn door(core: &Core, stats: &Stats, page: &mut Page) {
    let door = &stats.door;
    let connections = core.service.connections.load(Ordering::Relaxed);
    page.put(&m::DOOR_CONNECTIONS, &[], u64::from(connections));
    page.put(&m::DOOR_SESSIONS, &[], door.sessions.get());
    page.put(&m::DOOR_STREAMS, &[], door.streams.get());
    page.put(&m::DOOR_RECEIVED, &[], door.received_bytes.get());
    page.put(&m::DOOR_SENT, &[], door.sent_bytes.get());
    page.put(&m::DOOR_HANDSHAKE_FAILURES, &[], door.handshake_failures.get());
    page.put(&m::DOOR_REFUSED, &["handshakes_max"], core.refused_early.load(Ordering::Relaxed));
    door.refused().iter().for_each(|(why, count)| page.put(&m::DOOR_REFUSED, &[why.name()], *count));
    door.produce_refused.get().iter().for_each(|(reason, count)| page.put(&m::PRODUCE_REFUSED, &[reason], *count));
    for (api, outcomes, took) in door.requests() {
        outcomes.iter().for_each(|(outcome, count)| page.put(&m::DOOR_REQUESTS, &[api, outcome], *count));
        page.put(&m::DOOR_REQUEST_DURATION, &[api], took.get());
    }
}

fn pipeline(view: &crate::pipelines::View, page: &mut Page) {
    let name = view.name.as_str();
    for (state, count) in &view.tasks {
        page.put(&m::PIPELINE_TASKS, &[name, state], *count);
    }
    let counted = &view.counted;
    page.put(&m::PIPELINE_RECORDS_IN, &[name], counted.records_in.get());
    page.put(&m::PIPELINE_RECORDS_OUT, &[name], counted.records_out.get());
    page.put(&m::PIPELINE_LAG, &[name], view.lag);
    page.put(&m::PIPELINE_RETRIES, &[name], counted.retries.get());
    page.put(&m::PIPELINE_TASK_FAILURES, &[name], counted.task_failures.get());
    page.put(&m::PIPELINE_SWAPS, &[name], counted.swaps.get());
    page.put(&m::PIPELINE_SWAP_PAUSE, &[name], counted.swap_pause.get());
    for (kind, count) in counted.guest_failures() {
        page.put(&m::PIPELINE_GUEST_FAILURES, &[name, kind], count);
    }
    for (step, total) in counted.steps() {
        let labels = [name, step.as_str()];
        page.put(&m::STEP_RECORDS_IN, &labels, total.records_in);
        page.put(&m::STEP_RECORDS_OUT, &labels, total.records_out);
        page.put(&m::STEP_FAILED, &labels, total.failed);
        page.put(&m::STEP_DEAD_LETTERS, &labels, total.dead_letters);
        page.put(&m::STEP_SKIPPED, &labels, total.skipped);
        page.put(&m::STEP_RESTARTS, &labels, total.restarts);
        page.put(&m::STEP_BATCH_DURATION, &labels, in_our_buckets(&total.batch_time));
    }
}

/// The runner's fine buckets in the page's coarse ones; its times are rounded up, by 19 % at most.
fn in_our_buckets(times: &runner::Histogram) -> Histogram {
    let mut buckets: Vec<(f64, u64)> = bounds().map(|bound| (bound, 0)).collect();
    for (ns, count) in times.buckets_ns() {
        let at = buckets.partition_point(|(bound, _)| *bound < ns as f64 / 1e9);
        buckets[at].1 += count;
    }
    Histogram { buckets, sum: times.total_ns as f64 / 1e9 }
}

fn plugins(core: &Core, page: &mut Page) {
    let totals = core.plugins.totals();
    page.put(&m::PLUGINS, &[], core.service.state().plugins().count());
    let loads = [
        ("memory", totals.from_memory),
        ("cache", totals.from_cache),
        ("compiler", totals.compiled),
        ("refused", totals.refused),
    ];
    loads.into_iter().for_each(|(from, count)| page.put(&m::PLUGIN_LOADS, &[from], count));
    page.put(&m::PLUGIN_COMPILE, &[], totals.compile_time.as_secs_f64());
    page.put(&m::PLUGIN_INSTANCES, &[], totals.instances);
    page.put(&m::PLUGIN_INSTANCES_STARTED, &[], totals.instances_started);
    page.put(&m::PLUGIN_MEMORY, &[], totals.memory_bytes);
    for (kind, count) in FAILURE_KINDS.into_iter().zip(totals.failures) {
        page.put(&m::PLUGIN_FAILURES, &[kind], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_steps_fall_into_the_pages_buckets() {
        let mut times = runner::Histogram::default();
        [50_000, 90_000, 900_000, 60_000_000_000].into_iter().for_each(|ns| times.record(ns));
        let found = in_our_buckets(&times);
        let filled: Vec<_> = found.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.0001, 2), (0.001, 1), (f64::INFINITY, 1)]);
        assert!((found.sum - 60.00104).abs() < 1e-9);
    }
}
