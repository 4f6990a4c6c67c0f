//! Every target of `fuzz/`, in a loop with one seed: no panic, no hang, bounded memory. For more executions there is
//! the command in CONTRIBUTING.md.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use millstream_hostile::allocation::{Counting, peak_of};
use millstream_hostile::fuzz::{Until, check_seeds, run};
use millstream_hostile::targets::{TARGETS, target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One target's share of the suite.
fn check(name: &str, executions: u64) {
    let target = target(name).unwrap();
    assert!(run(target, 0x006d_696c_6c73, Until::Executions(executions)) >= executions);
}

macro_rules! targets {
    ($($name:ident $executions:literal)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), $executions);
        })*

        #[test]
        fn none_is_left_out() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), tested);
        }
    };
}

targets! {
    frames 20_000
    batches 20_000
    records 4_000
    indexes 1_500
    recovery 1_500
    yaml 1_000
    cel 400
    values 3_000
    columns 3_000
    components 3_000
}

#[test]
fn memory_is_seen() {
    let (_, peak) = peak_of(|| (vec![0_u8; 10_000], vec![1_u8; 20_000]));
    assert!((30_000..31_000).contains(&peak), "{peak}");
    let (_, peak) = peak_of(|| drop(vec![0_u8; 10_000]));
    assert!((10_000..11_000).contains(&peak), "{peak}");
}

#[test]
fn seeds_are_committed() {
    TARGETS.iter().for_each(check_seeds);
}
