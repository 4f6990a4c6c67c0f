//! The list of seeded mistakes and the code agree, and no build has them that does not ask for them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_protocol::mutant;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_mistake_stands_in_the_code() {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for part in ["protocol", "log", "cluster", "pipeline", "broker"] {
        sources(&runtime.join(part).join("src"), &mut found);
    }
    let mut used = BTreeSet::new();
    for path in found.iter().filter(|path| !path.ends_with("mutant.rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for rest in text.split("mutant!(\"").skip(1) {
            used.insert(rest.split_once('"').unwrap().0.to_owned());
        }
    }
    let listed: BTreeSet<String> = mutant::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(used, listed);
    assert_eq!(listed.len(), mutant::ALL.len(), "a name stands in the list twice");
    assert!(listed.len() >= 25);
}

#[test]
fn only_who_asks_for_mistakes_gets_them() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut manifests = Vec::new();
    for top in ["runtime", "sdk", "plugins", "examples"] {
        for entry in std::fs::read_dir(workspace.join(top)).unwrap() {
            manifests.push(entry.unwrap().path().join("Cargo.toml"));
        }
    }
    for manifest in manifests.iter().filter(|manifest| manifest.exists()) {
        let text = std::fs::read_to_string(manifest).unwrap();
        let asks: Vec<&str> = text.lines().filter(|line| line.contains("mutants") && !line.starts_with('#')).collect();
        let allowed = match manifest.parent().unwrap().file_name().unwrap().to_str().unwrap() {
            "protocol" => vec!["mutants = []"],
            "sim" => vec![
                "mutants = [\"millstream-protocol/mutants\"]",
                "name = \"mutants\"",
                "required-features = [\"mutants\"]",
            ],
            _ => vec![],
        };
        assert_eq!(asks, allowed, "{}", manifest.display());
    }
    if !cfg!(feature = "mutants") {
        assert!(mutant::ALL.iter().all(|(name, _)| !mutant::is_on(name)));
    }
}
