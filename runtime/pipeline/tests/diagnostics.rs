//! Every kind of mistake in a pipeline file, as it is shown: `diagnostics/NAME.yaml` against
//! `diagnostics/NAME.txt`. `UPDATE_EXPECT=1` writes the texts anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use millstream_pipeline::{Plan, Severity, parse};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn mistakes_are_shown_with_their_place() {
    let files = files();
    assert!(files.len() >= 140, "only {} kinds of mistakes", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = format!("pipelines/{}", path.file_name().unwrap().to_str().unwrap());
        let found = match parse(&text, &name) {
            Err(found) => found,
            Ok(spec) => match Plan::new(&spec, &Default::default()) {
                Err(found) => found,
                Ok(_) => spec.warnings,
            },
        };
        assert!(!found.is_empty(), "{name} has no mistake");
        expect_test::expect_file![path.with_extension("txt")].assert_eq(&format!("{}\n", found.plain()));
    }
}

#[test]
fn colours_only_add_escapes() {
    let found = parse("pipelin: x\n", "p.yaml").unwrap_err();
    let coloured = found.coloured();
    assert!(coloured.contains("\u{1b}["));
    let mut bare = String::new();
    let mut escaped = false;
    for c in coloured.chars() {
        match c {
            '\u{1b}' => escaped = true,
            'm' if escaped => escaped = false,
            c if !escaped => bare.push(c),
            _ => {}
        }
    }
    assert_eq!(bare, found.plain());
    assert!(found.list().iter().all(|diagnostic| diagnostic.severity == Severity::Error));
    assert_eq!(found.position(&found.list()[0]), (1, 1));
}
