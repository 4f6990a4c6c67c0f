//! Parses web server access logs, one line per record, into JSON: Apache's and nginx's common and combined
//! formats. The record gets the time of the line. This file holds the configuration and the JSON; the
//! grammar is in [`mod@line`], the clock arithmetic in [`time`].

pub mod line;
pub mod time;

use millstream_plugin::prelude::*;

/// A step's `with`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub format: Format,
}

/// Which fields a line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Ends after the number of bytes.
    Common,
    /// Has the referer and the user agent too.
    Combined,
    /// Whichever the line is.
    #[default]
    Auto,
}

/// Writes one JSON object per line, with the key and headers of the record.
///
/// # Errors
/// The line is not of the format; the message names the field.
#[transform]
pub fn parse_access_log(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = record.str()?;
    let entry = line::parse(text, config.format)?;
    out.like(&record).timestamp(entry.time.millis()).json(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{config, record, run};

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

    #[test]
    fn configurations_are_checked() {
        assert_eq!(config::<Config>("null").unwrap().format, Format::Auto);
        assert_eq!(config::<Config>(r#"{"format":"common"}"#).unwrap().format, Format::Common);
        let check = |json: &str, expected: &str| assert_eq!(config::<Config>(json).unwrap_err(), expected);
        check(r#"{"fromat":"common"}"#, "config: unknown field `fromat`, expected `format`");
        check(r#"{"format":"clf"}"#, "config: unknown variant `clf`, expected one of `common`, `combined`, `auto`");
    }
}
