//! House rules that no lint knows: file heads and lengths, the directions of dependencies between crates,
//! and purity of the crates that a simulator must be able to run (no IO, clock, chance or async in them).

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file, tests apart, lines.
const FILE_LINES_MAX: usize = 500;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Every `.rs` file below the source folders of the workspace, with its path relative to the root.
fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let mut found = Vec::new();
    for top in ["runtime", "sdk", "plugins", "examples"] {
        collect(&root.join(top), &mut found);
    }
    found.sort();
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules") && !name.starts_with('.') {
                collect(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The lines before the file's own `mod tests { … }`, which closes it by convention.
fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].trim_end().ends_with('{')
    });
    lines[..tests.unwrap_or(lines.len())].to_vec()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_opens_with_its_story() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        if head == 0 {
            broken.push(path);
        }
    }
    report("these files do not open with `//!`", &broken);
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let lines = without_tests(&text).len();
        if lines > FILE_LINES_MAX && !is_test_file(&path) {
            broken.push(format!(
                "{path}: {lines} lines, at most {FILE_LINES_MAX} (tests apart): split it by responsibility"
            ));
        }
    }
    report("these files are too long", &broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks =
        [["FIX", "ME"].concat(), ["XX", "X"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat()];
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("these lines are left unfinished", &broken);
}

/// A log line's text is its `message`: a field of that name would hide it, or be hidden, in JSON.
#[test]
fn no_log_field_hides_the_line() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let shorthand = [", %mess", "(%mess", ", ?mess", "(?mess", "!(mess"];
            let field = shorthand.iter().any(|start| line.contains(&format!("{start}age,")));
            if field && (line.contains("tracing::") || line.contains(", \"")) {
                broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("these log lines have a field `message`", &broken);
}

/// Crates of the workspace that a crate may use, and outside crates that only some may use.
struct Directions {
    may_use: BTreeMap<&'static str, &'static [&'static str]>,
    only_in: BTreeMap<&'static str, &'static [&'static str]>,
}

fn directions() -> Directions {
    let may_use: &[(&str, &[&str])] = &[
        ("protocol", &[]),
        ("log", &["protocol"]),
        ("cluster", &["protocol"]),
        ("transport", &["protocol"]),
        ("plugin-host", &["protocol"]),
        ("pipeline", &["protocol", "plugin-host"]),
        ("console", &["protocol"]),
        ("client", &["protocol", "transport"]),
        ("broker", &["protocol", "log", "cluster", "transport", "plugin-host", "pipeline", "console"]),
        ("cli", &["protocol", "log", "cluster", "transport", "plugin-host", "pipeline", "broker", "client"]),
        // For tests alone: nobody depends on it.
        ("sim", &["protocol", "log", "cluster", "plugin-host", "pipeline", "broker"]),
        ("hostile", &["protocol", "log", "transport", "plugin-host", "pipeline", "broker"]),
        ("plugin-macro", &[]),
        ("plugin", &["plugin-macro"]),
    ];
    let only_in: &[(&str, &[&str])] = &[
        ("tokio", &["transport", "console", "client", "broker", "cli", "hostile", "example-sdk"]),
        ("axum", &["console"]),
        ("quinn", &["transport", "client", "broker", "cli", "hostile"]),
        ("wasmtime", &["plugin-host"]),
    ];
    Directions { may_use: may_use.iter().copied().collect(), only_in: only_in.iter().copied().collect() }
}

/// Normal dependencies of every member, as its manifest says; those for tests are free.
fn manifests() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        (package["name"].as_str().unwrap().to_owned(), names.collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn dependencies_point_one_way() {
    let Directions { may_use, only_in } = directions();
    let mut broken = Vec::new();
    for (name, dependencies) in manifests() {
        let short = name.strip_prefix("millstream-").unwrap_or(&name);
        for dependency in &dependencies {
            if let Some(users) = only_in.get(dependency.as_str())
                && !users.contains(&short)
            {
                broken.push(format!("{name} uses {dependency}, which belongs to {}", users.join(", ")));
            }
            let Some(target) = dependency.strip_prefix("millstream-") else { continue };
            // Plugins know their SDK, examples the client's; everything else is in the table.
            let allowed = match may_use.get(short) {
                Some(allowed) => allowed.contains(&target),
                None => matches!(target, "plugin" | "client"),
            };
            if !allowed {
                broken.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    report("these dependencies point the wrong way", &broken);
}

#[test]
fn the_core_is_pure() {
    let pure = ["runtime/protocol/src/", "runtime/log/src/", "runtime/cluster/src/", "runtime/pipeline/src/"];
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "tokio",
        "quinn",
        "rand::",
        "rustix::",
        "async fn",
        "println!",
    ];
    let mut broken = Vec::new();
    for (path, text) in sources() {
        // The disk behind the log's Storage trait is the one edge that lives beside its core.
        let edge = path.starts_with("runtime/log/src/") && path.contains("disk");
        // Seeded mistakes are chosen by the environment, in builds that have them.
        let edge = edge || path == "runtime/protocol/src/mutant.rs";
        if !pure.iter().any(|folder| path.starts_with(folder)) || edge || is_test_file(&path) {
            continue;
        }
        for (number, line) in without_tests(&text).iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if let Some(what) = banned.iter().find(|what| code.contains(**what)) {
                broken.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    report("IO, clock, chance or async in a pure crate", &broken);
}
