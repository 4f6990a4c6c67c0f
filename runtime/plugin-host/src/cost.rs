//! What a plugin costs per record, and where the time goes. The boundary's share is measured with a guest
//! that takes the same batch and does nothing; the host's share is its checks and copies of the output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::Columns;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

use crate::component::{Manifest, componentize};
use crate::failure::Failure;
use crate::instance::{Instance, InstanceConfig, Processed, Timing};
use crate::limits::Limits;
use crate::plugin::Plugin;

/// Calls before the measured ones: they fill caches and grow memory.
const WARM_UP: usize = 3;

/// Rounds whose times are kept, for the median.
const ROUNDS_MAX: usize = 100_000;

/// What was measured, for one batch over and over. Times are medians, nanoseconds per input record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Records of the batch.
    pub batch_records: usize,
    /// Batches measured.
    pub batches: usize,
    pub total_ns: f64,
    /// Checks and copies by the host.
    pub host_ns: f64,
    /// Into the guest's memory and back, whatever the guest does.
    pub boundary_ns: f64,
    /// The plugin's own work.
    pub guest_ns: f64,
    /// Output records per input record.
    pub outputs: f64,
    /// Rejected records per input record.
    pub rejected: f64,
    pub memory_high_water: usize,
    pub memory_limit: usize,
}

/// Feeds `batch` to an instance of `plugin` for about `time`.
///
/// # Errors
/// The instance does not start, or fails on the batch.
///
/// # Panics
/// When `batch` is empty.
pub fn cost(plugin: &Arc<Plugin>, config: InstanceConfig, batch: &Columns, time: Duration) -> Result<Cost, Failure> {
    assert!(!batch.is_empty(), "a batch to measure with has records");
    let memory_limit = config.limits.memory_bytes;
    let mut instance = plugin.instantiate(config)?;
    let mut processed = Processed::default();
    let own = measure(&mut instance, batch, &mut processed, time)?;
    let (outputs, rejected) =
        (processed.outputs.iter().map(|(_, rows)| rows.len()).sum::<usize>(), processed.rejected.len());
    let config = InstanceConfig {
        limits: Limits { memory_bytes: memory_limit, ..Limits::default() },
        ..InstanceConfig::default()
    };
    let mut empty = plugin.engine().compile(&sink()).expect("the measuring guest is well made").instantiate(config)?;
    let base = measure(&mut empty, batch, &mut processed, time / 4)?;

    let records = batch.len() as f64;
    let per_record = |nanos: f64| nanos / records;
    let boundary = base.call.min(own.call - own.host);
    Ok(Cost {
        batch_records: batch.len(),
        batches: own.rounds,
        total_ns: per_record(own.total),
        host_ns: per_record(own.total - own.call + own.host),
        boundary_ns: per_record(boundary),
        guest_ns: per_record(own.call - own.host - boundary),
        outputs: outputs as f64 / records,
        rejected: rejected as f64 / records,
        memory_high_water: instance.memory_high_water(),
        memory_limit,
    })
}

/// Medians of one batch, nanoseconds.
struct Medians {
    rounds: usize,
    total: f64,
    call: f64,
    host: f64,
}

fn measure(instance: &mut Instance, batch: &Columns, into: &mut Processed, time: Duration) -> Result<Medians, Failure> {
    for _ in 0..WARM_UP {
        instance.process(batch, into)?;
    }
    let mut timings = Vec::new();
    let start = Instant::now();
    while timings.is_empty() || (start.elapsed() < time && timings.len() < ROUNDS_MAX) {
        let (returned, timing) = instance.process_timed(batch, into);
        returned?;
        timings.push(timing);
    }
    let median = |part: fn(&Timing) -> Duration| {
        let mut parts: Vec<Duration> = timings.iter().map(part).collect();
        let middle = parts.len() / 2;
        parts.select_nth_unstable(middle).1.as_nanos() as f64
    };
    let (total, call, host) = (median(|t| t.total), median(|t| t.call), median(|t| t.host));
    Ok(Medians { rounds: timings.len(), total, call, host })
}

/// A component that takes batches and drops them: room for them is a pointer that moves.
fn sink() -> Vec<u8> {
    let mut module = sink_module();
    let mut resolve = wit_parser::Resolve::default();
    let wit = include_str!("../../../sdk/wit/plugin.wit");
    let package = resolve.push_str("plugin.wit", wit).expect("the contract is WIT");
    let world = resolve.select_world(&[package], Some("plugin")).expect("the contract has this world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the module takes a section more");
    componentize(&module, &Manifest::default()).expect("the module has the world's exports")
}

fn sink_module() -> Vec<u8> {
    const HEAP: i32 = 64 << 10;
    let i32s = |count| std::iter::repeat_n(ValType::I32, count);
    let mut types = TypeSection::new();
    types.ty().function(i32s(4), i32s(1));
    types.ty().function(i32s(2), i32s(1));
    types.ty().function(i32s(1), i32s(1));
    let mut functions = FunctionSection::new();
    functions.function(0).function(1).function(2);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 2, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    globals.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(HEAP));
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("cabi_realloc", ExportKind::Func, 0);
    exports.export("init", ExportKind::Func, 1).export("process", ExportKind::Func, 2);

    let mut realloc = Function::new([(1, ValType::I32)]);
    let mut code = realloc.instructions();
    // at = heap rounded up to 16; heap = at + size.
    code.global_get(0)
        .i32_const(15)
        .i32_add()
        .i32_const(-16)
        .i32_and()
        .local_tee(4)
        .local_get(3)
        .i32_add()
        .global_set(0);
    // While the heap ends beyond the memory: grow it by 1 MiB, or crash.
    code.loop_(BlockType::Empty).global_get(0).memory_size(0).i32_const(16).i32_shl().i32_gt_u();
    code.if_(BlockType::Empty).i32_const(16).memory_grow(0).i32_const(-1).i32_eq();
    code.if_(BlockType::Empty).unreachable().end().br(1).end().end();
    code.local_get(4).end();
    let mut init = Function::new([]);
    init.instructions().i32_const(0).end();
    let mut process = Function::new([]);
    process.instructions().i32_const(HEAP).global_set(0).i32_const(0).end();
    let mut codes = CodeSection::new();
    codes.function(&realloc).function(&init).function(&process);

    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports).section(&codes);
    module.finish()
}
