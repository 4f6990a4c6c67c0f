//! Values as JSON: numbers as numbers, absent ones as `null`, times put together to one. A value that its directive can't
//! have written fails the line.

use std::borrow::Cow;

use memchr::memchr;
use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use super::column::{Clock, Column, Kind, Moment};
use super::form::{Form, Mistake, fields};
use super::split::Step;
use super::strftime::Parts;
use super::{Escape, Line};
use crate::text::{is_host, is_user, present, request, shortened, status_code, unescape, write_text};
use crate::time::{Fraction, Time};

/// What writing needs beside the columns.
#[derive(Clone, Debug)]
pub struct Writer {
    escape: Escape,
    zone: Option<i64>,
    /// Names with their quotes and colon, column by column; none for times.
    names: Vec<Vec<Vec<u8>>>,
}

/// What the columns of a line say about one moment.
#[derive(Default)]
struct Told {
    whole: Option<Time>,
    parts: Option<Parts>,
    fraction: Option<Fraction>,
}

/// A column's value in a line.
struct Cell<'a> {
    kind: &'a Kind,
    text: &'a str,
    /// Whether the line is ([`is_plain`](crate::text::is_plain)).
    plain: bool,
}

impl Writer {
    /// # Errors
    /// The form's times are not enough for an instant.
    pub fn new(form: &Form, escape: Escape, zone: Option<i64>) -> Result<Self, Mistake> {
        for moment in [Moment::Begin, Moment::End] {
            check_times(form, moment, zone)?;
        }
        let names = form.columns.iter().map(|(column, _)| match column.kind {
            Kind::Time(..) => Vec::new(),
            _ => fields(column).map(|name| Column::json(&name)).collect(),
        });
        Ok(Self { escape, zone, names: names.collect() })
    }

    /// Appends the object: times first, then columns in their order.
    ///
    /// # Errors
    /// Names the column whose value does not fit.
    pub fn object(&self, json: &mut Vec<u8>, steps: &[Step], line: &Line<'_, '_>) -> Result<()> {
        let mut separator = b'{';
        for (name, time) in [("\"time\":", line.begin), ("\"time_end\":", line.end)] {
            if let Some(time) = time {
                json.push(separator);
                json.extend_from_slice(name.as_bytes());
                time.write(json)?;
                separator = b',';
            }
        }
        for ((step, value), names) in steps.iter().zip(line.values()).zip(&self.names) {
            if let [name, others @ ..] = names.as_slice() {
                json.push(separator);
                separator = b',';
                json.extend_from_slice(name);
                let cell = Cell { kind: &step.column.kind, text: value, plain: line.plain };
                self.value(json, &cell, others).with_context(|| step.column.shown())?;
            }
        }
        if separator == b'{' {
            json.push(b'{');
        }
        json.push(b'}');
        Ok(())
    }

    fn value(&self, json: &mut Vec<u8>, cell: &Cell<'_>, others: &[Vec<u8>]) -> Result<()> {
        let (kind, value) = (cell.kind, cell.text);
        match kind {
            Kind::Request => return self.request(json, cell, others),
            Kind::Flag if matches!(value, "X" | "+" | "-") => {}
            _ if value == "-" => return null(json),
            Kind::Text | Kind::User | Kind::List | Kind::Target | Kind::Query => {
                return self.text(json, cell);
            }
            _ if value.is_empty() && self.escape == Escape::Json => return null(json),
            Kind::Number => return number(json, value, false),
            Kind::Duration => return number(json, value, true),
            Kind::Decimal => return decimal(json, value),
            Kind::Status => {
                let status = status_code(value);
                let status =
                    status.with_context(|| format!("`{}` is not a number of three digits", shortened(value)))?;
                return Ok(serde_json::to_writer(json, &status)?);
            }
            Kind::Host | Kind::Client => {
                let local = *kind == Kind::Client && value == "unix:";
                ensure!(local || is_host(value), "`{}` is neither an address nor a name", shortened(value));
            }
            Kind::Ident => {
                let name = is_host(value) && value.contains(['.', ':']);
                ensure!(!name, "`{}` is an address or a name: there is a column too many before it", shortened(value));
            }
            Kind::Flag => bail!("`{}` is neither `X` nor `+` nor `-`", shortened(value)),
            Kind::Vhost | Kind::Word | Kind::Upstreams | Kind::Time(..) => {}
        }
        ensure!(!value.is_empty(), "it is missing");
        string(json, &self.unescape(value)?, cell.plain)
    }

    fn text(&self, json: &mut Vec<u8>, cell: &Cell<'_>) -> Result<()> {
        let value = cell.text;
        let value = match cell.kind {
            Kind::User if value == "\"\"" => "",
            Kind::User => {
                ensure!(is_user(value), "`{}`: a `-` alone in it is a column too many", shortened(value));
                value
            }
            Kind::Query if !value.is_empty() => {
                value.strip_prefix('?').with_context(|| format!("`{}` does not begin with `?`", shortened(value)))?
            }
            _ => value,
        };
        match present(self.unescape(value)?) {
            Some(text) => string(json, &text, cell.plain),
            None => null(json),
        }
    }

    /// `others` are the names behind the method's.
    fn request(&self, json: &mut Vec<u8>, cell: &Cell<'_>, others: &[Vec<u8>]) -> Result<()> {
        let value = cell.text;
        let unescaped;
        // Its parts are told apart before escapes are resolved; `escape=json` has none that matter for that.
        let plain = cell.plain && self.escape == Escape::Default;
        let (method, path, protocol) = match self.escape {
            Escape::Default => request(value),
            Escape::Json => {
                unescaped = self.unescape(value)?.replace('\\', "\\\\");
                request(&unescaped)
            }
        };
        for (part, name) in [method, path, protocol].into_iter().zip([None].into_iter().chain(others.iter().map(Some)))
        {
            if let Some(name) = name {
                json.push(b',');
                json.extend_from_slice(name);
            }
            match part {
                Some(text) => string(json, &text, plain)?,
                None => null(json)?,
            }
        }
        Ok(())
    }

