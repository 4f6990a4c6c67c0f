//! Time: texts in formats and zones. The zones are those of the tz database that is compiled in: a result is the same on
//! every machine.

use cel::ExecutionError;
use cel::common::types::{CelDuration, CelString, CelTimestamp};
use cel::common::value::CowVal;
use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Called, Own, failed, global, int, number, string, text, wrong};
use crate::expr::cost::{VALUE_UNITS, charge};

/// Bytes that a directive of two becomes, at the most.
const FORMAT_TIMES: u64 = 32;

pub(super) const FUNCTIONS: &[Own] = &[
    global("@timestamp", &[1], timestamp),
    global("from_millis", &[1], from_millis),
    global("to_millis", &[1], to_millis),
    global("format_time", &[2, 3], format_time),
    global("parse_time", &[2, 3], parse_time),
    global("truncate_time", &[2], truncate_time),
];

type Time = DateTime<Utc>;

/// A record's time; `None` outside of the years 1 to 9999.
pub(in crate::expr) fn of_millis(millis: i64) -> Option<CelTimestamp> {
    in_range(DateTime::from_timestamp_millis(millis)?)
}

fn in_range(time: Time) -> Option<CelTimestamp> {
    (1..=9999).contains(&time.year()).then(|| CelTimestamp::from(time.fixed_offset()))
}

fn made<'b, 'v>(function: &str, time: Option<Time>) -> Called<'b, 'v> {
    match time.and_then(in_range) {
        Some(time) => Ok(CowVal::owned(time)),
        None => Err(failed(function, "a time lies between the years 1 and 9999")),
    }
}

/// As JSON and keys have it: UTC, digits of the second as many as there are.
pub(in crate::expr) fn text_of_time(time: &CelTimestamp) -> String {
    let utc = time.inner().with_timezone(&Utc);
    let base = utc.format("%Y-%m-%dT%H:%M:%S");
    match utc.timestamp_subsec_nanos() % 1_000_000_000 {
        0 => format!("{base}Z"),
        nanos => format!("{base}.{}Z", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// Seconds, as protobuf's JSON has them: `1.5s`.
pub(in crate::expr) fn text_of_duration(duration: &CelDuration) -> String {
    let nanos = i128::from(duration.inner().num_nanoseconds().expect("a duration of CEL fits"));
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}s", nanos / 1_000_000_000)
}

/// `timestamp`, but in UTC whatever offset the text has: its accessors without a zone are those of UTC.
fn timestamp<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let value = args[0].as_ref();
    if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        return made("timestamp", Some(time.inner().to_utc()));
    }
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        let read = DateTime::parse_from_rfc3339(text.inner());
        let time = read.map_err(|_| {
            failed(
                "timestamp",
                format!(
                    "`{}` is no time of RFC 3339, such as 2026-01-31T13:05:00Z; parse_time reads others",
                    shown(text.inner())
                ),
            )
        })?;
        return made("timestamp", Some(time.to_utc()));
    }
    match int("timestamp", &args, 0) {
        Ok(seconds) => made("timestamp", DateTime::from_timestamp(seconds, 0)),
        Err(error) => Err(error),
    }
}

/// The beginning of a text that is in an error.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

fn from_millis<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    made("from_millis", DateTime::from_timestamp_millis(int("from_millis", &args, 0)?))
}

fn to_millis<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(number(time("to_millis", &args)?.timestamp_millis()))
}

fn time(function: &str, args: &[CowVal<'_, '_>]) -> Result<Time, ExecutionError> {
    let time = args[0].as_ref().downcast_ref::<CelTimestamp>().ok_or_else(|| wrong(function, args))?;
    Ok(time.inner().to_utc())
}

