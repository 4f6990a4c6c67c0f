//! Finds e-mail addresses, card numbers and IP addresses in text by looking around the characters that give them away.
//! Rather finds one too many than one too few: what is found only by chance harms less than what stays.

use std::net::Ipv6Addr;
use std::ops::Range;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Email,
    /// A payment card's number, by its length, its first digit and its check digit (ISO/IEC 7812).
    Card,
    Ip,
}

impl Kind {
    /// What takes its place when it is masked.
    pub fn mask(self) -> &'static str {
        match self {
            Kind::Email => "[email]",
            Kind::Card => "[card]",
            Kind::Ip => "[ip]",
        }
    }
}

/// Everything of the kinds wanted, in order, without overlaps. Does not allocate when there is nothing.
pub fn find(text: &[u8], wants: impl Fn(Kind) -> bool) -> Vec<(Range<usize>, Kind)> {
    let (emails, cards, ips) = (wants(Kind::Email), wants(Kind::Card), wants(Kind::Ip));
    let mut found: Vec<(Range<usize>, Kind)> = Vec::new();
    if !(emails || cards || ips) {
        return found;
    }
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let next = match byte {
            b'@' if emails => email(text, at).map(|range| (range, Kind::Email)),
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':' if starts_word(text, at) => {
                let card = if cards { card(&text[at..]) } else { None };
                let ip = if ips && card.is_none() { ip(&text[at..]) } else { None };
                card.map(|len| (at..at + len, Kind::Card)).or(ip.map(|len| (at..at + len, Kind::Ip)))
            }
            _ => None,
        };
        match next {
            Some((range, kind)) => {
                // An address may begin before a number that was found in it: `192.0.2.7@example.com`.
                while found.last().is_some_and(|(last, _)| last.start >= range.start) {
                    found.pop();
                }
                at = range.end;
                found.push((range, kind));
            }
            None => {
                at += 1;
                // What gives something away stands at the begin of a word or between two.
                if is_word(*byte) {
                    while text.get(at).is_some_and(|byte| is_word(*byte)) {
                        at += 1;
                    }
                }
            }
        }
    }
    found
}

/// Whether a byte is a letter, a digit or `_`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a number may begin here, and not in the middle of a word or another number.
fn starts_word(text: &[u8], at: usize) -> bool {
    match &text[..at] {
        [.., before, b'.'] => !before.is_ascii_digit(),
        [.., last] => !is_word(*last),
        [] => true,
    }
}

/// The address around an `@`.
fn email(text: &[u8], at: usize) -> Option<Range<usize>> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || b".!#$%&'*+/=?^_`{|}~-".contains(byte);
    let start = text[..at].iter().rposition(|byte| !is_name(byte)).map_or(0, |before| before + 1);
    let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || matches!(byte, b'.' | b'-');
    let domain = &text[at + 1..];
    let end = domain.iter().position(|byte| !is_domain(byte)).unwrap_or(domain.len());
    let domain = &domain[..end];
    let len = domain.iter().rposition(|byte| !matches!(byte, b'.' | b'-')).map_or(0, |last| last + 1);
    let top = domain[..len].rsplit(|byte| *byte == b'.').next().filter(|top| top.len() < len)?;
    let is_top = top.len() >= 2 && top.iter().all(|byte| !byte.is_ascii_digit());
    (start < at && is_top && domain[0] != b'.').then_some(start..at + 1 + len)
}

/// Length of the card number that begins here: groups of digits, joined by single spaces or hyphens.
fn card(text: &[u8]) -> Option<usize> {
    let mut digits = [0; 19];
    let mut count = 0;
    let mut longest = None;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte - b'0';
                count += 1;
                let after = text.get(at + 1);
                let ends = after.is_none_or(|byte| !byte.is_ascii_alphanumeric());
                if ends && is_card(&digits[..count]) {
                    longest = Some(at + 1);
                }
                if count == digits.len() {
                    break;
                }
            }
            b' ' | b'-' if at > 0 && text[at - 1].is_ascii_digit() => {}
            _ => break,
        }
    }
    longest
}

/// Thirteen digits only where they begin with 4, since times in milliseconds have as many.
fn is_card(digits: &[u8]) -> bool {
    let plausible = match digits.len() {
        13 => digits[0] == 4,
        14..=19 => (2..=6).contains(&digits[0]),
        _ => false,
    };
    plausible && luhn(digits)
}

