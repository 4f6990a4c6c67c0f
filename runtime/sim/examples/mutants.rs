//! Tests the tests: makes each seeded mistake of `millstream_protocol::mutant` in turn and shows what noticed it, the
//! simulation after so many seeds or a test of the log, the cluster, the pipeline or the disk. Fails when one lives.
//!
//! `cargo run -p millstream-sim --features mutants --example mutants [NAME ...]`; `MILLSTREAM_SEEDS` says how many
//! seeds each mistake gets (default 300). One that outlives the first few is shown to the other tests before the rest.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use millstream_protocol::mutant;
use millstream_sim::single;

const SEEDS: u64 = 300;
const FIRST_SEEDS: u64 = 40;
const PACKAGES: [&str; 4] = ["millstream-log", "millstream-cluster", "millstream-pipeline", "millstream-sim"];

/// Who noticed a mistake.
struct Killed {
    by: String,
    seeds: Option<u64>,
}

fn main() -> ExitCode {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = mutant::ALL.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|own| own == name));
    let mut tests: Option<Vec<PathBuf>> = None;
    let (mut needed, mut alive) = (Vec::new(), 0);
    println!("{:<32} {:>6}  noticed by", "mistake", "seeds");
    for (name, _) in chosen {
        let killed = by_simulation(name, 0..seeds.min(FIRST_SEEDS))
            .or_else(|| by_tests(name, tests.get_or_insert_with(build_tests)))
            .or_else(|| by_simulation(name, FIRST_SEEDS..seeds));
        match killed {
            Some(Killed { by, seeds }) => {
                let shown = seeds.map_or("-".to_owned(), |seeds| seeds.to_string());
                println!("{name:<32} {shown:>6}  {by}");
                needed.extend(seeds);
            }
            None => {
                println!("{name:<32} {:>6}  NOBODY", "-");
                alive += 1;
            }
        }
    }
    needed.sort_unstable();
    let median = needed.get(needed.len() / 2).copied().unwrap_or(0);
    println!("{alive} alive; {} noticed by the simulation, by seed {median} in the median", needed.len());
    if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn by_simulation(name: &str, mut seeds: Range<u64>) -> Option<Killed> {
    mutant::choose(Some(name));
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let found = seeds.find_map(|seed| {
        let by = match catch_unwind(AssertUnwindSafe(|| single::run(seed, false))) {
            Ok(outcome) => outcome.violations.into_iter().next()?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                format!("panic: {text}")
            }
        };
        Some(Killed { by: by.chars().take(110).collect(), seeds: Some(seed + 1) })
    });
    set_hook(hook);
    mutant::choose(None);
    found
}

/// The tests' programs, in a build that can make mistakes.
fn build_tests() -> Vec<PathBuf> {
    let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    build.args(["build", "--tests", "--message-format=json", "--features", "millstream-protocol/mutants"]);
    for package in PACKAGES {
        build.args(["-p", package]);
    }
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        rest.split_once('"').map(|(path, _)| PathBuf::from(path))
    };
    // The simulation had its turn; the mistakes' own test says nothing about a mistake.
    let other = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !["single_broker", "real_modules", "mutants"].iter().any(|own| name.starts_with(own))
    };
    text.lines().filter_map(executable).filter(other).collect()
}

fn by_tests(name: &str, tests: &[PathBuf]) -> Option<Killed> {
    tests.iter().find_map(|test| {
        let output = Command::new(test).env("MILLSTREAM_MUTANT", name).output().expect("a test runs");
        if output.status.success() {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let failed = text.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let program = test.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let program = program.rsplit_once('-').map_or(program.clone(), |(program, _)| program.to_owned());
        Some(Killed { by: format!("{program}: {}", failed.unwrap_or("it crashed")), seeds: None })
    })
}
