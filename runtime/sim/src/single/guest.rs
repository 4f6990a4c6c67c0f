//! A plugin's stand-in in native code: what it does to a record is written in the record's value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipeline::dead_letter;
use millstream_pipeline::{Failure, Guest, Processed, Rejected};
use millstream_protocol::{Columns, Row};

/// How a record fares in the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fare {
    Well,
    /// Gives two results.
    Twice,
    /// Gives none.
    Dropped,
    /// Rejected by itself.
    Rejected,
    /// The call fails and names it.
    Named,
    /// The instance dies of it.
    Traps,
    /// The first try fails.
    Once,
    /// Rejected until it is redriven.
    Late,
}

const FARES: [(Fare, &str); 8] = [
    (Fare::Well, "/ok"),
    (Fare::Twice, "/twice"),
    (Fare::Dropped, "/drop"),
    (Fare::Rejected, "/reject"),
    (Fare::Named, "/named"),
    (Fare::Traps, "/trap"),
    (Fare::Once, "/once"),
    (Fare::Late, "/late"),
];

impl Fare {
    /// What a value that fares so ends with.
    pub(crate) fn mark(self) -> &'static str {
        FARES.iter().find(|(fare, _)| *fare == self).expect("every fare is in the list").1
    }

    pub(crate) fn of(value: &[u8]) -> Fare {
        FARES.iter().find(|(_, mark)| value.ends_with(mark.as_bytes())).map_or(Fare::Well, |(fare, _)| *fare)
    }

    /// Whether it ends as a dead letter.
    pub(crate) fn is_poison(self) -> bool {
        matches!(self, Fare::Rejected | Fare::Named | Fare::Traps | Fare::Late)
    }

    /// How many results it gives.
    pub(crate) fn results(self) -> usize {
        match self {
            Fare::Well | Fare::Once => 1,
            Fare::Twice => 2,
            _ => 0,
        }
    }
}

/// Whether a record, or what was made of it, comes from a redrive.
pub(crate) fn is_redriven(row: &Row<'_>) -> bool {
    row.headers.iter().any(|(name, _)| name == dead_letter::REDRIVEN.as_bytes())
}

/// Makes an instance of a plugin's version.
pub type Guests = Arc<dyn Fn(u32) -> Box<dyn Guest> + Send + Sync>;

/// Instances in native code.
pub(crate) fn native() -> Guests {
    Arc::new(|version| Box::new(Native { version, dead: false, tried: BTreeSet::new() }))
}

/// One instance. Its results end with its version.
pub(crate) struct Native {
    version: u32,
    dead: bool,
    tried: BTreeSet<Vec<u8>>,
}

impl Native {
    fn one(&mut self, index: usize, row: &Row<'_>, out: &mut Processed) -> Result<(), Failure> {
        let value = row.value.unwrap_or_default();
        let index = index as u32;
        let fare = Fare::of(value);
        let is_redriven = is_redriven(row);
        match fare {
            Fare::Rejected => out.rejected.push(Rejected { index, message: "refused".into() }),
            Fare::Late if !is_redriven => out.rejected.push(Rejected { index, message: "too early".into() }),
            Fare::Named => return Err(Failure::Rejected { index: Some(index), message: "named".into() }),
            Fare::Traps => return Err(Failure::Trap { message: "unreachable".into() }),
            Fare::Once if self.tried.insert(value.to_vec()) => {
                out.rejected.push(Rejected { index, message: "not yet".into() });
            }
            _ => {}
        }
        let mut made = value.to_vec();
        made.extend_from_slice(format!("|v{}", self.version).as_bytes());
        let results = if is_redriven && fare == Fare::Late { 1 } else { fare.results() };
        for _ in 0..results {
            if out.outputs.is_empty() {
                out.outputs.push((0, Columns::default()));
            }
            out.outputs[0].1.push(row.offset, row.timestamp, row.key, Some(&made));
            row.headers.iter().for_each(|(name, value)| out.outputs[0].1.push_header(name, value));
        }
        Ok(())
    }
}

impl Guest for Native {
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure> {
        assert!(!self.dead, "a dead guest is not called");
        processed.clear();
        for (index, row) in batch.rows().enumerate() {
            if let Err(failure) = self.one(index, &row, processed) {
                self.dead = !matches!(failure, Failure::Rejected { .. });
                return Err(failure);
            }
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        (self.dead, self.tried) = (false, BTreeSet::new());
        Ok(())
    }

    fn pause(&mut self, _time: Duration) {}

    fn digest(&self) -> [u8; 32] {
        [self.version as u8; 32]
    }
}
