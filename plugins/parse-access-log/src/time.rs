//! The time of a line, `17/May/2015:10:05:03 +0200` or an ISO time, as an instant in UTC. Days are counted by the
//! algorithms of Howard Hinnant, "chrono-compatible low-level date algorithms", over the proleptic Gregorian calendar.

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;
use serde::Serializer;

pub const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// An instant. Serialises as RFC 3339 in UTC, with as many digits of its fraction as the line had:
/// `2015-05-17T08:05:03Z`, `2015-05-17T08:05:03.250Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Since the epoch, between the years 0 and 9999 (and a day, for zones).
    pub seconds: i64,
    pub fraction: Fraction,
}

/// Of a second: 250 of three digits is a quarter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fraction {
    pub value: u32,
    /// At most 9; 0 for none.
    pub digits: u8,
}

/// A day and a time of day, of no zone yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Civil {
    /// Seconds since the epoch if this were UTC. A leap second counts as the second after it.
    ///
    /// # Errors
    /// There is no such day or time.
    pub fn seconds(self) -> Result<i64> {
        let Self { year, month, day, hour, minute, second } = self;
        ensure!((0..=9999).contains(&year), "no such year");
        ensure!((1..=12).contains(&month), "no such month");
        ensure!((1..=days_of(year, month)).contains(&day), "no such day");
        ensure!(hour < 24 && minute < 60 && second <= 60, "no such time of day");
        Ok(days_from_civil(year, month, day) * 86_400 + (hour * 60 + minute) * 60 + second)
    }
}

impl Time {
    /// Parses `17/May/2015:10:05:03 +0200`. A leap second counts as the second after it.
    ///
    /// # Errors
    /// The text has another form, or there is no such day or time.
    pub fn parse(text: &str) -> Result<Self> {
        let &[
            d1,
            d0,
            b'/',
            m0,
            m1,
            m2,
            b'/',
            y3,
            y2,
            y1,
            y0,
            b':',
            h1,
            h0,
            b':',
            n1,
            n0,
            b':',
            s1,
            s0,
            b' ',
            sign,
            z3,
            z2,
            z1,
            z0,
        ] = text.as_bytes()
        else {
            bail!("expected the form 17/May/2015:10:05:03 +0000");
        };
        let month = month_named([m0, m1, m2])?;
        let (year, day) = (number(&[y3, y2, y1, y0])?, number(&[d1, d0])?);
        let (hour, minute, second) = (number(&[h1, h0])?, number(&[n1, n0])?, number(&[s1, s0])?);
        let (zone_hours, zone_minutes) = (number(&[z3, z2])?, number(&[z1, z0])?);
        let local = Civil { year, month, day, hour, minute, second }.seconds()?;
        let zone = zone(sign, zone_hours, zone_minutes)?;
        Ok(Self { seconds: local - zone, fraction: Fraction::default() })
    }

    /// Parses `2015-05-17T10:05:03+02:00`, `…T08:05:03.250Z` and the like.
    ///
    /// # Errors
    /// The text has another form, or there is no such day or time.
    pub fn parse_iso(text: &str) -> Result<Self> {
        let form = "expected the form 2015-05-17T10:05:03+00:00";
        let (civil, rest) = text.split_at_checked(19).context(form)?;
        let &[y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0, b'T' | b' ', h1, h0, b':', n1, n0, b':', s1, s0] =
            civil.as_bytes()
        else {
            bail!("{form}");
        };
        let civil = Civil {
            year: number(&[y3, y2, y1, y0])?,
            month: number(&[m1, m0])?,
            day: number(&[d1, d0])?,
            hour: number(&[h1, h0])?,
            minute: number(&[n1, n0])?,
            second: number(&[s1, s0])?,
        };
        let (fraction, rest) = match rest.strip_prefix('.') {
            None => (Fraction::default(), rest),
            Some(rest) => {
                let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).context(form)?;
                (Fraction::parse(&rest[..end])?, &rest[end..])
            }
        };
        let zone = parse_zone(rest).context(form)?;
        Ok(Self { seconds: civil.seconds()? - zone, fraction })
    }

    /// Parses seconds since the epoch, `1431857103.250`, or with `digits` behind an unwritten point: with 3,
    /// milliseconds.
    ///
    /// # Errors
    /// The text is no such number.
    pub fn parse_epoch(text: &str, digits: usize) -> Result<Self> {
        let (seconds, fraction) = match text.split_once('.') {
            Some(parts) if digits == 0 => parts,
            _ => text.split_at_checked(text.len().saturating_sub(digits)).context("expected digits")?,
        };
        ensure!(!seconds.is_empty() && seconds.len() <= 12, "expected seconds since the epoch");
        let seconds = number(seconds.as_bytes())?;
        ensure!(seconds < 253_402_300_800, "no such year");
        Ok(Self { seconds, fraction: Fraction::parse(fraction)? })
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.seconds * 1000 + i64::from(self.fraction.nanos() / 1_000_000)
    }

    fn rfc3339(self) -> [u8; 20] {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400) as u32);
        let (year, month, day) = civil_from_days(days);
        let [y3, y2] = digits(year as u32 / 100);
        let [y1, y0] = digits(year as u32 % 100);
        let ([m1, m0], [d1, d0]) = (digits(month as u32), digits(day as u32));
        let ([h1, h0], [n1, n0], [s1, s0]) = (digits(second / 3600), digits(second / 60 % 60), digits(second % 60));
        [y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0, b'T', h1, h0, b':', n1, n0, b':', s1, s0, b'Z']
    }
}

