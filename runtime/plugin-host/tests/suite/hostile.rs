//! Guests that mean harm: everything they can write, ask for or be is tried on a real engine. Each test ends with an
//! engine that runs the next guest.

use std::fmt::Write;
use std::sync::OnceLock;

use crate::support::{Guest, component, config, engine, limits, load, module, refused, sample};
use millstream_plugin_host::{
    Engine, EngineConfig, Failure, Instance, InstanceConfig, Limits, LoadError, Manifest, Processed, componentize,
    limits,
};
use millstream_protocol::Columns;

/// Applies the first record's value to a copy of the batch it came in, and emits that: four-byte words in pairs, an
/// address and what to put there. Addresses below 72 are those of the nine pointer-length pairs, others are relative
/// to the copies of the columns' contents: column `c` at `1024 * (c + 1)`.
const FORGER: &str = "
    (local.set $n (i32.load (i32.load offset=32 (local.get $rows))))
    (local.set $i (i32.const 0))
    (memory.copy (i32.const 8192) (i32.load offset=40 (local.get $rows)) (local.get $n))
    (memory.copy (i32.const 2048) (local.get $rows) (i32.const 72))
    (call $copy (i32.const 0) (i32.const 8)) (call $copy (i32.const 1) (i32.const 8)) (call $copy (i32.const 2) (i32.const 4))
    (call $copy (i32.const 3) (i32.const 1)) (call $copy (i32.const 4) (i32.const 4)) (call $copy (i32.const 5) (i32.const 1))
    (call $copy (i32.const 6) (i32.const 4)) (call $copy (i32.const 7) (i32.const 4)) (call $copy (i32.const 8) (i32.const 1))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (i32.store
        (call $place (i32.load offset=8192 (local.get $i)))
        (i32.load offset=8196 (local.get $i)))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br $next)))
    (call $emit_to (i32.const 0) (i32.const 0) (i32.const 2048)) (i32.const 0)";

const FORGER_PARTS: &str = "
    (func $copy (param $column i32) (param $width i32) (local $pair i32) (local $to i32)
      (local.set $pair (i32.add (i32.const 2048) (i32.mul (local.get $column) (i32.const 8))))
      (local.set $to (i32.add (i32.const 16384) (i32.mul (local.get $column) (i32.const 1024))))
      (memory.copy (local.get $to) (i32.load (local.get $pair)) (i32.mul (i32.load offset=4 (local.get $pair)) (local.get $width)))
      (i32.store (local.get $pair) (local.get $to)))
    (func $place (param $at i32) (result i32)
      (if (result i32) (i32.lt_u (local.get $at) (i32.const 1024))
        (then (i32.add (local.get $at) (i32.const 2048)))
        (else (i32.add (local.get $at) (i32.const 15360)))))";

const COLUMNS: [(&str, usize); 9] = [
    ("offsets", 8),
    ("timestamps", 8),
    ("key-lens", 4),
    ("keys", 1),
    ("value-lens", 4),
    ("values", 1),
    ("header-counts", 4),
    ("header-lens", 4),
    ("headers", 1),
];

/// Where column `column`'s length stands, and its contents.
fn length_of(column: usize) -> i32 {
    column as i32 * 8 + 4
}

fn contents_of(column: usize, entry: usize) -> i32 {
    (1024 * (column + 1) + entry * COLUMNS[column].1) as i32
}

/// Two records with a header each; the forgery is the first one's value.
fn forged(patches: &[(i32, i32)]) -> Columns {
    let value: Vec<u8> = patches.iter().flat_map(|(at, to)| [at.to_le_bytes(), to.to_le_bytes()]).flatten().collect();
    let mut columns = Columns::default();
    columns.push(10, 1000, Some(b"key"), Some(&value));
    columns.push_header(b"h", Some(b"v"));
    columns.push(11, 1001, Some(b"k"), Some(b"second"));
    columns.push_header(b"n", None);
    columns
}

