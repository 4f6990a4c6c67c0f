//! Apache's error log as its default `ErrorLogFormat` writes it, and as version 2.2 did:
//! `[time] [module:level] [pid N:tid N] source: (error)text: [client address:port] AH00128: message`.
//!
//! A referer at the end stays in the message: a path in front of it, which the client chose, may look the same.

use std::borrow::Cow;

use millstream_plugin::prelude::*;

use super::{bracketed, digits};
use crate::text::{is_host, shortened, split_at, unescape};
use crate::time::{Civil, Fraction, Time, month_named, number};

/// A parsed line, in the order in which it is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    pub time: Time,
    /// `None` before version 2.4.
    pub module: Option<&'a str>,
    pub level: &'a str,
    pub pid: Option<u64>,
    pub tid: Option<u64>,
    /// File and line of the server's own source, for debugging.
    pub source: Option<&'a str>,
    /// What the system said: `13`, `EAI 2`.
    pub error_code: Option<&'a str>,
    pub error: Option<&'a str>,
    pub client: Option<&'a str>,
    pub client_port: Option<u64>,
    /// The other side of a connection that the server made.
    pub remote: Option<&'a str>,
    pub remote_port: Option<u64>,
    /// Of the message: `AH00128`.
    pub code: Option<&'a str>,
    pub message: Cow<'a, str>,
}

/// Parses a line without its line end; its time is of a zone so many seconds ahead of UTC.
///
/// # Errors
/// Names the part that does not fit.
pub fn parse(line: &str, zone: i64) -> Result<Line<'_>> {
    ensure!(!line.is_empty(), "the line is empty");
    let mut rest = line;
    let text = bracketed(&mut rest, "time")?;
    let time = time(text, zone).with_context(|| format!("time `{}`", shortened(text)))?;
    let level = bracketed(&mut rest, "level")?;
    let (module, level) = split_at(level, b':').map_or((None, level), |(module, level)| (Some(module), level));
    ensure!(is_level(level), "level `{}` is none of `emerg` … `trace8`", shortened(level));
    let (pid, tid) = process(&mut rest, module.is_some())?;
    let source = if level.starts_with("debug") || level.starts_with("trace") { source(&mut rest) } else { None };
    let (error_code, error) = system_error(&mut rest).unzip();
    let (client, client_port) = peer("client", &mut rest, module.is_some())?.unzip();
    let (remote, remote_port) = if client.is_none() { peer("remote", &mut rest, true)?.unzip() } else { (None, None) };
    let code = code(&mut rest);
    let module = module.filter(|module| *module != "-");
    let (client_port, remote_port) = (client_port.flatten(), remote_port.flatten());
    let message = unescape(rest);
    Ok(Line {
        time,
        module,
        level,
        pid,
        tid,
        source,
        error_code,
        error,
        client,
        client_port,
        remote,
        remote_port,
        code,
        message,
    })
}

/// `Fri Sep 09 10:42:29.902022 2011`, the fraction perhaps left out.
fn time(text: &str, zone: i64) -> Result<Time> {
    let form = "expected the form Fri Sep 09 10:42:29.902022 2011";
    let (head, year) = text.rsplit_once(' ').context(form)?;
    let (head, fraction) = match head.rsplit_once('.') {
        Some((head, digits)) => (head, Fraction::parse(digits)?),
        None => (head, Fraction::default()),
    };
    let &[_, _, _, b' ', m0, m1, m2, b' ', d1, d0, b' ', h1, h0, b':', n1, n0, b':', s1, s0] = head.as_bytes() else {
        bail!("{form}");
    };
    ensure!(year.len() == 4, "{form}");
    let civil = Civil {
        year: number(year.as_bytes())?,
        month: month_named([m0, m1, m2])?,
        day: number(if d1 == b' ' { &head.as_bytes()[9..10] } else { &head.as_bytes()[8..10] })?,
        hour: number(&[h1, h0])?,
        minute: number(&[n1, n0])?,
        second: number(&[s1, s0])?,
    };
    ensure!(d1 != b' ' || d0.is_ascii_digit(), "{form}");
    Ok(Time { seconds: civil.seconds()? - zone, fraction })
}