impl Fraction {
    /// Of digits behind a point.
    ///
    /// # Errors
    /// More than 9 digits, or something else.
    pub fn parse(digits: &str) -> Result<Self> {
        ensure!(digits.len() <= 9, "a fraction of a second has at most 9 digits, found {}", digits.len());
        Ok(Self { value: number(digits.as_bytes())? as u32, digits: digits.len() as u8 })
    }

    fn nanos(self) -> u32 {
        self.value * 10_u32.pow(9 - u32::from(self.digits))
    }
}

/// `May`: 5.
pub fn month_named(name: [u8; 3]) -> Result<i64> {
    Ok(MONTHS.iter().position(|month| **month == name).context("no such month")? as i64 + 1)
}

/// The seconds that a zone is ahead of UTC.
fn zone(sign: u8, hours: i64, minutes: i64) -> Result<i64> {
    ensure!(matches!(sign, b'+' | b'-') && hours < 24 && minutes < 60, "no such time zone");
    let seconds = (hours * 60 + minutes) * 60;
    Ok(if sign == b'-' { -seconds } else { seconds })
}

/// `Z`, `+0200` or `+02:00`, in seconds ahead of UTC.
///
/// # Errors
/// The text has another form.
pub fn parse_zone(text: &str) -> Result<i64> {
    match *text.as_bytes() {
        [b'Z'] => Ok(0),
        [sign, h1, h0, b':', m1, m0] | [sign, h1, h0, m1, m0] => zone(sign, number(&[h1, h0])?, number(&[m1, m0])?),
        _ => bail!("expected a time zone such as +0200, found `{text}`"),
    }
}

/// Of a number below 100.
fn digits(number: u32) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

impl Time {
    /// Appends the time as JSON, as serialising gives it.
    ///
    /// # Errors
    /// None that can happen: bytes take any text.
    pub fn write(&self, json: &mut Vec<u8>) -> Result<()> {
        if self.fraction.digits > 0 {
            return Ok(serde_json::to_writer(json, self)?);
        }
        json.push(b'"');
        json.extend_from_slice(&self.rfc3339());
        json.push(b'"');
        Ok(())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.rfc3339();
        let text = str::from_utf8(&text).expect("digits are UTF-8");
        match self.fraction.digits {
            0 => serializer.serialize_str(text),
            digits => {
                let (seconds, width) = (&text[..19], usize::from(digits));
                serializer.collect_str(&format_args!("{seconds}.{:0width$}Z", self.fraction.value))
            }
        }
    }
}

/// Of digits alone.
pub fn number(digits: &[u8]) -> Result<i64> {
    let mut sum = 0;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        ensure!(value < 10, "expected a digit, found `{}`", digit.escape_ascii());
        sum = sum * 10 + i64::from(value);
    }
    Ok(sum)
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch. The year is counted from March, so that the leap day is its last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let (month, day) = ((from_march + 2) % 12 + 1, day_of_year - (153 * from_march + 2) / 5 + 1);
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        let check = |text: &str, seconds: i64, expected: &str| {
            let time = Time::parse(text).unwrap();
            assert_eq!((time.millis(), str::from_utf8(&time.rfc3339()).unwrap()), (seconds * 1000, expected), "{text}");
        };
        check("17/May/2015:10:05:03 +0000", 1_431_857_103, "2015-05-17T10:05:03Z");
        check("01/Jan/1970:00:00:00 +0000", 0, "1970-01-01T00:00:00Z");
        check("31/Dec/1969:23:59:59 +0000", -1, "1969-12-31T23:59:59Z");
        check("01/Mar/2024:00:30:00 +0100", 1_709_249_400, "2024-02-29T23:30:00Z");
        check("31/Dec/2016:23:59:60 +0000", 1_483_228_800, "2017-01-01T00:00:00Z");
        check("31/Dec/1999:20:00:00 -0530", 946_690_200, "2000-01-01T01:30:00Z");
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        let mut previous = days_from_civil(1799, 12, 31);
        for year in 1800..2200 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    let days = days_from_civil(year, month, day);
                    assert_eq!((days, civil_from_days(days)), (previous + 1, (year, month, day)));
                    previous = days;
                }
            }
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        let check = |text: &str, expected: &str| assert_eq!(Time::parse(text).unwrap_err().to_string(), expected);
        check("2015-05-17T10:05:03Z", "expected the form 17/May/2015:10:05:03 +0000");
        check("17/Mai/2015:10:05:03 +0000", "no such month");
        check("29/Feb/2015:10:05:03 +0000", "no such day");
        check("17/May/2015:24:05:03 +0000", "no such time of day");
        check("17/May/2015:10:05:03 *0000", "no such time zone");
        check("1x/May/2015:10:05:03 +0000", "expected a digit, found `x`");
    }
}
