//! Sends every record, as it is, to the output that a field of its JSON value names. What the routes do not
//! name goes to the default output.

use std::collections::BTreeMap;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json::Value;

/// A step's `with`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path of names to the field, joined by dots.
    pub field: String,
    /// The output for each value of the field. Numbers and booleans are written as in JSON.
    pub routes: BTreeMap<String, String>,
    /// The output for other values and for records without the field; "" is the main output.
    #[serde(default)]
    pub default: String,
}

/// Passes the record on to its output.
///
/// # Errors
/// The value is not JSON.
#[transform]
pub fn route(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let value = record.json_field(&config.field)?;
    let output = value.as_ref().and_then(|value| match value {
        Value::String(text) => config.routes.get(text),
        Value::Number(_) | Value::Bool(_) | Value::Null => config.routes.get(&value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    });
    out.to(output.unwrap_or(&config.default)).forward(&record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{config, record, run};

    const CONFIG: &str = r#"{"field":"order.kind","routes":{"refund":"refunds","7":"sevens","true":"yes","null":"none"},"default":"rest"}"#;

    #[test]
    fn the_field_names_the_output() {
        let config = config(CONFIG).unwrap();
        let check = |value: &str, expected: &str| {
            let got = run(route, &config, [record(value).key("k").header("h", "1").timestamp(3)]);
            let emitted = got.outputs.first().map(|o| (o.to.as_str(), o.key_str(), o.headers.len(), o.timestamp));
            assert_eq!(emitted, Some((expected, Some("k"), 1, 3)), "{value}");
            assert_eq!(got.values_of(expected), [value]);
        };
        check(r#"{"order":{"kind":"refund"}}"#, "refunds");
        check(r#"{"order":{"kind":7}}"#, "sevens");
        check(r#"{"order":{"kind":true}}"#, "yes");
        check(r#"{"order":{"kind":null}}"#, "none");
        check(r#"{"order":{"kind":"sale"}}"#, "rest");
        check(r#"{"order":{"kind":["refund"]}}"#, "rest");
        check(r#"{"order":1}"#, "rest");
    }

    #[test]
    fn without_a_default_the_rest_goes_to_the_main_output() {
        let config = config(r#"{"field":"a","routes":{}}"#).unwrap();
        let got = run(route, &config, [record("{}"), record("{"), record(None::<&str>)]);
        assert_eq!(got.values(), ["{}"]);
        let rejected: Vec<_> = got.rejected.iter().map(|rejected| rejected.index).collect();
        assert_eq!(rejected, [1, 2]);
    }
}