fn forge(patches: &[(i32, i32)]) -> Result<Processed, Failure> {
    static FORGER_PLUGIN: OnceLock<std::sync::Arc<millstream_plugin_host::Plugin>> = OnceLock::new();
    let plugin =
        FORGER_PLUGIN.get_or_init(|| load(&Guest { process: FORGER, extra: FORGER_PARTS, ..Guest::default() }));
    let mut processed = Processed::default();
    let mut instance = plugin.instantiate(config()).unwrap();
    instance.process(&forged(patches), &mut processed).map(|()| processed)
}

#[test]
fn every_column_of_a_wrong_length_is_refused() {
    assert_eq!(forge(&[]).unwrap().outputs, [(0, forged(&[]))], "what is not forged goes through");
    for (column, (name, _)) in COLUMNS.iter().enumerate() {
        let own = match *name {
            "keys" => 4,
            "values" => 6 + 8,
            "headers" => 3,
            "header-lens" => 4,
            _ => 2,
        };
        for wrong in [0, own - 1, own + 1, own + 2] {
            let failure = forge(&[(length_of(column), wrong)]).unwrap_err();
            assert!(
                matches!(&failure, Failure::Output { message } if message.contains("column `")),
                "{name} {wrong}: {failure}"
            );
        }
        // Counts that no memory holds: the list is not even looked at.
        for wrong in [-1, i32::MIN, i32::MAX] {
            let failure = forge(&[(length_of(column), wrong)]).unwrap_err();
            assert!(
                matches!(&failure, Failure::Trap { message } if message.contains("out of bounds")),
                "{name} {wrong}: {failure}"
            );
        }
    }
}

#[test]
fn every_length_that_can_not_be_is_refused() {
    let check = |patches: &[(i32, i32)], expected: &str| {
        let failure = forge(patches).unwrap_err();
        assert_eq!(failure, Failure::Output { message: expected.into() }, "{patches:?}");
    };
    let (keys, values, counts, headers) = (2, 4, 6, 7);
    check(&[(contents_of(keys, 0), -2)], "column `key-lens` holds length -2 at entry 0");
    check(&[(contents_of(keys, 1), i32::MIN)], "column `key-lens` holds length -2147483648 at entry 1");
    check(&[(contents_of(values, 1), -9)], "column `value-lens` holds length -9 at entry 1");
    check(&[(contents_of(headers, 0), -1)], "column `header-lens` holds length -1 at entry 0");
    check(&[(contents_of(headers, 3), -2)], "column `header-lens` holds length -2 at entry 3");
    // Sums that overflow 32 bits, or would if they were 32 bits wide.
    let most = i32::MAX;
    check(
        &[(contents_of(keys, 0), most), (contents_of(keys, 1), most)],
        "column `keys` has 4 bytes, its lengths add up to 4294967294",
    );
    check(
        &[(contents_of(counts, 0), -1), (contents_of(counts, 1), -1)],
        "column `header-lens` has 4 entries, expected 17179869180",
    );
    check(
        &[(contents_of(counts, 0), i32::MIN), (contents_of(counts, 1), i32::MIN)],
        "column `header-lens` has 4 entries, expected 8589934592",
    );
    check(
        &[(contents_of(keys, 0), 5), (contents_of(keys, 1), -1)],
        "column `keys` has 4 bytes, its lengths add up to 5",
    );
    // Headers of one record given to the other: together they fit, so the guest may.
    let moved = forge(&[(contents_of(counts, 0), 2), (contents_of(counts, 1), 0)]).unwrap();
    assert_eq!(moved.outputs[0].1.rows().map(|row| row.headers.len()).collect::<Vec<_>>(), [2, 0]);
}

/// Runs the call until it ends by itself, and says how.
fn outcome(guest: &Guest<'_>, limits: Limits) -> Failure {
    let instance = load(guest).instantiate(InstanceConfig { limits, ..config() });
    match instance {
        Ok(mut instance) => {
            let mut processed = Processed::default();
            let failure = instance.process(&sample(), &mut processed).unwrap_err();
            assert!(processed.outputs.is_empty() && !instance.is_alive(), "{failure}");
            failure
        }
        Err(failure) => failure,
    }
}

