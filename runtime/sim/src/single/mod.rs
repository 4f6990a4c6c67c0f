//! One broker and its clients in virtual time: the real cores of `millstream-broker`, real logs on a [`SimDisk`],
//! the real group coordinator and pipeline runner; around them producers, group members and a pipeline that live
//! through power losses, kills, disk faults, lost and repeated messages, pauses and clock jumps. One seed decides
//! everything, and an equal seed gives an equal [`Outcome::hash`].
//!
//! A run has three phases: faults; healing, when the disk, the network and the clock become well and the broker
//! is started anew; and liveness, in which everything that was begun must end. Then an audit reads everything.
//!
//! - [`world`]: the loop of events; [`schedule`]: when what goes wrong. [`message`]: who says what.
//! - [`node`], [`tasks`], [`redrive`], [`store`]: the broker. [`producer`], [`member`]: its clients.
//! - [`checks`]: what must hold, as small machines with tests of their own; [`history`]: one run's worth of them;
//!   [`audit`]: the reading at the end.

mod audit;
pub mod checks;
mod guest;
mod history;
mod member;
mod message;
mod node;
mod producer;
mod redrive;
mod schedule;
mod store;
mod tasks;
mod trace;
mod world;

use std::collections::BTreeMap;

pub use guest::Guests;

#[expect(unused_imports, reason = "for the links above")]
use crate::disk::SimDisk;

/// How one seed went.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Of everything that happened, in order.
    pub hash: u64,
    /// Empty when all was well.
    pub violations: Vec<String>,
    /// How often each thing happened that a run is there to try.
    pub counts: BTreeMap<&'static str, u64>,
    pub virtual_us: u64,
    /// The last lines of what happened, when they were asked for.
    pub lines: Vec<String>,
}

/// Things that must happen in some run of a large number, or the simulation does not test what it says.
pub const SOMETIMES: &[&str] = &[
    "power lost",
    "power lost in the middle of a change",
    "process killed",
    "closed cleanly",
    "torn tail cut",
    "start failed",
    "sync failed",
    "disk full",
    "reads failed",
    "write failed",
    "slow disk",
    "partition offline",
    "clock jumped forward",
    "clock jumped back",
    "client paused",
    "client died",
    "request lost",
    "answer lost",
    "request repeated",
    "request damaged",
    "duplicate recognised",
    "session ran out",
    "partition changed its reader",
    "stale commit refused",
    "offsets log cut",
    "records deleted",
    "segment rolled",
    "segment deleted by retention",
    "plugin swapped",
    "pipeline paused",
    "poison record",
    "dead letter",
    "task tried again",
    "record done again after a crash",
    "topic deleted",
    "topic made again",
    "stale request refused",
    "deleted topic's files left for the next start",
    "dead letters redriven",
    "redrive cut short",
    "record mended by a redrive",
    "redriven record failed again",
    "pipeline stopped by a record",
    "pipeline stopped by the same record again",
    "record skipped",
    "unsynced tail lost",
    "paused while a commit was on its way",
];

/// Runs one seed. `trace` keeps the lines of what happened.
pub fn run(seed: u64, trace: bool) -> Outcome {
    run_with(guest::native(), seed, trace)
}

/// Runs one seed with other plugins: what each record asks for, they must do as those in native code.
pub fn run_with(guests: Guests, seed: u64, trace: bool) -> Outcome {
    world::World::new(guests, seed, trace).run()
}
