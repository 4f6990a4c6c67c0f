//! Changes every byte of a set of each kind of file:
//!
//! ```text
//! cargo run -p millstream-sim --example bit_rot -- [KIND] [--bytes N] [--stride N] [--seed N]
//! ```
//!
//! Without arguments: every kind, at least 1 MiB of each, every byte. Exits with 1 when a change was neither found nor
//! harmless.

use std::process::ExitCode;

use millstream_sim::rot::{Kind, run};

fn main() -> ExitCode {
    let (mut kinds, mut bytes, mut stride, mut seed) = (Kind::ALL.to_vec(), 1 << 20, 1, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok());
        let understood = match argument.as_str() {
            "--bytes" => number().map(|value| bytes = value),
            "--stride" => number().map(|value| stride = value as usize),
            "--seed" => number().map(|value| seed = value),
            name => {
                kinds.retain(|kind| format!("{kind:?}").eq_ignore_ascii_case(name));
                (!kinds.is_empty()).then_some(())
            }
        };
        if understood.is_none() {
            eprintln!("can't make sense of {argument}: see the head of this file");
            return ExitCode::from(2);
        }
    }
    let mut failed = false;
    for kind in kinds {
        let outcome = run(kind, bytes, stride, seed);
        println!(
            "{kind:?}: {} bytes, {} changed, {} detected, {} healed, {} harmless, {} failures",
            outcome.bytes,
            outcome.flips,
            outcome.detected,
            outcome.healed,
            outcome.harmless,
            outcome.flips - outcome.detected - outcome.healed - outcome.harmless
        );
        outcome.failures.iter().for_each(|failure| println!("  {failure}"));
        failed |= !outcome.failures.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
