//! The parsing alone as a WebAssembly module, for an engine without Millstream around it: see
//! `runtime/plugin-host/examples/bare_engine.rs`, which says how it is built and run.

#![allow(unsafe_code, reason = "only unmangled names are exported from a module")]

use std::sync::Mutex;

mod alone;

static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Where the text of this size is to be written.
#[unsafe(no_mangle)]
pub extern "C" fn room(bytes: usize) -> *mut u8 {
    let Ok(mut text) = TEXT.lock() else { return std::ptr::null_mut() };
    text.resize(bytes, 0);
    text.as_mut_ptr()
}

/// Parses so many of its lines.
#[unsafe(no_mangle)]
pub extern "C" fn parse(lines: u64) -> u64 {
    let Ok(text) = TEXT.lock() else { return 0 };
    std::str::from_utf8(&text).map_or(0, |text| alone::parse(text, lines))
}