#[test]
fn a_thread_keeps_off_a_core_for_calls_and_not_for_what_comes_after() {
    let cores = || rustix::thread::sched_getaffinity(None).unwrap().count();
    let all = cores();
    let limits = || Limits { batch_ms: 30, init_ms: 30, ..limits() };
    let forever = "(loop $again (br $again)) unreachable";
    outcome(&Guest { init: forever, ..Guest::default() }, limits());
    assert_eq!(cores(), all, "starting is over");
    outcome(&Guest { process: forever, ..Guest::default() }, limits());
    assert_eq!(cores(), (all - 1).max(1), "the next call may be as slow");
    millstream_plugin_host::release_core();
    assert_eq!(cores(), all);
}

#[test]
fn loops_end_wherever_they_are() {
    let limits = || Limits { batch_ms: 30, init_ms: 30, ..limits() };
    let check =
        |guest: Guest<'_>| assert_eq!(outcome(&guest, limits()), Failure::Deadline { limit_ms: 30 }, "{guest:?}");
    let forever = "(loop $again (br $again))";
    let in_start = format!("(func $forever {forever}) (start $forever)");
    check(Guest { extra: &in_start, ..Guest::default() });
    check(Guest { init: "(loop $again (br $again)) unreachable", ..Guest::default() });
    // In the function that the host calls to make room for the input.
    let hosted = "(loop $again (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br $again)) (i32.const 0)";
    check(Guest { process: hosted, ..Guest::default() });
    let counted = "(loop $again (call $count (i32.const 544) (i32.const 6) (i64.const 1)) (br $again)) (i32.const 0)";
    check(Guest { process: counted, ..Guest::default() });
    let clocked = "(loop $again (drop (call $now)) (br $again)) (i32.const 0)";
    check(Guest { process: clocked, ..Guest::default() });
    // An emit without records costs nothing of the output's limit.
    let nothing = "(memory.fill (i32.const 2048) (i32.const 0) (i32.const 72))
        (loop $again (call $emit_to (i32.const 0) (i32.const 0) (i32.const 2048)) (br $again)) (i32.const 0)";
    check(Guest { process: nothing, ..Guest::default() });
    let rejected =
        "(loop $again (call $reject (i32.const 0) (i32.const 512) (i32.const 10)) (br $again)) (i32.const 0)";
    check(Guest { process: rejected, ..Guest::default() });
}

#[test]
fn crashes_at_the_start_are_told() {
    let check = |extra: &str, expected: &str| {
        let failure = outcome(&Guest { extra, ..Guest::default() }, limits());
        assert!(matches!(&failure, Failure::Init { message } if message.contains(expected)), "{failure:?}");
    };
    check("(func $crash unreachable) (start $crash)", "unreachable");
    check("(func $deep (call $deep)) (start $deep)", "call stack exhausted");
    check("(func $divide (drop (i32.rem_u (i32.const 1) (i32.const 0)))) (start $divide)", "divide by zero");
    // What it emits before it was started goes nowhere.
    check("(func $early (call $reject (i32.const 0) (i32.const 0) (i32.const 0))) (start $early)", "");
}

#[test]
fn memory_and_tables_have_a_ceiling_however_they_are_asked_for() {
    let declared = |bytes: usize| {
        let pages = bytes >> 16;
        let text = format!("(memory $more {pages})");
        let guest = Guest { extra: &text, ..Guest::default() };
        let made = std::panic::catch_unwind(|| component(&guest));
        made.ok().map(|bytes| engine().compile(&bytes))
    };
    // A second memory, or one larger than the engine's slots: refused when it is loaded or when it starts.
    for bytes in [1 << 20, 256 << 20, 4 << 30] {
        let Some(loaded) = declared(bytes) else { continue };
        let Ok(plugin) = loaded else { continue };
        plugin.instantiate(config()).map(|_| ()).unwrap_err();
    }
    let tables = "(table $t 1 funcref)";
    let process = "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 4096)) (i32.const -1))))
        (if (i32.gt_u (table.size $t) (i32.const 65536)) (then unreachable)) (i32.const 0)";
    let mut instance = load(&Guest { process, extra: tables, ..Guest::default() }).instantiate(config()).unwrap();
    instance.process(&sample(), &mut Processed::default()).unwrap();
    let huge = "(table $t 70000 funcref)";
    let failure = engine().compile(&component(&Guest { extra: huge, ..Guest::default() }));
    let failure = failure.map(|plugin| plugin.instantiate(config()).map(|_| ()).unwrap_err().to_string());
    let failure = failure.unwrap_or_else(|error| error.to_string());
    assert!(failure.contains("table"), "{failure}");
}

