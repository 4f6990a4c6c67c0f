//! One running guest: its store, its limits, and the way in and out of a call. An instance belongs to one
//! task and is used from one thread at a time; calls block the thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::Columns;
use wasmtime::component::Func;
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::absent::asked_for;
use crate::call::{Budget, Call, refused};
use crate::courtesy;
use crate::failure::Failure;
use crate::limits::{Limits, MESSAGE_BYTES_MAX, OUTPUTS_MAX, cut};
use crate::logger::Logger;
use crate::memory::Limiter;
use crate::plugin::Plugin;
use crate::ticker::Ticker;
use crate::world::{GuestFailure, Input, Level};

/// Where a guest's log lines go; called on the thread of the call.
pub type LogSink = Box<dyn FnMut(Level, &str) + Send>;

/// What an instance is made with.
pub struct InstanceConfig {
    /// The step's `with` as a JSON document; `null` when it has none.
    pub config_json: String,
    pub limits: Limits,
    /// The outputs the guest may emit to, by name; "" is the main output. At most 16.
    pub outputs: Vec<String>,
    pub log: LogSink,
}

impl Default for InstanceConfig {
    fn default() -> InstanceConfig {
        InstanceConfig {
            config_json: "null".into(),
            limits: Limits::default(),
            outputs: vec![String::new()],
            log: Box::new(|_, _| {}),
        }
    }
}

/// What came of a call. Reuse one over many calls: it keeps its allocations.
#[derive(Debug, Default)]
pub struct Processed {
    /// Rows per output (index into the declared outputs), only outputs that were emitted to, in the
    /// order of their first emit.
    pub outputs: Vec<(usize, Columns)>,
    /// Records the guest rejected, in the order it did; at most one entry per record.
    pub rejected: Vec<Rejected>,
    /// What the guest added to its counters.
    pub counters: Vec<Counter>,
    spare: Vec<Columns>,
}

/// The guest rejected record `index` of the input batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub index: u32,
    pub message: String,
}

/// The guest added `delta` to its counter `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    pub name: String,
    pub delta: u64,
}

impl Processed {
    /// Drops what it holds, keeps the allocations.
    pub fn clear(&mut self) {
        self.spare.extend(self.outputs.drain(..).map(|(_, columns)| columns));
        self.rejected.clear();
        self.counters.clear();
    }

    pub(crate) fn output(&mut self, index: usize) -> &mut Columns {
        let at = self.outputs.iter().position(|(own, _)| *own == index).unwrap_or_else(|| {
            let mut columns = self.spare.pop().unwrap_or_default();
            columns.clear();
            self.outputs.push((index, columns));
            self.outputs.len() - 1
        });
        &mut self.outputs[at].1
    }
}

/// A guest that has been started. After [`Failure::Trap`], `Deadline`, `Memory` or `Output` it is dead:
/// every further call fails, make another one.
pub struct Instance {
    plugin: Arc<Plugin>,
    store: Store<State>,
    process: Func,
    alive: bool,
}

/// What the host knows while a guest runs.
pub(crate) struct State {
    pub(crate) call: Call,
    outputs: Vec<String>,
    limits: Limits,
    limiter: Limiter,
    logger: Logger,
    /// Why a host function ended the call.
    aborted: Option<Failure>,
    /// Filled in while a call is measured.
    pub(crate) timing: Option<Timing>,
    /// Of the call at hand, after the first look at the clock.
    ticks_left: u64,
    /// The call at hand took longer than a quick one may.
    slow: bool,
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) total: Duration,
    /// From the lowering of the input to the guest's return.
    pub(crate) call: Duration,
    /// Of `call`, what the host spent on emitted batches.
    pub(crate) host: Duration,
}

impl Instance {
    pub(crate) fn start(plugin: Arc<Plugin>, config: InstanceConfig) -> Result<Instance, Failure> {
        let engine = plugin.engine().clone();
        Instance::begin(plugin, config).inspect_err(|failure| engine.counts().failed(failure))
    }

