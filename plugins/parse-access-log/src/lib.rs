//! Parses the lines of web servers' logs, one per record, into JSON: the access log's usual forms by name, any other by the
//! string that the server itself was given (`LogFormat`, `log_format`), and the error logs of Apache and nginx. The
//! record gets the time of the line. A line is of its form or it fails, naming the column: no field gets another's value.
//!
//! [`mod@line`] reads the forms with a name, as fast as it can; [`declared`] reads any form; [`errors`] reads error
//! logs. [`config`] checks the step's `with`, [`text`] and [`time`] are what they share.

pub mod config;
pub mod declared;
pub mod errors;
pub mod line;
pub mod text;
pub mod time;

use millstream_plugin::prelude::*;

pub use config::{Config, Form};
pub use line::Format;

/// Writes one JSON object per line, with the key and headers of the record.
///
/// # Errors
/// The line is not of the form; the message names the column.
#[transform]
pub fn parse_access_log(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = record.str()?;
    match &config.form {
        Form::Named(format) => {
            let entry = line::parse(text, *format)?;
            out.like(&record).timestamp(entry.time.millis()).value_with(|json| entry.write(json))
        }
        Form::Declared(form) => {
            let line = form.parse(without_end(text))?;
            let timestamp = line.begin.or(line.end).map_or(record.timestamp(), |time| time.millis());
            out.like(&record).timestamp(timestamp).value_with(|json| line.write(json))
        }
        Form::ApacheError(zone) => {
            let line = errors::apache::parse(without_end(text), *zone)?;
            out.like(&record).timestamp(line.time.millis()).json(&line)
        }
        Form::NginxError(zone) => {
            let line = errors::nginx::parse(without_end(text), *zone)?;
            out.like(&record).timestamp(line.time.millis()).json(&line)
        }
    }
}

/// Without the line end; blanks before it may belong to a column.
fn without_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{record, run};

    const COMBINED: &str = r#"192.0.2.7 - ann [17/May/2015:10:05:03 +0200] "GET /a?b=1 HTTP/1.1" 404 - "-" "curl/8""#;

    #[test]
    fn a_line_becomes_an_object_at_its_own_time() {
        let got = run(parse_access_log, &Config::default(), [record(COMBINED).key("web-1").header("dc", "eu")]);
        assert_eq!(
            got.values(),
            [
                r#"{"time":"2015-05-17T08:05:03Z","host":"192.0.2.7","user":"ann","method":"GET","path":"/a?b=1","protocol":"HTTP/1.1","status":404,"bytes":null,"referer":null,"user_agent":"curl/8"}"#
            ]
        );
        let first = &got.outputs[0];
        assert_eq!((first.timestamp, first.key_str()), (1_431_849_903_000, Some("web-1")));
        assert_eq!(first.headers, [("dc".to_owned(), Some(b"eu".to_vec()))]);
    }

    #[test]
    fn broken_lines_are_rejected_and_the_others_go_on() {
        let got = run(parse_access_log, &Config::default(), [record("-- MARK --"), record(COMBINED), record([0xff])]);
        assert_eq!(got.outputs.len(), 1);
        assert_eq!(got.outputs[0].from, 1);
        let rejected: Vec<_> = got.rejected.iter().map(|r| (r.index, r.message.as_str())).collect();
        assert_eq!(rejected[0], (0, "time: expected `[`, found the end of the line"));
        assert!(rejected[1].0 == 2 && rejected[1].1.starts_with("the value is not UTF-8 text"));
    }
}
