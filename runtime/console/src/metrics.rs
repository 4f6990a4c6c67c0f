//! Every metric there is: name, kind, labels and meaning, once. `METRICS.md` is this table in prose's clothes, and
//! tests hold the two, the dashboard, the alerts and a running broker together.
//!
//! Labels have bounded values: APIs, error codes and causes are closed sets; topics, groups and pipelines are those
//! that exist, up to the broker's limit `metrics_labels_max`, and go when the thing goes.

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises from the start of the process on; begins anew with it.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric. Its unit is the name's last word (before `_total`).
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const UNITS: [&str; 2] = ["seconds", "bytes"];

impl Metric {
    /// `None` for what is counted in pieces.
    pub fn unit(&self) -> Option<&'static str> {
        let stem = self.name.strip_suffix("_total").unwrap_or(self.name);
        UNITS.into_iter().find(|unit| stem.strip_suffix(unit).is_some_and(|before| before.ends_with('_')))
    }

    /// The name without what the text format adds: unit and `_total`.
    pub(crate) fn base(&self) -> &'static str {
        let stem = self.name.strip_suffix("_total").unwrap_or(self.name);
        match self.unit() {
            Some(unit) => &stem[..stem.len() - unit.len() - 1],
            None => stem,
        }
    }
}

macro_rules! metrics {
    ($($section:literal: { $($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)* })*) => {
        $($(pub static $id: Metric = Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*)*

        /// All of them, in the order of the page.
        pub static ALL: &[&Metric] = &[$($(&$id),*),*];

        /// Headings of the documentation's table, with how many metrics each has.
        static SECTIONS: &[(&str, &[&Metric])] = &[$(($section, &[$(&$id),*])),*];
    };
}

metrics! {
    "The process": {
        BUILD_INFO Gauge "millstream_build_info" ["version"] "Always 1; the version is in the label";
        UPTIME Gauge "millstream_uptime_seconds" [] "Time since the broker was started";
        READY Gauge "millstream_ready" [] "1 when the node serves, 0 while it recovers, drains, or can't take writes";
        FINDINGS Gauge "millstream_findings" ["cause"] "What `cluster status` and /health/ready report now, by cause";
        PROCESS_CPU Counter "process_cpu_seconds_total" [] "Time on processors, of the system and of the user";
        PROCESS_RESIDENT Gauge "process_resident_memory_bytes" [] "Memory that is in RAM";
        PROCESS_OPEN_FDS Gauge "process_open_fds" [] "Open files and sockets";
        PROCESS_MAX_FDS Gauge "process_max_fds" [] "Open files and sockets that the system allows";
        PROCESS_THREADS Gauge "process_threads" [] "Threads";
        PROCESS_START Gauge "process_start_time_seconds" [] "When the broker was started, since 1970";
        CLOCK_JUMPS Counter "millstream_clock_jumps_total" [] "Times the wall clock was set while the broker ran";
    }
    "The door": {
        DOOR_CONNECTIONS Gauge "millstream_door_connections" [] "QUIC connections now, those in their handshake too";
        DOOR_SESSIONS Counter "millstream_door_sessions_total" [] "Connections that were authenticated";
        DOOR_STREAMS Gauge "millstream_door_streams" [] "Streams that are served now";
        DOOR_REQUESTS Counter "millstream_door_requests_total" ["api", "outcome"] "Requests answered; the outcome is `ok` or the error's code";
        DOOR_REQUEST_DURATION Histogram "millstream_door_request_duration_seconds" ["api"] "From a request's last byte to its answer; waiting for the disk, and for records where asked to, included";
        DOOR_RECEIVED Counter "millstream_door_received_bytes_total" [] "Frames received";
        DOOR_SENT Counter "millstream_door_sent_bytes_total" [] "Frames sent, pushed ones too";
        DOOR_REFUSED Counter "millstream_door_refused_total" ["reason"] "Connections refused or closed by the broker";
        DOOR_HANDSHAKE_FAILURES Counter "millstream_door_handshake_failures_total" [] "TLS handshakes that failed";
        PRODUCE_REFUSED Counter "millstream_produce_refused_total" ["reason"] "Entries of produce requests that were refused, by the error's code";
    }
    "The log": {
        LOG_APPENDS Counter "millstream_log_appends_total" [] "Appends that were acknowledged, by whomever";
        LOG_APPENDED_BATCHES Counter "millstream_log_appended_batches_total" [] "Batches of acknowledged appends, repeated ones of idempotent producers too";
        LOG_APPENDED_BYTES Counter "millstream_log_appended_bytes_total" [] "Bytes of these batches";
        LOG_APPENDED_RECORDS Counter "millstream_log_appended_records_total" [] "Offsets given to records, each once";
        LOG_REFUSED_APPENDS Counter "millstream_log_refused_appends_total" ["reason"] "Appends that a partition refused, by the error's code: `disk_full`, `storage_unavailable`, …";
        LOG_SYNC_DURATION Histogram "millstream_log_sync_duration_seconds" [] "Time of one fdatasync of a partition, which acknowledges all appends before it";
        LOG_SYNCS_IN_FLIGHT Gauge "millstream_log_syncs_in_flight" [] "Syncs that the disk has not finished";
        LOG_SYNC_FAILURES Counter "millstream_log_sync_failures_total" [] "Syncs that failed; each takes a partition out of service";
        LOG_RECOVERIES Counter "millstream_log_recoveries_total" ["outcome"] "Partitions opened: `clean` after an orderly stop, `checked`, `cut` when a torn tail went, `refused`";
        LOG_RECOVERY_CUT Counter "millstream_log_recovery_cut_bytes_total" [] "Bytes of torn tails that were cut; none of them was acknowledged from the disk";
        LOG_RECOVERY_SCANNED Counter "millstream_log_recovery_scanned_bytes_total" [] "Bytes read to check logs when they were opened";
        LOG_BYTES Gauge "millstream_log_bytes" [] "Size of all segments";
        LOG_SEGMENTS Gauge "millstream_log_segments" [] "Segments";
        PARTITIONS Gauge "millstream_partitions" ["durability"] "Partitions; `replicated` ones acknowledge from the page cache";
        PARTITIONS_OFFLINE Gauge "millstream_partitions_offline" ["reason"] "Partitions that refuse service, by the error's code";
        DISK_FREE Gauge "millstream_disk_free_bytes" [] "What may still be written to the data folder's disk";
        DISK_SIZE Gauge "millstream_disk_size_bytes" [] "Size of that disk";
        METADATA_FAILURES Counter "millstream_metadata_failures_total" [] "Commits of the metadata store that failed";
    }
    "Topics": {
        TOPICS Gauge "millstream_topics" [] "Topics";
        TOPIC_PARTITIONS Gauge "millstream_topic_partitions" ["topic", "durability"] "Partitions of a topic; `replicated` ones acknowledge from the page cache";
        TOPIC_OFFLINE Gauge "millstream_topic_offline_partitions" ["topic"] "Partitions of a topic that refuse service";
        TOPIC_APPENDED_RECORDS Counter "millstream_topic_appended_records_total" ["topic"] "Offsets given to a topic's records";
        TOPIC_APPENDED_BYTES Counter "millstream_topic_appended_bytes_total" ["topic"] "Bytes of batches acknowledged";
        TOPIC_READ_BYTES Counter "millstream_topic_read_bytes_total" ["topic"] "Bytes of batches read by consumers and pipelines";
        TOPIC_LOG_BYTES Gauge "millstream_topic_log_bytes" ["topic"] "Size of a topic's segments";
        TOPIC_SEGMENTS Gauge "millstream_topic_segments" ["topic"] "Segments of a topic";
        TOPIC_DELETED_SEGMENTS Counter "millstream_topic_deleted_segments_total" ["topic"] "Segments deleted by retention or by command";
    }
    "Consumer groups": {
        GROUPS Gauge "millstream_groups" ["state"] "Groups, by state";
        GROUP_MEMBERS Gauge "millstream_group_members" ["group"] "Members of a group";
        GROUP_REBALANCES Counter "millstream_group_rebalances_total" ["group"] "Generations of a group since it got members";
        GROUP_LAG Gauge "millstream_group_lag_records" ["group", "topic"] "Records between what a group has committed and the end of a topic";
        GROUP_COMMITS Counter "millstream_group_commits_total" ["outcome"] "Commits of offsets, those of pipelines too; `ok` or the error's code";
    }
    "Pipelines": {
        PIPELINES Gauge "millstream_pipelines" ["state"] "Pipelines, by state";
        PIPELINE_TASKS Gauge "millstream_pipeline_tasks" ["pipeline", "state"] "Tasks of a pipeline, by state";
        PIPELINE_RECORDS_IN Counter "millstream_pipeline_records_in_total" ["pipeline"] "Records handed to the first step, again after a retry";
        PIPELINE_RECORDS_OUT Counter "millstream_pipeline_records_out_total" ["pipeline"] "Results appended, dead letters apart";
        PIPELINE_LAG Gauge "millstream_pipeline_lag_records" ["pipeline"] "Input records that are not committed yet";
        PIPELINE_RETRIES Counter "millstream_pipeline_retries_total" ["pipeline"] "Attempts of tasks that ended in a passing failure and were begun again";
        PIPELINE_TASK_FAILURES Counter "millstream_pipeline_task_failures_total" ["pipeline"] "Tasks that stopped until somebody acts";
        PIPELINE_GUEST_FAILURES Counter "millstream_pipeline_guest_failures_total" ["pipeline", "kind"] "Calls of a plugin that failed: `trap`, `deadline`, `memory`, `output`, `rejected`, `init`";
        PIPELINE_SWAPS Counter "millstream_pipeline_swaps_total" ["pipeline"] "Plugins swapped in running tasks";
        PIPELINE_SWAP_PAUSE Histogram "millstream_pipeline_swap_pause_seconds" ["pipeline"] "How long a task handled no records for a swap";
        STEP_RECORDS_IN Counter "millstream_pipeline_step_records_in_total" ["pipeline", "step"] "Records given to a step";
        STEP_RECORDS_OUT Counter "millstream_pipeline_step_records_out_total" ["pipeline", "step"] "Records a step gave on";
        STEP_FAILED Counter "millstream_pipeline_step_failed_records_total" ["pipeline", "step"] "Records a step failed on after all tries";
        STEP_DEAD_LETTERS Counter "millstream_pipeline_step_dead_letters_total" ["pipeline", "step"] "Of these, those that became dead letters";
        STEP_SKIPPED Counter "millstream_pipeline_step_skipped_records_total" ["pipeline", "step"] "Of these, those that were skipped";
        STEP_RESTARTS Counter "millstream_pipeline_step_restarts_total" ["pipeline", "step"] "Instances replaced after a trap, a missed deadline or too much memory";
        STEP_BATCH_DURATION Histogram "millstream_pipeline_step_batch_duration_seconds" ["pipeline", "step"] "Time of one batch in a step";
    }
    "Plugins": {
        PLUGINS Gauge "millstream_plugins" [] "Plugins that have a name";
        PLUGIN_LOADS Counter "millstream_plugin_loads_total" ["from"] "Plugins made ready: from `memory`, from the `cache` of compiled code, by the `compiler`, or `refused`";
        PLUGIN_COMPILE Counter "millstream_plugin_compile_seconds_total" [] "Time spent compiling plugins";
        PLUGIN_INSTANCES Gauge "millstream_plugin_instances" [] "Instances that live";
        PLUGIN_INSTANCES_STARTED Counter "millstream_plugin_instances_started_total" [] "Instances started";
        PLUGIN_MEMORY Gauge "millstream_plugin_memory_bytes" [] "Linear memory of all instances";
        PLUGIN_FAILURES Counter "millstream_plugin_failures_total" ["kind"] "Calls that failed, of all plugins and whoever called: `trap`, `deadline`, `memory`, `output`, `rejected`, `init`";
    }
    "This page": {
        HTTP_REQUESTS Counter "millstream_http_requests_total" ["path", "status"] "Requests of the console; unknown paths count as `other`";
        HTTP_REFUSED Counter "millstream_http_refused_total" [] "Connections refused because connections_max were open";
        LABELS_LEFT_OUT Gauge "millstream_labels_left_out" ["label"] "Topics, groups and pipelines that have no series of their own because metrics_labels_max is reached";
        SERIES_LEFT_OUT Gauge "millstream_series_left_out" [] "Series that this page does not show because a metric had too many";
    }
}

/// The table of the documentation.
pub fn table() -> String {
    let mut text = String::new();
    for (section, metrics) in SECTIONS {
        text.push_str(&format!(
            "\n## {section}\n\n| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
        ));
        for metric in *metrics {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, unit) = (metric.name, metric.kind.name(), metric.unit().unwrap_or("count"));
            text.push_str(&format!("| `{name}` | {kind} | {} | {unit} | {} |\n", labels.join(", "), metric.help));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rules() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "each name once");
        for metric in ALL {
            let Metric { name, kind, labels, help } = metric;
            let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(plain(name) && labels.iter().all(|label| plain(label)), "{name}");
            assert!(name.starts_with("millstream_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}: a counter ends in _total");
            assert_eq!(
                *kind == Kind::Histogram,
                name.ends_with("_duration_seconds") || name.ends_with("_pause_seconds")
            );
            assert!(!help.ends_with('.') && !help.contains(['\n', '|']) && help.len() > 5, "{name}");
        }
    }
}
