//! Plugins: upload in chunks, list, download, delete.

use rkyv::{Archive, Deserialize, Serialize};

/// One chunk of an upload, its bytes in the payload; the chunks of one upload come in order on one stream.
/// The chunk that completes `size` is answered after the component was checked and compiled.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct UploadPlugin {
    /// Empty: taken from the component's own `millstream:plugin` section.
    pub name: String,
    pub version: String,
    /// sha256 of the whole component.
    pub digest: [u8; 32],
    /// Bytes of the whole component.
    pub size: u64,
    /// Where this chunk begins.
    pub position: u64,
    /// A version that exists with other contents is replaced instead of refused: for development, where
    /// every save is a new build of the same version. Running pipelines keep the digest they run.
    pub replace: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct UploadPluginAck {
    /// Bytes the broker has so far.
    pub received: u64,
    /// Present in the answer to the last chunk.
    pub plugin: Option<PluginDescription>,
    /// The same name, version and digest was there before.
    pub existed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PluginDescription {
    pub name: String,
    pub version: String,
    pub digest: [u8; 32],
    pub bytes: u64,
    pub uploaded_at_ms: i64,
    /// Capabilities it asks for, beside the plugin contract itself.
    pub asks: Vec<String>,
    /// Its own description, or empty.
    pub description: String,
    /// Pipelines that use it.
    pub used_by: Vec<String>,
}

/// All plugins, or those with this name when it is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListPlugins {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListPluginsAck {
    pub plugins: Vec<PluginDescription>,
}

/// Refused with `InUse` while a pipeline uses it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeletePlugin {
    pub name: String,
    pub version: String,
}

/// Reads part of a stored component; the bytes are in the payload.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DownloadPlugin {
    pub digest: [u8; 32],
    pub position: u64,
    pub bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DownloadPluginAck {
    pub size: u64,
}
