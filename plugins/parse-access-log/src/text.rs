//! What every form shares: escapes as servers write them, the parts of a request, and what an address looks like.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memchr2};
use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

/// Where the first quote is that no backslash escapes.
pub fn closing_quote(text: &[u8]) -> Option<usize> {
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
pub fn split_at(text: &str, byte: u8) -> Option<(&str, &str)> {
    memchr(byte, text.as_bytes()).map(|at| (&text[..at], &text[at + 1..]))
}

pub fn status_code(word: &str) -> Option<u16> {
    if word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()) { word.parse().ok() } else { None }
}

pub type Part<'a> = Option<Cow<'a, str>>;

/// Splits `GET /path HTTP/1.1`; a path may hold spaces. What is not HTTP is all path.
pub fn request(text: &str) -> (Part<'_>, Part<'_>, Part<'_>) {
    let is_method = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match split_at(text, b' ').filter(|(method, _)| is_method(method)) {
        Some((method, target)) => match target.rsplit_once(' ').filter(|(_, last)| last.starts_with("HTTP/")) {
            Some((path, protocol)) => (Some(method.into()), Some(unescape(path)), Some(unescape(protocol))),
            None => (Some(method.into()), Some(unescape(target)), None),
        },
        None => (None, present(unescape(text)), None),
    }
}

pub fn present(text: Cow<'_, str>) -> Part<'_> {
    Some(text).filter(|text| !matches!(text.as_ref(), "-" | ""))
}

/// Resolves `\"`, `\\`, `\n`, `\t`, `\r` and `\xhh` as servers write them. Bytes that do not make up UTF-8 become
/// replacement characters.
pub fn unescape(text: &str) -> Cow<'_, str> {
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

/// Whether this is an IPv4 or IPv6 address, the latter perhaps with a zone (`fe80::1%eth0`), or a host's name.
pub fn is_host(text: &str) -> bool {
    let name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    (name && !text.is_empty()) || is_ipv6(text)
}

fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    memchr(b':', text.as_bytes()).is_some() && address.parse::<Ipv6Addr>().is_ok()
}

/// Whether this is an address as a proxy writes it: perhaps with a port, in brackets then if it is IPv6.
pub fn is_address(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|text| text.split_once(']')).map_or(text, |(address, _)| address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    is_ipv6(address) || host.parse::<Ipv4Addr>().is_ok() || address == "unknown"
}

/// Takes `name:port` apart; an IPv6 address as the name stands in brackets.
pub fn vhost(text: &str) -> Option<(&str, u16)> {
    let (name, port) = text.rsplit_once(':')?;
    let fits = match name.strip_prefix('[') {
        Some(name) => name.strip_suffix(']').is_some_and(is_ipv6),
        None => !name.is_empty() && !name.contains(':') && is_host(name),
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if fits && digits && !is_ipv6(text) { Some((name, port.parse().ok()?)) } else { None }
}

/// Whether this can be a user: a `-` that stands alone in it is a column of its own, and one too many.
pub fn is_user(text: &str) -> bool {
    text == "-" || !text.contains('-') || !text.split(' ').any(|word| word == "-")
}

/// Appends text as JSON. What was `plain` in a line needs no look for what JSON escapes.
///
/// # Errors
/// None that can happen: bytes take any text.
#[allow(clippy::ptr_arg, reason = "that it is borrowed says that nothing was resolved in it")]
pub fn write_text(json: &mut Vec<u8>, text: &Cow<'_, str>, plain: bool) -> Result<()> {
    match text {
        Cow::Borrowed(text) if plain => write_plain(json, text),
        text => serde_json::to_writer(json, text.as_ref())?,
    }
    Ok(())
}

/// Appends text that has nothing to escape.
pub fn write_plain(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// Whether a line has no control characters. What is borrowed from between its quotes has then nothing that JSON escapes:
/// no quote, since one would have ended it, and no backslash, since that would have been resolved.
pub fn is_plain(line: &str) -> bool {
    const LOW: u64 = u64::MAX / 255 * 0x20;
    const HIGH: u64 = u64::MAX / 255 * 0x80;
    let (words, rest) = line.as_bytes().as_chunks::<8>();
    // As in "Bit Twiddling Hacks", whether a word has a byte less than n.
    let low =
        words.iter().map(|word| u64::from_le_bytes(*word)).fold(0, |low, word| low | (word.wrapping_sub(LOW) & !word));
    low & HIGH == 0 && rest.iter().all(|byte| *byte >= 0x20)
}

/// For messages.
pub fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
