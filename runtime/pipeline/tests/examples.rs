//! The example pipelines are without findings, and the JSON Schema knows every key they use.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use millstream_pipeline::{json_schema, parse};
use serde_json::Value;

const EVERY_KEY: &str = r#"
version: 1
pipeline: every-key
guarantee: at_least_once
inputs: [{ topic: a, from: latest, partitions: 3 }]
steps:
  - name: parse
    from: a
    plugin: { use: parse@0.1, with: { any: thing } }
    on_error: { retry: { attempts: 3, backoff: 1s }, dead_letter: bad }
    limits: { memory: 32MiB, time: 2s, output: 8MiB }
  - map: { value: value.x, key: value.k, headers: { h: value.h } }
    on_error: skip
  - key_by: value.k
    on_error: { skip: true }
  - filter: value.a > 1
    on_error: { stop: true }
  - branch: { left: value.l, right: default }
outputs:
  - { topic: out, from: branch.left, key: value.k, trace: true, partitions: 1 }
  - { topic: other, from: [branch.right, parse.side] }
"#;

fn examples() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("pipelines"));
    let files =
        folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn examples_are_without_findings() {
    let examples = examples();
    assert!(!examples.is_empty());
    for (path, text) in examples {
        let spec = parse(&text, path.to_str().unwrap()).unwrap_or_else(|found| panic!("{found}"));
        assert!(spec.warnings.is_empty(), "{}", spec.warnings);
    }
    parse(EVERY_KEY, "every-key.yaml").unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn the_schema_knows_every_key() {
    let schema = json_schema();
    for (path, text) in examples().into_iter().chain([(PathBuf::from("every-key"), EVERY_KEY.to_string())]) {
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let unknown = unknown_keys(&schema, &schema, &value);
        assert!(unknown.is_empty(), "{}: the schema does not know {unknown:?}", path.display());
    }
    let strange: Value = serde_yaml::from_str("pipeline: p\nsteps: [{ plugin: { use: a, whith: {} } }]\n").unwrap();
    assert_eq!(unknown_keys(&schema, &schema, &strange), ["whith"]);
}

/// Keys of `value` that `schema` has no property for.
fn unknown_keys(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("references resolve"),
        None => schema,
    };
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array)
        && schema.get("properties").is_none()
    {
        let fitting = choices.iter().filter(|choice| choice.get("type").is_none_or(|kind| fits(kind, value)));
        return fitting.map(|choice| unknown_keys(root, choice, value)).min_by_key(Vec::len).unwrap_or_default();
    }
    match value {
        Value::Array(items) => items
            .iter()
            .flat_map(|item| unknown_keys(root, schema.get("items").unwrap_or(&Value::Null), item))
            .collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| match (schema["properties"].get(key), schema.get("additionalProperties")) {
                (Some(known), _) => unknown_keys(root, known, value),
                (None, Some(Value::Bool(false))) => vec![key.clone()],
                _ => Vec::new(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn fits(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        _ => true,
    }
}
