//! The runner against fake guests: `cases` shows single behaviours, `model` compares random pipelines
//! with a record-at-a-time model.

mod cases;
mod model;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_plugin_host::Counter;
use millstream_protocol::{Columns, Row};

use super::*;
use crate::guest::{Failure, Processed, Rejected, is_deadly};

/// A guest that does to each record what the letter at its `place` in the value says:
/// `r` rejects it, `i` fails the batch naming it, `T` traps, `L` loops, `f` fails on the first try only,
/// `x` gives two records, `d` none, `s` sends it to output 1; everything else goes through.
pub(super) struct Fake {
    pub(super) place: usize,
    /// Appended to every value that goes through.
    pub(super) mark: &'static str,
    pub(super) log: Arc<Mutex<FakeLog>>,
    pub(super) starts: bool,
    dead: bool,
    tried: HashMap<Vec<u8>, u32>,
}

#[derive(Debug, Default)]
pub(super) struct FakeLog {
    pub(super) calls: usize,
    pub(super) restarts: usize,
    pub(super) pauses: Vec<u64>,
    /// Values that successful calls were given, in order.
    pub(super) handled: Vec<String>,
}

impl Fake {
    pub(super) fn at(place: usize) -> Self {
        Fake { place, mark: "", log: Arc::default(), starts: true, dead: false, tried: HashMap::new() }
    }

    fn one(&mut self, index: usize, row: &Row<'_>, out: &mut Processed) -> Result<(), Failure> {
        let value = row.value.unwrap();
        let mut made = value.to_vec();
        made.extend_from_slice(self.mark.as_bytes());
        let reject = || Rejected { index: index as u32, message: "refused".into() };
        match value.get(self.place) {
            Some(b'r') => out.rejected.push(reject()),
            Some(b'i') => return Err(Failure::Rejected { index: Some(index as u32), message: "named".into() }),
            Some(b'T') => return Err(Failure::Trap { message: "unreachable".into() }),
            Some(b'L') => return Err(Failure::Deadline { limit_ms: 1000 }),
            Some(b'f') if *self.tried.entry(value.to_vec()).and_modify(|n| *n += 1).or_insert(1) == 1 => {
                out.rejected.push(reject());
                // What a refused record emitted before does not count.
                emit(out, 0, row, b"half done");
            }
            Some(b'x') => {
                emit(out, 0, row, &[&made[..], b"0"].concat());
                emit(out, 0, row, &[&made[..], b"1"].concat());
            }
            Some(b'd') => {}
            Some(b's') => emit(out, 1, row, &made),
            _ => emit(out, 0, row, &made),
        }
        Ok(())
    }
}

fn emit(out: &mut Processed, output: usize, row: &Row<'_>, value: &[u8]) {
    if out.outputs.iter().all(|(own, _)| *own != output) {
        out.outputs.push((output, Columns::default()));
    }
    let (_, columns) = out.outputs.iter_mut().find(|(own, _)| *own == output).unwrap();
    columns.push(row.offset, row.timestamp, row.key, Some(value));
}

impl Guest for Fake {
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure> {
        assert!(!self.dead, "a dead guest is not called");
        processed.clear();
        self.log.lock().unwrap().calls += 1;
        for (index, row) in batch.rows().enumerate() {
            if let Err(failure) = self.one(index, &row, processed) {
                self.dead = is_deadly(&failure);
                return Err(failure);
            }
        }
        processed.counters.push(Counter { name: "seen".into(), delta: batch.len() as u64 });
        let mut log = self.log.lock().unwrap();
        log.handled.extend(batch.rows().map(|row| text(row.value)));
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.log.lock().unwrap().restarts += 1;
        self.dead = !self.starts;
        if self.starts { Ok(()) } else { Err(Failure::Init { message: "no settings".into() }) }
    }

    fn pause(&mut self, time: Duration) {
        self.log.lock().unwrap().pauses.push(time.as_millis() as u64);
    }

    fn digest(&self) -> [u8; 32] {
        [self.mark.len() as u8; 32]
    }
}

pub(super) fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or(b"(null)")).into_owned()
}

pub(super) fn plan(yaml: &str) -> Arc<Plan> {
    let spec = crate::parse(yaml, "test.yaml").unwrap_or_else(|found| panic!("{found}"));
    Arc::new(Plan::new(&spec, &Default::default()).unwrap())
}

pub(super) fn runner(plan: &Arc<Plan>, guests: Vec<Box<dyn Guest>>) -> Runner {
    let task = Task { plan: Arc::clone(plan), input: 0, partition: 3, start: Offset(10) };
    let mut now = 0;
    Runner::new(
        task,
        guests,
        Box::new(move || {
            now += 1000;
            now
        }),
    )
}

/// Records with these values, from `first` on.
pub(super) fn fetched(first: i64, values: &[impl AsRef<str>]) -> Event {
    let mut columns = Columns::default();
    for (offset, value) in (first..).zip(values) {
        columns.push(offset, 1_000 + offset, Some(b"k"), Some(value.as_ref().as_bytes()));
    }
    Event::Fetched { columns, next: Offset(first + values.len() as i64) }
}
