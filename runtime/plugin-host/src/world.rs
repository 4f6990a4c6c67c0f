//! The host's half of the WIT world in `sdk/wit/plugin.wit`: its types, and the functions of
//! `interface host`. Written by hand, where `bindgen!` would copy: input columns are lowered from borrowed
//! slices, emitted columns are read in place in the guest's memory.

use std::time::Instant;

use millstream_protocol::Columns;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList, WasmStr};

use crate::instance::State;

/// The interface with the host's functions; any 0.1.x a guest asks for is served by it.
pub(crate) const HOST_INTERFACE: &str = "millstream:plugin/host@0.1.0";
/// The interface with the types alone.
pub(crate) const TYPES_INTERFACE: &str = "millstream:plugin/types@0.1.0";

/// `record batch`, on its way in.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Input<'a> {
    offsets: &'a [i64],
    timestamps: &'a [i64],
    #[component(name = "key-lens")]
    key_lens: &'a [i32],
    keys: &'a [u8],
    #[component(name = "value-lens")]
    value_lens: &'a [i32],
    values: &'a [u8],
    #[component(name = "header-counts")]
    header_counts: &'a [u32],
    #[component(name = "header-lens")]
    header_lens: &'a [i32],
    headers: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(columns: &'a Columns) -> Input<'a> {
        Input {
            offsets: &columns.offsets,
            timestamps: &columns.timestamps,
            key_lens: &columns.key_lens,
            keys: &columns.keys,
            value_lens: &columns.value_lens,
            values: &columns.values,
            header_counts: &columns.header_counts,
            header_lens: &columns.header_lens,
            headers: &columns.headers,
        }
    }
}

/// `record batch`, on its way out: still in the guest's memory.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Emitted {
    offsets: WasmList<i64>,
    timestamps: WasmList<i64>,
    #[component(name = "key-lens")]
    key_lens: WasmList<i32>,
    keys: WasmList<u8>,
    #[component(name = "value-lens")]
    value_lens: WasmList<i32>,
    values: WasmList<u8>,
    #[component(name = "header-counts")]
    header_counts: WasmList<u32>,
    #[component(name = "header-lens")]
    header_lens: WasmList<i32>,
    headers: WasmList<u8>,
}

impl Emitted {
    pub(crate) fn records(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of the columns once copied; an honest batch has 28 per record beside its payload.
    pub(crate) fn bytes(&self) -> usize {
        let wide = self.offsets.len() + self.timestamps.len();
        let narrow = self.key_lens.len() + self.value_lens.len() + self.header_counts.len() + self.header_lens.len();
        wide * 8 + narrow * 4 + self.keys.len() + self.values.len() + self.headers.len()
    }

    /// The one copy between the guest's memory and the host's. Appends; does not validate.
    pub(crate) fn copy_to(&self, store: &StoreContextMut<'_, State>, into: &mut Columns) {
        into.offsets.extend_from_slice(self.offsets.as_le_slice(store));
        into.timestamps.extend_from_slice(self.timestamps.as_le_slice(store));
        into.key_lens.extend_from_slice(self.key_lens.as_le_slice(store));
        into.keys.extend_from_slice(self.keys.as_le_slice(store));
        into.value_lens.extend_from_slice(self.value_lens.as_le_slice(store));
        into.values.extend_from_slice(self.values.as_le_slice(store));
        into.header_counts.extend_from_slice(self.header_counts.as_le_slice(store));
        into.header_lens.extend_from_slice(self.header_lens.as_le_slice(store));
        into.headers.extend_from_slice(self.headers.as_le_slice(store));
    }
}

/// `record failure`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct GuestFailure {
    pub(crate) index: Option<u32>,
    pub(crate) message: String,
}

/// `enum level`: how much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl Level {
    /// The level's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A linker that offers what the world imports, and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    linker.instance(TYPES_INTERFACE)?;
    let mut host = linker.instance(HOST_INTERFACE)?;
    host.func_wrap("emit", |mut store: StoreContextMut<'_, State>, (output, rows): (WasmStr, Emitted)| {
        // Out of the store for the moment, so that it can be written while the guest's memory is read.
        let mut call = std::mem::take(&mut store.data_mut().call);
        let started = store.data().timing.is_some().then(Instant::now);
        let name = output.to_str(&store)?;
        let emitted = store.data().output_index(&name).and_then(|index| call.emit(&store, index, &rows));
        drop(name);
        let state = store.data_mut();
        state.call = call;
        if let (Some(timing), Some(started)) = (&mut state.timing, started) {
            timing.host += started.elapsed();
        }
        emitted.map_err(|failure| state.abort(failure))
    })?;
    host.func_wrap("reject", |mut store: StoreContextMut<'_, State>, (index, message): (u32, WasmStr)| {
        let message = crate::limits::cut(&message.to_str(&store)?, crate::limits::MESSAGE_BYTES_MAX).to_owned();
        let state = store.data_mut();
        let rejected = state.call.reject(index, message);
        rejected.map_err(|failure| state.abort(failure))
    })?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, State>, (level, message): (Level, WasmStr)| {
        let line = crate::limits::cut(&message.to_str(&store)?, crate::limits::LOG_LINE_BYTES_MAX).to_owned();
        store.data_mut().log(level, &line);
        Ok(())
    })?;
    host.func_wrap("count", |mut store: StoreContextMut<'_, State>, (name, delta): (WasmStr, u64)| {
        let name = crate::limits::cut(&name.to_str(&store)?, crate::limits::COUNTER_NAME_BYTES_MAX + 1).to_owned();
        store.data_mut().call.count(name, delta);
        Ok(())
    })?;
    host.func_wrap("now", |store: StoreContextMut<'_, State>, (): ()| Ok((store.data().call.now_ms,)))?;
    Ok(linker)
}
