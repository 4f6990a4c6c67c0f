//! The loop on stable Rust: every committed seed as it is, then changed ones, all from one number. No coverage
//! guides it; `fuzz/` does that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutate};
use crate::targets::Target;

/// An input that keeps a target busy for so long hangs it. Far above what the slowest takes.
pub const HANG: Duration = Duration::from_secs(60);

/// How long a run goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Executions(u64),
    Elapsed(Duration),
}

/// Where the seeds of a target are committed.
pub fn seeds_dir(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target.name)
}

/// The committed seeds in the order of their names.
///
/// # Panics
/// When the folder can't be read.
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let dir = seeds_dir(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// Compares the seeds that the target's code makes with those in the repository, which may have more: inputs that once
/// failed. With `UPDATE_EXPECT=1` writes them.
///
/// # Panics
/// When one is missing or differs.
pub fn check_seeds(target: &Target) {
    let dir = seeds_dir(target);
    let made = (target.seeds)();
    assert!(!made.is_empty(), "{} has no seed", target.name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for (name, seed) in &made {
            fs::write(dir.join(name), seed).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    for (name, seed) in made {
        let path = dir.join(&name);
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(kept == seed, "{}: run with UPDATE_EXPECT=1", path.display());
    }
}

/// Feeds the target; returns how often. An input that makes it panic or hang is written to the folder for
/// temporary files, and its path said, before the process or the test ends.
///
/// # Panics
/// When the target does.
pub fn run(target: &Target, seed: u64, until: Until) -> u64 {
    let seeds = seeds(target);
    let mut random = Random::new(seed);
    let watch = Watch::start(target.name);
    let started = Instant::now();
    let mut executions = 0;
    for input in &seeds {
        watch.feed(target, input);
        executions += 1;
    }
    let over = |executions: u64| match until {
        Until::Executions(most) => executions >= most,
        Until::Elapsed(time) => started.elapsed() >= time,
    };
    while !over(executions) {
        let mut input = seeds[random.below(seeds.len())].clone();
        mutate(&mut input, &seeds, target.words, target.bytes_max, &mut random);
        watch.feed(target, &input);
        executions += 1;
    }
    executions
}

/// Knows the input at hand, for whoever has to report it.
struct Watch {
    current: Arc<Mutex<Current>>,
    name: &'static str,
}

#[derive(Default)]
struct Current {
    input: Vec<u8>,
    since: Option<Instant>,
    over: bool,
}

impl Watch {
    fn start(name: &'static str) -> Watch {
        let current = Arc::new(Mutex::new(Current::default()));
        let watched = Arc::clone(&current);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let current = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if current.over {
                    return;
                }
                if current.since.is_some_and(|since| since.elapsed() > HANG) {
                    eprintln!("{name} hangs on {}", keep(name, &current.input).display());
                    std::process::abort();
                }
            }
        });
        Watch { current, name }
    }

    fn feed(&self, target: &Target, input: &[u8]) {
        let set = |since| {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.since = since;
            if since.is_some() {
                current.input.clear();
                current.input.extend_from_slice(input);
            }
        };
        set(Some(Instant::now()));
        if std::env::var_os("MILLSTREAM_FUZZ_TRACE").is_some() {
            // A process that a signal ends can't say what it was doing.
            keep(self.name, input);
        }
        (target.run)(input);
        set(None);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.over = true;
        if std::thread::panicking() {
            eprintln!("{} fails on {}", self.name, keep(self.name, &current.input).display());
        }
    }
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("millstream-fuzz-{name}-{}", std::process::id()));
    // Nothing better can be done with a full disk than to go on.
    let _ = fs::write(&path, input);
    path
}
