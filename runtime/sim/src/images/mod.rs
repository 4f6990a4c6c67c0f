//! Crash images: a scripted history over a whole data folder, on a disk that is looked at before each of its
//! changes. At each such moment the power goes in many ways; each image that is left is opened as a broker opens
//! its folder and must be in an allowed state ([`expected`]).
//!
//! - [`parts`]: the broker's durable parts, started and worked in the broker's order.
//! - [`history`]: the script, drawn from a seed.
//! - [`expected`]: what was acknowledged, and what an image may hold.
//! - [`records`]: batches and the model of a partition.

mod expected;
mod history;
mod parts;
mod records;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::chance::Chance;
use crate::disk::SimDisk;
use crate::faults::Faults;
use expected::Expected;
use history::History;

/// Which images of a history are opened.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the history.
    pub seed: u64,
    /// Operations of the history.
    pub operations: u64,
    /// Losses that are tried at each chosen change.
    pub losses: u64,
    /// Every n-th change is chosen.
    pub stride: u64,
    /// Only this change, and of its losses only this one: for a replay.
    pub only: Option<(u64, u64)>,
    /// Is told after every thousandth change how far the run is.
    pub told: Option<fn(u64, &Outcome)>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub operations: u64,
    pub changes: u64,
    /// Images that were drawn. One that is the same as another of the same change is opened once.
    pub images: u64,
    pub opened: u64,
    /// Images whose own opening lost power, and was opened again.
    pub twice: u64,
    /// Those that were in no allowed state, with the command that replays each. At most a few are kept.
    pub failures: Vec<String>,
}

const TOLD_EVERY: u64 = 1_000;
/// Failures that are kept.
const FAILURES_MAX: usize = 5;

/// Runs a history and opens its images.
pub fn run(plan: Plan) -> Outcome {
    let disk = SimDisk::new(Faults::default(), plan.seed);
    let expected = Arc::new(Mutex::new(Expected::default()));
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let (seen, counted) = (Arc::clone(&expected), Arc::clone(&outcome));
    disk.watch(move |disk, change| {
        let expected = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = counted.lock().unwrap_or_else(PoisonError::into_inner);
        look(plan, disk, change, &expected, &mut outcome);
        if let Some(tell) = plan.told
            && change.is_multiple_of(TOLD_EVERY)
        {
            tell(change, &outcome);
        }
    });
    let operations = History::new(plan.seed, disk.clone(), expected).run(plan.operations);
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (outcome.operations, outcome.changes) = (operations, disk.changes());
    outcome
}

fn look(plan: Plan, disk: &SimDisk, change: u64, expected: &Expected, outcome: &mut Outcome) {
    let losses = match plan.only {
        Some((wanted, loss)) if wanted == change => loss..loss + 1,
        Some(_) => return,
        None if change.is_multiple_of(plan.stride) => 0..plan.losses,
        None => return,
    };
    let mut opened = BTreeSet::new();
    for loss in losses {
        let mut chance = Chance::new(plan.seed ^ (change << 20) ^ (loss << 52));
        let image = disk.crash(&mut chance);
        outcome.images += 1;
        // The opening may itself be cut short.
        let image = if chance.one_in(5) { cut_short(&image, expected, &mut chance, outcome) } else { image };
        if !opened.insert(image.fingerprint()) {
            continue;
        }
        outcome.opened += 1;
        let Err(reason) = expected.check(&image, &mut chance) else { continue };
        if outcome.failures.len() < FAILURES_MAX {
            let Plan { seed, operations, .. } = plan;
            outcome.failures.push(format!(
                "seed {seed}, change {change}, loss {loss}: {reason}\n  replay: cargo run -p millstream-sim --example crash_images -- \
                 --seed {seed} --operations {operations} --change {change} --loss {loss}"
            ));
        }
    }
}

/// What is left of an image when the power goes again while it is opened.
fn cut_short(image: &SimDisk, expected: &Expected, chance: &mut Chance, outcome: &mut Outcome) -> SimDisk {
    image.lose_power_at(image.changes() + chance.below(40), chance.split());
    // Whether it opens is checked on what is left.
    let _ = parts::Parts::start(image, expected.now_ms);
    outcome.twice += u64::from(image.left().is_some());
    image.left().unwrap_or_else(|| image.crash(chance))
}
