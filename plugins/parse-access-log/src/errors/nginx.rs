//! nginx's error log: `YYYY/MM/DD HH:MM:SS [level] pid#tid: *connection message, client: …, server: …, request: "…",
//! upstream: "…", host: "…", referrer: "…"`. nginx escapes nothing here, so a client may send what looks like one of the
//! tags. A tag that is there twice, or not in its order, or that cuts a request short, fails the line.

use std::borrow::Cow;

use memchr::memmem;
use millstream_plugin::prelude::*;

use super::{digits, found};
use crate::text::{Part, is_host, request, shortened};
use crate::time::{Civil, Fraction, Time, number};

/// A parsed line, in the order in which it is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    pub time: Time,
    pub level: &'a str,
    pub pid: u64,
    pub tid: u64,
    /// nginx's number of the connection.
    pub connection: Option<u64>,
    pub message: &'a str,
    pub client: Option<&'a str>,
    pub server: Option<&'a str>,
    pub method: Part<'a>,
    pub path: Part<'a>,
    pub protocol: Part<'a>,
    pub subrequest: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub host: Option<&'a str>,
    pub referrer: Option<&'a str>,
    /// Of `stream`: `from/to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_bytes: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_bytes: Option<&'a str>,
}

/// What nginx puts behind the client, in its order.
const TAGS: [(&str, &str); 8] = [
    ("server", ", server: "),
    ("request", ", request: \""),
    ("subrequest", ", subrequest: \""),
    ("upstream", ", upstream: \""),
    ("host", ", host: \""),
    ("referrer", ", referrer: \""),
    ("bytes from/to client", ", bytes from/to client:"),
    ("bytes from/to upstream", ", bytes from/to upstream:"),
];

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

/// Parses a line without its line end; its time is of a zone so many seconds ahead of UTC.
///
/// # Errors
/// Names the part that does not fit.
pub fn parse(line: &str, zone: i64) -> Result<Line<'_>> {
    ensure!(!line.is_empty(), "the line is empty");
    let (time, rest) =
        line.split_at_checked(19).with_context(|| format!("time: `{}` is too short", shortened(line)))?;
    let time = parse_time(time, zone).with_context(|| format!("time `{}`", shortened(time)))?;
    let mut rest = rest.strip_prefix(' ').with_context(|| format!("level: expected a space, found {}", found(rest)))?;
    let level = super::bracketed(&mut rest, "level")?;
    ensure!(LEVELS.contains(&level), "level `{}` is none of `debug` … `emerg`", shortened(level));
    let (process, rest) = rest.split_once(": ").with_context(|| format!("pid: no `: ` behind it: {}", found(rest)))?;
    let (pid, tid) =
        process.split_once('#').with_context(|| format!("pid `{}`: expected `pid#tid`", shortened(process)))?;
    let (pid, tid) = (digits(pid, "pid")?, digits(tid, "tid")?);
    let (connection, rest) = match rest.strip_prefix('*').and_then(|rest| rest.split_once(' ')) {
        Some((connection, rest)) => (Some(digits(connection, "connection")?), rest),
        None => (None, rest),
    };
    let (message, tail) = single(rest, "client", ", client: ")?
        .map_or((rest, None), |at| (&rest[..at], Some(&rest[at + ", client: ".len()..])));
    let (client, [server, request_line, subrequest, upstream, host, referrer, client_bytes, upstream_bytes]) =
        match tail {
            Some(tail) => tags(tail)?,
            None => (None, [None; 8]),
        };
    let others = [subrequest, upstream, host, referrer];
    let (method, path, protocol) = request_line.map_or(Ok((None, None, None)), |text| parts(text, &others))?;
    let server = server.filter(|server| !server.is_empty());
    Ok(Line {
        time,
        level,
        pid,
        tid,
        connection,
        message,
        client,
        server,
        method,
        path,
        protocol,
        subrequest,
        upstream,
        host,
        referrer,
        client_bytes,
        upstream_bytes,
    })
}

