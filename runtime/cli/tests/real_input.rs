//! A real web server's log through the `web-traffic` example, on the real binary, compared with counts
//! that awk and grep make over the same file: as it is, across a kill -9, and across a plugin swap.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;
use support::{Server, access_log, shell, shell_count, workspace};

const PIPELINE: &str = "examples/web-traffic/pipelines/web-traffic.yaml";

/// A line of the combined format, as grep sees it.
const GOOD_LINE: &str =
    r#"^[^ ]+ [^ ]+ [^ ]+ \[[^]]+\] "([^"\\]|\\.)*" [0-9]{3} ([0-9]+|-) "([^"\\]|\\.)*" "([^"\\]|\\.)*"$"#;

/// What the input holds, counted without Millstream.
struct Expected {
    lines: u64,
    good: u64,
    /// Lines of each status of 400 or more.
    errors: BTreeMap<u64, u64>,
}

fn count_independently(log: &Path) -> Expected {
    let log = log.display();
    let histogram = shell(&format!(
        r#"grep -aE '{GOOD_LINE}' '{log}' | awk -F'" ' '{{ split($2, rest, " "); if (rest[1] >= 400) n[rest[1]]++ }} END {{ for (s in n) print s, n[s] }}'"#
    ));
    let errors = histogram.lines().map(|line| {
        let (status, count) = line.split_once(' ').unwrap();
        (status.parse().unwrap(), count.parse().unwrap())
    });
    Expected {
        lines: shell_count(&format!("wc -l < '{log}'")),
        good: shell_count(&format!("grep -acE '{GOOD_LINE}' '{log}'")),
        errors: errors.collect(),
    }
}

fn prepare(server: &Server, partitions: &str) {
    server.run(&["topic", "create", "access-log", "--partitions", partitions]);
    server.run(&["plugin", "push", "plugins/parse-access-log"]);
    server.run(&["plugin", "push", "plugins/redact"]);
    server.run(&["pipeline", "apply", PIPELINE, "--yes"]);
}

fn value(record: &Value) -> Value {
    serde_json::from_str(record["value"].as_str().unwrap()).unwrap()
}

fn statuses(records: &[Value]) -> BTreeMap<u64, u64> {
    let mut histogram = BTreeMap::new();
    for record in records {
        *histogram.entry(value(record)["status"].as_u64().unwrap()).or_default() += 1;
    }
    histogram
}

/// All three outputs hold exactly what the input asks for.
fn check_outputs(server: &Server, expected: &Expected) {
    assert_eq!(statuses(&server.records("web-errors")), expected.errors, "errors by status");
    let copies = server.records("by-path");
    assert_eq!(copies.len() as u64, expected.good, "parsed lines");
    for record in &copies {
        assert_eq!(record["key"], value(record)["path"], "the copy is keyed by path");
    }
    assert_eq!(server.records("access-log-bad").len() as u64, expected.lines - expected.good, "dead letters");
}

fn counts_agree(partitions: &str) {
    let server = Server::start();
    let log = access_log(server.dir.path());
    let expected = count_independently(&log);
    assert!(expected.good > 1_000 && !expected.errors.is_empty(), "the input is a real log");
    prepare(&server, partitions);
    let mut producer = server.producer("access-log");
    producer.feed(&std::fs::read_to_string(&log).unwrap().lines().collect::<Vec<_>>());
    producer.finish();
    server.wait_for_pipeline("web-traffic", expected.lines);
    check_outputs(&server, &expected);
}

#[test]
fn one_partition_agrees_with_awk() {
    counts_agree("1");
}

#[test]
fn three_partitions_agree_with_awk() {
    counts_agree("3");
}

/// The broker is killed while lines come in and the pipeline runs: every line's outputs are there, the
/// input has each line once, and what is there twice is an output whose input was not committed yet.
#[test]
fn a_kill_in_the_middle_loses_nothing() {
    let mut server = Server::start();
    let log = access_log(server.dir.path());
    let expected = count_independently(&log);
    prepare(&server, "3");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let chunks: Vec<&[&str]> = lines.chunks(lines.len().div_ceil(20)).collect();
    let mut producer = server.producer("access-log");
    for (i, chunk) in chunks.iter().enumerate() {
        producer.feed(chunk);
        std::thread::sleep(std::time::Duration::from_millis(30));
        if i == 8 || i == 14 {
            server.kill();
            server.restart();
        }
    }
    producer.finish();
    server.wait_for_pipeline("web-traffic", expected.lines);

    let mut input: Vec<String> =
        server.records("access-log").iter().map(|r| r["value"].as_str().unwrap().to_owned()).collect();
    let mut sent: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    input.sort_unstable();
    sent.sort_unstable();
    assert_eq!(input.len(), sent.len(), "each line is in the input once");
    assert!(input == sent, "the input holds the lines that were sent");

    let errors = statuses(&server.records("web-errors"));
    let mut duplicates = 0;
    for (status, count) in &expected.errors {
        let found = errors.get(status).copied().unwrap_or(0);
        assert!(found >= *count, "status {status}: {found} of {count}");
        duplicates += found - count;
    }
    let copies = server.records("by-path").len() as u64;
    assert!(copies >= expected.good, "parsed lines: {copies} of {}", expected.good);
    duplicates += copies - expected.good;
    let bad = server.records("access-log-bad").len() as u64;
    assert!(bad >= expected.lines - expected.good, "dead letters: {bad}");
    eprintln!("duplicates after two kills: {duplicates}");
}

