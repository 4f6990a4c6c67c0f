//! The page's examples, word for word, and its table of directives.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use millstream_plugin::testing::{config, record, run};
use parse_access_log::{Config, parse_access_log};
use serde_json::{Map, Value};

const README: &str = include_str!("../README.md");

/// The fenced blocks: language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = README.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// `name: value` lines; a value in single quotes is as it stands.
fn with(block: &str) -> String {
    let pairs = block.lines().map(|line| line.split_once(": ").unwrap());
    let object: Map<String, Value> =
        pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').into())).collect();
    Value::from(object).to_string()
}

#[test]
fn examples_do_what_the_page_says() {
    let (mut json, mut line, mut seen) = (String::new(), "", 0);
    for (language, text) in blocks() {
        let outcome = || run(parse_access_log, &config::<Config>(&json).unwrap(), [record(line)]);
        match language {
            "with" => json = with(text),
            "line" => line = text,
            "json" => {
                let outcome = outcome();
                assert_eq!(outcome.rejected, [], "{line}");
                let expected: Value = serde_json::from_str(text).unwrap();
                assert_eq!(outcome.outputs[0].json::<Value>(), expected, "{line}");
                // Fields come in the order that the page shows; behind the last name is no other.
                let names = |object: &str| {
                    let parts: Vec<&str> = object.split("\":").collect();
                    parts[..parts.len() - 1]
                        .iter()
                        .map(|part| part.rsplit('"').next().unwrap().to_owned())
                        .collect::<Vec<_>>()
                };
                assert_eq!(names(&outcome.values()[0]), names(text), "{line}");
                seen += 1;
            }
            "fails" => {
                let outcome = outcome();
                assert_eq!(outcome.rejected.first().map(|rejected| rejected.message.as_str()), Some(text), "{line}");
                seen += 1;
            }
            "refused" => {
                assert_eq!(config::<Config>(&json).unwrap_err(), format!("config: {text}"));
                seen += 1;
            }
            "yaml" => {}
            other => panic!("what is a block of `{other}`?"),
        }
    }
    assert!(seen >= 14, "{seen} examples");
}

#[test]
fn the_table_names_each_directives_fields() {
    let rows = README
        .lines()
        .filter(|line| line.starts_with("| `%"))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let mut seen = 0;
    for row in rows {
        let ticked = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        let (directives, fields) = (ticked(row[1]), ticked(row[2]));
        for (index, directive) in directives.iter().enumerate() {
            let form = parse_access_log::declared::apache::read(directive).unwrap();
            let found: Vec<String> =
                form.columns.iter().flat_map(|(column, _)| parse_access_log::declared::form::fields(column)).collect();
            let expected: Vec<&str> = if directives.len() == 1 { fields.clone() } else { vec![fields[index]] };
            assert_eq!(found, expected, "{directive}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} directives");
}

/// The strings that the page gives for the forms with a name are those forms, as far as a line of theirs can tell.
#[test]
fn the_forms_with_a_name_are_the_strings_of_the_page() {
    let tail = r#"192.0.2.7 - ann [17/May/2015:10:05:03 +0200] "GET /a HTTP/1.1" 404 7"#;
    for name in ["common", "combined", "vhost_combined", "nginx"] {
        let row = README.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let string = row.split('`').nth(3).unwrap();
        let line = match name {
            "common" => tail.to_owned(),
            "vhost_combined" => format!("a.example:80 {tail} \"r\" \"a\""),
            _ => format!("{tail} \"r\" \"a\""),
        };
        let object = |format: &str| {
            let json = serde_json::json!({ "format": format }).to_string();
            let outcome = run(parse_access_log, &config::<Config>(&json).unwrap(), [record(line.as_str())]);
            let mut object: Map<String, Value> =
                outcome.outputs.first().unwrap_or_else(|| panic!("{outcome:?}")).json();
            object.remove("ident");
            // Debian logs `%O` where others have `%b`.
            let sent = object.remove("bytes_sent");
            object.entry("bytes").or_insert(sent.unwrap_or_default());
            object.retain(|name, value| !(matches!(name.as_str(), "referer" | "user_agent") && value.is_null()));
            object
        };
        assert_eq!(object(name), object(string), "{name}");
    }
}
