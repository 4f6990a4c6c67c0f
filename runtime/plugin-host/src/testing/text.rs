//! Guests written in WebAssembly text, for tests that need one which misbehaves: a core module with the plugin
//! world's functions, made into a component as the CLI does it.

use crate::component::{Manifest, componentize};

/// The parts of a test guest. `process` may use the locals `$rows` (address of the nine pointer-length
/// pairs), `$i` and `$n`, and the helpers in [`module`]; it ends with an address of its result, 0 for ok.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    pub init: &'a str,
    pub process: &'a str,
    /// Further fields of the module: imports, functions, data, a start.
    pub extra: &'a str,
}

/// Emits its input as it came.
pub const IDENTITY: &str = "(call $emit_to (i32.const 0) (i32.const 0) (local.get $rows)) (i32.const 0)";

impl Default for Guest<'_> {
    fn default() -> Self {
        Guest { init: "(i32.const 0)", process: IDENTITY, extra: "" }
    }
}

/// Memory: 0 a result of ok, 16 the argument of emit, 128 a batch to be built, 256 results, 512 strings,
/// 65536 and on what the host passes in.
///
/// # Panics
/// When the parts are not WebAssembly text.
pub fn module(guest: &Guest<'_>) -> Vec<u8> {
    let Guest { init, process, extra } = guest;
    let text = format!(
        r#"(module
  (import "millstream:plugin/host@0.1.0" "emit" (func $emit (param i32)))
  (import "millstream:plugin/host@0.1.0" "reject" (func $reject (param i32 i32 i32)))
  (import "millstream:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "millstream:plugin/host@0.1.0" "count" (func $count (param i32 i32 i64)))
  (import "millstream:plugin/host@0.1.0" "now" (func $now (result i64)))
  {extra}
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (data (i32.const 512) "bad record")
  (data (i32.const 544) "errors")
  (data (i32.const 560) "\ff\fe")
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
///
/// # Panics
/// When the contract has no such world.
pub fn embed_world(module: &mut Vec<u8>, world: &str) {
    let mut resolve = wit_parser::Resolve::default();
    let wit = include_str!("../../../../sdk/wit/plugin.wit");
    let package = resolve.push_str("plugin.wit", wit).expect("the contract is WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the contract has this world");
    wit_component::embed_component_metadata(module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the module takes a section more");
}

/// The guest as a component named `test`, version 0.1.0.
///
/// # Panics
/// As [`module`].
pub fn component(guest: &Guest<'_>) -> Vec<u8> {
    let manifest = Manifest { name: "test".into(), version: "0.1.0".into(), ..Manifest::default() };
    componentize(&module(guest), &manifest).expect("the text is a plugin")
}