#[test]
fn strings_are_text_or_a_crash() {
    let check = |process: &str| {
        let failure = outcome(&Guest { process, ..Guest::default() }, limits());
        assert!(matches!(&failure, Failure::Trap { message } if message.contains("utf-8")), "{process}: {failure:?}");
    };
    check("(call $emit_to (i32.const 560) (i32.const 2) (local.get $rows)) (i32.const 0)");
    check("(call $reject (i32.const 0) (i32.const 560) (i32.const 2)) (i32.const 0)");
    check("(call $log (i32.const 2) (i32.const 560) (i32.const 2)) (i32.const 0)");
    check("(call $count (i32.const 560) (i32.const 2) (i64.const 1)) (i32.const 0)");
    // The message of a failed batch.
    check(
        "(i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 260) (i32.const 0))
         (i32.store (i32.const 268) (i32.const 560)) (i32.store (i32.const 272) (i32.const 2)) (i32.const 256)",
    );
    let level = outcome(
        &Guest {
            process: "(call $log (i32.const 77) (i32.const 512) (i32.const 10)) (i32.const 0)",
            ..Guest::default()
        },
        limits(),
    );
    assert!(matches!(&level, Failure::Trap { .. }), "{level:?}");
}

#[test]
fn huge_names_are_cut() {
    // 40 MiB of the letter x, which is what a fresh memory filled with 120 holds.
    let filled =
        "(drop (memory.grow (i32.const 640))) (memory.fill (i32.const 131072) (i32.const 120) (i32.const 41943040))";
    let check = |call: &str| {
        let process = format!("{filled} {call} (i32.const 0)");
        load(&Guest { process: &process, ..Guest::default() }).instantiate(config()).unwrap()
    };
    let run = |mut instance: Instance| {
        let mut processed = Processed::default();
        instance.process(&sample(), &mut processed).map(|()| processed)
    };
    let output = run(check("(call $emit_to (i32.const 131072) (i32.const 41943040) (local.get $rows))")).unwrap_err();
    assert_eq!(output.to_string().len(), "the plugin's output is refused: output `` is not declared".len() + 64);
    let rejected = run(check("(call $reject (i32.const 0) (i32.const 131072) (i32.const 41943040))")).unwrap();
    assert_eq!(rejected.rejected[0].message.len(), limits::MESSAGE_BYTES_MAX);
    let counted = run(check("(call $count (i32.const 131072) (i32.const 41943040) (i64.const 1))")).unwrap();
    assert!(counted.counters.is_empty(), "a counter's name has a limit");
    run(check("(call $log (i32.const 2) (i32.const 131072) (i32.const 41943040))")).unwrap();
    // A function's name comes into the message of its crash.
    let name = "f".repeat(100_000);
    let extra = format!("(func ${name} unreachable)");
    let process = format!("(call ${name}) (i32.const 0)");
    let failure = outcome(&Guest { process: &process, extra: &extra, ..Guest::default() }, limits());
    assert!(matches!(&failure, Failure::Trap { message } if message.len() <= limits::MESSAGE_BYTES_MAX), "{failure:?}");
}

#[test]
fn names_that_are_no_text_are_refused() {
    let mut bytes = component(&Guest::default());
    let at = bytes.windows(7).position(|window| window == b"process").unwrap();
    bytes[at] = 0xff;
    assert!(matches!(refused(&bytes), LoadError::Invalid { .. } | LoadError::MissingExport { .. }));
    // The manifest is JSON of another kind than expected, or of no end.
    let with = |json: &[u8]| {
        let mut bytes = component(&Guest::default());
        let section = [&[17][..], b"millstream:plugin", json].concat();
        bytes.push(0);
        let mut length = section.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(&section);
        refused(&bytes)
    };
    for json in [&b"\xff\xfe"[..], b"[", b"7", b"{\"name\":7}", &b"[".repeat(100_000)] {
        assert!(matches!(with(json), LoadError::BadManifest { .. }), "{}", json.len());
    }
}

