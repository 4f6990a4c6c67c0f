//! What a guest may do, and what becomes of it when it does more: each test is a guest with one trait.

use std::sync::{Arc, Mutex};

use crate::support::{Guest, IDENTITY, component, config, limits, load, run, sample, start};
use millstream_plugin_host::{
    Counter, Engine, EngineConfig, Failure, InstanceConfig, Level, Limits, Processed, Rejected,
};
use millstream_protocol::Columns;

const FOREVER: &str = "(loop $again (br $again)) (i32.const 0)";
const TRAP: &str = "unreachable";

#[test]
fn identity_gives_back_every_column() {
    let mut instance = start(IDENTITY);
    let mut processed = Processed::default();
    for round in 0..3 {
        instance.process(&sample(), &mut processed).unwrap();
        assert_eq!(processed.outputs, [(0, sample())], "round {round}");
        assert!(processed.rejected.is_empty() && processed.counters.is_empty());
    }
    instance.process(&Columns::default(), &mut processed).unwrap();
    assert_eq!(processed.outputs, [(0, Columns::default())]);
}

#[test]
fn large_batches_cross_whole() {
    let mut columns = Columns::default();
    (0..50_000).for_each(|i: i64| columns.push(i * 3, i, Some(&i.to_le_bytes()), Some(&[7; 100])));
    let mut processed = Processed::default();
    start(IDENTITY).process(&columns, &mut processed).unwrap();
    assert_eq!(processed.outputs, [(0, columns)]);
}

#[test]
fn emits_to_several_outputs_keep_their_order() {
    let processed = run("(call $emit_to (i32.const 544) (i32.const 6) (local.get $rows))
        (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows))
        (call $emit_to (i32.const 544) (i32.const 6) (local.get $rows)) (i32.const 0)")
    .unwrap();
    let mut twice = sample();
    sample().rows().for_each(|row| twice.push_row(&row));
    assert_eq!(processed.outputs, [(1, twice), (0, sample())]);
}

#[test]
fn the_guest_rejects_counts_and_reads_record_time() {
    let processed = run("(call $reject (i32.const 1) (i32.const 512) (i32.const 10))
        (call $count (i32.const 544) (i32.const 6) (call $now))
        (call $count (i32.const 544) (i32.const 6) (i64.const 1)) (i32.const 0)")
    .unwrap();
    assert_eq!(processed.rejected, [Rejected { index: 1, message: "bad record".into() }]);
    assert_eq!(processed.counters, [Counter { name: "errors".into(), delta: 3001 }]);
    assert!(processed.outputs.is_empty());
}

#[test]
fn an_error_fails_the_batch_and_the_instance_lives() {
    // result: error, index: some(2), message at 512.
    let failing = "(call $emit_to (i32.const 0) (i32.const 0) (local.get $rows))
        (i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 260) (i32.const 1))
        (i32.store (i32.const 264) (i32.const 2))
        (i32.store (i32.const 268) (i32.const 512)) (i32.store (i32.const 272) (i32.const 10)) (i32.const 256)";
    let mut instance = start(failing);
    let mut processed = Processed::default();
    for _ in 0..2 {
        let failure = instance.process(&sample(), &mut processed).unwrap_err();
        assert_eq!(failure, Failure::Rejected { index: Some(2), message: "bad record".into() });
        assert!(instance.is_alive() && processed.outputs.is_empty(), "what a failed batch emitted does not count");
    }
}

/// The failure of `process`, which must also leave a dead instance and no output behind.
fn fatal(process: &'static str, limits: Limits) -> Failure {
    let mut instance =
        load(&Guest { process, ..Guest::default() }).instantiate(InstanceConfig { limits, ..config() }).unwrap();
    let mut processed = Processed::default();
    let failure = instance.process(&sample(), &mut processed).unwrap_err();
    assert!(!instance.is_alive() && processed.outputs.is_empty());
    let again = instance.process(&sample(), &mut processed).unwrap_err();
    assert!(matches!(again, Failure::Trap { .. }), "{again}");
    failure
}

#[test]
fn a_trap_names_what_happened_and_where() {
    let failure = fatal(TRAP, limits());
    let Failure::Trap { message } = &failure else { panic!("{failure:?}") };
    assert!(message.starts_with("wasm trap: wasm `unreachable` instruction executed"), "{message}");
    let named = load(&Guest {
        process: "(call $divide (i32.const 0)) (i32.const 0)",
        extra: "(func $divide (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))",
        ..Guest::default()
    });
    let failure = named.instantiate(config()).unwrap().process(&sample(), &mut Processed::default()).unwrap_err();
    let expected = "the plugin crashed: wasm trap: integer divide by zero in divide < process";
    assert!(failure.to_string().starts_with(expected), "{failure}");
}

