//! Takes a batch through a guest so that one bad record costs only itself: a batch that fails as a
//! whole is halved until the record is found. Neighbours are handled by exactly one successful call,
//! in order; what failed calls emitted is forgotten.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::{Columns, mutant};

use super::pace::Paced;
use super::stats::StepStats;
use super::verdict::Failed;
use crate::guest::{Failure, Processed, is_deadly};
use crate::spec::{BACKOFF_MS_MAX, Retry};

/// How a step treats failing records.
#[derive(Clone, Copy)]
pub(super) struct Handling {
    pub(super) retry: Retry,
    /// Nothing behind the first failed record will be used.
    pub(super) stop_at_first: bool,
}

/// A step's guest at work on one batch.
pub(super) struct Isolation<'r> {
    paced: &'r mut Paced,
    stats: &'r mut StepStats,
    handling: Handling,
    batch: &'r Columns,
    processed: Processed,
    outputs: Vec<Columns>,
    failed: Vec<Failed>,
    /// A record succeeded at a later try: its rows stand behind those of its neighbours.
    late: bool,
}

/// What is still to do of a batch: rows to hand over, or a row that is known to be bad.
enum Work {
    Range(usize, usize),
    Bad(usize, String),
}

/// What became of a batch: one [`Columns`] per output, the records that failed in order.
pub(super) struct Isolated {
    pub(super) outputs: Vec<Columns>,
    pub(super) failed: Vec<Failed>,
}

impl<'r> Isolation<'r> {
    /// Takes `batch` through a guest.
    ///
    /// # Errors
    /// The guest does not start any more: the step cannot go on.
    pub(super) fn run(
        paced: &'r mut Paced,
        stats: &'r mut StepStats,
        handling: Handling,
        batch: &Arc<Columns>,
        outputs: usize,
    ) -> Result<Isolated, Failure> {
        let ascending = batch.offsets.is_sorted_by(|a, b| a < b);
        let numbered = if ascending { None } else { Some(renumber(batch)) };
        let mut work = Isolation {
            paced,
            stats,
            handling,
            batch: numbered.as_ref().unwrap_or(batch),
            processed: Processed::default(),
            outputs: vec![Columns::default(); outputs],
            failed: Vec::new(),
            late: false,
        };
        work.range(0, batch.len())?;
        let Isolation { outputs, failed, late, .. } = work;
        let mut done = Isolated { outputs, failed };
        if late {
            done.outputs.iter_mut().for_each(sort_by_offset);
        }
        if !ascending {
            let own = |number: i64| batch.offsets[number as usize];
            done.outputs.iter_mut().for_each(|rows| rows.offsets.iter_mut().for_each(|offset| *offset = own(*offset)));
            done.failed.iter_mut().for_each(|failed| failed.offset = own(failed.offset));
        }
        done.failed.sort_by_key(|failed| failed.offset);
        Ok(done)
    }

    fn range(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        // A stack with the first records on top, so that everything happens in the records' order.
        let mut open = vec![Work::Range(start, end)];
        while let Some(work) = open.pop() {
            if self.is_over() {
                return Ok(());
            }
            let (start, end) = match work {
                Work::Range(start, end) if start == end => continue,
                Work::Range(start, end) if end - start > self.paced.rows_max() => {
                    let first = start + self.paced.rows_max();
                    open.extend([Work::Range(first, end), Work::Range(start, first)]);
                    continue;
                }
                Work::Range(start, end) => (start, end),
                Work::Bad(row, message) => {
                    self.settle(row, message)?;
                    continue;
                }
            };
            let Err(failure) = self.call(start, end)? else { continue };
            match failure {
                Failure::Rejected { index: Some(index), message } if (index as usize) < end - start => {
                    let bad = start + index as usize;
                    open.extend([Work::Range(bad + 1, end), Work::Bad(bad, message), Work::Range(start, bad)]);
                }
                _ if mutant!("poison-neighbours-lost") && end - start > 1 => {
                    open.push(Work::Range(start, start + (end - start) / 2));
                }
                failure if end - start == 1 => self.settle(start, failure.to_string())?,
                _ => {
                    let middle = start + (end - start) / 2;
                    open.extend([Work::Range(middle, end), Work::Range(start, middle)]);
                }
            }
        }
        Ok(())
    }

