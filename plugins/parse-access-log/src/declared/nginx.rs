//! nginx's `log_format` strings. Variables that tell what an Apache directive tells make fields of the same names; all others
//! keep their own, since modules and configurations add to them as they like.

use super::column::{Clock, Column, Kind, Moment};
use super::form::{Form, Mistake, field_name};

/// Reads a string as it stands in `log_format`, between its quotes.
///
/// # Errors
/// A `$` without a name, with its place.
pub fn read(format: &str) -> Result<Form, Mistake> {
    let mut form = Form::default();
    let mut rest = format;
    while let Some(char) = rest.chars().next() {
        let place = format.len() - rest.len();
        rest = &rest[char.len_utf8()..];
        if char != '$' {
            form.literal(char);
            continue;
        }
        let (variable, after) = variable(rest).ok_or_else(|| Mistake {
            place,
            text: "a variable's name follows `$`: `$status`, `${status}`".to_owned(),
        })?;
        let written = format[place..format.len() - after.len()].to_owned();
        rest = after;
        if matches!(variable, "is_args" | "args" | "query_string") && form.fuse(&written) {
            continue;
        }
        let (name, kind) = column(variable);
        form.column(Column { name, kind, written, place })?;
    }
    Ok(form)
}

fn variable(text: &str) -> Option<(&str, &str)> {
    let name = |text: &str| text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (variable, after) = match text.strip_prefix('{') {
        Some(inside) => inside.split_once('}').filter(|(inside, _)| name(inside) == inside.len())?,
        None => text.split_at(name(text)),
    };
    Some((variable, after)).filter(|(variable, _)| !variable.is_empty())
}

fn column(variable: &str) -> (String, Kind) {
    let (name, kind) = match variable {
        "remote_addr" => ("host", Kind::Client),
        "realip_remote_addr" => ("peer_ip", Kind::Client),
        "server_addr" => ("local_ip", Kind::Client),
        "remote_user" => ("user", Kind::User),
        "time_local" => ("time", Kind::Time(Moment::Begin, Clock::Common)),
        "time_iso8601" => ("time", Kind::Time(Moment::Begin, Clock::Iso)),
        "msec" => ("time", Kind::Time(Moment::Begin, Clock::Seconds)),
        "request" => ("request", Kind::Request),
        "request_method" => ("method", Kind::Word),
        "request_uri" => ("path", Kind::Target),
        "uri" | "document_uri" => ("uri", Kind::Target),
        "server_protocol" => ("protocol", Kind::Word),
        "args" | "query_string" => ("query", Kind::Text),
        "status" => ("status", Kind::Status),
        "body_bytes_sent" => ("bytes", Kind::Number),
        "bytes_sent" => ("bytes_sent", Kind::Number),
        "request_length" => ("bytes_received", Kind::Number),
        "request_time" => ("duration_s", Kind::Decimal),
        "http_referer" => ("referer", Kind::Text),
        "http_user_agent" => ("user_agent", Kind::Text),
        "http_x_forwarded_for" => ("header_x_forwarded_for", Kind::List),
        "proxy_add_x_forwarded_for" => ("proxy_add_x_forwarded_for", Kind::List),
        "host" => ("vhost", Kind::Text),
        "server_name" => ("server_name", Kind::Word),
        "server_port" => ("port", Kind::Number),
        "remote_port" | "connection" | "connection_requests" | "pid" | "content_length" => (variable, Kind::Number),
        "connection_time" | "gzip_ratio" => (variable, Kind::Decimal),
        "scheme" | "pipe" | "request_id" | "ssl_protocol" | "ssl_cipher" | "hostname" => (variable, Kind::Word),
        "upstream_addr"
        | "upstream_status"
        | "upstream_response_time"
        | "upstream_connect_time"
        | "upstream_header_time"
        | "upstream_first_byte_time"
        | "upstream_session_time"
        | "upstream_queue_time"
        | "upstream_response_length"
        | "upstream_bytes_received"
        | "upstream_bytes_sent" => (variable, Kind::Upstreams),
        _ => return other(variable),
    };
    (name.to_owned(), kind)
}

fn other(variable: &str) -> (String, Kind) {
    let prefixes = [("http_", "header"), ("sent_http_", "response_header"), ("sent_trailer_", "response_trailer")];
    let found = prefixes.iter().find_map(|(prefix, name)| Some((variable.strip_prefix(prefix)?, *name)));
    match found {
        Some((header, name)) => (field_name(name, header), Kind::Text),
        // A field of this name is the clock's, and another client's.
        None if matches!(variable, "time" | "host") => (format!("nginx_{variable}"), Kind::Text),
        None => (variable.to_owned(), Kind::Text),
    }
}
