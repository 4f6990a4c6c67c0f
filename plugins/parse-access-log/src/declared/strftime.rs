//! Times as `strftime` writes them, which Apache's `%{format}t` allows: `%d/%b/%Y:%T %z`. A format becomes pieces of known
//! shape; several of them in a line fill one set of [`Parts`].

use millstream_plugin::prelude::*;

use crate::time::{Civil, month_named, number, parse_zone};

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strftime(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(char),
    /// The letter behind `%`; those that stand for several are taken apart before.
    Field(char),
}

/// What the columns of a line say about its time. What none says is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: Option<i64>,
    half: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    zone: Option<i64>,
    epoch: Option<i64>,
}

impl Strftime {
    /// # Errors
    /// Names the field that has no meaning here.
    pub fn compile(format: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut chars = format.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                pieces.push(Piece::Literal(char));
                continue;
            }
            let letter = chars.next().ok_or("it ends in a single `%`")?;
            match expansion(letter) {
                Some(format) => pieces.extend(Self::compile(format)?.0),
                None => pieces.push(piece(letter)?),
            }
        }
        if pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) {
            return Err(format!("`{format}` tells no part of a time"));
        }
        Ok(Self(pieces))
    }

    /// Bytes of every text of this format, if they are always as many.
    pub fn width(&self) -> Option<usize> {
        let width = |piece: &Piece| match piece {
            Piece::Literal(char) => Some(char.len_utf8()),
            Piece::Field(letter) => width(*letter),
        };
        self.0.iter().map(width).sum()
    }

    /// Whether texts of this format may hold this byte.
    pub fn holds(&self, byte: u8) -> bool {
        let literal = |piece: &Piece| matches!(piece, Piece::Literal(char) if !char.is_ascii() || *char as u32 == u32::from(byte));
        let padded = |piece: &Piece| matches!(piece, Piece::Field('e' | 'k' | 'l'));
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'-')
            || self.0.iter().any(|piece| literal(piece) || (byte == b' ' && padded(piece)))
    }

    /// Reads all of `text` into `parts`.
    ///
    /// # Errors
    /// The text is not of this format, or tells something else than `parts` do already.
    pub fn read(&self, text: &str, parts: &mut Parts) -> Result<()> {
        let mut rest = text;
        for piece in &self.0 {
            match piece {
                Piece::Literal(char) => {
                    rest = rest.strip_prefix(*char).with_context(|| format!("expected `{char}`, found `{rest}`"))?;
                }
                Piece::Field(letter) => {
                    let length = match width(*letter) {
                        Some(width) => width,
                        None if *letter == 's' => rest.bytes().take_while(u8::is_ascii_digit).count(),
                        None => rest.bytes().take_while(u8::is_ascii_alphabetic).count(),
                    };
                    let (field, after) = rest.split_at_checked(length).context("it ends too early")?;
                    parts.set(*letter, field)?;
                    rest = after;
                }
            }
        }
        ensure!(rest.is_empty(), "`{rest}` is left over");
        Ok(())
    }

    /// What a line of this format would tell, for checking that it is enough.
    pub fn tells(&self, parts: &mut Parts) {
        for piece in &self.0 {
            let Piece::Field(letter) = piece else { continue };
            let sample = match letter {
                'b' | 'B' => "Jan",
                'p' => "AM",
                'z' => "+0000",
                'Z' => "UTC",
                'Y' => "2000",
                _ => "01",
            };
            // Two formats may give the same part twice, with the same sample.
            parts.set(*letter, sample).unwrap_or_default();
        }
    }
}

fn expansion(letter: char) -> Option<&'static str> {
    Some(match letter {
        'T' => "%H:%M:%S",
        'R' => "%H:%M",
        'D' => "%m/%d/%y",
        'F' => "%Y-%m-%d",
        'c' => "%a %b %e %H:%M:%S %Y",
        'r' => "%I:%M:%S %p",
        'h' => "%b",
        _ => return None,
    })
}

fn piece(letter: char) -> Result<Piece, String> {
    match letter {
        '%' => Ok(Piece::Literal('%')),
        'n' => Ok(Piece::Literal('\n')),
        't' => Ok(Piece::Literal('\t')),
        _ if width(letter).is_some() || matches!(letter, 'A' | 'B' | 's' | 'Z') => Ok(Piece::Field(letter)),
        _ => Err(format!("`%{letter}` is not a part of a time that can be read back")),
    }
}

/// Bytes of the field, if they are always as many.
fn width(letter: char) -> Option<usize> {
    match letter {
        'u' | 'w' => Some(1),
        'd' | 'e' | 'H' | 'I' | 'k' | 'l' | 'm' | 'M' | 'S' | 'y' | 'p' | 'C' | 'g' | 'U' | 'V' | 'W' => Some(2),
        'a' | 'b' | 'j' => Some(3),
        'Y' | 'G' => Some(4),
        'z' => Some(5),
        _ => None,
    }
}

