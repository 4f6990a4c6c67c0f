//! Plugins of this broker: uploads, the stored components, their names in metadata, and their compiled form.
//!
//! A component is checked and compiled before it gets a name, and durable before that is acknowledged. What
//! a pipeline runs is kept, by digest, even when its name was given to a newer build.

mod reference;
mod store;
mod upload;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use millstream_cluster::metadata::{self, Command, Digest, Event, State};
use millstream_pipeline::spec::PluginRef;
use millstream_plugin_host::{Engine, EngineConfig, EngineCounts, LoadError, Manifest, Plugin, digest};
use millstream_protocol::message::{
    DeletePlugin, DownloadPlugin, DownloadPluginAck, ListPlugins, ListPluginsAck, PluginDescription, UploadPlugin,
    UploadPluginAck,
};
use millstream_protocol::{ErrorCode, Failure};

use crate::access::Caller;
use crate::clock::now_ms;
use crate::door::guard;
use crate::error::StartError;
use crate::service::Service;
pub use store::Store;
use upload::{Progress, Uploads};

/// Payload of one answer to a download.
const DOWNLOAD_BYTES_MAX: usize = 1 << 20;

/// Stores, compiles and hands out plugins.
pub struct Plugins {
    service: Arc<Service>,
    engine: Engine,
    store: Store,
    uploads: Mutex<Uploads>,
    /// Held from the check of a name to its registration, and while unused files are removed, so that
    /// neither sees half of the other.
    changes: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A plugin by its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub name: String,
    pub version: String,
    pub digest: Digest,
}

impl Plugins {
    /// # Errors
    /// The engine can't be set up.
    pub(crate) fn start(service: Arc<Service>) -> Result<Self, StartError> {
        let limits = &service.config().limits;
        let config = EngineConfig {
            cache_dir: Some(service.data_dir().cache()),
            instances_max: limits.guests_max,
            memory_bytes_total_max: limits.guest_memory_bytes_max,
            ..EngineConfig::default()
        };
        let engine = Engine::new(config)
            .map_err(|error| StartError::Part { part: "the plugin engine", reason: error.to_string() })?;
        let store = Store::open(&**service.data_dir().volume())
            .map_err(|error| StartError::Part { part: "the plugin store", reason: error.to_string() })?;
        let plugins =
            Plugins { service, engine, store, uploads: Mutex::default(), changes: tokio::sync::Mutex::default() };
        plugins.remove_unused();
        Ok(plugins)
    }

    /// Takes one chunk; chunks of one stream arrive in order. The last one is answered when the plugin is
    /// checked, compiled, durable and registered.
    pub(crate) async fn upload(
        &self,
        request: UploadPlugin,
        chunk: Bytes,
        caller: &Caller,
    ) -> Result<UploadPluginAck, Failure> {
        let bytes_max = self.service.config().limits.plugin_bytes_max;
        let progress = {
            let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            uploads.take(caller.session(), (&request, &chunk), bytes_max, Instant::now())?
        };
        match progress {
            Progress::Received(received) => Ok(UploadPluginAck { received, plugin: None, existed: false }),
            Progress::Whole(bytes) => self.add(request, bytes, caller).await,
        }
    }

    async fn add(&self, request: UploadPlugin, bytes: Vec<u8>, caller: &Caller) -> Result<UploadPluginAck, Failure> {
        let received = bytes.len() as u64;
        let name = Digest(request.digest);
        let engine = self.engine.clone();
        // Compiling takes from 0.1 s to many seconds: not on an IO worker.
        let (plugin, bytes) = blocking(move || {
            if digest(&bytes) != name.0 {
                return Err(Failure::new(
                    ErrorCode::InvalidRequest,
                    "the bytes do not have the digest announced: send them again",
                ));
            }
            engine.compile(&bytes).map_err(refused).map(|plugin| (plugin, bytes))
        })
        .await?;
        let manifest = named(plugin.manifest(), &request);
        reference::check_name(&manifest.name, &manifest.version)?;
        guard::may_push(caller, &manifest.name, request.replace)?;

        let _changes = self.changes.lock().await;
        // Before the bytes are written, so that a refused plugin leaves nothing.
        self.check_free(&manifest, &name, request.replace)?;
        let store = self.store.clone();
        blocking(move || store.put(&name, &bytes)).await?;
        let applied = self.service.submit(register(&manifest, name, received, request.replace)).await?;
        let existed = applied.event == Event::PluginRegistered { existed: true };
        self.remove_unused();
        let state = self.service.state();
        let described = state.plugin(&manifest.name, &manifest.version).map(|plugin| describe(&state, plugin));
        Ok(UploadPluginAck { received, plugin: described, existed })
    }

