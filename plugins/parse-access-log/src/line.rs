//! The forms that have a name: `host ident user [time] "request" status bytes`, in the combined ones with
//! `"referer" "user agent"` behind, in those of virtual hosts with `name:port` in front. Fields borrow from the line unless
//! they hold escapes. `-` stands for an absent field. What is said about columns here agrees with [`crate::declared`],
//! which reads the same forms more slowly from the servers' own strings; a test holds them together.

use std::borrow::Cow;

use memchr::memchr_iter;
use millstream_plugin::prelude::*;

use crate::text::{
    Part, closing_quote, is_host, is_user, present, request, shortened, split_at, status_code, unescape, vhost,
};
use crate::time::Time;

/// Which fields a line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Common, combined, or one of these with a virtual host: whichever the line is. Each is known by its shape.
    #[default]
    Auto,
    /// Ends after the number of bytes.
    Common,
    /// Has the referer and the user agent too.
    Combined,
    /// Combined, with the virtual host and its port in front.
    VhostCombined,
    /// What nginx writes when it is told nothing: combined, always `-` for the ident.
    Nginx,
}

/// A parsed line, in the order in which it is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry<'a> {
    pub time: Time,
    /// In forms with a virtual host only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<&'a str>,
    /// Beside `vhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub host: &'a str,
    pub user: Option<Cow<'a, str>>,
    /// `None` when the client sent no request (`-`) or something that is not HTTP.
    pub method: Option<Cow<'a, str>>,
    /// The request's target; all of the request when it is not HTTP.
    pub path: Option<Cow<'a, str>>,
    /// `None` for HTTP/0.9, which names none.
    pub protocol: Option<Cow<'a, str>>,
    pub status: u16,
    pub bytes: Option<u64>,
    pub referer: Option<Cow<'a, str>>,
    pub user_agent: Option<Cow<'a, str>>,
}

/// Parses a line, without or with its line end.
///
/// # Errors
/// Names the first field that does not fit.
pub fn parse(line: &str, format: Format) -> Result<Entry<'_>> {
    let mut rest = Rest(line.trim_end());
    ensure!(!rest.0.is_empty(), "the line is empty");
    let (vhost, host) = hosts(&mut rest, format)?;
    let ident = rest.word("ident")?;
    ensure_ident(ident, format)?;
    let (user, time, after) = user_and_time(rest.0)?;
    let user = user_name(user)?;
    rest.0 = after;
    let (method, path, protocol) = request(rest.quoted("request")?);
    rest.space("status")?;
    let status = rest.word("status")?;
    let status = status_code(status).with_context(|| format!("status `{status}` is not a number of three digits"))?;
    let bytes = byte_count(rest.word("bytes")?)?;
    let common = match format {
        Format::Common => true,
        Format::Combined | Format::VhostCombined | Format::Nginx => false,
        Format::Auto => rest.0.is_empty(),
    };
    let (referer, user_agent) = if common {
        (None, None)
    } else {
        let referer = rest.quoted("referer")?;
        rest.space("user agent")?;
        (present(unescape(referer)), present(unescape(rest.quoted("user agent")?)))
    };
    ensure!(rest.0.is_empty(), "the line goes on after its last field: `{}`", shortened(rest.0));
    let (vhost, port) = vhost.unzip();
    Ok(Entry { time, vhost, port, host, user, method, path, protocol, status, bytes, referer, user_agent })
}

