//! What a disk may do wrong, and when. Each kind of call has its own counter, so "the third sync fails" means
//! the same in every run of a history.

use std::io;

use crate::chance::Chance;

/// When something happens, among the calls that it could happen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Never,
    Always,
    /// Once: the n-th call from now, from 0.
    Nth(u64),
    /// From the n-th call on, from 0.
    From(u64),
    /// Each time with this chance, in a million.
    PerMillion(u32),
}

/// See each field. The default is a disk without faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Writes, creations, renames, deletions and truncations that return EIO; nothing of them happened.
    pub write_fails: When,
    /// Reads that return EIO.
    pub read_fails: When,
    /// Syncs of files that return EIO. As on Linux, the pages count as clean afterwards: what was not on the disk
    /// before stays readable and never gets there, whatever later syncs say.
    pub sync_fails: When,
    /// Syncs of folders that return EIO; what they would have made durable waits for the next one.
    pub folder_sync_fails: When,
    /// Writes that take only a part of what they were given, without an error.
    pub short_writes: When,
    /// Bytes that still fit on the disk; beyond it a write takes what fits and the next one gets ENOSPC.
    pub room: Option<u64>,
    /// Virtual microseconds that each call takes; see [`crate::SimDisk::take_latency_us`].
    pub read_us: u64,
    pub write_us: u64,
    pub sync_us: u64,
    /// Calls of any kind that take [`Faults::stall_us`] longer.
    pub stalls: When,
    pub stall_us: u64,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Sync,
    FolderSync,
}

/// How often each kind of thing was asked for, and what is to happen.
#[derive(Debug)]
pub(crate) struct Injector {
    pub(crate) faults: Faults,
    chance: Chance,
    calls: [u64; 4],
    all: u64,
    writes_of_data: u64,
    latency_us: u64,
    injected: u64,
}

impl Injector {
    pub(crate) fn new(faults: Faults, chance: Chance) -> Self {
        Injector { faults, chance, calls: [0; 4], all: 0, writes_of_data: 0, latency_us: 0, injected: 0 }
    }

    /// Counts begin again, so that [`When::Nth`] counts from now.
    pub(crate) fn set(&mut self, faults: Faults) {
        let (chance, latency_us, injected) = (self.chance.split(), self.latency_us, self.injected);
        *self = Injector { latency_us, injected, ..Injector::new(faults, chance) };
    }

    /// Counts a call; EIO when it shall fail.
    pub(crate) fn call(&mut self, kind: Kind) -> io::Result<()> {
        let (fails, takes_us) = match kind {
            Kind::Read => (self.faults.read_fails, self.faults.read_us),
            Kind::Write => (self.faults.write_fails, self.faults.write_us),
            Kind::Sync => (self.faults.sync_fails, self.faults.sync_us),
            Kind::FolderSync => (self.faults.folder_sync_fails, self.faults.sync_us),
        };
        let (number, all) = (self.calls[kind as usize], self.all);
        self.calls[kind as usize] += 1;
        self.all += 1;
        self.latency_us += takes_us;
        if happens(self.faults.stalls, all, &mut self.chance) {
            self.latency_us += self.faults.stall_us;
        }
        if happens(fails, number, &mut self.chance) {
            self.injected += 1;
            return Err(eio());
        }
        Ok(())
    }

    /// How much of a write of `len` bytes that makes a file grow by `grows` is taken.
    ///
    /// # Errors
    /// ENOSPC.
    pub(crate) fn takes(&mut self, len: usize, grows: u64) -> io::Result<usize> {
        let number = self.writes_of_data;
        self.writes_of_data += 1;
        let mut taken = len;
        if let Some(room) = &mut self.faults.room {
            if grows > *room {
                self.injected += 1;
                taken = len - usize::try_from(grows - *room).unwrap_or(len).min(len);
                if taken == 0 && len > 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            *room -= grows.min(*room);
        }
        if taken > 1 && happens(self.faults.short_writes, number, &mut self.chance) {
            self.injected += 1;
            return Ok(1 + self.chance.index(taken - 1));
        }
        Ok(taken)
    }

    /// Room that a deletion or a truncation gave back.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        if let Some(room) = &mut self.faults.room {
            *room = room.saturating_add(bytes);
        }
    }

    pub(crate) fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    pub(crate) fn take_latency_us(&mut self) -> u64 {
        std::mem::take(&mut self.latency_us)
    }

    pub(crate) fn injected(&self) -> u64 {
        self.injected
    }
}

fn happens(when: When, number: u64, chance: &mut Chance) -> bool {
    match when {
        When::Never => false,
        When::Always => true,
        When::Nth(wanted) => number == wanted,
        When::From(first) => number >= first,
        When::PerMillion(often) => chance.per_million(often),
    }
}

/// As the system says it (EIO), so that code which looks at the number sees what it would see.
fn eio() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}
