//! The simulated broker with a real plugin: WebAssembly that wasmtime runs, in a few seeds. What must hold is the
//! same, and a seed is the same history each time, for nothing that a guest does depends on the clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipeline::guest::{Failure, Guest, Processed};
use millstream_plugin_host::{Instance, InstanceConfig, Limits, Plugin, testing};
use millstream_protocol::Columns;
use millstream_sim::single::{self, Guests};

const SEEDS: u64 = 5;

struct Module {
    plugin: Arc<Plugin>,
    version: u32,
    instance: Instance,
}

fn start(plugin: &Arc<Plugin>, version: u32) -> Result<Instance, Failure> {
    plugin.instantiate(InstanceConfig {
        config_json: format!(r#"{{"version":{version}}}"#),
        // A slow machine must not decide what happens.
        limits: Limits { batch_ms: 600_000, init_ms: 600_000, ..Limits::default() },
        ..InstanceConfig::default()
    })
}

impl Guest for Module {
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure> {
        self.instance.process(batch, processed)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.instance = start(&self.plugin, self.version)?;
        Ok(())
    }

    fn pause(&mut self, _time: Duration) {}

    fn digest(&self) -> [u8; 32] {
        self.plugin.digest()
    }
}

fn modules() -> Guests {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/fares");
    let plugin = testing::engine().compile(&testing::component_of(&folder)).unwrap();
    Arc::new(move |version| {
        let instance = start(&plugin, version).unwrap();
        Box::new(Module { plugin: Arc::clone(&plugin), version, instance })
    })
}

#[test]
fn what_is_promised_holds_with_real_modules() {
    let guests = modules();
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let outcome = single::run_with(Arc::clone(&guests), seed, true);
        let last: Vec<&str> = outcome.lines.iter().rev().take(60).rev().map(String::as_str).collect();
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}\n{}", outcome.violations, last.join("\n"));
        let again = single::run_with(Arc::clone(&guests), seed, false);
        assert_eq!(again.hash, outcome.hash, "seed {seed} did not happen twice");
        outcome.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_insert(0) += count);
    }
    for what in ["dead letter", "record mended by a redrive", "plugin swapped", "record skipped", "process killed"] {
        assert!(counts.contains_key(what), "`{what}` never happened: {counts:#?}");
    }
}
