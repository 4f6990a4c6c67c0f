//! Plugins of this broker: stored components and their compiled form.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::message::{
    DeletePlugin, DownloadPlugin, DownloadPluginAck, ListPlugins, ListPluginsAck, UploadPlugin, UploadPluginAck,
};
use millstream_protocol::{ErrorCode, Failure};

use crate::error::StartError;
use crate::service::Service;

/// Stores, compiles and hands out plugins.
#[derive(Debug)]
pub struct Plugins {
    _service: Arc<Service>,
}

impl Plugins {
    /// # Errors
    /// The stored plugins can't be read.
    pub(crate) fn start(service: Arc<Service>) -> Result<Self, StartError> {
        Ok(Plugins { _service: service })
    }

    /// Takes one chunk; chunks of one stream arrive in order.
    pub(crate) async fn upload(&self, _request: UploadPlugin, _chunk: Bytes) -> Result<UploadPluginAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn list(&self, _request: ListPlugins) -> Result<ListPluginsAck, Failure> {
        Err(not_available())
    }

    pub(crate) async fn delete(&self, _request: DeletePlugin) -> Result<(), Failure> {
        Err(not_available())
    }

    pub(crate) async fn download(&self, _request: DownloadPlugin) -> Result<(DownloadPluginAck, Bytes), Failure> {
        Err(not_available())
    }
}

fn not_available() -> Failure {
    Failure::new(ErrorCode::InvalidRequest, "this broker runs no plugins")
}
