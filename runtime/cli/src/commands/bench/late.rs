//! Which records were late and when, for whoever wants to know what the machine was doing then.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::ClockId;

use super::measure::clock;

/// Records that come so long after their time or later are noted.
const LATE: Duration = Duration::from_millis(1);
/// More of one run are not noted: 32 bytes each.
const NOTED_MAX: usize = 10_000_000;

/// Late records of one run, kept until it is over.
#[derive(Debug, Default)]
pub(super) struct Noted(Vec<(Instant, Instant)>);

impl Noted {
    pub(super) fn note(&mut self, due: Instant, came: Instant) {
        if came.saturating_duration_since(due) >= LATE && self.0.len() < NOTED_MAX {
            self.0.push((due, came));
        }
    }
}

/// The file of `--late`.
#[derive(Debug)]
pub(super) struct LateFile {
    out: BufWriter<File>,
    /// The same moment twice; by CLOCK_MONOTONIC, the clock of `perf record -k CLOCK_MONOTONIC`.
    origin: (Instant, Duration),
}

impl LateFile {
    /// # Errors
    /// The system's, with the path.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("{} can't be written", path.display()))?;
        Ok(LateFile { out: BufWriter::new(file), origin: (Instant::now(), clock(ClockId::Monotonic)) })
    }

    /// Adds a line for each: due and came.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn add(&mut self, noted: &Noted) -> Result<()> {
        for (due, came) in &noted.0 {
            writeln!(self.out, "{} {}", self.nanos(*due), self.nanos(*came))?;
        }
        Ok(self.out.flush()?)
    }

    /// What is told here comes after the file.
    fn nanos(&self, at: Instant) -> u128 {
        let (origin, time) = self.origin;
        (time + at.saturating_duration_since(origin)).as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_records_are_told_by_the_clock_that_traces_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late");
        let mut file = LateFile::create(&path).unwrap();
        let before = Instant::now();
        let mut noted = Noted::default();
        noted.note(before, before + LATE);
        noted.note(before, before + LATE - Duration::from_nanos(1));
        noted.note(before + LATE, before);
        noted.note(before + LATE, before + LATE * 8);
        file.add(&noted).unwrap();
        let now = clock(ClockId::Monotonic).as_nanos();

        let text = std::fs::read_to_string(&path).unwrap();
        let times: Vec<u128> = text.split_whitespace().map(|time| time.parse().unwrap()).collect();
        let [first, ..] = times[..] else { panic!("{text:?}") };
        assert_eq!(times, [first, first + 1_000_000, first + 1_000_000, first + 8_000_000]);
        // The two clocks are read one after the other, so the moment may seem to come a little later.
        assert!(first < now + 1_000_000_000 && now < first + 60_000_000_000, "{first} is not about {now}");
        let gone = LateFile::create(&dir.path().join("none/late")).unwrap_err();
        assert!(gone.to_string().contains("none/late can't be written"), "{gone}");
    }
}