    fn check_free(&self, manifest: &Manifest, digest: &Digest, replace: bool) -> Result<(), Failure> {
        let Manifest { name, version, .. } = manifest;
        match self.service.state().plugin(name, version) {
            Some(known) if known.digest != *digest && !replace => {
                let (name, version) = (name.clone(), version.clone());
                Err(metadata::Rejection::PluginExists { name, version }.into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn list(&self, request: ListPlugins) -> Result<ListPluginsAck, Failure> {
        let state = self.service.state();
        let wanted = |plugin: &&metadata::Plugin| request.name.is_empty() || plugin.name == request.name;
        Ok(ListPluginsAck { plugins: state.plugins().filter(wanted).map(|plugin| describe(&state, plugin)).collect() })
    }

    pub(crate) async fn delete(&self, request: DeletePlugin) -> Result<(), Failure> {
        let _changes = self.changes.lock().await;
        self.service.submit(Command::DeletePlugin { name: request.name, version: request.version }).await?;
        self.remove_unused();
        Ok(())
    }

    pub(crate) async fn download(&self, request: DownloadPlugin) -> Result<(DownloadPluginAck, Bytes), Failure> {
        let name = Digest(request.digest);
        let store = self.store.clone();
        let bytes_max = (request.bytes_max as usize).min(DOWNLOAD_BYTES_MAX);
        let (size, bytes) = blocking(move || store.read_part(&name, request.position, bytes_max)).await?;
        Ok((DownloadPluginAck { size }, bytes.into()))
    }

    /// The plugin a pipeline's step names.
    ///
    /// # Errors
    /// `UnknownPlugin`, or `InvalidPlugin` when a pinned digest is not the stored one.
    pub fn resolve(&self, wanted: &PluginRef) -> Result<Resolved, Failure> {
        let state = self.service.state();
        let plugin = reference::resolve(&state, &wanted.name, &wanted.version, wanted.digest.as_deref())?;
        Ok(Resolved { name: plugin.name.clone(), version: plugin.version.clone(), digest: plugin.digest })
    }

    /// The compiled plugin with this digest. While the result lives, its file stays.
    ///
    /// # Errors
    /// It is not stored, or its file is damaged.
    pub async fn load(&self, name: Digest) -> Result<Arc<Plugin>, Failure> {
        let (store, engine) = (self.store.clone(), self.engine.clone());
        blocking(move || engine.compile(&store.read(&name)?).map_err(refused)).await
    }

    /// What the engine did so far.
    pub(crate) fn totals(&self) -> EngineCounts {
        self.engine.totals()
    }

    /// Removes files that no name, no kept revision of a pipeline and no running task needs.
    fn remove_unused(&self) {
        let state = self.service.state();
        let revisions = state.pipelines().flat_map(metadata::Pipeline::revisions);
        let mut used: HashSet<Digest> =
            revisions.flat_map(|revision| &revision.plugins).map(|used| used.digest).collect();
        used.extend(state.plugins().map(|plugin| plugin.digest));
        let keep = |digest: &Digest| used.contains(digest) || self.engine.is_loaded(&digest.0);
        if let Err(error) = self.store.collect(keep) {
            tracing::warn!(%error, "plugin files that nothing uses stay on disk");
        }
    }
}

/// Runs what blocks on a thread made for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Failure::new(ErrorCode::Internal, "the plugin could not be worked on; see the broker's log"))
    })
}

fn refused(error: LoadError) -> Failure {
    let code = match error {
        LoadError::TooLarge { .. } => ErrorCode::LimitExceeded,
        LoadError::Engine { .. } => ErrorCode::Internal,
        _ => ErrorCode::InvalidPlugin,
    };
    Failure::new(code, error.to_string())
}

/// The component's own account of itself, with the uploader's name and version where given.
fn named(manifest: &Manifest, request: &UploadPlugin) -> Manifest {
    let mut manifest = manifest.clone();
    if !request.name.is_empty() {
        manifest.name.clone_from(&request.name);
    }
    if !request.version.is_empty() {
        manifest.version.clone_from(&request.version);
    }
    manifest
}

fn register(manifest: &Manifest, digest: Digest, bytes: u64, replace: bool) -> Command {
    let Manifest { name, version, description, asks, .. } = manifest.clone();
    Command::RegisterPlugin { name, version, digest, bytes, asks, description, at_ms: now_ms(), replace }
}

fn describe(state: &State, plugin: &metadata::Plugin) -> PluginDescription {
    PluginDescription {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        digest: plugin.digest.0,
        bytes: plugin.bytes,
        uploaded_at_ms: plugin.uploaded_at_ms,
        asks: plugin.asks.clone(),
        description: plugin.description.clone(),
        used_by: state.pipelines_using(&plugin.name, &plugin.version).map(str::to_owned).collect(),
    }
}