/// `2023/10/11 14:32:52`.
fn parse_time(text: &str, zone: i64) -> Result<Time> {
    let &[y3, y2, y1, y0, b'/', m1, m0, b'/', d1, d0, b' ', h1, h0, b':', n1, n0, b':', s1, s0] = text.as_bytes()
    else {
        bail!("expected the form 2023/10/11 14:32:52");
    };
    let civil = Civil {
        year: number(&[y3, y2, y1, y0])?,
        month: number(&[m1, m0])?,
        day: number(&[d1, d0])?,
        hour: number(&[h1, h0])?,
        minute: number(&[n1, n0])?,
        second: number(&[s1, s0])?,
    };
    Ok(Time { seconds: civil.seconds()? - zone, fraction: Fraction::default() })
}

/// Where the text is, if it is there once.
fn single(text: &str, name: &str, tag: &str) -> Result<Option<usize>> {
    let mut found = memmem::find_iter(text.as_bytes(), tag.as_bytes());
    let first = found.next();
    ensure!(
        found.next().is_none(),
        "{name}: `{}` is there twice, and one of them may be a client's text",
        tag.trim_start_matches(", ")
    );
    Ok(first)
}

/// The client, and the value of each tag that is there.
fn tags(tail: &str) -> Result<(Option<&str>, [Option<&str>; 8])> {
    let mut values = [None; 8];
    // Value by value: where it begins, and in which tag; the client first.
    let (mut begin, mut of) = (0, None);
    let mut client = tail;
    let give = check;
    for (index, (name, tag)) in TAGS.iter().enumerate() {
        let Some(at) = single(tail, name, tag)? else { continue };
        let value = tail.get(begin..at).with_context(|| format!("{name} is not where nginx puts it"))?;
        give(of, value)?;
        match of {
            None => client = value,
            Some(of) => values[of] = Some(unquoted(of, value)?),
        }
        (begin, of) = (at + tag.len(), Some(index));
    }
    let value = &tail[begin..];
    give(of, value)?;
    match of {
        None => client = value,
        Some(of) => values[of] = Some(unquoted(of, value)?),
    }
    Ok((Some(client), values))
}

fn unquoted(of: usize, value: &str) -> Result<&str> {
    let (name, tag) = TAGS[of];
    if !tag.ends_with('"') {
        return Ok(value);
    }
    value.strip_suffix('"').with_context(|| format!("{name}: no closing quote"))
}

/// Values that can't hold blanks tell when another's end was taken for theirs.
fn check(of: Option<usize>, value: &str) -> Result<()> {
    match of {
        None => ensure!(
            is_host(value) || value == "unix:",
            "client `{}` is neither an address nor a name",
            shortened(value)
        ),
        Some(1 | 5) => {}
        Some(of) => ensure!(!value.contains(' '), "{} `{}` holds a blank", TAGS[of].0, shortened(value)),
    }
    Ok(())
}