fn is_level(text: &str) -> bool {
    let named = ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"].contains(&text);
    named || matches!(text.strip_prefix("trace").map(str::as_bytes), Some([b'1'..=b'8']))
}

/// `[pid 35708:tid 4328636416]`; versions before 2.4 have none.
fn process(rest: &mut &str, needed: bool) -> Result<(Option<u64>, Option<u64>)> {
    if !needed && !rest.starts_with("[pid ") {
        return Ok((None, None));
    }
    let text = bracketed(rest, "pid")?;
    let text =
        text.strip_prefix("pid ").with_context(|| format!("pid: expected `pid`, found `{}`", shortened(text)))?;
    match text.split_once(":tid ") {
        Some((pid, tid)) => Ok((Some(digits(pid, "pid")?), Some(digits(tid, "tid")?))),
        None => Ok((Some(digits(text, "pid")?), None)),
    }
}

/// `mod_ssl.c(415): `.
fn source<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (source, after) = rest.split_once(": ")?;
    let (file, line) = source.strip_suffix(')')?.rsplit_once('(')?;
    let is_file = file.contains('.') && file.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_file || digits(line, "").is_err() {
        return None;
    }
    *rest = after;
    Some(source)
}

/// `(13)Permission denied: `.
fn system_error<'a>(rest: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let (code, after) = rest.strip_prefix('(')?.split_once(')')?;
    let number = ["EAI ", "OS ", "os 0x"].iter().find_map(|prefix| code.strip_prefix(prefix)).unwrap_or(code);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (text, after) = after.split_once(": ")?;
    *rest = after;
    Some((code, text))
}

/// `[client 192.0.2.7:57952] `; without the port before version 2.4.
fn peer<'a>(name: &str, rest: &mut &'a str, with_port: bool) -> Result<Option<(&'a str, Option<u64>)>> {
    let Some(after) = rest.strip_prefix('[').and_then(|rest| rest.strip_prefix(name)?.strip_prefix(' ')) else {
        return Ok(None);
    };
    let (peer, after) = after.split_once("] ").with_context(|| format!("{name}: no closing `]`"))?;
    let (address, port) = if with_port {
        let (address, port) =
            peer.rsplit_once(':').with_context(|| format!("{name} `{}` has no port", shortened(peer)))?;
        (address, Some(digits(port, &format!("{name}'s port"))?))
    } else {
        (peer, None)
    };
    ensure!(is_host(address), "{name} `{}` is neither an address nor a name", shortened(address));
    *rest = after;
    Ok(Some((address, port)))
}

