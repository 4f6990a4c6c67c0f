//! Plugins: upload in chunks, list, download, delete.

use bytes::Bytes;
use millstream_protocol::message::{
    DeletePlugin, DownloadPlugin, ListPlugins, PluginDescription, UploadPlugin, UploadPluginAck,
};
use sha2::{Digest, Sha256};

use super::Admin;
use crate::Error;

/// Bytes of one chunk, either way.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How an uploaded plugin is filed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// Empty: the component's own name.
    pub name: String,
    /// Empty: the component's own version.
    pub version: String,
    /// Replace a version that exists with other contents: for development.
    pub replace: bool,
}

impl Admin {
    /// Uploads a component; `progress` is told the bytes that arrived so far, and all of them once the last are on
    /// their way. The broker checks and compiles it before this returns.
    ///
    /// # Errors
    /// The component is refused (the text is for its author), its version exists with other contents, or the
    /// broker can't be reached.
    pub async fn upload_plugin(
        &self,
        component: impl Into<Bytes>,
        options: UploadOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<UploadPluginAck, Error> {
        let component = component.into();
        if component.is_empty() {
            return Err(Error::Invalid("the plugin is empty".to_owned()));
        }
        let digest: [u8; 32] = Sha256::digest(&component).into();
        let session = self.link.session().await?;
        let mut position = 0;
        loop {
            let end = component.len().min(position + CHUNK_BYTES);
            let request = UploadPlugin {
                name: options.name.clone(),
                version: options.version.clone(),
                digest,
                size: component.len() as u64,
                position: position as u64,
                replace: options.replace,
            };
            if end == component.len() {
                // The answer to the last part comes when the broker has compiled it all.
                progress(end as u64);
            }
            let reply = session.control.call_with(&request, vec![component.slice(position..end)]).await?;
            progress(reply.response.received);
            if end == component.len() || reply.response.plugin.is_some() {
                return Ok(reply.response);
            }
            position = end;
        }
    }

    /// All plugins, or every version of the one with this name.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn list_plugins(&self, name: Option<&str>) -> Result<Vec<PluginDescription>, Error> {
        let request = ListPlugins { name: name.unwrap_or_default().to_owned() };
        Ok(self.link.call(&request).await?.plugins)
    }

    /// The component with this digest, checked against it.
    ///
    /// # Errors
    /// There is none, or the broker can't be reached.
    pub async fn download_plugin(&self, digest: [u8; 32]) -> Result<Vec<u8>, Error> {
        let session = self.link.session().await?;
        let mut component = Vec::new();
        loop {
            let request = DownloadPlugin { digest, position: component.len() as u64, bytes_max: CHUNK_BYTES as u32 };
            let reply = session.control.call_with(&request, Vec::new()).await?;
            component.extend_from_slice(&reply.payload);
            if component.len() as u64 >= reply.response.size || reply.payload.is_empty() {
                break;
            }
        }
        if <[u8; 32]>::from(Sha256::digest(&component)) != digest {
            return Err(Error::Invalid("the plugin that came does not have the digest asked for".to_owned()));
        }
        Ok(component)
    }

    /// Deletes one version of a plugin.
    ///
    /// # Errors
    /// It does not exist, a pipeline uses it, or the broker can't be reached.
    pub async fn delete_plugin(&self, name: &str, version: &str) -> Result<(), Error> {
        self.call(&DeletePlugin { name: name.to_owned(), version: version.to_owned() }).await.map(|_| ())
    }
}
