//! A broker and its clients through everything that can go wrong, by seeds. `MILLSTREAM_SEEDS` says how many,
//! `MILLSTREAM_SEED` runs one of them and shows what happened.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_sim::single::{self, Outcome};

const SEEDS: u64 = 200;
/// One seed in so many runs twice.
const TWICE: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Shows how a bad seed ended, and how to see it again.
fn report(outcome: &Outcome) -> String {
    let again = single::run(outcome.seed, true);
    let shown: Vec<&str> = again.lines.iter().rev().take(120).rev().map(String::as_str).collect();
    format!(
        "seed {}:\n  {}\n\nthe last of what happened:\n{}\n\nagain: MILLSTREAM_SEED={} cargo test -p millstream-sim --test single_broker -- --nocapture one_seed",
        outcome.seed,
        outcome.violations.join("\n  "),
        shown.join("\n"),
        outcome.seed
    )
}

#[test]
fn what_is_promised_holds_under_every_seed() {
    let seeds = number("MILLSTREAM_SEEDS").unwrap_or(SEEDS);
    let first = number("MILLSTREAM_FIRST_SEED").unwrap_or(0);
    let (next, counts, bad) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()), Mutex::new(None));
    let virtual_us = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || bad.lock().unwrap().is_some() {
                return;
            }
            let outcome = single::run(seed, false);
            if seed.is_multiple_of(TWICE) {
                assert_eq!(single::run(seed, true).hash, outcome.hash, "seed {seed} did not happen twice");
            }
            virtual_us.fetch_add(outcome.virtual_us, Ordering::Relaxed);
            for (what, count) in &outcome.counts {
                *counts.lock().unwrap().entry(*what).or_insert(0) += count;
            }
            if !outcome.violations.is_empty() {
                bad.lock().unwrap().get_or_insert(outcome);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(work)));
    });
    if let Some(outcome) = bad.into_inner().unwrap() {
        panic!("{}", report(&outcome));
    }
    let counts: BTreeMap<&str, u64> = counts.into_inner().unwrap();
    println!("{seeds} seeds, {} virtual seconds: {counts:#?}", virtual_us.into_inner() / 1_000_000);
    if seeds >= SEEDS {
        let never: Vec<_> = single::SOMETIMES.iter().filter(|what| !counts.contains_key(*what)).collect();
        assert!(never.is_empty(), "these things never happened: {never:?}");
    }
}

#[test]
fn one_seed() {
    let seed = number("MILLSTREAM_SEED").unwrap_or(1);
    let outcome = single::run(seed, true);
    if number("MILLSTREAM_SEED").is_some() {
        println!("{}\n{:#?}", outcome.lines.join("\n"), outcome.counts);
    }
    assert!(outcome.violations.is_empty(), "{}", report(&outcome));
}