/// The request's parts. One without its protocol may be cut short where something follows it.
fn parts<'a>(text: &'a str, others: &[Option<&str>]) -> Result<(Part<'a>, Part<'a>, Part<'a>)> {
    // nginx escapes nothing here: a backslash is one.
    let plain = |part: &Part<'a>| part.as_ref().is_none_or(|part| matches!(part, Cow::Borrowed(_)));
    let (method, path, protocol) = request(text);
    let whole = protocol.is_some() || others.iter().all(Option::is_none);
    ensure!(whole, "request `{}` has no protocol, but something follows it", shortened(text));
    if plain(&method) && plain(&path) && plain(&protocol) {
        return Ok((method, path, protocol));
    }
    let raw = text.split_once(' ').filter(|_| method.is_some()).map_or(text, |(_, target)| target);
    let raw = raw.rsplit_once(' ').filter(|_| protocol.is_some()).map_or(raw, |(path, _)| path);
    Ok((method, Some(Cow::Borrowed(raw)), protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::serde_json::{Value, to_value};

    /// What of the object is not `null`, behind the time and the process.
    fn parsed(rest: &str) -> String {
        match parse(&format!("2023/10/11 14:32:52 [error] 12#34: {rest}"), 0) {
            Err(error) => error.to_string(),
            Ok(line) => {
                let value = to_value(&line).unwrap();
                let shown = |name: &&str| {
                    value
                        .get(*name)
                        .filter(|value| **value != Value::Null)
                        .map(|value| format!("{name}={}", value.as_str().map_or(value.to_string(), str::to_owned)))
                };
                let names = [
                    "connection",
                    "message",
                    "client",
                    "server",
                    "method",
                    "path",
                    "protocol",
                    "subrequest",
                    "upstream",
                    "host",
                    "referrer",
                    "client_bytes",
                    "upstream_bytes",
                ];
                names.iter().filter_map(shown).collect::<Vec<_>>().join("|")
            }
        }
    }

    #[test]
    fn lines_are_taken_apart() {
        let check = |rest: &str, expected: &str| assert_eq!(parsed(rest), expected, "{rest}");
        check("using the \"epoll\" event method", "message=using the \"epoll\" event method");
        check(
            r#"*9 open() "/srv/x" failed (2: No such file or directory), client: 192.0.2.7, server: example.com, request: "GET /x?a, b HTTP/1.1", host: "example.com", referrer: "http://a/"b""#,
            r#"connection=9|message=open() "/srv/x" failed (2: No such file or directory)|client=192.0.2.7|server=example.com|method=GET|path=/x?a, b|protocol=HTTP/1.1|host=example.com|referrer=http://a/"b"#,
        );
        check(
            r#"*9 upstream timed out, client: 2001:db8::1, server: , request: "POST /a\x HTTP/1.1", subrequest: "/s", upstream: "http://10.0.0.1:80/a", host: "h:80""#,
            r"connection=9|message=upstream timed out|client=2001:db8::1|method=POST|path=/a\x|protocol=HTTP/1.1|subrequest=/s|upstream=http://10.0.0.1:80/a|host=h:80",
        );
        check(
            r#"*1 client sent invalid method, client: 192.0.2.7, server: _, request: "\x16 "quoted"""#,
            r#"connection=1|message=client sent invalid method|client=192.0.2.7|server=_|path=\x16 "quoted""#,
        );
        check(
            r#"*5 recv() failed, client: unix:, server: 0.0.0.0:12, upstream: "10.0.0.1:5", bytes from/to client:1/0, bytes from/to upstream:0/1"#,
            "connection=5|message=recv() failed|client=unix:|server=0.0.0.0:12|upstream=10.0.0.1:5|client_bytes=1/0|upstream_bytes=0/1",
        );
    }

    #[test]
    fn clients_cannot_make_tags() {
        let check = |request: &str, expected: &str| {
            let line = format!(r#"*9 x, client: 192.0.2.7, server: s, request: "{request}", host: "h""#);
            assert_eq!(parsed(&line), expected, "{request}");
        };
        check(
            r#"GET /", host: "evil HTTP/1.1"#,
            "host: `host: \"` is there twice, and one of them may be a client's text",
        );
        check(r#"GET /", referrer: "r HTTP/1.1"#, "referrer is not where nginx puts it");
        check(r#"GET /", upstream: "u HTTP/1.1"#, "upstream `u HTTP/1.1\"` holds a blank");
        check(r#"GET /", upstream: "u"#, "request `GET /` has no protocol, but something follows it");
        check(
            "GET /, client: 10.0.0.1 HTTP/1.1",
            "client: `client: ` is there twice, and one of them may be a client's text",
        );
        check(
            "GET / HTTP/1.1",
            "connection=9|message=x|client=192.0.2.7|server=s|method=GET|path=/|protocol=HTTP/1.1|host=h",
        );
    }

    #[test]
    fn broken_lines_name_the_part() {
        let check =
            |line: &str, expected: &str| assert_eq!(parse(line, 0).unwrap_err().to_string(), expected, "{line}");
        check("", "the line is empty");
        check("2023/10/11", "time: `2023/10/11` is too short");
        check(
            "2023-10-11 14:32:52 [error] 1#1: x",
            "time `2023-10-11 14:32:52`: expected the form 2023/10/11 14:32:52",
        );
        check("2023/13/11 14:32:52 [error] 1#1: x", "time `2023/13/11 14:32:52`: no such month");
        check("2023/10/11 14:32:52 error", "level: expected `[`, found `error`");
        check("2023/10/11 14:32:52 [fatal] 1#1: x", "level `fatal` is none of `debug` … `emerg`");
        check("2023/10/11 14:32:52 [warn] 11: x", "pid `11`: expected `pid#tid`");
        check("2023/10/11 14:32:52 [warn] 1#b: x", "tid `b` is not a number");
        check("2023/10/11 14:32:52 [warn] 1#1: *x y", "connection `x` is not a number");
        check(
            "2023/10/11 14:32:52 [warn] 1#1: *1 y, client: a, b, server: c",
            "client `a, b` is neither an address nor a name",
        );
    }
}