/// `AH00128: `.
fn code<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (code, after) = rest.split_once(": ")?;
    let number = code.strip_prefix("AH")?;
    if number.len() != 5 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    *rest = after;
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::serde_json::{Value, to_value};

    /// What of the object is not `null`.
    fn parsed(line: &str) -> String {
        match parse(line, 7200) {
            Err(error) => error.to_string(),
            Ok(line) => {
                let value = to_value(&line).unwrap();
                let fields = value.as_object().unwrap().iter().filter(|(_, value)| **value != Value::Null);
                fields
                    .map(|(name, value)| format!("{name}={}", value.as_str().map_or(value.to_string(), str::to_owned)))
                    .collect::<Vec<_>>()
                    .join("|")
            }
        }
    }

    fn check(line: &str, expected: &[&str]) {
        let found = parsed(line);
        let mut found: Vec<&str> = found.split('|').collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn lines_are_taken_apart() {
        check(
            "[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] [client 72.15.99.187:57952] AH00128: File does not exist: /srv/favicon.ico",
            &[
                "time=2011-09-09T08:42:29.902022Z",
                "module=core",
                "level=error",
                "pid=35708",
                "tid=4328636416",
                "client=72.15.99.187",
                "client_port=57952",
                "code=AH00128",
                "message=File does not exist: /srv/favicon.ico",
            ],
        );
        check(
            "[Sat Oct 1 10:42:29 2011] [error] x",
            &["time `Sat Oct 1 10:42:29 2011`: expected the form Fri Sep 09 10:42:29.902022 2011"],
        );
        check(
            "[Sat Oct  1 10:42:29 2011] [error] [client ::1] client denied: /x, referer: http://a/",
            &[
                "time=2011-10-01T08:42:29Z",
                "level=error",
                "client=::1",
                "message=client denied: /x, referer: http://a/",
            ],
        );
        check(
            "[Fri Sep 09 10:42:29.902022 2011] [authz_core:debug] [pid 7] mod_authz_core.c(817): (13)Permission denied: [client 2001:db8::1:57952] AH01626: [x] granted\\n",
            &[
                "time=2011-09-09T08:42:29.902022Z",
                "module=authz_core",
                "level=debug",
                "pid=7",
                "source=mod_authz_core.c(817)",
                "error_code=13",
                "error=Permission denied",
                "client=2001:db8::1",
                "client_port=57952",
                "code=AH01626",
                "message=[x] granted\n",
            ],
        );
    }

    #[test]
    fn parts_may_be_left_out() {
        check(
            "[Fri Sep 09 10:42:29.902022 2011] [mpm_event:notice] [pid 7:tid 8] AH00489: Apache/2.4.57 (Unix) configured",
            &[
                "time=2011-09-09T08:42:29.902022Z",
                "module=mpm_event",
                "level=notice",
                "pid=7",
                "tid=8",
                "code=AH00489",
                "message=Apache/2.4.57 (Unix) configured",
            ],
        );
        check(
            "[Fri Sep 09 10:42:29.902022 2011] [proxy_http:error] [pid 7] (70014)End of file found: [remote 10.0.0.1:8080] AH01102: error reading",
            &[
                "time=2011-09-09T08:42:29.902022Z",
                "module=proxy_http",
                "level=error",
                "pid=7",
                "error_code=70014",
                "error=End of file found",
                "remote=10.0.0.1",
                "remote_port=8080",
                "code=AH01102",
                "message=error reading",
            ],
        );
        check(
            "[Fri Sep 09 10:42:29.902022 2011] [-:warn] [pid 7] (see the docs) AH1: x",
            &["time=2011-09-09T08:42:29.902022Z", "level=warn", "pid=7", "message=(see the docs) AH1: x"],
        );
    }

    #[test]
    fn broken_lines_name_the_part() {
        let check = |line: &str, expected: &str| assert_eq!(parsed(line), expected, "{line}");
        check("", "the line is empty");
        check("caught SIGTERM", "time: expected `[`, found `caught SIGTERM`");
        check("[Fri Sep 31 10:42:29.9 2011] [core:error] [pid 1] x", "time `Fri Sep 31 10:42:29.9 2011`: no such day");
        check("[Fri Sep 09 10:42:29.9 2011] [core:fatal] [pid 1] x", "level `fatal` is none of `emerg` … `trace8`");
        check(
            "[Fri Sep 09 10:42:29.9 2011] [core:error] [client 1.2.3.4:5] x",
            "pid: expected `pid`, found `client 1.2.3.4:5`",
        );
        check("[Fri Sep 09 10:42:29.9 2011] [core:error] [pid x] x", "pid `x` is not a number");
        check(
            "[Fri Sep 09 10:42:29.9 2011] [core:error] [pid 1] [client a, b:5] x",
            "client `a, b` is neither an address nor a name",
        );
        check("[Fri Sep 09 10:42:29.9 2011] [core:error] [pid 1] [client 1.2.3.4] x", "client `1.2.3.4` has no port");
    }
}