    fn begin(plugin: Arc<Plugin>, config: InstanceConfig) -> Result<Instance, Failure> {
        let InstanceConfig { config_json, limits, outputs, log } = config;
        if outputs.len() > OUTPUTS_MAX {
            return Err(Failure::Init { message: format!("{} outputs are more than {OUTPUTS_MAX}", outputs.len()) });
        }
        let init_ms = limits.init_ms;
        let state = State {
            call: Call::default(),
            limiter: Limiter::new(limits.memory_bytes, plugin.engine().memory()),
            logger: Logger::new(log),
            outputs,
            limits,
            aborted: None,
            timing: None,
            ticks_left: 0,
            slow: false,
        };
        let mut store = Store::new(plugin.engine().wasmtime(), state);
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().time_is_up()));
        let quick = store.data_mut().begin_time(init_ms);
        store.set_epoch_deadline(quick);
        let running = plugin.engine().running();
        let started = init(&plugin, &mut store, &config_json);
        if store.data().slow {
            // It happens once, and on threads that have other work to do.
            courtesy::release();
        }
        let process = started.map_err(|problem| match problem {
            InitProblem::Guest(message) => Failure::Init { message: cut(&message, MESSAGE_BYTES_MAX).to_owned() },
            InitProblem::Host(error) => match store.data_mut().explain(&error, init_ms) {
                Failure::Trap { message } => Failure::Init { message },
                other => other,
            },
        })?;
        drop(running);
        store.data_mut().logger.flush();
        plugin.engine().counts().started();
        Ok(Instance { plugin, store, process, alive: true })
    }

    /// Gives the guest one batch. On success `into` holds what it made of it (what was there before is
    /// dropped); on failure `into` is empty.
    ///
    /// `input` must keep the invariants of [`Columns`]. Order is kept: rows of one output stand in the
    /// order the guest emitted them. The call ends within the time limit (to 20 ms), whatever the guest does.
    ///
    /// # Errors
    /// See [`Failure`]; [`Failure::Rejected`] is the only one an instance survives.
    pub fn process(&mut self, input: &Columns, into: &mut Processed) -> Result<(), Failure> {
        if !self.alive {
            into.clear();
            return Err(Failure::Trap { message: "it was not restarted after a failure".into() });
        }
        let state = self.store.data_mut();
        let (budget, batch_ms) = (state.budget(input.len()), state.limits.batch_ms);
        state.call.begin(input, std::mem::take(into), budget);
        state.limiter.begin();
        state.logger.begin();
        let quick = state.begin_time(batch_ms);
        self.store.set_epoch_deadline(quick);
        let running = self.plugin.engine().running();
        let returned = call(&self.process, &mut self.store, input);
        drop(running);
        let state = self.store.data_mut();
        *into = state.call.end();
        state.logger.flush();
        match returned {
            Ok(_) if !state.slow => courtesy::release(),
            // Crash after crash takes a core as an endless loop does.
            _ => courtesy::confine(),
        }
        let failure = match returned {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(GuestFailure { index, message })) => {
                let index = index.filter(|index| (*index as usize) < input.len());
                Failure::Rejected { index, message: cut(&message, MESSAGE_BYTES_MAX).to_owned() }
            }
            Err(error) => {
                self.alive = false;
                state.explain(&error, batch_ms)
            }
        };
        into.clear();
        self.plugin.engine().counts().failed(&failure);
        Err(failure)
    }

    /// [`Instance::process`], with the time it took and where.
    pub(crate) fn process_timed(&mut self, input: &Columns, into: &mut Processed) -> (Result<(), Failure>, Timing) {
        let started = Instant::now();
        self.store.data_mut().timing = Some(Timing::default());
        let returned = self.process(input, into);
        let timing = self.store.data_mut().timing.take().unwrap_or_default();
        (returned, Timing { total: started.elapsed(), ..timing })
    }

    /// Whether further calls make sense.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// The most linear memory the guest had so far, bytes.
    pub fn memory_high_water(&self) -> usize {
        self.store.data().limiter.used()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.plugin.engine().counts().ended();
    }
}

