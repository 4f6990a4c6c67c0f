//! Apache's `LogFormat` strings: the directives of mod_log_config with their modifiers, and those that mod_logio and
//! mod_ssl add to them.

use super::column::{Clock, Column, Kind, Moment};
use super::form::{Form, Mistake, field_name};
use super::strftime::Strftime;

/// Which request of an internal redirect a directive looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// As Apache does without a modifier.
    Usual,
    Original,
    Final,
}

/// A directive: `%!200,304{User-agent}i` has an argument and the letter `i`.
struct Directive<'a> {
    letter: &'a str,
    argument: Option<&'a str>,
    which: Which,
}

/// Reads a string as it stands in `LogFormat`, with or without the backslashes before its quotes.
///
/// # Errors
/// Names the directive that is not known, with its place.
pub fn read(format: &str) -> Result<Form, Mistake> {
    let mut form = Form::default();
    let mut rest = format;
    while let Some(char) = rest.chars().next() {
        let place = format.len() - rest.len();
        rest = &rest[char.len_utf8()..];
        match char {
            '%' if rest.starts_with('%') => {
                form.literal('%');
                rest = &rest[1..];
            }
            '%' => {
                let (directive, after) = directive(rest).map_err(|text| Mistake { place, text })?;
                let written = &format[place..format.len() - after.len()];
                let (name, kind) =
                    column(&directive).map_err(|text| Mistake { place, text: format!("`{written}`{text}") })?;
                rest = after;
                if kind == Kind::Query && form.fuse(written) {
                    continue;
                }
                form.column(Column { name, kind, written: written.to_owned(), place })?;
            }
            '\\' => {
                let next = rest.chars().next();
                let known = [('n', '\n'), ('t', '\t'), ('r', '\r'), ('"', '"'), ('\\', '\\')];
                match known.iter().find(|(letter, _)| Some(*letter) == next) {
                    Some((_, char)) => {
                        form.literal(*char);
                        rest = &rest[1..];
                    }
                    None => form.literal('\\'),
                }
            }
            _ => form.literal(char),
        }
    }
    Ok(form)
}

/// Takes a directive apart, as Apache does: modifiers and the argument in any order, then the letter.
fn directive(text: &str) -> Result<(Directive<'_>, &str), String> {
    let (mut argument, mut which, mut rest) = (None, Which::Usual, text);
    loop {
        let Some(char) = rest.chars().next() else {
            return Err("the directive has no letter: a percent sign itself is `%%`".to_owned());
        };
        let after = &rest[char.len_utf8()..];
        match char {
            '<' => which = Which::Original,
            '>' => which = Which::Final,
            // A status list decides whether the value is logged; if not, it is `-`.
            '!' | ',' | '0'..='9' => {}
            '{' => {
                let (inside, behind) = after.split_once('}').ok_or("its `{` is not closed")?;
                argument = Some(inside);
                rest = behind;
                continue;
            }
            '^' => {
                let (letter, behind) = rest.split_at_checked(3).ok_or("two letters follow `%^`")?;
                return Ok((Directive { letter, argument, which }, behind));
            }
            _ => {
                let (letter, behind) = rest.split_at(char.len_utf8());
                return Ok((Directive { letter, argument, which }, behind));
            }
        }
        rest = after;
    }
}

/// The field that a directive makes; the error goes on behind the directive.
fn column(directive: &Directive<'_>) -> Result<(String, Kind), String> {
    let (name, kind) = match directive.argument {
        Some(argument) => with_argument(directive.letter, argument)?,
        None => {
            let (name, kind) = plain(directive.letter)?;
            (name.to_owned(), kind)
        }
    };
    // `%s` and `%>s` are both the `status`: nearly every form has one of them, and it is what the client got.
    let usual = match directive.letter {
        "s" => Which::Usual,
        "U" | "T" | "D" | "r" => Which::Original,
        _ => Which::Final,
    };
    let prefix = match directive.which {
        Which::Final if directive.letter == "s" => "",
        which if which == Which::Usual || which == usual => "",
        Which::Original => "original_",
        _ => "final_",
    };
    Ok((format!("{prefix}{name}"), kind))
}