/// While lines come in, the parser is replaced by one whose output says `"parser":2`: in each partition
/// the old one's records all come before the recorded offset, the new one's from it on; none is lost or
/// there twice.
#[test]
fn a_swap_in_the_middle_loses_and_repeats_nothing() {
    let server = Server::start();
    let log = access_log(server.dir.path());
    let expected = count_independently(&log);
    prepare(&server, "3");
    let changed = changed_parser(server.dir.path());
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let chunks: Vec<&[&str]> = lines.chunks(lines.len().div_ceil(20)).collect();
    server.run(&["plugin", "push", changed.to_str().unwrap()]);
    let mut producer = server.producer("access-log");
    let mut swaps = Value::Null;
    for (i, chunk) in chunks.iter().enumerate() {
        producer.feed(chunk);
        if i == chunks.len() / 2 {
            let yaml = std::fs::read_to_string(workspace().join(PIPELINE)).unwrap();
            let traced = yaml.replace("parse-access-log@0.1,", "parse-access-log@0.2,");
            assert_ne!(traced, yaml);
            let path = server.dir.path().join("web-traffic.yaml");
            std::fs::write(&path, traced).unwrap();
            swaps = server.json(&["pipeline", "apply", path.to_str().unwrap(), "--yes"]);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    producer.finish();
    server.wait_for_pipeline("web-traffic", expected.lines);
    check_outputs(&server, &expected);

    let boundary: HashMap<u64, i64> = swaps["swaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|swap| (swap["partition"].as_u64().unwrap(), swap["offset"].as_i64().unwrap()))
        .collect();
    assert_eq!(boundary.len(), 3, "a swap per partition: {swaps}");
    let old = server.records("by-path").iter().filter(|record| value(record).get("parser").is_none()).count() as i64;
    let bad_before = server
        .records("access-log-bad")
        .iter()
        .filter(|letter| {
            let header = |name: &str| support::header(letter, name).parse::<i64>().unwrap();
            header("ms-origin-offset") < boundary[&(header("ms-origin-partition") as u64)]
        })
        .count() as i64;
    assert!(old > 0 && old < expected.good as i64, "the swap was in the middle: {old}");
    assert_eq!(old + bad_before, boundary.values().sum::<i64>(), "the old parser owns what is before the offsets");
}

/// A copy of the parser, version 0.2.0, that marks its output.
fn changed_parser(into: &Path) -> std::path::PathBuf {
    let crate_dir = into.join("changed-parser");
    let root = workspace();
    shell(&format!("cp -r '{}' '{}'", root.join("plugins/parse-access-log").display(), crate_dir.display()));
    let manifest = format!(
        "[package]\nname = \"parse-access-log\"\nversion = \"0.2.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\n[dependencies]\nmillstream-plugin = {{ path = \"{}\" }}\n\
         memchr = \"2\"\nserde = {{ version = \"1\", features = [\"derive\"] }}\nserde_json = \"1\"\n",
        root.join("sdk/plugin").display()
    );
    std::fs::write(crate_dir.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("Cargo.lock"), crate_dir.join("Cargo.lock")).unwrap();
    mark_output(&crate_dir);
    crate_dir
}

/// Adds a field `parser` to the object that the parser writes.
fn mark_output(crate_dir: &Path) {
    let path = crate_dir.join("src/lib.rs");
    let source = std::fs::read_to_string(&path).unwrap();
    let marked = source.replace(".value_with(|json| entry.write(json))", ".json(&marked(&entry)?)");
    assert_ne!(marked, source, "the parser still writes `entry`");
    let function = r#"
fn marked(entry: &line::Entry<'_>) -> Result<serde_json::Value> {
    let mut object = serde_json::to_value(entry)?;
    object["parser"] = 2.into();
    Ok(object)
}
"#;
    std::fs::write(&path, marked + function).unwrap();
}