fn call(process: &Func, store: &mut Store<State>, input: &Columns) -> wasmtime::Result<Result<(), GuestFailure>> {
    // The type names the lifetime of `input`, so it is given anew for each call.
    let process = process.typed::<(Input<'_>,), (Result<(), GuestFailure>,)>(&*store)?;
    let started = Instant::now();
    let (returned,) = process.call(&mut *store, (Input::new(input),))?;
    if let Some(timing) = &mut store.data_mut().timing {
        timing.call = started.elapsed();
    }
    Ok(returned)
}

enum InitProblem {
    Guest(String),
    Host(wasmtime::Error),
}

impl From<wasmtime::Error> for InitProblem {
    fn from(error: wasmtime::Error) -> InitProblem {
        InitProblem::Host(error)
    }
}

fn init(plugin: &Plugin, store: &mut Store<State>, config_json: &str) -> Result<Func, InitProblem> {
    let instance = plugin.pre().instantiate(&mut *store)?;
    let init = instance.get_typed_func::<(&str,), (Result<(), String>,)>(&mut *store, plugin.init_export())?;
    let (answer,) = init.call(&mut *store, (config_json,))?;
    answer.map_err(InitProblem::Guest)?;
    Ok(instance.get_func(&mut *store, plugin.process_export()).expect("checked when the plugin was loaded"))
}

impl State {
    /// A call begins that may take so long; gives the ticks until the first look at the clock.
    fn begin_time(&mut self, ms: u64) -> u64 {
        let ticks = Ticker::ticks(ms);
        let quick = ticks.min(courtesy::QUICK_TICKS);
        (self.ticks_left, self.slow) = (ticks - quick, false);
        quick
    }

    /// The ticks that were given are over.
    fn time_is_up(&mut self) -> UpdateDeadline {
        self.slow = true;
        courtesy::confine();
        match std::mem::take(&mut self.ticks_left) {
            0 => UpdateDeadline::Interrupt,
            ticks => UpdateDeadline::Continue(ticks),
        }
    }

    fn budget(&self, records: usize) -> Budget {
        let by_input = self.limits.output_bytes_per_record.saturating_mul(records);
        Budget { records: self.limits.output_records, bytes: by_input.min(self.limits.output_bytes) }
    }

    /// The index of a declared output.
    pub(crate) fn output_index(&self, name: &str) -> Result<usize, Failure> {
        self.outputs
            .iter()
            .position(|own| own == name)
            .ok_or_else(|| refused(format!("output `{}` is not declared", cut(name, 64))))
    }

    /// Remembers why, and gives the error that unwinds the guest.
    pub(crate) fn abort(&mut self, failure: Failure) -> wasmtime::Error {
        self.aborted = Some(failure);
        wasmtime::Error::msg("ended by the host")
    }

    pub(crate) fn log(&mut self, level: Level, line: &str) {
        self.logger.line(level, line);
    }

    /// What an error of the runtime means.
    fn explain(&mut self, error: &wasmtime::Error, limit_ms: u64) -> Failure {
        if let Some(failure) = self.aborted.take() {
            return failure;
        }
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::Interrupt) {
            return Failure::Deadline { limit_ms };
        }
        if let Some(failure) = self.limiter.denied() {
            return failure;
        }
        let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        let stub = frames.first().filter(|_| trap == Some(&Trap::UnreachableCodeReached));
        let absent = stub.and_then(|stub| asked_for(stub));
        let what = match (self.logger.last_panic(), absent, trap) {
            (Some(panic), _, _) => panic,
            (None, Some(words), _) => words.to_owned(),
            (None, None, Some(trap)) => trap.to_string(),
            (None, None, None) => error.root_cause().to_string(),
        };
        let frames = match (frames.join(" < "), absent.is_some()) {
            (frames, _) if frames.is_empty() => frames,
            (frames, true) => format!(" ({frames})"),
            (frames, false) => format!(" in {frames}"),
        };
        Failure::Trap { message: cut(&format!("{what}{frames}"), MESSAGE_BYTES_MAX).to_owned() }
    }
}

/// The innermost three functions of the guest's own, innermost first.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    const MACHINERY: [&str; 8] =
        ["core::panicking", "std::panicking", "std::sys", "std::rt", "__rust", "rust_begin", "rust_panic", "_R"];
    backtrace
        .frames()
        .iter()
        .filter_map(|frame| frame.func_name())
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .filter(|name| !MACHINERY.iter().any(|prefix| name.starts_with(prefix)))
        .take(3)
        .collect()
}
