//! What the engine alone makes of a plugin's work: a module that parses the lines of a text again and again in a single
//! call, without components, records and limits; once as it comes and once with the check whether the guest's time is up,
//! which this host can't do without. The same in native Rust is the plugin's example `native`.
//!
//! ```text
//! cargo build --release -p parse-access-log --example module --target wasm32-unknown-unknown
//! cargo run --release -p millstream-plugin-host --example bare_engine -- \
//!     target/wasm32-unknown-unknown/release/examples/module.wasm FILE [LINES]
//! ```

use std::time::Instant;

use wasmtime::{Config, Engine, Linker, Module, OptLevel, Result, Store, ensure, format_err};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format_err!("name {what}"));
    let (module, file) = (next("the module")?, next("a file of lines")?);
    let lines: u64 = arguments.next().map_or(Ok(3_000_000), |lines| lines.parse())?;
    let (module, text) = (std::fs::read(module)?, std::fs::read(file)?);
    // In turns, so that a machine that is busy for a while is busy for both.
    for _ in 0..3 {
        for (checks_time, name) in [(false, "as it comes"), (true, "with the check of its time")] {
            let (bytes, seconds) = run(&module, &text, lines, checks_time)?;
            let per_line = seconds * 1e9 / lines as f64;
            println!("{name}: {lines} lines, {bytes} bytes of JSON: {seconds:.2} s, {per_line:.0} ns per line");
        }
    }
    Ok(())
}

fn run(module: &[u8], text: &[u8], lines: u64, checks_time: bool) -> Result<(u64, f64)> {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed).epoch_interruption(checks_time);
    let engine = Engine::new(&config)?;
    let mut store = Store::new(&engine, ());
    if checks_time {
        store.set_epoch_deadline(1);
    }
    let module = Module::new(&engine, module)?;
    let mut linker = Linker::new(&engine);
    // It imports what plugins may call, and calls none of it.
    linker.define_unknown_imports_as_traps(&module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| format_err!("the module has no memory"))?;
    let room = instance.get_typed_func::<u32, u32>(&mut store, "room")?;
    let parse = instance.get_typed_func::<u64, u64>(&mut store, "parse")?;
    let at = room.call(&mut store, u32::try_from(text.len())?)?;
    memory.write(&mut store, at as usize, text)?;
    parse.call(&mut store, lines / 100)?;
    let start = Instant::now();
    let bytes = parse.call(&mut store, lines)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(bytes > 0, "no line was parsed");
    Ok((bytes, seconds))
}
