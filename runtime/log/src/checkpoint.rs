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
//! synced only now and then: after a power loss it may lag, never lead. A slot fits one disk sector and a
//! write goes to the slot with the older contents, so a torn write leaves the other one.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_protocol::Offset;

use crate::names::CHECKPOINT;
use crate::storage::{File, Storage, read_file, replace_file, write_all_at};

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

/// The file, for writing. The log's owner and its sync jobs share it.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: Arc<dyn File>,
    current: Mutex<(u64, State)>,
    /// Opening wrote the file, durably, and its name with it.
    pub(crate) replaced: bool,
}

impl Checkpoint {
    /// What a log's folder says; `None` when there is no file or no valid slot.
    pub(crate) fn load(storage: &dyn Storage) -> io::Result<Option<State>> {
        Ok(newest(&read_file(storage, CHECKPOINT)?.unwrap_or_default()).map(|(_, state)| state))
    }

    /// Opens the file; a damaged one is replaced, durably, by the slot that is left, or by `fallback`.
    pub(crate) fn open(storage: &dyn Storage, fallback: State) -> io::Result<Self> {
        let bytes = read_file(storage, CHECKPOINT)?.unwrap_or_default();
        let (sequence, state) = newest(&bytes).unwrap_or((0, fallback));
        let mut current = (sequence, state);
        let replaced = !faults(&bytes).is_empty();
        if replaced {
            // The slots as if the state had been written twice, the newer one into its own place.
            let newer = sequence + 1;
            let (even, odd) = if newer.is_multiple_of(2) { (newer, sequence) } else { (sequence, newer) };
            let mut both = encode(even, &state).to_vec();
            both.resize(SLOT_DISTANCE, 0);
            both.extend_from_slice(&encode(odd, &state));
            replace_file(storage, CHECKPOINT, &both)?;
            current = (newer, state);
        }
        Ok(Checkpoint { file: storage.open(CHECKPOINT)?, current: Mutex::new(current), replaced })
    }

    /// As last written.
    pub(crate) fn state(&self) -> State {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Changes the state. It is durable only when `sync` says so.
    pub(crate) fn update(&self, sync: bool, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, mut state) = *current;
        change(&mut state);
        let sequence = sequence + 1;
        let at = if sequence.is_multiple_of(2) { 0 } else { SLOT_DISTANCE as u64 };
        write_all_at(&*self.file, &mut [IoSlice::new(&encode(sequence, &state))], at)?;
        *current = (sequence, state);
        if sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Makes the state be `wanted`, durably. What was read may never have reached the disk, so it is written again.
    pub(crate) fn settle(&self, wanted: State) -> io::Result<()> {
        if self.replaced && self.state() == wanted {
            return Ok(());
        }
        self.update(true, |state| *state = wanted)
    }

    /// Moves the mark; it never goes back.
    pub(crate) fn advance(&self, mark: Mark, sync: bool) -> io::Result<()> {
        self.update(sync, |state| {
            if mark.offset >= state.mark.offset {
                state.mark = mark;
            }
        })
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

fn newest(file: &[u8]) -> Option<(u64, State)> {
    let slots = [decode(file), file.get(SLOT_DISTANCE..).and_then(decode)];
    slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence)
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