#[test]
fn what_was_not_granted_can_not_be_imported() {
    for (name, field) in [
        ("wasi_snapshot_preview1", "fd_write"),
        ("env", "system"),
        ("wasi:filesystem/types@0.2.0", "open"),
        ("millstream:plugin/host@0.1.0", "exec"),
    ] {
        let import = format!(r#"(import "{name}" "{field}" (func))"#);
        let core = module(&Guest { extra: &import, ..Guest::default() });
        let error = componentize(&core, &Manifest::default()).unwrap_err().to_string();
        assert!(error.contains(name) || error.contains(field), "{name} {field}: {error}");
    }
    componentize(&module(&Guest::default()), &Manifest::default()).unwrap();
}

/// `count` functions, each with a body of about `bytes`.
fn functions(count: usize, bytes: usize) -> String {
    let mut text = String::new();
    let body = "(local.set 0 (i32.xor (i32.mul (local.get 0) (i32.const 31)) (i32.const 7)))".repeat(bytes / 10);
    for n in 0..count {
        write!(text, "(func $f{n} (param i32) (result i32) {body} (local.get 0))").unwrap();
    }
    text
}

#[test]
fn ten_thousand_functions_run_like_one() {
    let extra = functions(10_000, 22);
    let process = "(drop (call $f9999 (i32.const 1))) (call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)";
    let plugin = load(&Guest { process, extra: &extra, ..Guest::default() });
    let mut processed = Processed::default();
    plugin.instantiate(config()).unwrap().process(&sample(), &mut processed).unwrap();
    assert_eq!(processed.outputs, [(0, sample())]);
}

#[test]
fn code_that_would_take_too_long_to_compile_is_refused() {
    let check = |extra: &str, expected: &str| {
        let error = refused(&component(&Guest { extra, ..Guest::default() })).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let limit = limits::FUNCTION_BYTES_MAX;
    check(&functions(1, limit + 200), "function of ");
    let limit = limits::FUNCTIONS_MAX;
    let many = "(func)".repeat(limit + 1);
    check(&many, "functions that are allowed");
    let locals = format!("(func (local {}))", "i32 ".repeat(limits::FUNCTION_LOCALS_MAX as usize + 1));
    check(&locals, "locals");
}

#[test]
fn a_module_of_32_mib_is_taken_and_one_more_byte_is_not() {
    // As data, which costs nothing to compile: what counts is that the whole of it passes.
    let mut bytes = component(&Guest::default());
    let room = limits::MODULE_BYTES_MAX - bytes.len() - 16;
    let mut section = vec![4, b'n', b'o', b't', b'e'];
    section.resize(room, 7);
    bytes.push(0);
    let mut length = section.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(&section);
    engine().compile(&bytes).unwrap().instantiate(config()).unwrap();
    bytes.resize(limits::MODULE_BYTES_MAX + 1, 0);
    assert!(matches!(refused(&bytes), LoadError::TooLarge { .. }));
}

/// Twenty thousand crashes with room for two guests: one that stays behind would leave none.
#[test]
fn nothing_is_left_of_twenty_thousand_crashes() {
    let settings = EngineConfig { instances_max: 2, memory_bytes_total_max: 1 << 20, ..EngineConfig::default() };
    let engine = Engine::new(settings).unwrap();
    let plugin = engine.compile(&component(&Guest { process: "unreachable", ..Guest::default() })).unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut processed = Processed::default();
    let input = sample();
    let mut before = 0;
    for round in 0..20_000 {
        let mut instance = plugin.instantiate(config()).unwrap_or_else(|failure| panic!("round {round}: {failure}"));
        instance.process(&input, &mut processed).unwrap_err();
        if round == 100 {
            before = descriptors();
        }
    }
    // Other tests of this process open a few at the same time.
    assert!(descriptors() < before + 50, "{before} descriptors became {}", descriptors());
    let totals = engine.totals();
    assert_eq!((totals.instances, totals.memory_bytes), (0, 0), "every guest gave its memory back");
}