/// The beginning of the stretch of time that it lies in, counted from 1970.
fn truncate_time<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "truncate_time";
    let time = time(name, &args)?;
    let step = args[1].as_ref().downcast_ref::<CelDuration>().ok_or_else(|| wrong(name, &args))?;
    let step = i128::from(step.inner().num_nanoseconds().expect("a duration of CEL fits"));
    if step <= 0 {
        return Err(failed(name, "a duration above zero is needed"));
    }
    let nanos =
        i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos() % 1_000_000_000);
    let start = nanos.div_euclid(step) * step;
    let seconds = i64::try_from(start.div_euclid(1_000_000_000)).expect("it is no larger than the time was");
    let rest = u32::try_from(start.rem_euclid(1_000_000_000)).expect("a part of a second fits");
    made(name, DateTime::from_timestamp(seconds, rest))
}

/// A zone of the database, or an offset.
enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

fn zone(function: &str, args: &[CowVal<'_, '_>]) -> Result<Zone, ExecutionError> {
    if args.len() < 3 {
        return Ok(Zone::Named(Tz::UTC));
    }
    let name = text(function, args, 2)?;
    if let Some(offset) = offset(name) {
        return Ok(Zone::Fixed(offset));
    }
    name.parse().map(Zone::Named).map_err(|_| {
        failed(function, format!("there is no time zone `{}`: write one such as Europe/Vienna or +02:00", shown(name)))
    })
}

/// `+02:00`.
fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str| text.parse::<i32>().ok().filter(|_| text.len() == 2 && text.is_ascii());
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    FixedOffset::east_opt(sign * (hours * 60 + minutes) * 60).filter(|_| minutes < 60)
}

/// The directives of a format, once it is known that all of them are known.
fn directives<'f>(function: &str, format: &'f str) -> Result<StrftimeItems<'f>, ExecutionError> {
    charge(format.len() as u64 * FORMAT_TIMES + VALUE_UNITS)?;
    if StrftimeItems::new(format).any(|item| matches!(item, Item::Error)) {
        return Err(failed(function, format!("the format `{}` has a directive that does not exist", shown(format))));
    }
    Ok(StrftimeItems::new(format))
}

fn format_time<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "format_time";
    let time = time(name, &args)?;
    let items = directives(name, text(name, &args, 1)?)?;
    Ok(string(match zone(name, &args)? {
        Zone::Named(zone) => time.with_timezone(&zone).format_with_items(items).to_string(),
        Zone::Fixed(offset) => time.with_timezone(&offset).format_with_items(items).to_string(),
    }))
}

/// What the text says of an offset counts; else the zone's. A day without a time begins at midnight; of two times that
/// the end of summer time makes of one the first is meant, and one that its beginning leaves out is refused.
fn parse_time<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "parse_time";
    let (input, format) = (text(name, &args, 0)?, text(name, &args, 1)?);
    let zone = zone(name, &args)?;
    let items = directives(name, format)?;
    let mut parsed = Parsed::new();
    let read = chrono::format::parse(&mut parsed, input, items);
    let unlike = |_| failed(name, format!("`{}` is not of the form `{}`", shown(input), shown(format)));
    read.map_err(unlike)?;
    if let Some(seconds) = parsed.timestamp() {
        let nanos = parsed.nanosecond().unwrap_or(0);
        return made(name, DateTime::from_timestamp(seconds, nanos));
    }
    let day = parsed.to_naive_date().map_err(|_| failed(name, format!("`{}` names no day", shown(input))))?;
    let has_time = parsed.hour_mod_12().is_some() || parsed.minute().is_some() || parsed.second().is_some();
    let of_day = if has_time { parsed.to_naive_time().map_err(unlike)? } else { NaiveTime::MIN };
    let local = NaiveDateTime::new(day, of_day);
    let stated = parsed.offset().and_then(FixedOffset::east_opt);
    let time = match (stated, zone) {
        (Some(offset), _) | (None, Zone::Fixed(offset)) => in_zone(&offset, &local),
        (None, Zone::Named(zone)) => in_zone(&zone, &local),
    };
    match time {
        Some(time) => made(name, Some(time)),
        None => Err(failed(name, format!("`{}` is a time that this zone leaves out", shown(input)))),
    }
}

fn in_zone<Z: TimeZone>(zone: &Z, local: &NaiveDateTime) -> Option<Time> {
    match zone.from_local_datetime(local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time.to_utc()),
        MappedLocalTime::None => None,
    }
}
