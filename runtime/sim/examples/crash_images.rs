//! Opens crash images, all of them or one again:
//!
//! ```text
//! cargo run -p millstream-sim --example crash_images -- [--seed N] [--operations N] [--losses N] [--stride N]
//!                                                       [--change N --loss N]
//! ```
//!
//! Without arguments: 2,000 operations, every change, 50 losses at each. Exits with 1 when an image is in no allowed
//! state.

use std::process::ExitCode;

use millstream_sim::images::{Outcome, Plan, run};

fn main() -> ExitCode {
    let mut plan = Plan { seed: 1, operations: 2_000, losses: 50, stride: 1, only: None, told: Some(tell) };
    let (mut change, mut loss) = (None, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let Some(value) = arguments.next().and_then(|value| value.parse().ok()) else {
            eprintln!("{name} needs a number");
            return ExitCode::from(2);
        };
        match name.as_str() {
            "--seed" => plan.seed = value,
            "--operations" => plan.operations = value,
            "--losses" => plan.losses = value,
            "--stride" => plan.stride = value,
            "--change" => change = Some(value),
            "--loss" => loss = value,
            _ => {
                eprintln!("there is no {name}: see the head of this file");
                return ExitCode::from(2);
            }
        }
    }
    plan.only = change.map(|change| (change, loss));
    let outcome = run(plan);
    println!(
        "seed {}: {} operations, {} changes, {} images, {} of them different ({} cut short while they were opened): {}",
        plan.seed,
        outcome.operations,
        outcome.changes,
        outcome.images,
        outcome.opened,
        outcome.twice,
        if outcome.failures.is_empty() { "all in an allowed state" } else { "NOT all in an allowed state" }
    );
    for failure in &outcome.failures {
        println!("{failure}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(change: u64, so_far: &Outcome) {
    eprintln!("change {change}: {} images, {} failures", so_far.images, so_far.failures.len());
}
