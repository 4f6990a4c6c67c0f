//! The forms that have a name: `host ident user [time] "request" status bytes`, in the combined ones with
//! `"referer" "user agent"` behind, in those of virtual hosts with `name:port` in front. Fields borrow from the line unless
//! they hold escapes. `-` stands for an absent field. What is said about columns here agrees with [`crate::declared`],
//! which reads the same forms more slowly from the servers' own strings; a test holds them together.

use std::borrow::Cow;
use std::io::Write as _;

use memchr::memchr_iter;
use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use crate::declared::column::Kind;
use crate::text::{
    Part, closing_quote, is_host, is_plain, is_user, present, request, shortened, split_at, status_code, unescape,
    vhost, write_plain, write_text,
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
    pub host: Option<&'a str>,
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
    /// Whether what is borrowed has nothing that JSON escapes.
    #[serde(skip)]
    plain: bool,
}

impl Entry<'_> {
    /// Appends what serialising gives, in half the time: most texts need no look for what JSON escapes.
    ///
    /// # Errors
    /// None that can happen: bytes take any text.
    pub fn write(&self, json: &mut Vec<u8>) -> Result<()> {
        json.extend_from_slice(b"{\"time\":");
        self.time.write(json)?;
        if let (Some(vhost), Some(port)) = (self.vhost, self.port) {
            json.extend_from_slice(b",\"vhost\":");
            write_plain(json, vhost);
            write!(json, ",\"port\":{port}")?;
        }
        json.extend_from_slice(b",\"host\":");
        match self.host {
            Some(host) => write_plain(json, host),
            None => json.extend_from_slice(b"null"),
        }
        part(json, b",\"user\":", &self.user, self.plain)?;
        part(json, b",\"method\":", &self.method, self.plain)?;
        part(json, b",\"path\":", &self.path, self.plain)?;
        part(json, b",\"protocol\":", &self.protocol, self.plain)?;
        json.extend_from_slice(b",\"status\":");
        serde_json::to_writer(&mut *json, &self.status)?;
        json.extend_from_slice(b",\"bytes\":");
        match self.bytes {
            Some(bytes) => serde_json::to_writer(&mut *json, &bytes)?,
            None => json.extend_from_slice(b"null"),
        }
        part(json, b",\"referer\":", &self.referer, self.plain)?;
        part(json, b",\"user_agent\":", &self.user_agent, self.plain)?;
        json.push(b'}');
        Ok(())
    }
}

/// `name` is with its comma and colon.
fn part(json: &mut Vec<u8>, name: &[u8], part: &Part<'_>, plain: bool) -> Result<()> {
    json.extend_from_slice(name);
    match part {
        Some(text) => return write_text(json, text, plain),
        None => json.extend_from_slice(b"null"),
    }
    Ok(())
}

/// Parses a line, without or with its line end.
///
/// # Errors
/// Names the first field that does not fit.
pub fn parse(line: &str, format: Format) -> Result<Entry<'_>> {
    let line = line.trim_end();
    let mut rest = Rest(line);
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
    let plain = is_plain(line);
    let host = Some(host).filter(|host| *host != "-");
    Ok(Entry { time, vhost, port, host, user, method, path, protocol, status, bytes, referer, user_agent, plain })
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
    let (head, after) = text.split_at(closing_quote(text.as_bytes())?);
    let (user, time) = head.strip_suffix("] ")?.rsplit_once(" [")?;
    Some((user, Time::parse(time).ok()?, after))
}