    /// Whether nothing that is still to do would be used.
    fn is_over(&self) -> bool {
        self.handling.stop_at_first && !self.failed.is_empty()
    }

    /// One call with part of the batch; takes over what it made. The inner error is the batch's.
    fn call(&mut self, start: usize, end: usize) -> Result<Result<(), Failure>, Failure> {
        let part;
        let rows = if end - start == self.batch.len() {
            self.batch
        } else {
            part = slice(self.batch, start, end);
            &part
        };
        self.processed.clear();
        let result = self.paced.guest.process(rows, &mut self.processed);
        self.paced.learn(end - start, result.as_ref().err());
        if let Err(failure) = result {
            if is_deadly(&failure) {
                self.stats.restarts += 1;
                self.paced.guest.restart()?;
            }
            return Ok(Err(failure));
        }
        self.take(start, end)?;
        Ok(Ok(()))
    }

    fn take(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        let mut processed = std::mem::take(&mut self.processed);
        self.stats.count(&processed.counters);
        processed.rejected.retain(|rejected| (rejected.index as usize) < end - start);
        processed.rejected.sort_by_key(|rejected| rejected.index);
        processed.rejected.dedup_by_key(|rejected| rejected.index);
        let mut refused: Vec<i64> =
            processed.rejected.iter().map(|r| self.batch.offsets[start + r.index as usize]).collect();
        refused.sort_unstable();
        for (output, rows) in processed.outputs.drain(..) {
            // Rows for an output nobody takes have no place to go.
            let Some(into) = self.outputs.get_mut(output) else { continue };
            if refused.is_empty() && into.is_empty() {
                *into = rows;
            } else {
                let counts = |offset: &i64| refused.binary_search(offset).is_err();
                rows.rows().filter(|row| counts(&row.offset)).for_each(|row| into.push_row(&row));
            }
        }
        for rejected in std::mem::take(&mut processed.rejected) {
            if self.is_over() {
                break;
            }
            self.settle(start + rejected.index as usize, rejected.message)?;
        }
        processed.clear();
        self.processed = processed;
        Ok(())
    }

    /// One record failed: tries it again as often as its policy says, alone.
    fn settle(&mut self, row: usize, mut message: String) -> Result<(), Failure> {
        let Retry { attempts, mut backoff_ms } = self.handling.retry;
        let mut tries = 1;
        while tries < attempts {
            self.paced.guest.pause(Duration::from_millis(backoff_ms));
            backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
            tries += 1;
            match self.try_alone(row)? {
                None => {
                    self.late = true;
                    return Ok(());
                }
                Some(again) => message = again,
            }
        }
        self.failed.push(Failed { offset: self.batch.offsets[row], message, attempts: tries });
        Ok(())
    }

    /// `None`: it went well. Otherwise why it failed again.
    fn try_alone(&mut self, row: usize) -> Result<Option<String>, Failure> {
        let alone = slice(self.batch, row, row + 1);
        let mut processed = Processed::default();
        match self.paced.guest.process(&alone, &mut processed) {
            Ok(()) => {}
            Err(failure) => {
                if is_deadly(&failure) {
                    self.stats.restarts += 1;
                    self.paced.guest.restart()?;
                }
                return Ok(Some(failure.to_string()));
            }
        }
        if let Some(rejected) = processed.rejected.pop() {
            return Ok(Some(rejected.message));
        }
        self.stats.count(&processed.counters);
        for (output, rows) in processed.outputs {
            if let Some(into) = self.outputs.get_mut(output) {
                rows.rows().for_each(|row| into.push_row(&row));
            }
        }
        Ok(None)
    }
}

fn slice(batch: &Columns, start: usize, end: usize) -> Columns {
    let mut part = Columns::default();
    batch.rows().skip(start).take(end - start).for_each(|row| part.push_row(&row));
    part
}

/// Several records of a batch made from one input record share its offset; a guest tells records apart
/// by offset, so it gets their row numbers instead.
fn renumber(batch: &Columns) -> Columns {
    let mut numbered = batch.clone();
    numbered.offsets = (0..batch.len() as i64).collect();
    numbered
}

fn sort_by_offset(columns: &mut Columns) {
    let mut rows: Vec<_> = columns.rows().collect();
    rows.sort_by_key(|row| row.offset);
    let mut sorted = Columns::default();
    rows.iter().for_each(|row| sorted.push_row(row));
    *columns = sorted;
}
