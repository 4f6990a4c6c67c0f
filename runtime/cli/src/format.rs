//! Numbers, sizes, times and bytes as people read them, and as they type them.

use std::time::Duration;

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 partitions`, `1 partition`
pub(crate) fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(number))
}

/// `112 KiB`, `2.3 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `84 ms`, `6.2 s`, `3 min 5 s`
pub(crate) fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// `0.9 µs`, `84 ns`, `1.2 ms`
pub(crate) fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 100.0 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// Settings in milliseconds: `7 d`, `12 h`, `30 s`, `for ever` for -1.
pub(crate) fn milliseconds(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    if ms < 0 {
        return "for ever".to_owned();
    }
    let unit = units.iter().find(|(size, _)| ms >= *size && ms % size == 0);
    unit.map_or_else(|| format!("{ms} ms"), |(size, name)| format!("{} {name}", ms / size))
}

/// `2 min ago`; `-` for a time before the epoch, which stands for none.
pub(crate) fn ago(timestamp_ms: i64, now_ms: i64) -> String {
    if timestamp_ms < 0 {
        return "-".to_owned();
    }
    let seconds = (now_ms - timestamp_ms).max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `2015-05-17T12:00:00.250Z`
pub(crate) fn timestamp(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Milliseconds since the epoch, now.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The first eight hex digits, as people quote a digest.
pub(crate) fn short_digest(digest: &[u8; 32]) -> String {
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as text for a terminal or a pipe: invalid UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_000), "1,000");
        check(count(1_234_567), "1,234,567");
        check(plural(1, "line"), "1 line");
        check(plural(2_000, "line"), "2,000 lines");
        check(bytes(512), "512 B");
        check(bytes(114_688), "112 KiB");
        check(bytes(2_411_725), "2.3 MiB");
        check(duration(Duration::from_millis(84)), "84 ms");
        check(duration(Duration::from_millis(6_240)), "6.2 s");
        check(duration(Duration::from_secs(185)), "3 min 5 s");
        check(milliseconds(604_800_000), "7 d");
        check(milliseconds(90_000), "90 s");
        check(milliseconds(-1), "for ever");
        check(ago(1_000, 121_000), "2 min ago");
        check(ago(-1, 121_000), "-");
    }

    #[test]
    fn timestamps_round_trip() {
        let check = |ms: i64, expected: &str| {
            assert_eq!(timestamp(ms), expected);
            assert_eq!(millstream_pipeline::units::timestamp_ms(expected), Some(ms));
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_431_864_000_250, "2015-05-17T12:00:00.250Z");
        check(1_709_164_800_000, "2024-02-29T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.999Z");
    }
}