/// Takes the columns before the ident: a virtual host where the form has one, and the client.
fn hosts<'a>(rest: &mut Rest<'a>, format: Format) -> Result<(Option<(&'a str, u16)>, &'a str)> {
    let host = rest.word("host")?;
    // Names and IPv4 addresses are nearly all there is, and can't be taken for a virtual host.
    if format != Format::VhostCombined && (is_host(host) || (format == Format::Nginx && host == "unix:")) {
        return Ok((None, host));
    }
    match (format, vhost(host)) {
        (Format::Auto | Format::VhostCombined, Some(vhost)) => {
            let host = rest.word("host")?;
            ensure!(is_host(host), "host `{}` is neither an address nor a name", shortened(host));
            Ok((Some(vhost), host))
        }
        (Format::VhostCombined, None) => bail!("vhost `{}` is not of the form `name:port`", shortened(host)),
        (_, Some(_)) => bail!(
            "host `{}` is neither an address nor a name; lines with a virtual host in front are \
                               of the format `vhost_combined`",
            shortened(host)
        ),
        (_, None) if host.ends_with(',') => {
            bail!("host `{}` begins a list: declare its form, such as `%{{X-Forwarded-For}}i %l %u …`", shortened(host))
        }
        (_, None) => bail!("host `{}` is neither an address nor a name", shortened(host)),
    }
}

/// A user's name may hold spaces, and even what looks like a time; the time that a quote follows is what ends it.
fn user_and_time(text: &str) -> Result<(&str, Time, &str)> {
    let (user, after) = split_at_pair(text, *b" [").context("time: expected `[`, found the end of the line")?;
    let (time, after) = split_at_pair(after, *b"] ").context("time: no closing `]`")?;
    match Time::parse(time) {
        Ok(time) if after.starts_with('"') => Ok((user, time, after)),
        parsed => last_time(text)
            .map_or_else(|| Ok((user, parsed.with_context(|| format!("time `{}`", shortened(time)))?, after)), Ok),
    }
}

/// The time before the first quote.
#[cold]
fn last_time(text: &str) -> Option<(&str, Time, &str)> {
    let (head, after) = text.split_at(text.find('"')?);
    let (user, time) = head.strip_suffix("] ")?.rsplit_once(" [")?;
    Some((user, Time::parse(time).ok()?, after))
}

/// An ident that is an address tells that a column stands before the host.
fn ensure_ident(ident: &str, format: Format) -> Result<()> {
    if ident == "-" {
        return Ok(());
    }
    ensure!(format != Format::Nginx, "ident `{}`: nginx writes `-` here", shortened(ident));
    ensure!(
        !is_host(ident) || !ident.contains(['.', ':']),
        "ident `{}` is an address or a name: there is a column too many before it",
        shortened(ident)
    );
    Ok(())
}

fn user_name(user: &str) -> Result<Part<'_>> {
    if matches!(user, "-" | "" | "\"\"") {
        return Ok(None);
    }
    ensure!(is_user(user), "user `{}`: a `-` alone in it is a column too many", shortened(user));
    Ok(Some(unescape(user)))
}

fn byte_count(bytes: &str) -> Result<Option<u64>> {
    if bytes == "-" {
        return Ok(None);
    }
    ensure!(!bytes.starts_with('+'), "bytes `{}`: invalid digit found in string", shortened(bytes));
    Ok(Some(bytes.parse().with_context(|| format!("bytes `{}`", shortened(bytes)))?))
}

/// What of the line is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Takes up to the next space, and the space.
    fn word(&mut self, field: &str) -> Result<&'a str> {
        let (word, after) = split_at(self.0, b' ').unwrap_or((self.0, ""));
        ensure!(!word.is_empty(), "{field} is missing");
        self.0 = after;
        Ok(word)
    }

    /// Takes what stands in quotes, escapes as they are. An escaped quote does not end it.
    fn quoted(&mut self, field: &str) -> Result<&'a str> {
        let Some(inner) = self.0.strip_prefix('"') else {
            bail!("{field}: expected `\"`, found {}", self.next());
        };
        let end = closing_quote(inner.as_bytes()).with_context(|| format!("{field}: no closing quote"))?;
        self.0 = &inner[end + 1..];
        Ok(&inner[..end])
    }

    /// Takes the space before `field`.
    fn space(&mut self, field: &str) -> Result<()> {
        let Some(after) = self.0.strip_prefix(' ') else {
            bail!("{field}: expected a space before it, found {}", self.next());
        };
        self.0 = after;
        Ok(())
    }

    fn next(&self) -> String {
        self.0.chars().next().map_or("the end of the line".to_owned(), |char| format!("`{char}`"))
    }
}

