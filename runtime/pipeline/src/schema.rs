//! JSON Schema (2020-12) of pipeline files, for editors. Looser than `parse`, which has the last word:
//! it knows names and shapes, not expressions.

use serde_json::{Value, json};

/// The schema of a pipeline file.
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Millstream pipeline, version 1",
        "type": "object",
        "additionalProperties": false,
        "required": ["pipeline", "inputs", "outputs"],
        "properties": {
            "version": { "const": 1, "description": "Version of this file format." },
            "pipeline": {
                "type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$",
                "description": "The pipeline's name, also of the consumer group that holds its progress."
            },
            "guarantee": { "enum": ["at_least_once"], "default": "at_least_once" },
            "inputs": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/input" } },
            "steps": { "type": "array", "items": { "$ref": "#/$defs/step" } },
            "outputs": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/output" } }
        },
        "$defs": {
            "topic": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$" },
            "expression": {
                "type": ["string", "number", "boolean"],
                "description": "CEL over value, key, timestamp, headers, topic, partition, offset."
            },
            "from": {
                "description": "Who the records come from: an input topic, a step, or STEP.OUTPUT; one or a list.",
                "oneOf": [{ "type": "string" }, { "type": "array", "minItems": 1, "items": { "type": "string" } }]
            },
            "partitions": {
                "type": "integer", "minimum": 1, "maximum": 1024,
                "description": "Create the topic with so many partitions when it does not exist."
            },
            "duration": { "type": "string", "pattern": "^[0-9.]+ *(ms|s|m|h|d)$" },
            "size": { "type": ["string", "integer"], "pattern": "^[0-9.]+ *(B|kB|KB|MB|GB|KiB|MiB|GiB)?$" },
            "input": input(),
            "output": output(),
            "step": step(),
            "on_error": on_error()
        }
    })
}

fn input() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["topic"],
        "properties": {
            "topic": { "$ref": "#/$defs/topic" },
            "from": {
                "type": "string", "default": "earliest",
                "description": "Where to start without a committed offset: earliest, latest, or an RFC 3339 time."
            },
            "partitions": { "$ref": "#/$defs/partitions" }
        }
    })
}

fn output() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["topic"],
        "properties": {
            "topic": { "$ref": "#/$defs/topic" },
            "from": { "$ref": "#/$defs/from" },
            "key": { "$ref": "#/$defs/expression" },
            "trace": {
                "type": "boolean", "default": false,
                "description": "Give every record a header ms-origin: topic/partition@offset of its input record."
            },
            "partitions": { "$ref": "#/$defs/partitions" }
        }
    })
}

fn step() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "oneOf": [
            { "required": ["plugin"] }, { "required": ["filter"] }, { "required": ["map"] },
            { "required": ["key_by"] }, { "required": ["branch"] }
        ],
        "properties": {
            "name": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
            "from": { "$ref": "#/$defs/from" },
            "plugin": {
                "description": "Runs a WebAssembly plugin.",
                "oneOf": [{ "type": "string" }, {
                    "type": "object", "additionalProperties": false, "required": ["use"],
                    "properties": {
                        "use": { "type": "string", "description": "NAME@VERSION or NAME@VERSION/sha256:DIGEST" },
                        "with": { "type": "object", "description": "The plugin's settings; ${env:NAME} and ${secret:NAME} are filled in." }
                    }
                }]
            },
            "filter": { "$ref": "#/$defs/expression" },
            "map": {
                "type": "object", "additionalProperties": false, "minProperties": 1,
                "properties": {
                    "value": { "$ref": "#/$defs/expression" },
                    "key": { "$ref": "#/$defs/expression" },
                    "headers": { "type": "object", "additionalProperties": { "$ref": "#/$defs/expression" } }
                }
            },
            "key_by": { "$ref": "#/$defs/expression" },
            "branch": {
                "type": "object", "minProperties": 1, "maxProperties": 16,
                "description": "Output names with their tests, the first that holds takes the record; `default` takes the rest.",
                "additionalProperties": { "$ref": "#/$defs/expression" }
            },
            "on_error": { "$ref": "#/$defs/on_error" },
            "limits": {
                "type": "object", "additionalProperties": false,
                "properties": {
                    "memory": { "$ref": "#/$defs/size" },
                    "time": { "$ref": "#/$defs/duration" },
                    "output": { "$ref": "#/$defs/size" }
                }
            }
        }
    })
}

fn on_error() -> Value {
    json!({
        "default": "stop",
        "description": "What becomes of a record the step fails on. Without it the task stops before the record.",
        "oneOf": [{ "enum": ["stop", "skip"] }, {
            "type": "object", "additionalProperties": false,
            "properties": {
                "retry": { "oneOf": [{ "type": "integer", "minimum": 1, "maximum": 100 }, {
                    "type": "object", "additionalProperties": false,
                    "properties": {
                        "attempts": { "type": "integer", "minimum": 1, "maximum": 100, "default": 3 },
                        "backoff": { "$ref": "#/$defs/duration" }
                    }
                }] },
                "dead_letter": { "$ref": "#/$defs/topic" },
                "skip": { "const": true },
                "stop": { "const": true }
            }
        }]
    })
}