    fn unescape<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        match self.escape {
            Escape::Default => Ok(unescape(text)),
            Escape::Json if !text.contains('\\') => Ok(Cow::Borrowed(text)),
            Escape::Json => {
                let quoted = format!("\"{text}\"");
                Ok(Cow::Owned(serde_json::from_str(&quoted).with_context(|| format!("`{}`", shortened(text)))?))
            }
        }
    }
}

fn null(json: &mut Vec<u8>) -> Result<()> {
    json.extend_from_slice(b"null");
    Ok(())
}

/// Text that ends at something else than a quote may hold one, however plain the line is.
#[allow(clippy::ptr_arg, reason = "that it is borrowed says that nothing was resolved in it")]
fn string(json: &mut Vec<u8>, text: &Cow<'_, str>, plain: bool) -> Result<()> {
    write_text(json, text, plain && memchr(b'"', text.as_bytes()).is_none())
}

fn number(json: &mut Vec<u8>, value: &str, signed: bool) -> Result<()> {
    let digits = value.strip_prefix('-').filter(|_| signed).unwrap_or(value);
    let fits = || format!("`{}` is not a whole number", shortened(value));
    ensure!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", fits());
    match value.starts_with('-') {
        true => serde_json::to_writer(json, &value.parse::<i64>().with_context(fits)?)?,
        false => serde_json::to_writer(json, &value.parse::<u64>().with_context(fits)?)?,
    }
    Ok(())
}

/// Digits stay as they are.
fn decimal(json: &mut Vec<u8>, value: &str) -> Result<()> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = are_digits(whole) && are_digits(fraction) && (whole == "0" || !whole.starts_with('0'));
    ensure!(fits, "`{}` is not a number", shortened(value));
    json.extend_from_slice(value.as_bytes());
    Ok(())
}

/// When the request began and ended, as far as the columns say.
///
/// # Errors
/// Names the column that tells no time, or another one than an earlier column.
pub fn times(steps: &[Step], values: &[&str], writer: &Writer) -> Result<[Option<Time>; 2]> {
    let mut told: [Option<Told>; 2] = [None, None];
    let mut last = None;
    for (step, value) in steps.iter().zip(values) {
        let Kind::Time(moment, clock) = &step.column.kind else { continue };
        let told = told[usize::from(*moment == Moment::End)].get_or_insert_default();
        told.add(clock, value).with_context(|| format!("{} `{}`", step.column.shown(), shortened(value)))?;
        last = Some(&step.column);
    }
    let mut times = [None, None];
    for (time, told) in times.iter_mut().zip(told) {
        let resolved = told.map(|told| told.resolve(writer.zone)).transpose();
        *time = resolved.with_context(|| last.map(Column::shown).unwrap_or_default())?;
    }
    Ok(times)
}

impl Told {
    fn add(&mut self, clock: &Clock, value: &str) -> Result<()> {
        let time = match clock {
            Clock::Bracketed => {
                let inside = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                Time::parse(inside.context("expected the form [17/May/2015:10:05:03 +0000]")?)?
            }
            Clock::Common => Time::parse(value)?,
            Clock::Iso => Time::parse_iso(value)?,
            Clock::Seconds => Time::parse_epoch(value, 0)?,
            Clock::Epoch(digits) => Time::parse_epoch(value, *digits)?,
            Clock::Fraction(_) => {
                self.fraction = Some(Fraction::parse(value)?);
                return Ok(());
            }
            Clock::Strftime(format) => return format.read(value, self.parts.get_or_insert_default()),
        };
        let same = self.whole.is_none_or(|whole| whole.seconds == time.seconds);
        ensure!(same, "two columns tell different times");
        if self.whole.is_none_or(|whole| whole.fraction.digits < time.fraction.digits) {
            self.whole = Some(time);
        }
        Ok(())
    }

    fn resolve(self, zone: Option<i64>) -> Result<Time> {
        let mut time = match (self.whole, self.parts) {
            (Some(time), _) => time,
            (None, parts) => Time { seconds: parts.unwrap_or_default().seconds(zone)?, fraction: Fraction::default() },
        };
        if let Some(fraction) = self.fraction.filter(|fraction| fraction.digits > time.fraction.digits) {
            time.fraction = fraction;
        }
        Ok(time)
    }
}

/// The columns of this moment must be enough for an instant.
fn check_times(form: &Form, moment: Moment, zone: Option<i64>) -> Result<(), Mistake> {
    let mut parts = Parts::default();
    let mut first = None;
    for (column, _) in &form.columns {
        match &column.kind {
            Kind::Time(found, clock) if *found == moment => match clock {
                Clock::Strftime(format) => format.tells(&mut parts),
                Clock::Fraction(_) => {}
                _ => return Ok(()),
            },
            _ => continue,
        }
        first.get_or_insert(column.place);
    }
    let Some(place) = first else { return Ok(()) };
    if let Some(missing) = parts.missing() {
        return Err(Mistake {
            place,
            text: format!("the form's times are not enough for an instant: {missing} is missing"),
        });
    }
    if zone.is_none() && !parts.has_zone() {
        let text =
            "the time names no zone: say which the server writes, as in `zone: UTC` or `zone: +02:00`".to_owned();
        return Err(Mistake { place, text });
    }
    Ok(())
}
