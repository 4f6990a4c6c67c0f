//! The small file that says what recovery may rely on: where the log begins, and how far it is known to
//! be on the disk (the *synced mark*).
//!
//! ```text
//! two slots, at 0 and 4096, the newer valid one counts:
//! "MSCK" | u16 version = 1 | u16 flags (1: closed cleanly) | u64 sequence | i64 log start |
//! i64 segment | u64 position | i64 offset | u32 crc32c of all before
//! ```
//!
//! Big-endian. Everything before `position` in `segment`, and in the segments before it, was synced before
//! the mark was written; the record at `position` has `offset`. The mark is written after every sync but
//! synced only now and then: after a power loss it may lag, never lead. A write never goes to the slot whose
//! contents are known to be on the disk, so whatever becomes of it, that one is left.
//!
//! The file is open only while it is written: a partition needs no descriptor for it otherwise. Each sync goes over the
//! handle that wrote what it makes durable. Opening comes first and alone, as its failure leaves everything as it was.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_protocol::Offset;

use crate::names::CHECKPOINT;
use crate::storage::{File, Storage, replace_file, write_all_at};

const MAGIC: [u8; 4] = *b"MSCK";
const VERSION: u16 = 1;
const FLAG_CLEAN: u16 = 1;
const SLOT_LEN: usize = 52;
const SLOT_DISTANCE: usize = 4096;

/// Everything before this is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Base offset of the segment.
    pub(crate) segment: Offset,
    /// Bytes of it.
    pub(crate) position: u64,
    /// Offset of the batch that begins there.
    pub(crate) offset: Offset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) start: Offset,
    pub(crate) mark: Mark,
    /// Nothing was written after the mark.
    pub(crate) clean: bool,
}

/// What the file says, and how it is changed. The log's owner and its sync jobs share it; each brings the file that
/// it had from [`open`].
#[derive(Debug)]
pub(crate) struct Checkpoint {
    current: Mutex<Current>,
    /// Loading wrote the file, durably, and its name with it.
    pub(crate) replaced: bool,
}

/// What the file says.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    sequence: u64,
    state: State,
    /// Where the newest state is.
    slot: usize,
    /// Where a state is that is on the disk for certain; absent after loading, as what was read may be in the cache alone.
    durable: Option<usize>,
}

/// The file, to be changed and closed again.
///
/// # Errors
/// The system's, when it is out of file descriptors for example; nothing was written.
pub(crate) fn open(storage: &dyn Storage) -> io::Result<Arc<dyn File>> {
    storage.open(CHECKPOINT)
}

impl Checkpoint {
    /// Takes over the file, which holds `bytes` (none when there is no file); a damaged one is replaced, durably, by the
    /// slot that is left, or by `fallback`.
    pub(crate) fn load(storage: &dyn Storage, bytes: &[u8], fallback: State) -> io::Result<Self> {
        let mut current = newest(bytes).unwrap_or(Current { state: fallback, ..Current::default() });
        let replaced = !faults(bytes).is_empty();
        if replaced {
            // As if the state had been written twice.
            let (older, newer) = (current.sequence, current.sequence + 1);
            let mut both = encode(older, &current.state).to_vec();
            both.resize(SLOT_DISTANCE, 0);
            both.extend_from_slice(&encode(newer, &current.state));
            replace_file(storage, CHECKPOINT, &both)?;
            current = Current { sequence: newer, slot: 1, durable: Some(1), ..current };
        }
        Ok(Checkpoint { current: Mutex::new(current), replaced })
    }

    /// As last written.
    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was read durable: it is written over itself, since after a failed sync it may be in the cache alone,
    /// and a second sync would not write it.
    pub(crate) fn secure(&self, file: &dyn File) -> io::Result<()> {
        self.lock().secure(file)
    }

    /// Changes the state. It is durable only when `sync` says so.
    pub(crate) fn update(&self, file: &dyn File, sync: bool, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut current = self.lock();
        current.secure(file)?;
        let mut next = *current;
        change(&mut next.state);
        next.sequence += 1;
        // Never over the one that is durable, however many are written between two syncs.
        next.slot = 1 - current.durable.unwrap_or(current.slot);
        next.put(file)?;
        *current = next;
        if sync {
            file.sync_data()?;
            current.durable = Some(current.slot);
        }
        Ok(())
    }

    /// Makes the state be `wanted`, durably.
    pub(crate) fn settle(&self, file: &dyn File, wanted: State) -> io::Result<()> {
        if self.state() == wanted { self.secure(file) } else { self.update(file, true, |state| *state = wanted) }
    }

    /// Moves the mark; it never goes back.
    pub(crate) fn advance(&self, file: &dyn File, mark: Mark, sync: bool) -> io::Result<()> {
        self.update(file, sync, |state| {
            if mark.offset >= state.mark.offset {
                state.mark = mark;
            }
        })
    }
}

impl Current {
    /// As [`Checkpoint::secure`].
    fn secure(&mut self, file: &dyn File) -> io::Result<()> {
        if self.durable.is_none() {
            self.put(file)?;
            file.sync_data()?;
            self.durable = Some(self.slot);
        }
        Ok(())
    }

