//! The contract between Millstream and a plugin, one table for all languages (`sdk/contract/cases.json`) over a guest
//! in each. The one in Rust is always built; those in JavaScript and Python where their packages are installed, which
//! `.ci/languages` does.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use millstream_plugin_host::{
    Engine, EngineConfig, Failure, InstanceConfig, Level, Limits, Plugin, Processed, testing,
};
use millstream_protocol::{Columns, Row};
use serde_json::Value;

/// The outputs that a guest may declare, and one that none does comes to nothing.
const OUTPUTS: [&str; 3] = ["", "other", "refunds"];
/// Time of a call that must end by itself, far above what it takes; and of one that must not.
const PATIENT_MS: u64 = 120_000;
const IMPATIENT_MS: u64 = 2_000;

fn folder(language: &str) -> PathBuf {
    support::workspace().join("sdk/contract").join(language)
}

#[test]
fn rust() {
    let plugin = testing::engine().compile(&testing::component_of(&folder("rust"))).unwrap();
    every_case(&plugin);
}

#[test]
fn javascript() {
    component("javascript", "node_modules/.package-lock.json").inspect(every_case);
}

#[test]
fn python() {
    component("python", ".venv/bin/componentize-py").inspect(every_case);
}

/// Builds a guest as a user does; `None`, and a word to the log, where its packages are not installed.
fn component(language: &str, mark: &str) -> Option<Arc<Plugin>> {
    let folder = folder(language);
    if !folder.join(mark).exists() {
        eprintln!(
            "SKIPPED: {} is not there; .ci/languages installs what the guest is built with",
            folder.join(mark).display()
        );
        return None;
    }
    let output = Command::new(support::binary())
        .args(["plugin", "build", "--offline", "--output", "json"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let about: Value = serde_json::from_slice(&output.stdout).unwrap();
    let component = std::fs::read(about["path"].as_str().unwrap()).unwrap();
    // Compiled once: the folder goes with the guest's other builds.
    let cache_dir = Some(folder.join("dist/machine-code"));
    let engine = Engine::new(EngineConfig { cache_dir, ..EngineConfig::default() }).unwrap();
    Some(engine.compile(&component).unwrap())
}

fn every_case(plugin: &Arc<Plugin>) {
    let cases = std::fs::read(folder("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    let broken: Vec<String> = cases.iter().flat_map(|case| check(plugin, case)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(cases.len() > 30);
}

/// Runs one case; what differs.
fn check(plugin: &Arc<Plugin>, case: &Value) -> Vec<String> {
    let name = case["name"].as_str().unwrap();
    let logs = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&logs);
    let expects_deadline = case["failure"] == "deadline";
    let batch_ms = if expects_deadline { IMPATIENT_MS } else { PATIENT_MS };
    let setup = InstanceConfig {
        config_json: case["config"].to_string(),
        limits: Limits { batch_ms, init_ms: PATIENT_MS, ..Limits::default() },
        outputs: OUTPUTS.map(str::to_owned).to_vec(),
        log: Box::new(move |level: Level, line: &str| {
            sink.lock().unwrap().push((format!("{level:?}").to_lowercase(), line.to_owned()));
        }),
    };
    let mut instance = match (plugin.instantiate(setup), case["refused"].as_array()) {
        (Ok(instance), None) => instance,
        (Ok(_), Some(_)) => return vec![format!("{name}: the guest starts")],
        (Err(failure), None) => return vec![format!("{name}: {failure}")],
        (Err(failure), Some(words)) => {
            let message = failure.to_string();
            let missing = words.iter().filter(|words| !message.contains(words.as_str().unwrap()));
            return missing.map(|words| format!("{name}: {words} is not in {message}")).collect();
        }
    };
    let mut processed = Processed::default();
    let outcome = instance.process(&input(case), &mut processed);
    let mut broken = match (outcome, case["failure"].as_str()) {
        (Ok(()), None) => differences(case, &processed),
        // Where the language has an exception for it, the record at fault is rejected.
        (Ok(()), Some("memory")) if rejects_for_memory(&processed) => Vec::new(),
        (Ok(()), Some(kind)) => vec![format!("should end in {kind}, not so: {:?}", processed.rejected)],
        (Err(failure), expected) if expected == Some(kind(&failure)) => Vec::new(),
        (Err(failure), _) => vec![failure.to_string()],
    };
    if case["failure"].is_null() {
        let expected = rows(&case["logs"]).map(|line| (text(&line[0]), text(&line[1]))).collect::<Vec<_>>();
        let found = logs.lock().unwrap().clone();
        if found != expected {
            broken.push(format!("log {found:?}, expected {expected:?}"));
        }
    }
    broken.into_iter().map(|what| format!("{name}: {what}")).collect()
}

fn rejects_for_memory(processed: &Processed) -> bool {
    matches!(&processed.rejected[..], [one] if one.message.to_lowercase().contains("memory"))
}

fn kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Trap { .. } => "trap",
        Failure::Deadline { .. } => "deadline",
        Failure::Memory { .. } => "memory",
        Failure::Output { .. } => "output",
        Failure::Rejected { .. } => "rejected",
        Failure::Init { .. } => "init",
    }
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A part of the table as bytes.
fn part(given: &Value) -> Option<Vec<u8>> {
    match given {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        given => Some(match given["hex"].as_str() {
            Some(hex) => (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect(),
            None => text(&given["repeat"]).repeat(given["times"].as_u64().unwrap() as usize).into_bytes(),
        }),
    }
}

/// The table writes numbers of more than 2^53 as text.
fn number(value: &Value) -> i64 {
    if value.is_null() { 0 } else { text(value).parse().unwrap() }
}

fn times(case: &Value) -> i64 {
    case["times"].as_i64().unwrap_or(1)
}

/// Appends a row of the table.
fn push(columns: &mut Columns, offset: i64, row: &Value) {
    columns.push(offset, number(&row["timestamp"]), part(&row["key"]).as_deref(), part(&row["value"]).as_deref());
    for header in rows(&row["headers"]) {
        columns.push_header(text(&header[0]).as_bytes(), part(&header[1]).as_deref());
    }
}

fn input(case: &Value) -> Columns {
    let mut columns = Columns::default();
    let rows: Vec<&Value> = rows(&case["input"]).collect();
    for i in 0..times(case) * rows.len() as i64 {
        push(&mut columns, i, rows[i as usize % rows.len()]);
    }
    columns
}

fn differences(case: &Value, processed: &Processed) -> Vec<String> {
    let mut broken = Vec::new();
    let size = rows(&case["input"]).count() as i64;
    let shift = |i: i64, row: &Value| row.as_i64().unwrap() + i * size;
    for (index, name) in OUTPUTS.iter().enumerate() {
        let expected = if index == 0 { &case["output"] } else { &case["outputs"][name] };
        let mut columns = Columns::default();
        (0..times(case)).for_each(|i| rows(expected).for_each(|row| push(&mut columns, shift(i, &row["from"]), row)));
        let found = processed.outputs.iter().find(|(own, _)| *own == index).map(|(_, found)| found);
        if found.unwrap_or(&Columns::default()) != &columns {
            let first =
                found.and_then(|found| found.rows().zip(columns.rows()).find(|(found, wanted)| found != wanted));
            let counts = (found.map_or(0, Columns::len), columns.len());
            let first = first.map(|(found, wanted)| format!("{}\n    expected {}", shown(&found), shown(&wanted)));
            broken
                .push(format!("output `{name}`: {counts:?} records found and expected: {}", first.unwrap_or_default()));
        }
    }
    let expected: Vec<(i64, &Value)> =
        (0..times(case)).flat_map(|i| rows(&case["rejected"]).map(move |one| (shift(i, &one["index"]), one))).collect();
    let fits = |(found, (index, wanted)): (&millstream_plugin_host::Rejected, &(i64, &Value))| {
        let message = found.message.as_str();
        let fits = wanted["begins"].as_str().map_or(wanted["message"] == message, |begins| message.starts_with(begins));
        i64::from(found.index) == *index && fits
    };
    if processed.rejected.len() != expected.len() || !processed.rejected.iter().zip(&expected).all(fits) {
        let few: Vec<_> = processed.rejected.iter().take(20).collect();
        broken.push(format!("rejected {few:?}, expected {:?}", &expected[..expected.len().min(20)]));
    }
    let counters = processed.counters.iter().map(|counter| (counter.name.clone(), counter.delta.to_string()));
    let mut counters: Vec<(String, String)> = counters.collect();
    counters.sort();
    let wanted = case["counters"].as_object().into_iter().flatten();
    let mut wanted: Vec<(String, String)> = wanted.map(|(name, sum)| (name.clone(), text(sum))).collect();
    wanted.sort();
    if counters != wanted {
        broken.push(format!("counters {counters:?}, expected {wanted:?}"));
    }
    broken
}

fn shown(row: &Row<'_>) -> String {
    let text = |part: Option<&[u8]>| part.map_or("none".to_owned(), |part| String::from_utf8_lossy(part).into_owned());
    let cut = |text: String| text.chars().take(80).collect::<String>();
    format!("{} @{} {}={}", row.offset, row.timestamp, cut(text(row.key)), cut(text(row.value)))
}

/// What the SDKs in JavaScript and Python hold besides, natively; each runs the same table too.
#[test]
fn the_sdks_own_tests() {
    let check = |program: &str, args: &[&str], folder: &str| {
        let Ok(output) = Command::new(program).args(args).current_dir(support::workspace().join(folder)).output()
        else {
            return eprintln!("SKIPPED: {program} is not installed");
        };
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {args:?} in {folder}:\n{said}");
        assert!(["# pass ", "OK"].iter().any(|end| said.contains(end)), "{said}");
    };
    if is_new_enough("node", &["--version"], "v", (20, 6)) {
        check("node", &["--test"], "sdk/plugin-js");
    }
    if is_new_enough("python3", &["--version"], "Python ", (3, 11)) {
        check("python3", &["-B", "-m", "unittest", "discover", "-s", ".", "-t", "."], "sdk/plugin-python");
    }
}

fn is_new_enough(program: &str, args: &[&str], prefix: &str, least: (u32, u32)) -> bool {
    let output = Command::new(program).args(args).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let mut parts = said.strip_prefix(prefix).unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < least {
        eprintln!("SKIPPED: {program} {}.{} is needed, found: {said:?}", least.0, least.1);
    }
    version >= least
}

/// Built by this test's binary, from the sources in the repository.
#[test]
fn the_table_has_no_unknown_fields() {
    let known =
        ["name", "config", "input", "times", "output", "outputs", "rejected", "counters", "logs", "refused", "failure"];
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(Path::new(&folder("cases.json"))).unwrap()).unwrap();
    for case in cases {
        let unknown: Vec<_> =
            case.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", case["name"]);
    }
}
