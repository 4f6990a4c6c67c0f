//! Text forms of durations, sizes and points in time, as pipeline files write them.

/// Parses `250ms`, `1.5 s`, `2m`, `1h`, `1d` into milliseconds.
///
/// # Errors
/// A sentence with the accepted forms.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return Err("write a duration as a number and ms, s, m, h or d: `250ms`, `1.5s`".into()),
    };
    scale(number, factor).ok_or_else(|| "write a duration as a number and ms, s, m, h or d: `250ms`, `1.5s`".into())
}

/// Parses `64MiB`, `512 KiB`, `10kB`, `1048576` into bytes.
///
/// # Errors
/// A sentence with the accepted forms.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("write a size as a number and KiB, MiB, GiB, kB, MB or GB: `64MiB`".into()),
    };
    scale(number, factor).ok_or_else(|| "write a size as a number and KiB, MiB, GiB, kB, MB or GB: `64MiB`".into())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn scale(number: &str, factor: f64) -> Option<u64> {
    let value: f64 = number.parse().ok()?;
    let scaled = value * factor;
    (scaled.is_finite() && scaled < 9e15).then_some(scaled.round() as u64)
}

/// Parses an RFC 3339 time (`2015-05-17T12:00:00Z`; seconds, fraction and the time of day may be absent,
/// the offset may be `+02:00`) into milliseconds since the epoch.
pub fn timestamp_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let year: i64 = digits(parts.next()?, 4)?;
    let month: i64 = digits(parts.next()?, 2)?;
    let day: i64 = digits(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if rest.is_empty() {
        return Some(days * 86_400_000);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let offset_ms = zone(&rest[zone_at..])?;
    Some(days * 86_400_000 + time_of_day(&rest[..zone_at])? - offset_ms)
}

fn time_of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let hour: i64 = digits(parts.next()?, 2)?;
    let minute: i64 = digits(parts.next()?, 2)?;
    let second: i64 = parts.next().map_or(Some(0), |part| digits(part, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let ms: i64 = match fraction {
        "" if text.contains('.') => return None,
        "" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => format!("{digits:0<3}")[..3].parse().ok()?,
        _ => return None,
    };
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn zone(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = text.split_at(1);
    let (hours, minutes) = rest.split_once(':')?;
    let ms = (digits(hours, 2)? * 60 + digits(minutes, 2)?) * 60_000;
    Some(if sign == "-" { -ms } else { ms })
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, ms: Option<u64>| assert_eq!(duration_ms(text).ok(), ms, "{text}");
        check("250ms", Some(250));
        check("1.5 s", Some(1500));
        check("2m", Some(120_000));
        check("1h", Some(3_600_000));
        check("1d", Some(86_400_000));
        check("5", None);
        check("5 parsecs", None);
        check("s", None);
        check("-1s", None);
        check("1e9d", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size_bytes(text).ok(), bytes, "{text}");
        check("64MiB", Some(64 << 20));
        check("512 KiB", Some(512 << 10));
        check("10kB", Some(10_000));
        check("100", Some(100));
        check("1GiB", Some(1 << 30));
        check("1 XB", None);
        check("", None);
        check("9999999999GiB", None);
    }

    #[test]
    fn timestamps() {
        let check = |text: &str, ms: Option<i64>| assert_eq!(timestamp_ms(text), ms, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2015-05-17T12:00Z", Some(1_431_864_000_000));
        check("2015-05-17T12:00:00.25Z", Some(1_431_864_000_250));
        check("2015-05-17T14:00:00+02:00", Some(1_431_864_000_000));
        check("2015-05-17", Some(1_431_820_800_000));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("2023-02-29T00:00:00Z", None);
        check("2015-13-01T00:00:00Z", None);
        check("2015-05-17T12:00", None);
        check("yesterday", None);
        check("é015-05-17T", None);
    }
}
