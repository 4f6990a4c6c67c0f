//! The page's examples, word for word.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use csv_to_json::{config::Config, csv_to_json};
use millstream_plugin::testing::{config, record, run};

const README: &str = include_str!("../README.md");

#[test]
fn examples_do_what_the_page_says() {
    let fenced = README.split("\n```").skip(1).step_by(2);
    let (mut json, mut line, mut seen) = ("", "", 0);
    for (language, text) in fenced.map(|block| block.split_once('\n').unwrap_or((block, ""))) {
        let check = |expected: Result<&[&str], &str>| {
            let got = run(csv_to_json, &config::<Config>(json).unwrap(), [record(line)]);
            let rejected = got.rejected.first().map(|rejected| rejected.message.clone());
            match expected {
                Ok(values) => assert_eq!(
                    (got.values(), rejected),
                    (values.iter().map(ToString::to_string).collect(), None),
                    "{line}"
                ),
                Err(message) => assert_eq!(rejected.as_deref(), Some(message), "{line}"),
            }
            1
        };
        match language {
            "with" => json = text,
            "line" => line = text,
            "json" => seen += check(Ok(&[text])),
            "nothing" => seen += check(Ok(&[])),
            "fails" => seen += check(Err(text)),
            "yaml" => {}
            other => panic!("what is a block of `{other}`?"),
        }
    }
    assert!(seen >= 14, "{seen} examples");
}
