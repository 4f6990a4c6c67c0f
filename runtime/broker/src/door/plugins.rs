//! Plugins: upload in chunks, list, download, delete.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::access::Resource;
use millstream_protocol::message::{
    DeletePlugin, Done, DownloadPlugin, DownloadPluginAck, ListPlugins, ListPluginsAck, PluginDescription,
    UploadPlugin, UploadPluginAck,
};
use millstream_protocol::{ErrorCode, Failure};

use super::Core;
use super::dispatch::done;
use super::session::Session;

pub(super) async fn upload(
    core: Arc<Core>,
    session: Arc<Session>,
    request: UploadPlugin,
    chunk: Bytes,
) -> Result<UploadPluginAck, Failure> {
    let mut ack = core.plugins.upload(request, chunk, &session.caller).await?;
    ack.plugin = ack.plugin.map(|plugin| as_seen_by(&session, plugin));
    Ok(ack)
}

pub(super) async fn list(
    core: Arc<Core>,
    session: Arc<Session>,
    request: ListPlugins,
) -> Result<ListPluginsAck, Failure> {
    let mut plugins = core.plugins.list(request).await?.plugins;
    plugins.retain(|plugin| session.caller.sees(Resource::Plugin, &plugin.name));
    Ok(ListPluginsAck { plugins: plugins.into_iter().map(|plugin| as_seen_by(&session, plugin)).collect() })
}

pub(super) async fn delete(core: Arc<Core>, session: Arc<Session>, request: DeletePlugin) -> Result<Done, Failure> {
    let named = format!("{}@{}", request.name, request.version);
    let hides = {
        let state = core.service.state();
        let mut users = state.pipelines_using(&request.name, &request.version);
        users.any(|pipeline| !session.caller.sees(Resource::Pipeline, pipeline))
    };
    match core.plugins.delete(request).await {
        // The refusal names a pipeline, which may not be for this caller's eyes.
        Err(failure) if failure.code == ErrorCode::InUse && hides => {
            let message = format!("plugin `{named}` is used by a pipeline: delete or change that first");
            Err(Failure::new(ErrorCode::InUse, message))
        }
        deleted => done(deleted),
    }
}

/// Without pipelines that the caller may not know of.
fn as_seen_by(session: &Session, mut plugin: PluginDescription) -> PluginDescription {
    plugin.used_by.retain(|pipeline| session.caller.sees(Resource::Pipeline, pipeline));
    plugin
}

pub(super) async fn download(core: Arc<Core>, request: DownloadPlugin) -> Result<(DownloadPluginAck, Bytes), Failure> {
    core.plugins.download(request).await
}
