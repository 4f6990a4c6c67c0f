//! A quarter of a million flights through the `flights` example: counts agree with awk over the same
//! file, and each output leads back to the very input record it came from.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use support::{Server, shared_data, shell, shell_count, unpack, workspace};

fn flights(into: &Path) -> PathBuf {
    let plain = into.join("flights.ndjson");
    match shared_data("flights-250k.ndjson.gz") {
        Some(path) => unpack(&path, &plain),
        None => {
            std::fs::copy(workspace().join("examples/flights/sample/flights.ndjson"), &plain).unwrap();
        }
    }
    plain
}

/// Delayed flights by airport of origin, by awk.
fn delayed_by_origin(file: &Path) -> HashMap<String, u64> {
    let script = format!(
        r#"awk '{{ match($0, /"delay":-?[0-9]+/); d = substr($0, RSTART + 8, RLENGTH - 8) + 0; if (RLENGTH > 0 && d > 15) {{ match($0, /"origin":"[A-Z0-9]+/); n[substr($0, RSTART + 10, RLENGTH - 10)]++ }} }} END {{ for (o in n) print o, n[o] }}' '{}'"#,
        file.display()
    );
    let line = |line: &str| {
        let (origin, count) = line.split_once(' ').unwrap();
        (origin.to_owned(), count.parse().unwrap())
    };
    shell(&script).lines().map(line).collect()
}

#[test]
fn every_flight_arrives_and_every_output_leads_back() {
    let server = Server::start();
    let file = flights(server.dir.path());
    let lines = shell_count(&format!("wc -l < '{}'", file.display()));
    let cancelled = shell_count(&format!("grep -c '\"delay\":null' '{}' || true", file.display()));
    server.run(&["topic", "create", "flights", "--partitions", "3"]);
    server.run(&["pipeline", "apply", "examples/flights/pipelines/flights.yaml", "--yes"]);
    let status = server.command(&["produce", "flights"]).stdin(std::fs::File::open(&file).unwrap()).status().unwrap();
    assert!(status.success());
    server.wait_for_pipeline("flights", lines);

    let input: HashMap<String, String> = server
        .records("flights")
        .into_iter()
        .map(|r| (format!("flights/{}@{}", r["partition"], r["offset"]), r["value"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(input.len() as u64, lines, "every line is in the log once");

    let delayed = server.records("delayed-flights");
    let mut by_origin: HashMap<String, u64> = HashMap::new();
    let mut origins = std::collections::HashSet::new();
    for record in &delayed {
        *by_origin.entry(record["key"].as_str().unwrap().to_owned()).or_default() += 1;
        let origin = support::header(record, "ms-origin");
        assert_eq!(input[origin], record["value"].as_str().unwrap(), "{origin}");
        assert!(origins.insert(origin.to_owned()), "{origin} has one output");
    }
    assert_eq!(by_origin, delayed_by_origin(&file));
    assert_eq!(server.records("cancelled-flights").len() as u64, cancelled);
}
