//! Which bytes become a plugin, what the others are told, and the cache of compiled code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use crate::support::{Guest, component, config, module, refused, sample};
use millstream_plugin_host::{Engine, EngineConfig, Inspection, Kind, LoadError, Manifest, Processed, inspect};

#[test]
fn what_is_not_a_plugin_is_told_why() {
    let check = |bytes: &[u8], expected: &str| {
        let error = refused(bytes).to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let text = |text: &str| wat::parse_str(text).unwrap();
    check(b"", "this is not a WebAssembly component: the file is empty");
    check(b"#!/bin/sh", "this is not a WebAssembly component: it does not begin with");
    check(b"\x7fELF\x02", "this is not a WebAssembly component: it is a native program or library");
    check(b"  (component)", "this is not a WebAssembly component: it is WebAssembly text");
    let core = "this is a core module, not a component: build it with \"millstream plugin build\"";
    check(&module(&Guest::default()), core);
    check(b"\0asm\x0d\0\x01\0\xff\xff\xff\xff", "the component is damaged or uses what this version can't run: ");
    check(b"\0asm", "the component is damaged");
    check(&text("(component)"), "it does not export `init`");
    check(
        &text(r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#),
        "it imports wasi:sockets/tcp, which no grant covers",
    );
    check(
        &text(
            r#"(component (import "a:b/a" (instance)) (import "a:b/b" (instance)) (import "a:b/c" (instance))
               (import "a:b/d" (instance)) (import "a:b/e" (instance)) (import "millstream:plugin/host@0.1.0" (instance)))"#,
        ),
        "it imports a:b/a, a:b/b, a:b/c and 2 more, which no grant covers",
    );
    check(&vec![0; (32 << 20) + 1], "the plugin has 33554433 bytes, more than the 33554432 that are allowed");
}

#[test]
fn exports_of_other_types_are_refused() {
    let wrong = wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (export "init" (func $f)) (export "process" (func $f)))"#,
    )
    .unwrap();
    assert_eq!(refused(&wrong), LoadError::WrongExport { name: "init" });
}

#[test]
fn host_functions_the_world_lacks_are_refused() {
    let unknown =
        wat::parse_str(r#"(component (import "millstream:plugin/host@0.1.0" (instance (export "exec" (func)))))"#)
            .unwrap();
    assert!(matches!(refused(&unknown), LoadError::MissingExport { .. }));
    let later = wat::parse_str(
        r#"(component
            (import "millstream:plugin/later@0.2.0" (instance $later (export "exec" (func))))
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (export "init" (func $f)) (export "process" (func $f)))"#,
    )
    .unwrap();
    assert!(matches!(refused(&later), LoadError::WrongExport { .. } | LoadError::Invalid { .. }));
}

#[test]
fn a_component_tells_about_itself() {
    let bytes = component(&Guest::default());
    let expected = Inspection {
        kind: Kind::Component,
        bytes: bytes.len(),
        manifest: Some(Manifest { name: "test".into(), version: "0.1.0".into(), ..Manifest::default() }),
        imports: vec!["millstream:plugin/types@0.1.0".into(), "millstream:plugin/host@0.1.0".into()],
        exports: vec!["init".into(), "process".into()],
    };
    assert_eq!(inspect(&bytes).unwrap(), expected);
    assert_eq!(inspect(&module(&Guest::default())).unwrap().kind, Kind::CoreModule);
}

#[test]
fn a_plugin_is_compiled_once_per_content() {
    let engine = crate::support::engine();
    let bytes = component(&Guest { extra: "(func $once)", ..Guest::default() });
    let first = engine.compile(&bytes).unwrap();
    assert!(Arc::ptr_eq(&first, &engine.compile(&bytes).unwrap()));
    assert_eq!(first.manifest().name, "test");
}

fn run(engine: &Engine, bytes: &[u8]) {
    let mut processed = Processed::default();
    engine.compile(bytes).unwrap().instantiate(config()).unwrap().process(&sample(), &mut processed).unwrap();
    assert_eq!(processed.outputs, [(0, sample())]);
}

#[test]
fn compiled_code_is_kept_and_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let small = |cache_dir| EngineConfig { cache_dir, instances_max: 2, ..EngineConfig::default() };
    let engine = || Engine::new(small(Some(cache.clone()))).unwrap();
    let files = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let bytes = component(&Guest::default());
    run(&engine(), &bytes);
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let good = fs::read(file).unwrap();

    // A hit leaves the file as it is, also its time.
    let before = fs::metadata(file).unwrap().modified().unwrap();
    run(&engine(), &bytes);
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), before);

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // An honest checksum over code that is none of wasmtime's.
    let mut foreign = millstream_plugin_host::digest(b"code").to_vec();
    foreign.extend_from_slice(b"code");
    for damaged in [&flipped[..], &good[..good.len() / 2], &good[..10], b"", &foreign] {
        fs::write(file, damaged).unwrap();
        run(&engine(), &bytes);
        assert_ne!(fs::read(file).unwrap(), damaged, "a damaged file is replaced");
    }
    assert_eq!(files().len(), 1, "no temporary file is left");
}