    fn put(&self, file: &dyn File) -> io::Result<()> {
        let slot = encode(self.sequence, &self.state);
        write_all_at(file, &mut [IoSlice::new(&slot)], (self.slot * SLOT_DISTANCE) as u64)
    }
}

fn encode(sequence: u64, state: &State) -> [u8; SLOT_LEN] {
    let flags = if state.clean { FLAG_CLEAN } else { 0 };
    let mut slot = [0; SLOT_LEN];
    slot[0..4].copy_from_slice(&MAGIC);
    slot[4..6].copy_from_slice(&VERSION.to_be_bytes());
    slot[6..8].copy_from_slice(&flags.to_be_bytes());
    slot[8..16].copy_from_slice(&sequence.to_be_bytes());
    slot[16..24].copy_from_slice(&state.start.0.to_be_bytes());
    slot[24..32].copy_from_slice(&state.mark.segment.0.to_be_bytes());
    slot[32..40].copy_from_slice(&state.mark.position.to_be_bytes());
    slot[40..48].copy_from_slice(&state.mark.offset.0.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..48]);
    slot[48..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, State)> {
    let slot: &[u8; SLOT_LEN] = slot.first_chunk()?;
    let crc = u32::from_be_bytes(at(slot, 48));
    if slot[0..4] != MAGIC || u16::from_be_bytes(at(slot, 4)) != VERSION || crc != crc32c::crc32c(&slot[..48]) {
        return None;
    }
    let offset = |from| Offset(i64::from_be_bytes(at(slot, from)));
    let mark = Mark { segment: offset(24), position: u64::from_be_bytes(at(slot, 32)), offset: offset(40) };
    let clean = u16::from_be_bytes(at(slot, 6)) & FLAG_CLEAN != 0;
    Some((u64::from_be_bytes(at(slot, 8)), State { start: offset(16), mark, clean }))
}

fn at<const N: usize>(slot: &[u8; SLOT_LEN], from: usize) -> [u8; N] {
    *slot[from..].first_chunk().expect("the fields lie within the slot")
}

/// What a file says; `None` when it has no valid slot.
pub(crate) fn state_of(file: &[u8]) -> Option<State> {
    newest(file).map(|current| current.state)
}

fn newest(file: &[u8]) -> Option<Current> {
    let read = |slot: usize| {
        let (sequence, state) = decode(file.get(slot * SLOT_DISTANCE..)?)?;
        Some(Current { sequence, state, slot, durable: None })
    };
    [read(0), read(1)].into_iter().flatten().max_by_key(|current| current.sequence)
}

/// What is wrong with a file of this kind, and at which byte; empty for one that is as it was written.
pub(crate) fn faults(file: &[u8]) -> Vec<(u64, String)> {
    let mut faults = Vec::new();
    for at in [0, SLOT_DISTANCE] {
        if file.get(at..).and_then(decode).is_none() {
            faults.push((at as u64, "checksum mismatch in this slot; the other one counts".to_owned()));
        }
    }
    let gap = file.get(SLOT_LEN..SLOT_DISTANCE).unwrap_or_default();
    if let Some(at) = gap.iter().position(|byte| *byte != 0) {
        faults.push(((SLOT_LEN + at) as u64, "a byte between the slots, which are all zero".to_owned()));
    }
    if file.len() > SLOT_DISTANCE + SLOT_LEN {
        faults.push(((SLOT_DISTANCE + SLOT_LEN) as u64, "the file is longer than it was written".to_owned()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStorage;

    #[test]
    fn the_state_on_the_disk_is_never_written_over() {
        let storage = MemoryStorage::new();
        let slots = || {
            let bytes = storage.get(CHECKPOINT).unwrap();
            [0, SLOT_DISTANCE].map(|at| decode(&bytes[at..]).unwrap().1.start.0)
        };
        let checkpoint = Checkpoint::load(&storage, &[], State::default()).unwrap();
        let set = |checkpoint: &Checkpoint, sync, start| {
            let file = open(&storage).unwrap();
            checkpoint.update(&*file, sync, |state| state.start = Offset(start)).unwrap();
        };
        let check = |checkpoint: &Checkpoint, durable: i64, newest: i64| {
            assert!(slots().contains(&durable) && slots().contains(&newest), "{:?}", slots());
            assert_eq!(checkpoint.state().start.0, newest);
        };
        set(&checkpoint, true, 7);
        for start in 8..12 {
            set(&checkpoint, false, start);
            check(&checkpoint, 7, start);
        }
        set(&checkpoint, true, 12);
        set(&checkpoint, false, 13);
        check(&checkpoint, 12, 13);
        // What is read is not known to be on the disk: it is put there before the other slot is touched.
        let again = Checkpoint::load(&storage, &storage.get(CHECKPOINT).unwrap(), State::default()).unwrap();
        assert_eq!(again.state().start.0, 13);
        set(&again, false, 14);
        check(&again, 13, 14);
        set(&again, false, 15);
        check(&again, 13, 15);
    }
}
