//! Crash images of a whole data folder, some thousands here; `--example crash_images` opens all of them.

use millstream_sim::images::{Plan, run};

/// Histories that are run: the seeds are fixed, so a failure is one on every machine.
const SEEDS: [u64; 2] = [1, 2];

#[test]
fn every_image_is_in_an_allowed_state() {
    let mut images = 0;
    for seed in SEEDS {
        let outcome = run(Plan { seed, operations: 2_000, losses: 1, stride: 5, only: None, told: None });
        assert!(outcome.failures.is_empty(), "{}", outcome.failures.join("\n"));
        images += outcome.images;
    }
    assert!(images >= 5_000, "{images} images");
}