/// As toolchains of other languages leave it in the place of WASI.
#[test]
fn what_a_plugin_does_not_have_is_named() {
    let asking = load(&Guest {
        process: "(call $wall_clock_now) (i32.const 0)",
        extra: "(func $wall_clock_now unreachable)",
        ..Guest::default()
    });
    let failure = asking.instantiate(config()).unwrap().process(&sample(), &mut Processed::default()).unwrap_err();
    let expected =
        "the plugin crashed: it asks for the time, and a plugin has record time only: use `now()` of the SDK";
    assert!(failure.to_string().starts_with(expected), "{failure}");
    assert!(failure.to_string().contains(" (wall_clock_now < process)"), "{failure}");
}

#[test]
fn a_panic_is_told_in_the_guests_own_words() {
    let panic = load(&Guest {
        process: "(call $log (i32.const 4) (i32.const 600) (i32.const 27)) unreachable",
        extra: r#"(data (i32.const 600) "panicked at src/lib.rs:9: x")"#,
        ..Guest::default()
    });
    let failure = panic.instantiate(config()).unwrap().process(&sample(), &mut Processed::default()).unwrap_err();
    assert!(failure.to_string().starts_with("the plugin crashed: panicked at src/lib.rs:9: x"), "{failure}");
}

#[test]
fn a_loop_ends_at_the_deadline() {
    let limits = Limits { batch_ms: 30, ..limits() };
    assert_eq!(fatal(FOREVER, limits), Failure::Deadline { limit_ms: 30 });
}

#[test]
fn recursion_without_end_traps() {
    let deep = load(&Guest {
        process: "(call $down (i32.const 1))",
        extra: "(func $down (param i32) (result i32) (i32.add (i32.const 1) (call $down (local.get 0))))",
        ..Guest::default()
    });
    let failure = deep.instantiate(config()).unwrap().process(&sample(), &mut Processed::default()).unwrap_err();
    assert!(failure.to_string().contains("call stack exhausted"), "{failure}");
}

#[test]
fn memory_beyond_the_limit_is_refused() {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let limits = Limits { memory_bytes: 4 << 20, ..limits() };
    let failure = fatal(grow, limits);
    let (limit_bytes, wanted_bytes) = (4 << 20, (4 << 20) + (2 << 16));
    assert_eq!(failure, Failure::Memory { limit_bytes, wanted_bytes });
    // A guest that lives with the refusal is left alone.
    let modest = "(drop (memory.grow (i32.const 60000))) (i32.const 0)";
    run(modest).unwrap();
}

#[test]
fn memory_that_does_not_fit_at_the_start_is_refused() {
    let limits = Limits { memory_bytes: 64 << 10, ..limits() };
    let failure = load(&Guest::default()).instantiate(InstanceConfig { limits, ..config() }).map(|_| ()).unwrap_err();
    assert_eq!(failure, Failure::Memory { limit_bytes: 64 << 10, wanted_bytes: 128 << 10 });
}

#[test]
fn all_guests_together_have_a_limit() {
    let total = EngineConfig { instances_max: 4, memory_bytes_total_max: 3 << 17, ..EngineConfig::default() };
    // Each guest starts with 128 KiB and takes 64 KiB more for the first batch.
    let process = "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (i32.const 0)";
    let bytes = component(&Guest { process, ..Guest::default() });
    let plugin = Engine::new(total).unwrap().compile(&bytes).unwrap();
    let first = plugin.instantiate(config()).unwrap();
    let mut second = plugin.instantiate(config()).unwrap();
    let third = plugin.instantiate(config()).unwrap();
    let message = "no memory is left for it: all plugins together may use 393216 bytes".to_owned();
    let full = plugin.instantiate(config()).map(|_| ()).unwrap_err();
    assert_eq!(full, Failure::Init { message: message.clone() });
    drop(first);
    second.process(&sample(), &mut Processed::default()).unwrap();
    second.process(&sample(), &mut Processed::default()).unwrap();
    assert_eq!(second.process(&sample(), &mut Processed::default()), Err(Failure::Trap { message }));
    drop((second, third));
    (0..3).map(|_| plugin.instantiate(config()).unwrap()).for_each(drop);
}

#[test]
fn output_against_the_contract_is_refused() {
    let check = |process: &'static str, expected: &str| {
        let failure = fatal(process, Limits { output_bytes: 10_000, ..limits() });
        assert_eq!(failure, Failure::Output { message: expected.into() });
    };
    // One timestamp less: its length stands at 12.
    check(
        "(i32.store offset=12 (local.get $rows) (i32.const 2))
         (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)",
        "column `timestamps` has 2 entries, expected 3",
    );
    // Key lengths: pointer at 16, first entry 1 -> -7.
    check(
        "(i32.store (i32.load offset=16 (local.get $rows)) (i32.const -7))
         (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)",
        "column `key-lens` holds length -7 at entry 0",
    );
    check(
        "(i64.store (i32.load (local.get $rows)) (i64.const 99))
         (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)",
        "it emits a record for offset 99, which is not in its input",
    );
    check(
        "(call $emit_to (i32.const 512) (i32.const 3) (local.get $rows)) (i32.const 0)",
        "output `bad` is not declared",
    );
    check(
        "(call $reject (i32.const 3) (i32.const 512) (i32.const 10)) (i32.const 0)",
        "it rejects record 3 of a batch of 3",
    );
    check(
        "(loop $more (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (br $more)) (i32.const 0)",
        "more bytes than a batch may give",
    );
}

