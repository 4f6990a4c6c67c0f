//! A column of a declared form: its name, and what its values may look like, byte for byte. Where a value ends is decided
//! by this alone, so it says what servers can write, not what they usually do.

use millstream_plugin::serde_json;

use super::strftime::Strftime;

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Of the field, or of the first of its fields.
    pub name: String,
    pub kind: Kind,
    /// As it stands in the form: `%{Referer}i`.
    pub written: String,
    /// The character of the form at which it stands, from 1.
    pub place: usize,
}

/// What values look like. Every column may be `-`: absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address or a name.
    Host,
    /// As [`Kind::Host`], and nginx's `unix:`.
    Client,
    Ident,
    /// A server's name; an IPv6 address in brackets.
    Vhost,
    /// Text without blanks.
    Word,
    /// Text with blanks and escapes.
    Text,
    /// A name, with blanks perhaps.
    User,
    /// A count.
    Number,
    /// A number of seconds or parts of them, less than none if the server's clock was set back.
    Duration,
    /// A number with a fraction.
    Decimal,
    Status,
    /// `X`, `+` or `-`, where `-` is a value.
    Flag,
    /// Addresses behind commas, with or without blanks: what proxies make of `X-Forwarded-For`.
    List,
    /// What nginx says about each upstream that it asked: behind `, ` and ` : `.
    Upstreams,
    /// `GET /path HTTP/1.1`.
    Request,
    /// A path, perhaps with its query.
    Target,
    /// With its `?`, or nothing.
    Query,
    Time(Moment, Clock),
}

/// Which time of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Begin,
    End,
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `[17/May/2015:10:05:03 +0000]`.
    Bracketed,
    /// `17/May/2015:10:05:03 +0000`.
    Common,
    /// `2015-05-17T10:05:03+00:00`.
    Iso,
    /// Seconds since the epoch, with a point or without.
    Seconds,
    /// Since the epoch, in units of so many digits behind the point.
    Epoch(usize),
    /// So many digits behind the point.
    Fraction(usize),
    Strftime(Strftime),
}

impl Column {
    /// The name as it stands in an object, with its colon.
    pub fn json(name: &str) -> Vec<u8> {
        let mut json = serde_json::to_vec(name).expect("text has a JSON form");
        json.push(b':');
        json
    }

    /// For messages: `header_x (%{X}i)`, or the name alone where the form has a word of its own for it.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.name, self.written)
    }
}

impl Kind {
    /// Whether values may hold this byte, quotes and control characters in escapes apart.
    pub fn holds(&self, byte: u8) -> bool {
        let name = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match self {
            Self::Host | Self::Client => name || matches!(byte, b':' | b'%'),
            Self::Vhost => name || byte == b'*',
            Self::Ident | Self::Word => byte > b' ' && byte != b'"' && byte != 0x7f,
            Self::Number | Self::Duration => byte.is_ascii_digit() || byte == b'-',
            Self::Status => byte.is_ascii_digit() || byte == b'-',
            Self::Decimal => byte.is_ascii_digit() || matches!(byte, b'-' | b'.'),
            Self::Flag => matches!(byte, b'X' | b'+' | b'-'),
            Self::Time(_, clock) => clock.holds(byte),
            Self::Text | Self::User | Self::List | Self::Upstreams | Self::Request | Self::Target | Self::Query => {
                byte >= b' ' && byte != b'"' && byte != 0x7f
            }
        }
    }

    /// Bytes of every value, if they are always as many.
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Flag => Some(1),
            Self::Time(_, clock) => match clock {
                Clock::Bracketed => Some(28),
                Clock::Common => Some(26),
                Clock::Iso => Some(25),
                Clock::Fraction(digits) => Some(*digits),
                Clock::Strftime(format) => format.width(),
                Clock::Seconds | Clock::Epoch(_) => None,
            },
            _ => None,
        }
    }

    /// Whether blanks in its values are a matter of the client's, or the server's, taste.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::User | Self::List | Self::Request | Self::Target | Self::Query)
    }

    /// Bytes of the longest value at the beginning of `text`; `holds` tells for each byte what [`Kind::holds`] does.
    pub fn run(&self, text: &str, holds: &[bool; 256]) -> usize {
        let run = |text: &str| text.bytes().position(|byte| !holds[usize::from(byte)]).unwrap_or(text.len());
        match self {
            Self::Vhost if text.starts_with('[') => text.find(']').map_or(0, |end| end + 1),
            Self::Upstreams => upstreams(text),
            _ => run(text),
        }
    }

    /// Bytes of the longest value at the end of `text`.
    pub fn run_back(&self, text: &str) -> usize {
        match self {
            Self::Vhost if text.ends_with(']') => text.rfind('[').map_or(0, |begin| text.len() - begin),
            _ => text.bytes().rev().take_while(|byte| self.holds(*byte)).count(),
        }
    }
}

/// Elements hold no blanks, and stand behind `, ` or ` : `.
fn upstreams(text: &str) -> usize {
    let mut end = 0;
    loop {
        end += text[end..].bytes().take_while(|byte| *byte > b' ' && *byte != b'"' && *byte != 0x7f).count();
        let (before, after) = text.split_at(end);
        end += match (before.ends_with(','), after.starts_with(' '), after.starts_with(" : ")) {
            (true, true, _) => 1,
            (false, _, true) => 3,
            _ => return end,
        };
    }
}

impl Clock {
    fn holds(&self, byte: u8) -> bool {
        match self {
            Self::Strftime(format) => format.holds(byte),
            Self::Seconds => byte.is_ascii_digit() || byte == b'.',
            Self::Epoch(_) | Self::Fraction(_) => byte.is_ascii_digit(),
            Self::Iso => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b':' | b'.'),
            Self::Bracketed | Self::Common => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b':' | b'/' | b' ' | b'[' | b']')
            }
        }
    }
}
