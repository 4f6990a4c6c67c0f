//! A step's `with`, checked when the plugin starts.

use millstream_plugin::prelude::*;

use crate::declared::{Declared, Escape};
use crate::line::Format;
use crate::time::parse_zone;

/// A step's `with`, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "With")]
pub struct Config {
    pub form: Form,
}

/// What lines look like.
#[derive(Clone, Debug)]
pub enum Form {
    /// One of the access log's forms with a name.
    Named(Format),
    Declared(Box<Declared>),
    /// Apache's error log; its times are so many seconds ahead of UTC.
    ApacheError(i64),
    /// nginx's, likewise.
    NginxError(i64),
}

impl Default for Config {
    fn default() -> Self {
        Self { form: Form::Named(Format::Auto) }
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    format: Option<String>,
    escape: Option<String>,
    zone: Option<String>,
}

const NAMES: &str = "`auto`, `common`, `combined`, `vhost_combined`, `nginx`, `apache_error`, `nginx_error`, or the server's own \
                     string, as in `%h %l %u %t \"%r\" %>s %b` or `$remote_addr - $remote_user [$time_local] …`";

impl TryFrom<With> for Config {
    type Error = String;

    fn try_from(with: With) -> Result<Self, String> {
        let zone = with.zone.as_deref().map(zone).transpose()?;
        let escape = match with.escape.as_deref() {
            None => None,
            Some("default") => Some(Escape::Default),
            Some("json") => Some(Escape::Json),
            Some("none") => {
                return Err(
                    "escape: what nginx writes with `escape=none` can't be taken apart again: a value may hold what \
                            ends it; use `json` there and here"
                        .to_owned(),
                );
            }
            Some(other) => return Err(format!("escape `{other}`: expected `default` or `json`")),
        };
        let format = with.format.as_deref().unwrap_or("auto");
        let named = |format| {
            let unused = escape.map(|_| "escape").or(zone.map(|_| "zone"));
            match unused {
                Some(option) => Err(format!("{option}: this format has no use for it; leave it out")),
                None => Ok(Form::Named(format)),
            }
        };
        let error_log = |form: fn(i64) -> Form| match (zone, escape) {
            (_, Some(_)) => Err("escape: an error log has no use for it; leave it out".to_owned()),
            (Some(zone), None) => Ok(form(zone)),
            (None, None) => Err(format!(
                "format `{format}`: times of an error log name no zone: say which the server writes, as in `zone: UTC` or \
                 `zone: +02:00`"
            )),
        };
        let form = match format {
            "auto" => named(Format::Auto),
            "common" => named(Format::Common),
            "combined" => named(Format::Combined),
            "vhost_combined" => named(Format::VhostCombined),
            "nginx" => named(Format::Nginx),
            "apache_error" => error_log(Form::ApacheError),
            "nginx_error" => error_log(Form::NginxError),
            _ if format.starts_with("LogFormat ") || format.starts_with("log_format ") => {
                Err("format: give the string alone, without the word and the name around it".to_owned())
            }
            _ if format.contains(['%', '$']) => Declared::compile(format, escape.unwrap_or_default(), zone)
                .map(|declared| Form::Declared(Box::new(declared))),
            _ => Err(format!("format `{format}`: expected {NAMES}")),
        }?;
        Ok(Self { form })
    }
}

fn zone(text: &str) -> Result<i64, String> {
    match text {
        "UTC" | "GMT" => Ok(0),
        _ => parse_zone(text)
            .map_err(|_| format!("zone `{text}`: expected `UTC` or the distance from it, as in `+02:00`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::config;

    #[test]
    fn configurations_are_checked() {
        let check = |json: &str, expected: &str| {
            let shown = config::<Config>(json).map(|config| match config.form {
                Form::Named(format) => format!("{format:?}"),
                Form::Declared(_) => "declared".to_owned(),
                Form::ApacheError(zone) => format!("Apache's errors at {zone}"),
                Form::NginxError(zone) => format!("nginx' errors at {zone}"),
            });
            assert_eq!(shown.unwrap_or_else(|error| error), expected, "{json}");
        };
        check("null", "Auto");
        check(r#"{"format":"common"}"#, "Common");
        check(r#"{"format":"vhost_combined"}"#, "VhostCombined");
        check(r#"{"format":"nginx"}"#, "Nginx");
        check(r#"{"format":"%h %U"}"#, "declared");
        check(r#"{"format":"$remote_addr","escape":"json"}"#, "declared");
        check(r#"{"format":"apache_error","zone":"+02:00"}"#, "Apache's errors at 7200");
        check(r#"{"format":"nginx_error","zone":"UTC"}"#, "nginx' errors at 0");
        check(r#"{"fromat":"common"}"#, "config: unknown field `fromat`, expected one of `format`, `escape`, `zone`");
        check(r#"{"format":"clf"}"#, &format!("config: format `clf`: expected {NAMES}"));
        check(
            r#"{"format":"nginx_error"}"#,
            "config: format `nginx_error`: times of an error log name no zone: say which the server writes, as in \
             `zone: UTC` or `zone: +02:00`",
        );
        check(r#"{"format":"nginx","zone":"UTC"}"#, "config: zone: this format has no use for it; leave it out");
        check(
            r#"{"format":"%h","zone":"CET"}"#,
            "config: zone `CET`: expected `UTC` or the distance from it, as in `+02:00`",
        );
        check(
            r#"{"format":"%h","escape":"json"}"#,
            "config: escape: only nginx writes `json`; leave it out for Apache's `LogFormat`",
        );
        check(
            r#"{"format":"$request","escape":"none"}"#,
            "config: escape: what nginx writes with `escape=none` can't be taken apart again: a value may hold what ends it; \
             use `json` there and here",
        );
        check(
            r#"{"format":"LogFormat \"%h\" common"}"#,
            "config: format: give the string alone, without the word and the name around it",
        );
    }
}
