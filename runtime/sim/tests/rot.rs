//! Bit rot in every kind of file, a sample of the bytes here; `--example bit_rot` changes each of them.

use millstream_sim::rot::{Kind, run, run_heads};

fn check(kind: Kind, bytes: u64, stride: usize) {
    let outcome = run(kind, bytes, stride, 1);
    assert!(outcome.failures.is_empty(), "{}", outcome.failures.join("\n"));
    assert_eq!(outcome.detected + outcome.healed + outcome.harmless, outcome.flips);
    assert!(outcome.flips > 100, "{kind:?}: {} flips", outcome.flips);
}

#[test]
fn damaged_records_are_told_and_never_served() {
    check(Kind::Segment, 20_000, 13);
}

#[test]
fn damaged_helpers_do_no_harm_and_are_made_again() {
    check(Kind::Index, 800, 3);
    check(Kind::TimeIndex, 1_200, 3);
    check(Kind::Snapshot, 2_000, 7);
    check(Kind::Checkpoint, 8_300, 23);
    check(Kind::Epochs, 500, 3);
}

#[test]
fn damaged_metadata_is_told_or_reads_the_same() {
    check(Kind::Metadata, 100_000, 397);
    check(Kind::MetadataMark, 8_200, 61);
}

/// One bit of redb's head says which of two commits is the newest.
#[test]
fn an_older_commit_is_not_taken_for_the_newest() {
    let outcome = run_heads(Kind::Metadata, 12, 8, 1);
    assert!(outcome.failures.is_empty(), "{}", outcome.failures.join("\n"));
    assert!(outcome.detected >= 8, "{} of {} flips", outcome.detected, outcome.flips);
}

#[test]
fn damaged_identities_are_told() {
    check(Kind::Identity, 1_000, 1);
}

#[test]
fn damaged_plugins_are_told() {
    check(Kind::Plugin, 16_384, 101);
    check(Kind::CompiledCode, 16_384, 101);
}
