//! What comes out of a guest: its components as files, and the columns it emits, read from its own memory.

use std::sync::{LazyLock, Mutex, PoisonError};

use millstream_plugin_host::testing::text::{Guest, component, module};
use millstream_plugin_host::{
    Engine, EngineConfig, Failure, Instance, InstanceConfig, Limits, Manifest, Plugin, Processed, inspect,
};
use millstream_protocol::Columns;

use super::Target;
use crate::allocation::bounded;

pub(super) const COLUMNS: Target = Target {
    name: "columns",
    run: columns,
    words: &[b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x01\0\0\0", b"\0\0\x01\0", b"\xfe\xff\xff\xff", b"\xff\xff\xff\x7f"],
    bytes_max: 8 << 10,
    seeds: column_seeds,
};

pub(super) const COMPONENTS: Target = Target {
    name: "components",
    run: components,
    words: &[
        b"\0asm\x0d\0\x01\0",
        b"\0asm\x01\0\0\0",
        b"\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x01",
        b"millstream:plugin",
    ],
    bytes_max: 16 << 10,
    seeds: component_seeds,
};

/// Where the guest below puts a record's value: a memory image of nine pointer-length pairs and what they point to.
const IMAGE_AT: u32 = 4096;

/// Emits whatever the value of its first record says. In the input batch of one record, the pointer to the values
/// stands at 40 and their length at 44.
const PARROT: &str =
    "(memory.copy (i32.const 4096) (i32.load offset=40 (local.get $rows)) (i32.load offset=44 (local.get $rows)))
        (call $emit_to (i32.const 0) (i32.const 0) (i32.const 4096)) (i32.const 0)";

struct Parrot {
    engine: Engine,
    plugin: std::sync::Arc<Plugin>,
    instance: Option<Instance>,
}

static PARROT_INSTANCE: LazyLock<Mutex<Parrot>> = LazyLock::new(|| {
    let config = EngineConfig { instances_max: 4, ..EngineConfig::default() };
    let engine = Engine::new(config).expect("the machine has addresses for four guests");
    let plugin =
        engine.compile(&component(&Guest { process: PARROT, ..Guest::default() })).expect("the guest is well made");
    Mutex::new(Parrot { engine, plugin, instance: None })
});

/// The bytes are a guest's idea of a batch: once as columns alone, once through a real guest.
fn columns(data: &[u8]) {
    check(&cut(data));
    let mut parrot = PARROT_INSTANCE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut instance = match parrot.instance.take() {
        Some(instance) => instance,
        None => {
            let limits = Limits { batch_ms: 60_000, init_ms: 60_000, output_bytes: 1 << 20, ..Limits::default() };
            let config = InstanceConfig { limits, ..InstanceConfig::default() };
            parrot.plugin.instantiate(config).expect("there is room for one")
        }
    };
    let mut input = Columns::default();
    input.push(7, 1, None, Some(data));
    let mut processed = Processed::default();
    // Outputs may overlap in the guest's memory, so they are bounded by their own limit of 1 MiB and not by the input.
    match bounded(data.len(), 4 << 20, || instance.process(&input, &mut processed)) {
        Ok(()) => {
            for (_, rows) in &processed.outputs {
                rows.validate().unwrap_or_else(|error| panic!("accepted: {error}"));
                assert!(rows.offsets.iter().all(|offset| *offset == 7), "accepted: a foreign offset");
                check(rows);
            }
            parrot.instance = Some(instance);
        }
        Err(Failure::Output { .. } | Failure::Trap { .. }) => {
            assert!(processed.outputs.is_empty() && !instance.is_alive(), "nothing stays of a call that fails");
        }
        Err(other) => panic!("{other}"),
    }
}

/// Columns cut from bytes: nine counts, then the entries.
fn cut(data: &[u8]) -> Columns {
    let (counts, mut rest) = data.split_at(data.len().min(9));
    let mut take = |column: usize, width: usize| {
        let wanted = usize::from(*counts.get(column).unwrap_or(&0)) * width;
        let (taken, left) = rest.split_at(wanted.min(rest.len() / width * width));
        rest = left;
        taken.to_vec()
    };
    let longs = |bytes: Vec<u8>| {
        bytes.chunks_exact(8).filter_map(|b| b.first_chunk()).map(|b| i64::from_le_bytes(*b)).collect()
    };
    let ints = |bytes: Vec<u8>| -> Vec<i32> {
        bytes.chunks_exact(4).filter_map(|b| b.first_chunk()).map(|b| i32::from_le_bytes(*b)).collect()
    };
    Columns {
        offsets: longs(take(0, 8)),
        timestamps: longs(take(1, 8)),
        key_lens: ints(take(2, 4)),
        value_lens: ints(take(4, 4)),
        header_counts: ints(take(6, 4)).into_iter().map(i32::cast_unsigned).collect(),
        header_lens: ints(take(7, 4)),
        keys: take(3, 1),
        values: take(5, 1),
        headers: take(8, 1),
    }
}

/// Columns that validate can be walked, and hold what their lengths say.
fn check(columns: &Columns) {
    if columns.validate().is_err() {
        return;
    }
    let mut copy = Columns::default();
    columns.rows().for_each(|row| copy.push_row(&row));
    assert_eq!(copy, *columns, "rows are all there is");
    let headers: usize = columns.rows().map(|row| row.headers.iter().count()).sum();
    assert_eq!(headers * 2, columns.header_lens.len());
}

/// A file that may be a component: looked into, and compiled when it could be a plugin.
fn components(data: &[u8]) {
    let Ok(found) = bounded(data.len(), data.len() * 8, || inspect(data)) else { return };
    if found.exports.iter().any(|export| export == "process") && data.len() < 4096 {
        let engine = PARROT_INSTANCE.lock().unwrap_or_else(PoisonError::into_inner).engine.clone();
        // Compiling takes what it takes, bounded by the component's size and its limits; that it ends is what counts.
        let _ = engine.compile(data);
    }
}

fn column_seeds() -> Vec<(String, Vec<u8>)> {
    // One record: offset 7, timestamp 1, key "k", value "v", one header "h" without value.
    let mut image = Vec::new();
    let mut data = Vec::new();
    let data_at = IMAGE_AT + 72;
    let mut column = |entries: usize, bytes: &[u8]| {
        image.extend_from_slice(&(data_at + data.len() as u32).to_le_bytes());
        image.extend_from_slice(&(entries as u32).to_le_bytes());
        data.extend_from_slice(bytes);
        data.resize(data.len().next_multiple_of(8), 0);
    };
    column(1, &7_i64.to_le_bytes());
    column(1, &1_i64.to_le_bytes());
    column(1, &1_i32.to_le_bytes());
    column(1, b"k");
    column(1, &1_i32.to_le_bytes());
    column(1, b"v");
    column(1, &1_u32.to_le_bytes());
    column(2, &[1_i32.to_le_bytes(), (-1_i32).to_le_bytes()].concat());
    column(1, b"h");
    let whole = [&image[..], &data].concat();
    let counts = [2_u8, 2, 2, 3, 2, 3, 2, 2, 2];
    let mut plain = counts.to_vec();
    [7_i64, 7, 1, 1].iter().for_each(|n| plain.extend_from_slice(&n.to_le_bytes()));
    [3_i32, -1, 0, 3, 1, 0, 1, 1].iter().for_each(|n| plain.extend_from_slice(&n.to_le_bytes()));
    plain.extend_from_slice(b"keyvalhv");
    vec![("one".into(), whole), ("columns".into(), plain)]
}

fn component_seeds() -> Vec<(String, Vec<u8>)> {
    let whole = component(&Guest::default());
    let core = module(&Guest::default());
    let mut manifest = b"\0asm\x0d\0\x01\0".to_vec();
    let json = serde_json::to_vec(&Manifest { name: "m".into(), ..Manifest::default() }).expect("plain strings");
    let section = [&[17][..], b"millstream:plugin", &json].concat();
    manifest.extend([0, section.len() as u8]);
    manifest.extend_from_slice(&section);
    vec![("identity".into(), whole), ("core".into(), core), ("manifest".into(), manifest)]
}
