//! Guests written in WebAssembly text, each misbehaving in one way: a core module with the plugin world's
//! functions, made into a component as the CLI does it.

use std::path::Path;
use std::sync::Arc;

use millstream_plugin_host::{
    Engine, Failure, Instance, InstanceConfig, Limits, LoadError, Manifest, Plugin, Processed,
};
use millstream_protocol::Columns;

/// The parts of a test guest. `process` may use the locals `$rows` (address of the nine pointer-length
/// pairs), `$i` and `$n`, and the helpers in [`module`]; it ends with an address of its result, 0 for ok.
pub(crate) struct Guest {
    pub(crate) init: &'static str,
    pub(crate) process: &'static str,
    pub(crate) extra: &'static str,
}

/// Emits its input as it came.
pub(crate) const IDENTITY: &str = "(call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)";

impl Default for Guest {
    fn default() -> Guest {
        Guest { init: "(i32.const 0)", process: IDENTITY, extra: "" }
    }
}

/// Memory: 0 a result of ok, 16 the argument of emit, 128 a batch to be built, 256 results, 512 strings,
/// 65536 and on what the host passes in.
pub(crate) fn module(guest: &Guest) -> Vec<u8> {
    let Guest { init, process, extra } = guest;
    let text = format!(
        r#"(module
  (import "millstream:plugin/host@0.1.0" "emit" (func $emit (param i32)))
  (import "millstream:plugin/host@0.1.0" "reject" (func $reject (param i32 i32 i32)))
  (import "millstream:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "millstream:plugin/host@0.1.0" "count" (func $count (param i32 i32 i64)))
  (import "millstream:plugin/host@0.1.0" "now" (func $now (result i64)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (data (i32.const 512) "bad record")
  (data (i32.const 544) "errors")
  (data (i32.const 560) "\ff\fe")
  {extra}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (block $enough (loop $grow
      (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
      (br $grow)))
    (local.get $at))
  (func $emit_to (param $name i32) (param $len i32) (param $rows i32)
    (i32.store (i32.const 16) (local.get $name))
    (i32.store (i32.const 20) (local.get $len))
    (memory.copy (i32.const 24) (local.get $rows) (i32.const 72))
    (call $emit (i32.const 16)))
  (func $records (param $rows i32) (result i32) (i32.load (i32.add (local.get $rows) (i32.const 4))))
  (func $init (export "init") (param $config i32) (param $len i32) (result i32) {init})
  (func $process (export "process") (param $rows i32) (result i32) (local $i i32) (local $n i32) (local $answer i32)
    (local.set $answer (block (result i32) {process}))
    (global.set $heap (i32.const 65536))
    (local.get $answer)))"#
    );
    let mut module = wat::parse_str(text).expect("the text is WebAssembly");
    embed_world(&mut module, "plugin");
    module
}

/// Says which world the module is for, as wit-bindgen does in Rust guests.
pub(crate) fn embed_world(module: &mut Vec<u8>, world: &str) {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit/plugin.wit");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_file(wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
}

pub(crate) fn component(guest: &Guest) -> Vec<u8> {
    let manifest = Manifest { name: "test".into(), version: "0.1.0".into(), ..Manifest::default() };
    millstream_plugin_host::componentize(&module(guest), &manifest).unwrap()
}

pub(crate) fn engine() -> Engine {
    static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(millstream_plugin_host::EngineConfig::default()).unwrap()).clone()
}

pub(crate) fn load(guest: &Guest) -> Arc<Plugin> {
    engine().compile(&component(guest)).unwrap()
}

pub(crate) fn start(process: &'static str) -> Instance {
    load(&Guest { process, ..Guest::default() }).instantiate(config()).unwrap()
}

pub(crate) fn refused(bytes: &[u8]) -> LoadError {
    engine().compile(bytes).expect_err("must be refused")
}

/// The main output and one named `errors`; time enough on the slowest machine.
pub(crate) fn config() -> InstanceConfig {
    InstanceConfig { outputs: vec![String::new(), "errors".into()], limits: limits(), ..InstanceConfig::default() }
}

/// The default limits, but for time.
pub(crate) fn limits() -> Limits {
    Limits { batch_ms: 60_000, init_ms: 60_000, ..Limits::default() }
}

/// Three records at offsets 10, 11, 12.
pub(crate) fn sample() -> Columns {
    let mut columns = Columns::default();
    columns.push(10, 1000, Some(b"k"), Some(b"first"));
    columns.push_header(b"h", Some(b"v"));
    columns.push_header(b"n", None);
    columns.push(11, 3000, None, Some(b"second"));
    columns.push(12, 2000, Some(b""), None);
    columns
}

/// The sample through a guest.
pub(crate) fn run(process: &'static str) -> Result<Processed, Failure> {
    let mut processed = Processed::default();
    start(process).process(&sample(), &mut processed).map(|()| processed)
}
