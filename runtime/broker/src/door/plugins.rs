//! Plugins: upload in chunks, list, download, delete.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Failure;
use millstream_protocol::message::{
    DeletePlugin, Done, DownloadPlugin, DownloadPluginAck, ListPlugins, ListPluginsAck, UploadPlugin, UploadPluginAck,
};

use super::Core;
use super::dispatch::done;

pub(super) async fn upload(core: Arc<Core>, request: UploadPlugin, chunk: Bytes) -> Result<UploadPluginAck, Failure> {
    core.plugins.upload(request, chunk).await
}

pub(super) async fn list(core: Arc<Core>, request: ListPlugins) -> Result<ListPluginsAck, Failure> {
    core.plugins.list(request).await
}

pub(super) async fn delete(core: Arc<Core>, request: DeletePlugin) -> Result<Done, Failure> {
    done(core.plugins.delete(request).await)
}

pub(super) async fn download(core: Arc<Core>, request: DownloadPlugin) -> Result<(DownloadPluginAck, Bytes), Failure> {
    core.plugins.download(request).await
}
