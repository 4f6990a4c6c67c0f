//! The grammar of a line: `host ident user [time] "request" status bytes`, and in the combined format
//! `"referer" "user agent"`. Fields borrow from the line unless they hold escapes. `-` stands for an absent field.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};
use millstream_plugin::prelude::*;

use crate::Format;
use crate::time::Time;

/// A parsed line, in the order in which it is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry<'a> {
    pub time: Time,
    pub host: &'a str,
    pub user: Option<&'a str>,
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
    let host = rest.word("host")?;
    rest.word("ident")?;
    // A user's name may hold spaces; the time's bracket is what ends it.
    let (user, after) = split_at_pair(rest.0, *b" [").context("time: expected `[`, found the end of the line")?;
    let (time, after) = split_at_pair(after, *b"] ").context("time: no closing `]`")?;
    let time = Time::parse(time).with_context(|| format!("time `{time}`"))?;
    rest.0 = after;
    let (method, path, protocol) = request(rest.quoted("request")?);
    rest.space("status")?;
    let status = rest.word("status")?;
    let status = status_code(status).with_context(|| format!("status `{status}` is not a number of three digits"))?;
    let bytes = rest.word("bytes")?;
    let bytes = match bytes {
        "-" => None,
        _ => Some(bytes.parse().with_context(|| format!("bytes `{bytes}`"))?),
    };
    let common = match format {
        Format::Common => true,
        Format::Combined => false,
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
    let user = Some(user).filter(|user| !matches!(*user, "-" | "" | "\"\""));
    Ok(Entry { time, host, user, method, path, protocol, status, bytes, referer, user_agent })
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

/// Where the first quote is that no backslash escapes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// As `str::split_once` with one ASCII character.
fn split_at(text: &str, byte: u8) -> Option<(&str, &str)> {
    memchr(byte, text.as_bytes()).map(|at| (&text[..at], &text[at + 1..]))
}

/// As `str::split_once` with two ASCII characters.
fn split_at_pair(text: &str, [first, second]: [u8; 2]) -> Option<(&str, &str)> {
    let found = memchr_iter(second, text.as_bytes()).find(|at| *at > 0 && text.as_bytes()[at - 1] == first);
    found.map(|at| (&text[..at - 1], &text[at + 1..]))
}

fn status_code(word: &str) -> Option<u16> {
    if word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()) { word.parse().ok() } else { None }
}

type Part<'a> = Option<Cow<'a, str>>;

/// Splits `GET /path HTTP/1.1`; a path may hold spaces. What is not HTTP is all path.
fn request(text: &str) -> (Part<'_>, Part<'_>, Part<'_>) {
    let is_method = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match split_at(text, b' ').filter(|(method, _)| is_method(method)) {
        Some((method, target)) => match target.rsplit_once(' ').filter(|(_, last)| last.starts_with("HTTP/")) {
            Some((path, protocol)) => (Some(method.into()), Some(unescape(path)), Some(protocol.into())),
            None => (Some(method.into()), Some(unescape(target)), None),
        },
        None => (None, present(unescape(text)), None),
    }
}

fn present(text: Cow<'_, str>) -> Part<'_> {
    Some(text).filter(|text| !matches!(text.as_ref(), "-" | ""))
}

/// Resolves `\"`, `\\`, `\n`, `\t`, `\r` and `\xhh` as servers write them. Bytes that do not make up UTF-8 become
/// replacement characters.
fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = memchr(b'\\', text.as_bytes()) else {
        return Cow::Borrowed(text);
    };
    let mut bytes = Vec::with_capacity(text.len());
    let (plain, mut rest) = text.as_bytes().split_at(first);
    bytes.extend_from_slice(plain);
    while let [byte, after @ ..] = rest {
        let (found, after) = if *byte == b'\\' { escape(after) } else { (*byte, after) };
        bytes.push(found);
        rest = after;
    }
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The byte that an escape stands for, and what follows. An unknown escape is a backslash.
fn escape(after: &[u8]) -> (u8, &[u8]) {
    match after {
        [b'x' | b'X', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            (hex(*high) << 4 | hex(*low), rest)
        }
        [b'n', rest @ ..] => (b'\n', rest),
        [b't', rest @ ..] => (b'\t', rest),
        [b'r', rest @ ..] => (b'\r', rest),
        [byte @ (b'"' | b'\\'), rest @ ..] => (*byte, rest),
        _ => (b'\\', after),
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or_default() as u8
}

fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    &text[..end]
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
        assert_eq!((entry.host, entry.user), ("2001:db8::1", Some("Ann B. Cole")));
    }
}