impl Parts {
    fn set(&mut self, letter: char, text: &str) -> Result<()> {
        let padded = || number(text.trim_start().as_bytes());
        let (part, value) = match letter {
            'Y' => (&mut self.year, padded()?),
            'y' => (&mut self.year, padded().map(|year| if year < 69 { 2000 + year } else { 1900 + year })?),
            'm' => (&mut self.month, padded()?),
            'b' | 'B' => {
                let name: [u8; 3] = *text.as_bytes().first_chunk().context("no such month")?;
                (&mut self.month, month_named(name)?)
            }
            'd' | 'e' => (&mut self.day, padded()?),
            'H' | 'k' => (&mut self.hour, padded()?),
            'I' | 'l' => (&mut self.half, padded()?),
            'M' => (&mut self.minute, padded()?),
            'S' => (&mut self.second, padded()?),
            'z' => (&mut self.zone, parse_zone(text)?),
            'Z' => {
                ensure!(
                    matches!(text, "UTC" | "GMT" | "Z"),
                    "the time zone `{text}` is not known by its name: log `%z`"
                );
                (&mut self.zone, 0)
            }
            's' => {
                ensure!((1..=12).contains(&text.len()), "expected seconds since the epoch");
                (&mut self.epoch, number(text.as_bytes())?)
            }
            'p' => return self.set_afternoon(text),
            'a' | 'A' => {
                ensure!(
                    text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic()),
                    "`{text}` is no day's name"
                );
                return Ok(());
            }
            // Weeks, days of the year and the like follow from the date.
            _ => return number(text.as_bytes()).map(|_| ()),
        };
        ensure!(part.is_none_or(|known| known == value), "two columns tell different times");
        *part = Some(value);
        Ok(())
    }

    fn set_afternoon(&mut self, text: &str) -> Result<()> {
        self.afternoon = match text {
            "AM" => Some(false),
            "PM" => Some(true),
            _ => bail!("expected AM or PM, found `{text}`"),
        };
        Ok(())
    }

    fn hour(&self) -> Option<i64> {
        let half = || Some(self.half? % 12 + if self.afternoon? { 12 } else { 0 });
        self.hour.or_else(half)
    }

    /// What is missing for an instant, a zone apart.
    pub fn missing(&self) -> Option<&'static str> {
        let parts = [
            (self.year, "a year"),
            (self.month, "a month"),
            (self.day, "a day"),
            (self.hour(), "an hour"),
            (self.minute, "a minute"),
            (self.second, "a second"),
        ];
        let missing = parts.iter().find(|(part, _)| part.is_none()).map(|(_, name)| *name);
        missing.filter(|_| self.epoch.is_none())
    }

    pub fn has_zone(&self) -> bool {
        self.zone.is_some() || self.epoch.is_some()
    }

    /// Seconds since the epoch; `zone` counts when the parts tell none.
    ///
    /// # Errors
    /// There is no such day or time, or something is missing.
    pub fn seconds(&self, zone: Option<i64>) -> Result<i64> {
        if let Some(seconds) = self.epoch {
            return Ok(seconds);
        }
        let civil = || {
            Some(Civil {
                year: self.year?,
                month: self.month?,
                day: self.day?,
                hour: self.hour()?,
                minute: self.minute?,
                second: self.second?,
            })
        };
        ensure!(self.half.is_none_or(|half| (1..=12).contains(&half)), "no such time of day");
        let zone = self.zone.or(zone).context("it has no zone")?;
        Ok(civil().context("a part of it is missing")?.seconds()? - zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Fraction, Time};

    #[test]
    fn formats_are_read_back() {
        let check = |format: &str, text: &str, zone: Option<i64>, expected: &str| {
            let read = || {
                let mut parts = Parts::default();
                Strftime::compile(format).map_err(Error::msg)?.read(text, &mut parts)?;
                let time = Time { seconds: parts.seconds(zone)?, fraction: Fraction::default() };
                Ok(serde_json::to_string(&time)?)
            };
            let found: Result<String> = read();
            assert_eq!(found.unwrap_or_else(|error| error.to_string()).trim_matches('"'), expected, "{format}: {text}");
        };
        check("%d/%b/%Y:%T %z", "17/May/2015:10:05:03 +0200", None, "2015-05-17T08:05:03Z");
        check("%F %R:%S", "2015-05-17 10:05:03", Some(-3600), "2015-05-17T11:05:03Z");
        check("%F %R:%S", "2015-05-17 10:05:03", None, "it has no zone");
        check("%D %r %Z", "05/17/15 12:05:03 AM UTC", None, "2015-05-17T00:05:03Z");
        check("%D %r", "05/17/15 13:05:03 AM", Some(0), "no such time of day");
        check("%c", "Sun May  3 10:05:03 2015", Some(0), "2015-05-03T10:05:03Z");
        check("%s", "1431857103", None, "2015-05-17T10:05:03Z");
        check(
            "%A, %d %B %Y %H:%M:%S %Z",
            "Sunday, 17 May 2015 10:05:03 CEST",
            None,
            "the time zone `CEST` is not known by its name: log `%z`",
        );
        check("%Y-%m-%d", "2015-05-17", Some(0), "a part of it is missing");
        check("%Y-%m-%d %T", "2015-02-29 10:00:00", Some(0), "no such day");
        check("%Y %y", "2015 16", Some(0), "two columns tell different times");
        check("%Y-%m-%d %T", "2015-02-2", Some(0), "it ends too early");
        check("%T", "10:05:03 ", Some(0), "` ` is left over");
        check("%x", "", None, "`%x` is not a part of a time that can be read back");
        check("day", "", None, "`day` tells no part of a time");
    }
}
