//! Guests that crash, one after the other: memory, descriptors and live guests must not grow.

use std::time::Instant;

use anyhow::{Result, ensure};
use millstream_plugin_host::testing::text::{Guest, component};
use millstream_plugin_host::{Engine, EngineConfig, InstanceConfig, Processed};
use millstream_protocol::Columns;

use super::process::{descriptors, memory_bytes};

/// Growth per million crashes that counts as none, bytes.
const SLOPE_MAX: f64 = 1_048_576.0;

/// A guest that crashes on the record that says so, and passes the others on.
const CRASHES: &str = "
    (block $well (br_if $well (i32.ne (i32.load8_u (i32.load offset=40 (local.get $rows))) (i32.const 116))) unreachable)
    (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)";

pub(crate) fn run(count: u64) -> Result<()> {
    let engine = Engine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() })?;
    let plugin = engine.compile(&component(&Guest { process: CRASHES, ..Guest::default() }))?;
    let batch = |value: &[u8]| {
        let mut columns = Columns::default();
        columns.push(1, 1, None, Some(value));
        columns
    };
    let (bad, good) = (batch(b"trap"), batch(b"good"));
    let process = std::process::id();
    let mut processed = Processed::default();
    let mut samples = Vec::new();
    let started = Instant::now();
    let every = (count / 20).max(1);
    for round in 0..count {
        let mut instance = plugin.instantiate(InstanceConfig::default())?;
        instance.process(&good, &mut processed)?;
        ensure!(processed.outputs == [(0, good.clone())], "the neighbour of crash {round} is not what it was");
        ensure!(instance.process(&bad, &mut processed).is_err(), "crash {round} did not happen");
        drop(instance);
        if (round + 1) % every == 0 {
            let (memory, open) = (memory_bytes(process)?, descriptors(process)?);
            let totals = engine.totals();
            samples.push((round as f64, memory as f64));
            println!(
                "{:>9} crashes  {:>8} KiB  {open} descriptors  {} guests",
                round + 1,
                memory >> 10,
                totals.instances
            );
            ensure!(totals.instances == 0 && totals.memory_bytes == 0, "a guest stayed behind");
        }
    }
    // The first quarter fills caches.
    let slope = slope(&samples[samples.len() / 4..]) * 1e6;
    let each = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{count} crashes, {each:.1} us each, {:.1} KiB per million", slope / 1024.0);
    ensure!(slope < SLOPE_MAX, "memory grows with crashes");
    Ok(())
}

/// Of the straight line through the points, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below == 0.0 { 0.0 } else { above / below }
}