/// Directives without an argument.
fn plain(letter: &str) -> Result<(&'static str, Kind), String> {
    Ok(match letter {
        "a" => ("client_ip", Kind::Host),
        "A" => ("local_ip", Kind::Host),
        "B" | "b" => ("bytes", Kind::Number),
        "D" => ("duration_us", Kind::Duration),
        "f" => ("filename", Kind::Text),
        "h" => ("host", Kind::Host),
        "H" => ("protocol", Kind::Word),
        "I" => ("bytes_received", Kind::Number),
        "k" => ("keepalive_requests", Kind::Number),
        "l" => ("ident", Kind::Ident),
        "L" => ("log_id", Kind::Word),
        "m" => ("method", Kind::Word),
        "O" => ("bytes_sent", Kind::Number),
        "p" => ("port", Kind::Number),
        "P" => ("pid", Kind::Number),
        "q" => ("query", Kind::Query),
        "r" => ("request", Kind::Request),
        "R" => ("handler", Kind::Word),
        "s" => ("status", Kind::Status),
        "S" => ("bytes_total", Kind::Number),
        "t" => ("time", Kind::Time(Moment::Begin, Clock::Bracketed)),
        "T" => ("duration_s", Kind::Duration),
        "u" => ("user", Kind::User),
        "U" => ("path", Kind::Target),
        "v" => ("vhost", Kind::Vhost),
        "V" => ("server_name", Kind::Vhost),
        "X" => ("connection", Kind::Flag),
        "^FB" => ("first_byte_us", Kind::Duration),
        "C" | "e" | "i" | "n" | "o" | "x" | "^ti" | "^to" => {
            return Err(format!(" needs a name: `%{{NAME}}{letter}`"));
        }
        _ => return Err(" is no directive of `LogFormat`".to_owned()),
    })
}

/// Directives with one.
fn with_argument(letter: &str, argument: &str) -> Result<(String, Kind), String> {
    let named = |prefix: &str| Ok((field_name(prefix, argument), Kind::Text));
    let known = |name: &str, kind: Kind| Ok((name.to_owned(), kind));
    match (letter, argument) {
        ("a", "c") => known("peer_ip", Kind::Host),
        ("h", "c") => known("peer_host", Kind::Host),
        ("C", _) => named("cookie"),
        ("e", _) => named("env"),
        ("i", _) if argument.eq_ignore_ascii_case("referer") => known("referer", Kind::Text),
        ("i", _) if argument.eq_ignore_ascii_case("user-agent") => known("user_agent", Kind::Text),
        ("i", _) if argument.eq_ignore_ascii_case("x-forwarded-for") => known("header_x_forwarded_for", Kind::List),
        ("i", _) => named("header"),
        ("n", _) => named("note"),
        ("o", _) => named("response_header"),
        ("x", _) => named("ssl"),
        ("^ti", _) => named("trailer"),
        ("^to", _) => named("response_trailer"),
        ("p", "canonical") => known("port", Kind::Number),
        ("p", "local") => known("local_port", Kind::Number),
        ("p", "remote") => known("remote_port", Kind::Number),
        ("P", "pid") => known("pid", Kind::Number),
        ("P", "tid") => known("tid", Kind::Number),
        ("P", "hextid") => known("tid", Kind::Word),
        ("T", "s") => known("duration_s", Kind::Duration),
        ("T", "ms") => known("duration_ms", Kind::Duration),
        ("T", "us") => known("duration_us", Kind::Duration),
        ("t", _) => time(argument),
        ("a", _) => Err(": expected `%a` or `%{c}a`".to_owned()),
        ("h", _) => Err(": expected `%h` or `%{c}h`".to_owned()),
        ("p", _) => Err(": expected `canonical`, `local` or `remote`".to_owned()),
        ("P", _) => Err(": expected `pid`, `tid` or `hextid`".to_owned()),
        ("T", _) => Err(": expected `s`, `ms` or `us`".to_owned()),
        // Apache does not look at what others are given.
        _ => plain(letter).map(|(name, kind)| (name.to_owned(), kind)),
    }
}

/// `%{FORMAT}t`.
fn time(format: &str) -> Result<(String, Kind), String> {
    let (moment, format) = match format.split_once(':') {
        Some(("begin", format)) => (Moment::Begin, format),
        Some(("end", format)) => (Moment::End, format),
        _ if format == "begin" => (Moment::Begin, ""),
        _ if format == "end" => (Moment::End, ""),
        _ => (Moment::Begin, format),
    };
    let clock = match format {
        "" => Clock::Bracketed,
        "sec" => Clock::Epoch(0),
        "msec" => Clock::Epoch(3),
        "usec" => Clock::Epoch(6),
        "msec_frac" => Clock::Fraction(3),
        "usec_frac" => Clock::Fraction(6),
        _ => Clock::Strftime(Strftime::compile(format).map_err(|text| format!(": {text}"))?),
    };
    Ok((if moment == Moment::Begin { "time" } else { "time_end" }.to_owned(), Kind::Time(moment, clock)))
}
