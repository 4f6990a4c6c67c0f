//! Fuzz targets for a stated time, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millstream_hostile::fuzz::{Until, run as feed};
use millstream_hostile::targets::{TARGETS, Target, target};

pub(crate) fn run(names: &[String], time: Duration, seed: u64) -> Result<()> {
    let named = names.iter().map(|name| target(name).with_context(|| format!("there is no target {name}")));
    let mut targets: Vec<&Target> = named.collect::<Result<_>>()?;
    if targets.is_empty() {
        targets = TARGETS.iter().collect();
    }
    for target in targets {
        let started = Instant::now();
        let executions = feed(target, seed, Until::Elapsed(time));
        let seconds = started.elapsed().as_secs_f64();
        println!("{:12} {executions:>12} executions in {seconds:.0} s, seed {seed}, no finding", target.name);
    }
    Ok(())
}