/// As `str::split_once` with two ASCII characters.
fn split_at_pair(text: &str, [first, second]: [u8; 2]) -> Option<(&str, &str)> {
    let found = memchr_iter(second, text.as_bytes()).find(|at| *at > 0 && text.as_bytes()[at - 1] == first);
    found.map(|at| (&text[..at - 1], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"h - - [17/May/2015:10:05:03 +0000] "#;

    fn entry(rest: &str) -> String {
        let line = format!("{BASE}{rest}");
        match parse(&line, Format::Auto) {
            Ok(e) => {
                let show = |part: &Part<'_>| part.as_deref().unwrap_or("none").to_owned();
                let bytes = e.bytes.map_or("none".to_owned(), |bytes| bytes.to_string());
                let request = [&e.method, &e.path, &e.protocol].map(show).join("|");
                format!("{request}|{}|{bytes}|{}|{}", e.status, show(&e.referer), show(&e.user_agent))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lines_of_both_formats() {
        let check = |rest: &str, expected: &str| assert_eq!(entry(rest), expected, "{rest}");
        check(r#""GET / HTTP/1.0" 200 5"#, "GET|/|HTTP/1.0|200|5|none|none");
        check(r#""GET / HTTP/1.0" 304 -"#, "GET|/|HTTP/1.0|304|none|none|none");
        check("\"GET / HTTP/1.0\" 200 5 \"r\" \"a b\"\r\n", "GET|/|HTTP/1.0|200|5|r|a b");
        check(r#""GET /a b c HTTP/2.0" 200 0 "-" "-""#, "GET|/a b c|HTTP/2.0|200|0|none|none");
        check(r#""GET /old" 200 0"#, "GET|/old|none|200|0|none|none");
        check(r#""-" 408 0 "-" "-""#, "none|none|none|408|0|none|none");
        check(r#""\x16\x03\x01 hello" 400 226 "" """#, "none|\u{16}\u{3}\u{1} hello|none|400|226|none|none");
        check(r#""GET / HTTP/1.1" 200 1 "a\"b" "c\\" "#, "GET|/|HTTP/1.1|200|1|a\"b|c\\");
        check(r#""GET / HTTP/1.1" 200 1 "http://\xe4/" "\xc3\xbc\q""#, "GET|/|HTTP/1.1|200|1|http://\u{fffd}/|ü\\q");
    }

    #[test]
    fn broken_lines_name_the_field() {
        let check = |rest: &str, expected: &str| assert_eq!(entry(rest), expected, "{rest}");
        check("GET / HTTP/1.0 200 5", "request: expected `\"`, found `G`");
        check("", "time: no closing `]`");
        check(r#""GET / HTTP/1.0"#, "request: no closing quote");
        check(r#""GET / HTTP/1.0\" 200 5"#, "request: no closing quote");
        check(r#""GET / HTTP/1.0""#, "status: expected a space before it, found the end of the line");
        check(r#""GET / HTTP/1.0" "#, "status: expected a space before it, found the end of the line");
        check(r#""GET / HTTP/1.0" two-hundred 5"#, "status `two-hundred` is not a number of three digits");
        check(r#""GET / HTTP/1.0" +20 5"#, "status `+20` is not a number of three digits");
        check(r#""GET / HTTP/1.0" 200"#, "bytes is missing");
        check(r#""GET / HTTP/1.0" 200 many"#, "bytes `many`: invalid digit found in string");
        check(r#""GET / HTTP/1.0" 200 5 x"#, "referer: expected `\"`, found `x`");
        check(r#""GET / HTTP/1.0" 200 5 "x""#, "user agent: expected a space before it, found the end of the line");
        check(r#""GET / HTTP/1.0" 200 5 "x" "y"#, "user agent: no closing quote");
        check(r#""GET / HTTP/1.0" 200 5 "x" "y" 0.3"#, "the line goes on after its last field: ` 0.3`");
    }

    #[test]
    fn formats_are_told_apart_when_asked_to() {
        let common = format!(r#"{BASE}"GET / HTTP/1.0" 200 5"#);
        let combined = format!(r#"{common} "r" "a""#);
        assert!(parse(&common, Format::Common).is_ok());
        assert!(parse(&combined, Format::Combined).is_ok());
        let check = |line: &str, format, expected: &str| {
            assert_eq!(parse(line, format).unwrap_err().to_string(), expected);
        };
        check(&common, Format::Combined, "referer: expected `\"`, found the end of the line");
        check(&combined, Format::Common, "the line goes on after its last field: `\"r\" \"a\"`");
        check("  ", Format::Auto, "the line is empty");
        check("one", Format::Auto, "ident is missing");
    }

    #[test]
    fn users_may_have_spaces() {
        let line = r#"2001:db8::1 id Ann B. Cole [17/May/2015:10:05:03 +0000] "GET / HTTP/1.0" 200 5"#;
        let entry = parse(line, Format::Auto).unwrap();
        assert_eq!((entry.host, entry.user.as_deref()), ("2001:db8::1", Some("Ann B. Cole")));
    }
}
