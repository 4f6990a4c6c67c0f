//! What is written about the metrics agrees with the metrics: the documentation's table, the Grafana dashboard, the
//! alert rules and the scrape configuration.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use millstream_console::metrics::{self, Kind, Metric};
use serde_yaml::from_str;

/// Words of PromQL that may stand where names of metrics and labels do.
const PROMQL: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "inf",
    "sum",
    "max",
    "min",
    "avg",
    "count",
    "rate",
    "increase",
    "histogram_quantile",
    "clamp_min",
    "topk",
    "absent",
    "changes",
    "min_over_time",
    "time",
    "label_values",
    "vector",
    "le",
    "job",
    "instance",
    "predict_linear",
    "deriv",
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// After a change that is meant: `UPDATE_EXPECT=1`.
#[test]
fn the_documented_table_is_the_table() {
    let text = read("runtime/console/METRICS.md");
    let head = text.split_once("\n## ").unwrap().0;
    expect_file!["../METRICS.md"].assert_eq(&format!("{head}{}", metrics::table()));
}

/// The metric that a name in a query means; histograms are asked for by their parts.
fn metric_of(name: &str) -> Option<&'static Metric> {
    metrics::ALL.iter().copied().find(|metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|part| name.strip_suffix(part) == Some(metric.name))
        }
        Kind::Counter | Kind::Gauge => metric.name == name,
    })
}

/// Checks every name in a query; gives the metrics. Strings and durations are left out.
fn check_query(query: &str, place: &str) -> Vec<&'static Metric> {
    let outside: String = query.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$');
    let words: Vec<&str> = words.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    let found: Vec<&Metric> = words.iter().filter_map(|word| metric_of(word)).collect();
    assert!(!found.is_empty(), "{place}: `{query}` asks for no metric");
    let labels: BTreeSet<&str> = found.iter().flat_map(|metric| metric.labels).copied().collect();
    for word in words {
        let known = metric_of(word).is_some() || labels.contains(word) || PROMQL.contains(&word);
        assert!(
            known,
            "{place}: `{word}` in `{query}` is neither a metric, nor a label of one of its metrics, nor PromQL"
        );
    }
    for metric in &found {
        if metric.kind == Kind::Counter {
            let rated = ["rate(", "increase(", "changes("].iter().any(|function| query.contains(function));
            assert!(rated, "{place}: `{query}` asks for a counter as it is");
        }
    }
    found
}

fn field(value: &serde_json::Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("config/grafana/millstream.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut shown, mut places, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = field(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        let at = &panel["gridPos"];
        assert!(places.insert((at["x"].as_u64().unwrap(), at["y"].as_u64().unwrap())), "{title} lies on another panel");
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            shown.extend(check_query(&field(target, "expr"), &title).iter().map(|metric| metric.name));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            check_query(&field(&variable["query"], "query"), "a variable");
        }
    }
    assert!(shown.len() >= 40, "{} metrics are shown", shown.len());
}

#[test]
fn the_alerts_ask_for_metrics_that_exist() {
    let rules: serde_json::Value = from_str(&read("config/prometheus/alerts.yaml")).unwrap();
    let mut names = BTreeSet::new();
    for group in rules["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = field(rule, "alert");
            let expr = field(rule, "expr");
            if name != "MillstreamDown" {
                check_query(&expr, &name);
            }
            assert!(["page", "ticket"].contains(&field(&rule["labels"], "severity").as_str()), "{name}");
            assert!(
                !field(&rule["annotations"], "summary").is_empty() && !field(&rule["annotations"], "do").is_empty()
            );
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }
    assert!(names.len() >= 8, "{names:?}");
}

#[test]
fn the_scrape_configuration_names_the_console() {
    let config: serde_json::Value = from_str(&read("config/prometheus/prometheus.yaml")).unwrap();
    let job = &config["scrape_configs"][0];
    assert_eq!((field(job, "job_name").as_str(), field(job, "metrics_path").as_str()), ("millstream", "/metrics"));
    assert_eq!(job["static_configs"][0]["targets"][0], "127.0.0.1:9096");
    assert_eq!(config["rule_files"][0], "alerts.yaml");
    assert!(read("config/prometheus/alerts.yaml").contains("up{job=\"millstream\"}"));
}

#[test]
#[should_panic(expected = "neither a metric")]
fn a_wrong_name_is_found() {
    check_query("sum by (topik) (rate(millstream_topic_appended_records_total[1m]))", "here");
}

#[test]
#[should_panic(expected = "asks for no metric")]
fn a_metric_that_is_none_is_found() {
    check_query("rate(millstream_log_append_total[1m])", "here");
}