/// An ident that is an address tells that a column stands before the host.
fn ensure_ident(ident: &str, format: Format) -> Result<()> {
    if ident == "-" {
        return Ok(());
    }
    let fits = ident.bytes().all(|byte| Kind::Ident.holds(byte));
    ensure!(fits, "ident `{}` holds a quote or a control character", shortened(ident));
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
    ensure!(closing_quote(user.as_bytes()).is_none(), "user `{}` holds a quote without a backslash", shortened(user));
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
        assert_eq!((entry.host, entry.user.as_deref()), (Some("2001:db8::1"), Some("Ann B. Cole")));
    }

    const REST: &str = r#"[17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;

    /// The columns before the time, `~` for one that is absent.
    fn head(format: Format, head: &str, tail: &str) -> String {
        let line = format!("{head} {REST}{tail}");
        match parse(&line, format) {
            Ok(entry) => {
                let vhost = entry.vhost.map(|vhost| format!("{vhost}|{}|", entry.port.unwrap())).unwrap_or_default();
                format!("{vhost}{}|{}", entry.host.unwrap_or("~"), entry.user.as_deref().unwrap_or("~"))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_virtual_host_is_known_by_its_shape() {
        let check = |line: &str, expected: &str| {
            assert_eq!(head(Format::Auto, line, ""), expected, "{line}");
            assert_eq!(head(Format::Auto, line, r#" "-" "-""#), expected, "{line}");
        };
        check("192.0.2.7 - -", "192.0.2.7|~");
        check("2001:db8::80 - ann", "2001:db8::80|ann");
        check("fe80::1%eth0 - -", "fe80::1%eth0|~");
        check("example.com:80 192.0.2.7 - -", "example.com|80|192.0.2.7|~");
        check("[2001:db8::1]:443 2001:db8::2 - Ann Cole", "[2001:db8::1]|443|2001:db8::2|Ann Cole");
        check("abc:80 h - -", "abc|80|h|~");
        check("example.com:80 - - -", "example.com|80|~|~");
        check("example.com:http h - -", "host `example.com:http` is neither an address nor a name");
        check("example.com:99999 h - -", "host `example.com:99999` is neither an address nor a name");
        check("example.com:80 example.org:80 - -", "host `example.org:80` is neither an address nor a name");
    }

    #[test]
    fn no_column_shifts() {
        let check = |format, line: &str, expected: &str| {
            let tail = if format == Format::Common { "" } else { r#" "-" "-""# };
            assert_eq!(head(format, line, tail), expected, "{format:?}: {line}");
        };
        let use_vhost = "host `example.com:80` is neither an address nor a name; lines with a virtual host in front are of the \
                         format `vhost_combined`";
        for format in [Format::Common, Format::Combined, Format::Nginx] {
            check(format, "example.com:80 192.0.2.7 - -", use_vhost);
        }
        let list = "host `192.0.2.7,` begins a list: declare its form, such as `%{X-Forwarded-For}i %l %u …`";
        let user = "user `- -`: a `-` alone in it is a column too many";
        for format in [Format::Auto, Format::Common, Format::Combined, Format::Nginx] {
            check(format, "192.0.2.7, 10.0.0.1 - -", list);
            check(format, "192.0.2.7,10.0.0.1 - -", "host `192.0.2.7,10.0.0.1` is neither an address nor a name");
            check(format, "h - - -", user);
            check(format, "h - ann -", "user `ann -`: a `-` alone in it is a column too many");
        }
        check(Format::Common, "example.com h - -", user);
        check(Format::Nginx, "h x ann", "ident `x`: nginx writes `-` here");
        check(Format::Nginx, "unix: - ann", "unix:|ann");
        check(Format::Common, "unix: - ann", "host `unix:` is neither an address nor a name");
        let ident = "ident `192.0.2.7` is an address or a name: there is a column too many before it";
        check(Format::Common, "example.com 192.0.2.7 x ann", ident);
        check(Format::VhostCombined, "example.com:80 h - -", "example.com|80|h|~");
        check(Format::VhostCombined, "h - -", "vhost `h` is not of the form `name:port`");
        check(Format::VhostCombined, "2001:db8::1 h - -", "vhost `2001:db8::1` is not of the form `name:port`");
    }

    #[test]
    fn users_may_hold_what_looks_like_a_time() {
        let check = |line: &str, expected: &str| assert_eq!(head(Format::Common, line, ""), expected, "{line}");
        check("h - a [b] c", "h|a [b] c");
        check("h - a [17/May/2015:10:05:03 +0000] b", "h|a [17/May/2015:10:05:03 +0000] b");
        check(r#"h - a\"b\x20"#, "h|a\"b ");
        check("h - \"\"", "h|~");
        check("h - a\"b", "user `a\"b` holds a quote without a backslash");
    }

    #[test]
    fn sizes_are_numbers() {
        let check =
            |bytes: &str, expected: &str| assert_eq!(entry(&format!("\"GET / HTTP/1.0\" 200 {bytes}")), expected);
        check("18446744073709551615", "GET|/|HTTP/1.0|200|18446744073709551615|none|none");
        check("18446744073709551616", "bytes `18446744073709551616`: number too large to fit in target type");
        check("+5", "bytes `+5`: invalid digit found in string");
        check("-1", "bytes `-1`: invalid digit found in string");
    }
}
