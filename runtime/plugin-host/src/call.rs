//! What one `process` call gathers: outputs, rejections, counters; and the rules a guest's output must
//! keep. Everything is checked as it arrives, before it costs memory.

use millstream_protocol::Columns;
use wasmtime::StoreContextMut;

use crate::failure::Failure;
use crate::instance::{Counter, Processed, Rejected, State};
use crate::limits::{COUNTER_NAME_BYTES_MAX, COUNTERS_MAX};
use crate::world::Emitted;

#[derive(Default)]
pub(crate) struct Call {
    pub(crate) now_ms: i64,
    processed: Processed,
    offsets: Offsets,
    records_left: usize,
    bytes_left: usize,
    rejected_flags: Vec<bool>,
    /// Holds an emitted batch until it is validated, when its output has rows already.
    scratch: Columns,
}

/// What the output of one call may come to.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Call {
    /// Starts a call on `input`, whose results go to `processed` (cleared, its allocations reused).
    pub(crate) fn begin(&mut self, input: &Columns, mut processed: Processed, budget: Budget) {
        processed.clear();
        self.processed = processed;
        self.now_ms = input.timestamps.iter().copied().max().unwrap_or(0);
        self.offsets.set(&input.offsets);
        self.records_left = budget.records;
        self.bytes_left = budget.bytes;
        self.rejected_flags.clear();
        self.rejected_flags.resize(input.len(), false);
    }

    /// Ends the call and gives what it gathered.
    pub(crate) fn end(&mut self) -> Processed {
        std::mem::take(&mut self.processed)
    }

    pub(crate) fn emit(
        &mut self,
        store: &StoreContextMut<'_, State>,
        output: usize,
        rows: &Emitted,
    ) -> Result<(), Failure> {
        self.records_left = self
            .records_left
            .checked_sub(rows.records())
            .ok_or_else(|| refused("more records than a batch may give".into()))?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(rows.bytes())
            .ok_or_else(|| refused("more bytes than a batch may give".into()))?;
        let target = self.processed.output(output);
        let first = target.is_empty();
        let fresh = if first { &mut *target } else { &mut self.scratch };
        fresh.clear();
        rows.copy_to(store, fresh);
        fresh.validate().map_err(|error| refused(error.to_string()))?;
        self.offsets.check(&fresh.offsets)?;
        if !first {
            append(target, &self.scratch);
        }
        Ok(())
    }

    pub(crate) fn reject(&mut self, index: u32, message: String) -> Result<(), Failure> {
        let records = self.rejected_flags.len();
        let Some(flag) = self.rejected_flags.get_mut(index as usize) else {
            return Err(refused(format!("it rejects record {index} of a batch of {records}")));
        };
        // The first message counts; this also bounds the rejections to one per record.
        if !std::mem::replace(flag, true) {
            self.processed.rejected.push(Rejected { index, message });
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, name: String, delta: u64) {
        let counters = &mut self.processed.counters;
        match counters.iter().position(|counter| counter.name == name) {
            Some(at) => counters[at].delta = counters[at].delta.saturating_add(delta),
            None if counters.len() < COUNTERS_MAX && name.len() <= COUNTER_NAME_BYTES_MAX => {
                counters.push(Counter { name, delta });
            }
            None => {}
        }
    }
}

pub(crate) fn refused(message: String) -> Failure {
    Failure::Output { message }
}

fn append(target: &mut Columns, more: &Columns) {
    target.offsets.extend_from_slice(&more.offsets);
    target.timestamps.extend_from_slice(&more.timestamps);
    target.key_lens.extend_from_slice(&more.key_lens);
    target.keys.extend_from_slice(&more.keys);
    target.value_lens.extend_from_slice(&more.value_lens);
    target.values.extend_from_slice(&more.values);
    target.header_counts.extend_from_slice(&more.header_counts);
    target.header_lens.extend_from_slice(&more.header_lens);
    target.headers.extend_from_slice(&more.headers);
}

/// The offsets of the input batch, to tell whether an output's offset is one of them.
#[derive(Default)]
struct Offsets {
    sorted: Vec<i64>,
    /// The offsets are every number from the first to the last: a range check is enough.
    dense: bool,
}

impl Offsets {
    fn set(&mut self, offsets: &[i64]) {
        self.sorted.clear();
        self.sorted.extend_from_slice(offsets);
        self.dense = offsets.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 1);
        if !self.dense && !self.sorted.is_sorted() {
            self.sorted.sort_unstable();
        }
    }

    fn check(&self, emitted: &[i64]) -> Result<(), Failure> {
        let foreign = match (self.sorted.first(), self.sorted.last()) {
            (Some(&first), Some(&last)) if self.dense => {
                emitted.iter().find(|offset| !(first..=last).contains(*offset))
            }
            _ => self.find_foreign(emitted),
        };
        match foreign {
            None => Ok(()),
            Some(offset) => Err(refused(format!("it emits a record for offset {offset}, which is not in its input"))),
        }
    }

    /// Outputs mostly keep the order of their inputs, so a search begins where the last one ended.
    fn find_foreign<'a>(&self, emitted: &'a [i64]) -> Option<&'a i64> {
        let mut at = 0;
        emitted.iter().find(|offset| {
            let near = self.sorted[at..].iter().take(4).position(|own| own == *offset);
            match near.map(|steps| at + steps).or_else(|| self.sorted.binary_search(offset).ok()) {
                Some(found) => at = found,
                None => return true,
            }
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_offsets_are_found() {
        let check = |input: &[i64], emitted: &[i64], foreign: Option<i64>| {
            let mut offsets = Offsets::default();
            offsets.set(input);
            let expected =
                foreign.map(|f| refused(format!("it emits a record for offset {f}, which is not in its input")));
            assert_eq!(offsets.check(emitted).err(), expected, "{input:?} {emitted:?}");
        };
        check(&[5, 6, 7], &[5, 7, 7, 6], None);
        check(&[5, 6, 7], &[5, 8], Some(8));
        check(&[5, 6, 7], &[4], Some(4));
        check(&[5, 9, 20, 31, 44, 58, 70], &[5, 5, 70, 9, 44], None);
        check(&[5, 9, 20, 31, 44, 58, 70], &[5, 70, 10], Some(10));
        check(&[9, 5, 5, 20], &[20, 5, 9], None);
        check(&[9, 5, 5, 20], &[6], Some(6));
        check(&[i64::MIN, i64::MAX], &[0], Some(0));
        check(&[], &[], None);
        check(&[], &[0], Some(0));
    }

    #[test]
    fn rejections_are_one_per_record_of_the_batch() {
        let mut input = Columns::default();
        input.push(1, 40, None, None);
        input.push(2, 30, None, None);
        let mut call = Call::default();
        call.begin(&input, Processed::default(), Budget { records: 9, bytes: 9 });
        assert_eq!(call.now_ms, 40);
        call.reject(1, "a".into()).unwrap();
        call.reject(1, "b".into()).unwrap();
        assert_eq!(call.reject(2, "c".into()), Err(refused("it rejects record 2 of a batch of 2".into())));
        assert_eq!(call.end().rejected, [Rejected { index: 1, message: "a".into() }]);
    }

    #[test]
    fn counters_are_bounded_in_number_and_name() {
        let mut call = Call::default();
        (0..1000).for_each(|i| call.count(format!("c{i}"), 1));
        call.count("c0".into(), u64::MAX);
        call.count("x".repeat(COUNTER_NAME_BYTES_MAX + 1), 1);
        let counters = call.end().counters;
        assert_eq!((counters.len(), counters[0].delta), (COUNTERS_MAX, u64::MAX));
    }
}
