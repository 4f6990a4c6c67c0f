//! Any fields come back from the line that they make, and any line that is read could have been written so.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use csv_to_json::line::{Dialect, Quotes, fields};
use csv_to_json::{config::Config, csv_to_json};
use millstream_plugin::testing::{config, record, run};
use proptest::prelude::*;

const STRICT: Dialect = Dialect { delimiter: b',', quotes: Quotes::Strict, trim: false };

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{0,3}", 2 => Just("\"".to_owned()), 2 => Just(",".to_owned()), 1 => Just(" ".to_owned()),
        1 => Just("\n".to_owned()), 1 => Just("\r\n".to_owned()), 1 => Just("ü\u{feff}".to_owned()), 1 => Just("#".to_owned())
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn written(fields: &[(String, bool)]) -> String {
    let field = |(text, quoted): &(String, bool)| match quoted {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.clone(),
    };
    fields.iter().map(field).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Quoted where it must be, and where it need not.
    #[test]
    fn fields_come_back(texts in prop::collection::vec((text(), any::<bool>()), 1..6)) {
        let texts: Vec<(String, bool)> =
            texts.into_iter().map(|(text, quoted)| { let must = text.contains(['"', ',']); (text, quoted || must) }).collect();
        let line = written(&texts);
        for quotes in [Quotes::Strict, Quotes::Lax] {
            let found: Result<Vec<_>, _> = fields(&line, Dialect { quotes, ..STRICT }).collect();
            let found: Vec<_> = found.unwrap().into_iter().map(|field| (field.text.into_owned(), field.quoted)).collect();
            prop_assert_eq!(&found, &texts);
        }
    }

    /// A line that the strict dialect reads is the one that its fields make.
    #[test]
    fn what_is_read_could_have_been_written(line in text()) {
        let found: Result<Vec<_>, _> = fields(&line, STRICT).collect();
        if let Ok(found) = found {
            let texts: Vec<_> = found.into_iter().map(|field| (field.text.into_owned(), field.quoted)).collect();
            prop_assert_eq!(written(&texts), line);
        }
    }

    /// Each record is converted, left out or rejected, and what is written is JSON with these names.
    #[test]
    fn nothing_panics(lines in prop::collection::vec(text(), 0..6), with in 0..5_usize) {
        let with = [
            "null", r#"{"header":"first","trim":true}"#, r##"{"header":"a,b","quotes":"lax","comment":"#"}"##,
            r#"{"header":["a","b"],"infer_types":true}"#, r#"{"delimiter":" ","trim":true}"#
        ][with];
        let got = run(csv_to_json, &config::<Config>(with).unwrap(), lines.iter().map(|line| record(line.as_str())));
        let counted = got.counter("comments") + got.counter("header lines");
        prop_assert_eq!(got.outputs.len() + got.rejected.len() + counted as usize, lines.len());
        for output in &got.outputs {
            output.json::<serde_json::Value>();
        }
    }
}
