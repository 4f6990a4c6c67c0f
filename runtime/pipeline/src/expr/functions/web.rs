//! URLs, absolute or as a request line has them, by the grammar of RFC 3986; what it does not allow is refused, not mended.

use std::collections::HashMap;

use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::{CowVal, Val};

use super::{Called, Own, failed, global, string, text};
use crate::expr::cost::{VALUE_UNITS, charge};

pub(super) const FUNCTIONS: &[Own] = &[
    global("url.parse", &[1], url_parse),
    global("url.encode", &[1], url_encode),
    global("url.decode", &[1], url_decode),
];

type Part<'v> = Box<dyn Val + 'v>;

fn some<'v>(text: Option<&str>) -> Part<'v> {
    match text {
        Some(text) => Box::new(CelString::from(text.to_owned())),
        None => Box::new(CelNull),
    }
}

fn key<'v>(name: &str) -> CelMapKey<'v> {
    CelMapKey::from(name.to_owned())
}

/// A map of its parts, decoded where that loses nothing: the path stays as it is written.
fn url_parse<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "url.parse";
    let url = text(name, &args, 0)?;
    let pieces = 1 + url.bytes().filter(|byte| *byte == b'&').count() as u64;
    charge(4 * url.len() as u64 + pieces * 6 * VALUE_UNITS)?;
    let refused = |why: &str| failed(name, format!("`{}` is no URL: {why}", &url[..url.floor_char_boundary(60)]));
    if let Some(wrong) =
        url.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(refused(&format!("{wrong:?} has to be written as %{:02X}", u32::from(wrong) & 0xff)));
    }
    if decoded(url, false).is_none() {
        return Err(refused("a `%` is followed by two hex digits of UTF-8"));
    }
    let (rest, fragment) = split(url, '#');
    let (rest, query) = split(rest, '?');
    let (scheme, rest) = scheme(rest);
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, rest),
    };
    let (user, host, port) = match authority {
        Some(authority) => parts(authority).ok_or_else(|| refused("the host or port"))?,
        None => (None, None, None),
    };
    let port: Part<'v> = match port {
        Some(port) => Box::new(CelInt::from(i64::from(port))),
        None => Box::new(CelNull),
    };
    let (first, all) = queries(query.unwrap_or_default());
    let lower = |text: Option<&str>| some(text.map(str::to_ascii_lowercase).as_deref());
    let map = HashMap::from([
        (key("scheme"), lower(scheme)),
        (key("user"), some(user)),
        (key("host"), lower(host)),
        (key("port"), port),
        (key("path"), some(Some(path))),
        (key("query"), first),
        (key("queries"), all),
        (key("fragment"), some(fragment)),
    ]);
    Ok(CowVal::owned(CelMap::from(map)))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn scheme(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) =>
        {
            (Some(scheme), rest)
        }
        _ => (None, text),
    }
}

type Authority<'u> = (Option<&'u str>, Option<&'u str>, Option<u16>);

/// User, host (an IPv6 address without its brackets) and port.
fn parts(authority: &str) -> Option<Authority<'_>> {
    let (user, rest) = match authority.rsplit_once('@') {
        Some((user, rest)) => (Some(user.split_once(':').map_or(user, |(user, _)| user)), rest),
        None => (None, authority),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<core::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => {
            let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
            if host.contains(['[', ']', '@']) {
                return None;
            }
            (host, port)
        }
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|_| digits)?) };
    Some((user, Some(host), port))
}

/// The first value of each name, and all of them.
fn queries<'v>(query: &str) -> (Part<'v>, Part<'v>) {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let plain = |text: &str| decoded(text, true).expect("the whole URL was decoded");
        all.entry(plain(name)).or_default().push(plain(value));
    }
    let first = all.iter().map(|(name, values)| (key(name), some(values.first().map(String::as_str))));
    let first = CelMap::from(first.collect::<HashMap<_, _>>());
    let list = |values: &Vec<String>| -> Part<'v> {
        Box::new(CelList::from(values.iter().map(|value| some(Some(value))).collect::<Vec<_>>()))
    };
    let all = all.iter().map(|(name, values)| (key(name), list(values)));
    let all = CelMap::from(all.collect::<HashMap<_, _>>());
    (Box::new(first), Box::new(all))
}

/// `None`: a `%` without its digits, or what is no text.
fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// For a part of a path or query: all but letters, digits and `-._~` is escaped.
fn url_encode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let text = text("url.encode", &args, 0)?;
    charge(4 * text.len() as u64)?;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    Ok(string(out))
}

/// `+` is a blank, as in forms and queries.
fn url_decode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "url.decode";
    let text = text(name, &args, 0)?;
    charge(2 * text.len() as u64)?;
    decoded(text, true).map(string).ok_or_else(|| failed(name, "a `%` is followed by two hex digits of UTF-8"))
}