#[test]
fn pointers_out_of_memory_and_bad_strings_are_crashes() {
    let check = |process: &'static str, expected: &str| {
        let failure = fatal(process, limits());
        assert!(matches!(&failure, Failure::Trap { message } if message.contains(expected)), "{failure:?}");
    };
    check(
        "(i32.store offset=40 (local.get $rows) (i32.const -8))
         (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)",
        "out of bounds",
    );
    check("(call $reject (i32.const 0) (i32.const 560) (i32.const 2)) (i32.const 0)", "utf-8");
    check("(i32.const -4)", "out of bounds");
}

#[test]
fn records_and_bytes_of_output_have_a_ceiling() {
    let check = |limits: Limits, expected: Option<&str>| {
        let twice = "(call $emit_to (i32.const 0) (i32.const 0) (local.get $rows))
            (call $emit_to (i32.const 544) (i32.const 6) (local.get $rows)) (i32.const 0)";
        let instance =
            load(&Guest { process: twice, ..Guest::default() }).instantiate(InstanceConfig { limits, ..config() });
        let got = instance.unwrap().process(&sample(), &mut Processed::default());
        assert_eq!(got.err(), expected.map(|message| Failure::Output { message: message.into() }));
    };
    // The sample is 3 records, 3 * 28 + 4 * 4 + 15 bytes.
    let bytes = 2 * (3 * 28 + 4 * 4 + 15);
    check(Limits { output_records: 6, output_bytes: bytes, ..limits() }, None);
    check(Limits { output_records: 5, ..limits() }, Some("more records than a batch may give"));
    check(Limits { output_bytes: bytes - 1, ..limits() }, Some("more bytes than a batch may give"));
    check(Limits { output_bytes_per_record: bytes / 3, ..limits() }, Some("more bytes than a batch may give"));
}

#[test]
fn a_flood_of_log_lines_is_bounded() {
    let lines = Arc::new(Mutex::new(Vec::<(Level, String)>::new()));
    let sink = Arc::clone(&lines);
    let log = Box::new(move |level: Level, line: &str| sink.lock().unwrap().push((level, line.to_owned())));
    // 10,000 lines of 2,000 bytes, of which 1 KiB each counts.
    let flood = "(local.set $n (i32.const 10000))
        (loop $more (call $log (i32.const 2) (i32.const 1024) (i32.const 2000))
          (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (i32.const 0)";
    let plugin = load(&Guest { process: flood, ..Guest::default() });
    let mut instance = plugin.instantiate(InstanceConfig { log, ..config() }).unwrap();
    instance.process(&sample(), &mut Processed::default()).unwrap();
    let lines = lines.lock().unwrap();
    let (last, kept) = lines.split_last().unwrap();
    assert!((64..1000).contains(&kept.len()), "{} lines", kept.len());
    assert!(kept.iter().all(|(level, line)| *level == Level::Info && line.len() == 1024));
    let dropped = 10_000 - kept.len();
    assert_eq!(*last, (Level::Warn, format!("{dropped} log lines dropped: more than 64 KiB per second")));
}

#[test]
fn init_refuses_with_its_own_words() {
    let check = |init: &'static str, expected: &str| {
        let limits = Limits { init_ms: 30, ..limits() };
        let instance = load(&Guest { init, ..Guest::default() }).instantiate(InstanceConfig { limits, ..config() });
        assert_eq!(instance.map(|_| ()).unwrap_err().to_string(), expected);
    };
    check(
        "(i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 260) (i32.const 512))
         (i32.store (i32.const 264) (i32.const 10)) (i32.const 256)",
        "the plugin does not start: bad record",
    );
    check("unreachable", "the plugin does not start: wasm trap: wasm `unreachable` instruction executed in init");
    check("(loop $again (br $again)) unreachable", "the plugin took more than the 30 ms it has");
    check(
        "(call $emit_to (i32.const 0) (i32.const 0) (i32.const 128)) (call $reject (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 0)",
        "the plugin's output is refused: it rejects record 0 of a batch of 0",
    );
}

#[test]
fn a_thousand_crashes_leave_room_for_the_next() {
    let plugin = load(&Guest { process: TRAP, ..Guest::default() });
    let mut processed = Processed::default();
    for round in 0..1000 {
        let mut instance = plugin.instantiate(config()).unwrap_or_else(|failure| panic!("round {round}: {failure}"));
        instance.process(&sample(), &mut processed).unwrap_err();
    }
}
