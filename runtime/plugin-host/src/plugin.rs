//! A component that was checked, compiled and linked: ready to be started any number of times.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sha2::{Digest, Sha256};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Type};

use crate::code;
use crate::component::{Inspection, Kind, Manifest, inspect};
use crate::engine::Engine;
use crate::failure::{Failure, LoadError};
use crate::instance::{Instance, InstanceConfig, State};
use crate::limits::MODULE_BYTES_MAX;

/// sha256 of a component: its identity everywhere.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A loaded plugin; share it, start instances from it.
pub struct Plugin {
    engine: Engine,
    digest: [u8; 32],
    bytes: usize,
    manifest: Manifest,
    pre: InstancePre<State>,
    init: ComponentExportIndex,
    process: ComponentExportIndex,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Checks first what is cheap and can be said in the author's words, compiles after that.
    pub(crate) fn load(engine: &Engine, digest: [u8; 32], bytes: &[u8]) -> Result<Plugin, LoadError> {
        if bytes.len() > MODULE_BYTES_MAX {
            return Err(LoadError::TooLarge { bytes: bytes.len(), max: MODULE_BYTES_MAX });
        }
        let inspection = inspect(bytes)?;
        check(&inspection)?;
        let component = compile(engine, &digest, bytes)?;
        let init = export(&component, "init", is_init)?;
        let process = export(&component, "process", is_process)?;
        let pre = engine.linker().instantiate_pre(&component).map_err(|error| invalid(&error))?;
        let manifest = inspection.manifest.unwrap_or_default();
        Ok(Plugin { engine: engine.clone(), digest, bytes: bytes.len(), manifest, pre, init, process })
    }

    /// sha256 of the component.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Size of the component, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the component says about itself; all empty when it was made by another toolchain.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Starts a guest and runs its `init`.
    ///
    /// # Errors
    /// [`Failure::Init`] when `init` refuses the config or crashes, or too many instances live already;
    /// [`Failure::Deadline`] and [`Failure::Memory`] as for a call.
    pub fn instantiate(self: &Arc<Self>, config: InstanceConfig) -> Result<Instance, Failure> {
        Instance::start(Arc::clone(self), config)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(crate) fn init_export(&self) -> &ComponentExportIndex {
        &self.init
    }

    pub(crate) fn process_export(&self) -> &ComponentExportIndex {
        &self.process
    }
}

fn check(inspection: &Inspection) -> Result<(), LoadError> {
    if inspection.kind == Kind::CoreModule {
        return Err(LoadError::CoreModule);
    }
    let names = inspection.foreign_imports();
    if !names.is_empty() {
        return Err(LoadError::ForbiddenImport { names });
    }
    for name in ["init", "process"] {
        if !inspection.exports.iter().any(|export| export == name) {
            return Err(LoadError::MissingExport { name });
        }
    }
    Ok(())
}

fn compile(engine: &Engine, digest: &[u8; 32], bytes: &[u8]) -> Result<Component, LoadError> {
    if let Some(component) = engine.cache().and_then(|cache| cache.load(engine.wasmtime(), digest)) {
        engine.counts().from_cache.fetch_add(1, Ordering::Relaxed);
        return Ok(component);
    }
    code::check(bytes)?;
    let started = Instant::now();
    let compiled = engine.compiler().run(|| Component::from_binary(engine.wasmtime(), bytes));
    let component = compiled.map_err(|error| invalid(&error))?;
    engine.counts().compiled_in(started.elapsed());
    if let Some(cache) = engine.cache() {
        cache.store(digest, &component);
    }
    Ok(component)
}

fn invalid(error: &wasmtime::Error) -> LoadError {
    LoadError::Invalid { message: format!("{error:#}") }
}

/// Finds an exported function and checks its type, so that calling it later can't fail on that.
fn export(
    component: &Component,
    name: &'static str,
    fits: fn(&ComponentFunc) -> bool,
) -> Result<ComponentExportIndex, LoadError> {
    let (item, index) = component.get_export(None, name).ok_or(LoadError::MissingExport { name })?;
    match item {
        ComponentItem::ComponentFunc(function) if fits(&function) => Ok(index),
        _ => Err(LoadError::WrongExport { name }),
    }
}

/// `func(config: string) -> result<_, string>`
fn is_init(function: &ComponentFunc) -> bool {
    function.params().map(|(_, ty)| ty).eq([Type::String]) && is_result(function, |error| matches!(error, Type::String))
}

/// `func(rows: batch) -> result<_, failure>`
fn is_process(function: &ComponentFunc) -> bool {
    let mut params = function.params();
    let (Some((_, Type::Record(rows))), None) = (params.next(), params.next()) else { return false };
    let columns = rows.fields().map(|field| match field.ty {
        Type::List(list) => (field.name.to_owned(), list.ty()),
        other => (field.name.to_owned(), other),
    });
    let expected = [
        ("offsets", Type::S64),
        ("timestamps", Type::S64),
        ("key-lens", Type::S32),
        ("keys", Type::U8),
        ("value-lens", Type::S32),
        ("values", Type::U8),
        ("header-counts", Type::U32),
        ("header-lens", Type::S32),
        ("headers", Type::U8),
    ];
    columns.eq(expected.map(|(name, ty)| (name.to_owned(), ty)))
        && rows.fields().all(|field| matches!(field.ty, Type::List(_)))
        && is_result(function, |error| match error {
            Type::Record(failure) => {
                let names: Vec<String> = failure.fields().map(|field| field.name.to_owned()).collect();
                let types: Vec<Type> = failure.fields().map(|field| field.ty).collect();
                let index = matches!(&types[..], [Type::Option(index), Type::String] if index.ty() == Type::U32);
                names == ["index", "message"] && index
            }
            _ => false,
        })
}

fn is_result(function: &ComponentFunc, error_fits: impl Fn(&Type) -> bool) -> bool {
    let mut results = function.results();
    match (results.next(), results.next()) {
        (Some(Type::Result(result)), None) => result.ok().is_none() && result.err().is_some_and(|err| error_fits(&err)),
        _ => false,
    }
}
