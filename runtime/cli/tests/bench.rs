//! `bench` itself: every measurement runs to its end on a tiny load, beside its references, gives figures that
//! can be, and leaves nothing behind. What the figures are is nobody's business here.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::Server;

/// Runs `millstream bench` with `words` in an empty folder and gives what it prints as JSON.
fn bench(words: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .current_dir(folder.path())
        .env_remove("MILLSTREAM_PROFILE")
        .env_remove("MILLSTREAM_SERVER")
        .args(["bench", "--runs", "1", "--output", "json"])
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let words_of_it = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench {words}: {words_of_it}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "bench {words} leaves something behind");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of the series of the only scene, each of which measured so many records.
fn check(words: &str, records: u64, expected: &[&str]) -> Value {
    let document = bench(words);
    assert!(document["cores"].as_u64().unwrap() >= 1);
    assert!(["debug", "release"].contains(&document["profile"].as_str().unwrap()));
    let scene = &document["scenes"][0];
    let series = scene["series"].as_array().unwrap();
    let names: Vec<&str> = series.iter().map(|series| series["name"].as_str().unwrap()).collect();
    assert_eq!(names, expected, "bench {words}");
    for series in series {
        let run = &series["runs"][0];
        assert_eq!(run["records"], records, "bench {words}: {}", series["name"]);
        assert!(run["records_per_second"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(scene["ratios"].as_array().unwrap().len(), expected.len() - 1);
    document
}

#[test]
fn transfers_stand_beside_bare_ones() {
    let all = ["millstream", "bare QUIC", "bare TCP", "bare QUIC and file"];
    check("quic -n 1000", 1_000, &all[..3]);
    check("produce -n 1000 --durability replicated", 1_000, &all);
    check("produce -n 1000 --batch 100 --clients 2 --keys 10 -z lz4", 1_000, &all);
    check("consume -n 1000 --clients 2", 1_000, &all);
    check("produce -n 1000 -s 0", 1_000, &all);
}

#[test]
fn latencies_stand_beside_bare_ones() {
    let latency = |document: &Value, series: usize| {
        let latency = &document["scenes"][0]["series"][series]["runs"][0]["latency_us"];
        assert!(latency["p50"].as_f64().unwrap() > 0.0, "{document}");
        assert!(latency["max"].as_f64().unwrap() >= latency["p50"].as_f64().unwrap());
    };
    // Half a second of warming up counts as well.
    let all = ["millstream", "bare QUIC echo", "echo through a file"];
    let document = check("end-to-end --rate 500 --seconds 0.2", 350, &all);
    (0..all.len()).for_each(|series| latency(&document, series));
    let document = check("produce -n 200 --batch 10 --wait", 200, &["millstream", "bare write + fdatasync"]);
    latency(&document, 0);
    latency(&document, 1);
    latency(&check("produce --rate 500 --seconds 0.2", 350, &["millstream"]), 0);
}

#[test]
fn the_log_stands_beside_a_loop() {
    let document = check("log -n 1000 -s 1000", 975, &["millstream-log", "bare CRC32C + write"]);
    assert_eq!(document["scenes"].as_array().unwrap().len(), 3);
}

#[test]
fn guests_stand_beside_native_code() {
    let root = support::workspace();
    let plugin = root.join("plugins/identity");
    let plugin = format!("--plugin {}", plugin.display());
    check(&format!("plugin -n 1000 {plugin}"), 768, &["guest call", "native columns"]);
    let all = ["plugin step", "native step, filter: true", "without a step"];
    check(&format!("pipeline -n 1000 {plugin}"), 1_000, &all);
    check(&format!("pipeline -n 1000 --with {{}} {plugin}"), 1_000, &all);
}

#[test]
fn a_running_broker_can_be_measured_and_is_left_as_it_was() {
    let server = Server::start();
    let topics = || server.run(&["topic", "list", "--output", "json"]);
    let before = topics();
    let document = bench(&format!(
        "produce -n 1000 --profile {} --no-reference",
        server.data_dir().join("profile.yaml").display()
    ));
    assert_eq!(document["scenes"][0]["series"].as_array().unwrap().len(), 1);
    assert_eq!(topics(), before);
}
