//! The wasmtime engine with this project's settings, shared by all plugins of a process, and the registry
//! that compiles every component once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::counts::{Counts, EngineCounts};
use crate::failure::LoadError;
use crate::instance::State;
use crate::limits::TABLE_ELEMENTS_MAX;
use crate::memory::TotalMemory;
use crate::plugin::{Plugin, digest};
use crate::ticker::{Running, Ticker};

/// Stack of a guest; deeper recursion traps.
const STACK_BYTES: usize = 512 << 10;

/// Memory a freed slot keeps and clears by writing, where the rest is unmapped. It must cover a small
/// guest's whole memory (its shadow stack alone is 1 MiB), or a fresh instance costs page faults.
const RESIDENT_BYTES: usize = 2 << 20;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where compiled code is kept; nowhere when `None`. Created with mode 0700.
    pub cache_dir: Option<PathBuf>,
    /// Guests that may live at once. Each reserves 4 GiB of addresses (none of it memory) so that its
    /// accesses need no bounds check: 256 take 1 TiB of the 128 there are.
    pub instances_max: u32,
    /// The most a guest's `memory_bytes` limit can be.
    pub memory_bytes_max: usize,
    /// Memory of all guests together.
    pub memory_bytes_total_max: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            cache_dir: None,
            instances_max: 256,
            memory_bytes_max: 256 << 20,
            memory_bytes_total_max: 4 << 30,
        }
    }
}

/// Compiles and keeps plugins. Cheap to clone; its ticker thread ends with the last clone, plugin and
/// instance.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    compiler: Compiler,
    ticker: Ticker,
    memory: Arc<TotalMemory>,
    counts: Counts,
    plugins: Mutex<HashMap<[u8; 32], Weak<Plugin>>>,
}

impl Engine {
    /// # Errors
    /// [`LoadError::Engine`] when the machine refuses the reservation of addresses, or the cache folder
    /// can't be made.
    pub fn new(config: EngineConfig) -> Result<Engine, LoadError> {
        let failed = |error: &dyn std::fmt::Display| LoadError::Engine { message: error.to_string() };
        let wasmtime = wasmtime::Engine::new(&settings(&config)).map_err(|error| failed(&format!("{error:#}")))?;
        let linker = crate::world::linker(&wasmtime).map_err(|error| failed(&error))?;
        let cache = match config.cache_dir {
            Some(dir) => Some(Cache::open(dir, &wasmtime).map_err(|error| failed(&error))?),
            None => None,
        };
        let ticking = wasmtime.clone();
        let ticker = Ticker::start(move || ticking.increment_epoch()).map_err(|error| failed(&error))?;
        let compiler = Compiler::start().map_err(|error| failed(&error))?;
        let memory = Arc::new(TotalMemory::new(config.memory_bytes_total_max));
        let (counts, plugins) = (Counts::default(), Mutex::default());
        let inner = Inner { wasmtime, linker, cache, compiler, ticker, memory, counts, plugins };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Checks a component and compiles it, or takes it from memory or from the cache on disk. Blocks for
    /// as long as compiling takes: 0.1 s for a small plugin, many seconds for 18 MB of Python. No code of
    /// the guest runs.
    ///
    /// # Errors
    /// [`LoadError`], worded for the plugin's author.
    pub fn compile(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let digest = digest(bytes);
        let known = self.plugins().get(&digest).and_then(Weak::upgrade);
        if let Some(plugin) = known {
            self.counts().from_memory.fetch_add(1, Ordering::Relaxed);
            return Ok(plugin);
        }
        let loaded = Plugin::load(self, digest, bytes).inspect_err(|_| {
            self.counts().refused.fetch_add(1, Ordering::Relaxed);
        });
        let plugin = Arc::new(loaded?);
        let mut plugins = self.plugins();
        plugins.retain(|_, plugin| plugin.strong_count() > 0);
        // Another thread may have compiled the same meanwhile; then its result is shared.
        if let Some(known) = plugins.get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        plugins.insert(digest, Arc::downgrade(&plugin));
        Ok(plugin)
    }

    /// Whether the plugin with this digest is in memory, in use by someone.
    pub fn is_loaded(&self, digest: &[u8; 32]) -> bool {
        self.plugins().get(digest).is_some_and(|plugin| plugin.strong_count() > 0)
    }

    /// What the engine did so far.
    pub fn totals(&self) -> EngineCounts {
        EngineCounts { memory_bytes: self.inner.memory.used(), ..self.inner.counts.get() }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    fn plugins(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Weak<Plugin>>> {
        // The map is changed by single inserts, so it is whole even if a thread panicked with the lock.
        self.inner.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.inner.cache.as_ref()
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.inner.compiler
    }

    pub(crate) fn memory(&self) -> Arc<TotalMemory> {
        Arc::clone(&self.inner.memory)
    }

    pub(crate) fn running(&self) -> Running<'_> {
        self.inner.ticker.running()
    }
}

fn settings(config: &EngineConfig) -> Config {
    let instances = config.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // Most components are one or three core instances; those of Python are a dozen.
        .total_core_instances(instances.saturating_mul(16))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(config.memory_bytes_max)
        .max_unused_warm_slots(32)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(16 << 10);
    let mut settings = Config::new();
    settings
        .wasm_component_model(true)
        .relaxed_simd_deterministic(true)
        // Costs half again as much per call, for async exports that the world does not have.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    settings
}