/// The check digit's rule: every second digit from the right is doubled, the sum ends in 0.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Length of the IP address that begins here. A port or a full stop after it do not belong to it.
fn ip(text: &[u8]) -> Option<usize> {
    // Most words that begin with a hex digit go on in a way that no first group of an address does.
    match text.iter().take(5).find(|byte| !byte.is_ascii_hexdigit())? {
        b':' => v6(text),
        b'.' => {
            let len = v4(text)?;
            let goes_on = text.get(len) == Some(&b'.') && text.get(len + 1).is_some_and(u8::is_ascii_digit);
            (ends_word(text, len) && !goes_on).then_some(len)
        }
        _ => None,
    }
}

fn ends_word(text: &[u8], len: usize) -> bool {
    text.get(len).is_none_or(|byte| !is_word(*byte))
}

fn v6(text: &[u8]) -> Option<usize> {
    let is_v6 = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    // The longest form has 45 characters: six groups and an IPv4 address.
    let run = text.iter().take(46).position(|byte| !is_v6(byte)).unwrap_or(text.len().min(46));
    if text[..run].iter().filter(|byte| **byte == b':').count() < 2 || !ends_word(text, run) {
        return None;
    }
    let len = text[..run].iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
    let whole = [len, len - usize::from(text[..len].ends_with(b":") && !text[..len].ends_with(b"::"))];
    let fits =
        |len: &usize| str::from_utf8(&text[..*len]).is_ok_and(|text| text != "::" && text.parse::<Ipv6Addr>().is_ok());
    whole.into_iter().find(fits)
}

fn v4(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        if group > 0 {
            at += usize::from(*text.get(at)? == b'.');
        }
        let digits = text[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let number = text[at..at + digits].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if digits == 0 || number > 255 || group > 0 && text[at - 1] != b'.' {
            return None;
        }
        at += digits;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let found = find(text.as_bytes(), |_| true);
        let show = |(range, kind): &(Range<usize>, Kind)| format!("{:?} {}", kind, &text[range.clone()]);
        found.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn addresses_and_numbers_are_found() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check("mail ann.b+x@mail.example.com.", "Email ann.b+x@mail.example.com");
        check("<jürgen@müller.example>,a@b.de", "Email jürgen@müller.example, Email a@b.de");
        check("a @ b, @home, x@y, x@1.2, a@b.c, x@.com", "");
        check("192.0.2.7@example.com", "Email 192.0.2.7@example.com");
        check("c@d.example:192.0.2.7", "Email c@d.example, Ip 192.0.2.7");
        check("4111111111111111", "Card 4111111111111111");
        check("card 4111-1111-1111-1111, 3782 822463 10005.", "Card 4111-1111-1111-1111, Card 3782 822463 10005");
        check("12 5500 0000 0000 0004", "Card 5500 0000 0000 0004");
        check("4222222222222 6304000000000000", "Card 4222222222222, Card 6304000000000000");
        check("4111111111111112 41111111111111111 x4111111111111111 4111  1111 1111 1111", "");
        check("1431849903000 1111111111111117", "");
        check("10.0.0.1, 255.255.255.255:80 (127.0.0.1).", "Ip 10.0.0.1, Ip 255.255.255.255, Ip 127.0.0.1");
        check("1.2.3 1.2.3.4.5 1.2.3.256 v1.2.3.4 1.2.3.4x 1..2.3", "");
        check(
            "[2001:db8::1]:443 ::1 fe80::1%eth0 ::ffff:192.0.2.1",
            "Ip 2001:db8::1, Ip ::1, Ip fe80::1, Ip ::ffff:192.0.2.1",
        );
        check("from 2001:db8:0:0:0:0:2:1: hello, 2001:db8::1.", "Ip 2001:db8:0:0:0:0:2:1, Ip 2001:db8::1");
        check("10:05:03 std::dead :: a:b", "");
        check("ip=192.0.2.7 to:192.0.2.8 addr:192.0.2.9", "Ip 192.0.2.7, Ip 192.0.2.8, Ip 192.0.2.9");
    }

    #[test]
    fn check_digits_are_luhns() {
        let check = |number: &str, expected| {
            let digits: Vec<u8> = number.bytes().map(|byte| byte - b'0').collect();
            assert_eq!(luhn(&digits), expected, "{number}");
        };
        check("79927398713", true);
        check("79927398710", false);
        check("4111111111111111", true);
        check("4111111111111121", false);
    }
}
