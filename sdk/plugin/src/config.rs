//! A step's `with` as the plugin's own type. The host hands it over as JSON when the plugin starts; an
//! error here is shown to the pipeline's author.

use serde::de::DeserializeOwned;

/// Parses a step's configuration. A step without one (`null`) counts as one without fields.
///
/// # Errors
/// Names the field, as serde does; for the pipeline's author.
pub(crate) fn parse<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    let absent = matches!(json.trim(), "" | "null");
    // Fields first: only `()` and options take `null`, and only `()` refuses an empty object.
    let parsed = serde_json::from_str(if absent { "{}" } else { json });
    parsed.or_else(|error| {
        let empty = absent || json.trim() == "{}";
        let unit = if empty { serde_json::from_str("null").ok() } else { None };
        unit.ok_or_else(|| format!("config: {}", message::<C>(&error)))
    })
}

/// Without "at line 1 column 17": the author wrote YAML, so JSON's positions mean nothing to them.
fn message<C>(error: &serde_json::Error) -> String {
    if std::any::type_name::<C>() == "()" {
        return "this plugin takes no configuration".to_owned();
    }
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default)]
        level: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Needed {
        vat: u8,
    }

    #[test]
    fn configurations_parse_or_say_why() {
        assert_eq!(parse::<Strict>("null"), Ok(Strict { level: 0 }));
        assert_eq!(parse::<Strict>(r#"{"level":3}"#), Ok(Strict { level: 3 }));
        assert_eq!(parse::<()>("null"), Ok(()));
        assert_eq!(parse::<()>("{}"), Ok(()));
        assert_eq!(parse::<Option<Needed>>("null"), parse::<Option<Needed>>(""));
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(parse::<Strict>(r#"{"levle":3}"#).unwrap_err(), "config: unknown field `levle`, expected `level`");
        check(parse::<Needed>("null").unwrap_err(), "config: missing field `vat`");
        check(parse::<Needed>(r#"{"vat":"x"}"#).unwrap_err(), "config: invalid type: string \"x\", expected u8");
        check(parse::<()>(r#"{"a":1}"#).unwrap_err(), "config: this plugin takes no configuration");
    }
}
