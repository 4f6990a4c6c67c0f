//! The first request of every connection, and the broker's account of itself.

use rkyv::{Archive, Deserialize, Serialize};

/// First request on a connection; anything else before it is refused.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Hello {
    /// Bearer token, as in the profile file. Never logged.
    pub token: String,
    /// For logs and `group describe`, up to 256 bytes.
    pub client_name: String,
    pub client_version: String,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").field("client_name", &self.client_name).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct HelloAck {
    pub cluster_id: String,
    pub node_id: u32,
    pub server_version: String,
    /// Largest frame this session may send, bytes.
    pub frame_bytes_max: u32,
    /// Largest record batch the broker takes, bytes.
    pub batch_bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ClusterStatus;

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ClusterStatusAck {
    pub cluster_id: String,
    pub server_version: String,
    pub nodes: Vec<NodeStatus>,
    pub topics: u32,
    pub partitions: u32,
    /// Partitions that refuse service, with the reason.
    pub offline: Vec<OfflinePartition>,
    pub groups: u32,
    pub plugins: u32,
    pub pipelines: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node_id: u32,
    pub quic_address: String,
    pub uptime_ms: u64,
    pub data_dir: String,
    pub log_bytes: u64,
    pub disk_free_bytes: u64,
    pub connections: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OfflinePartition {
    pub topic: String,
    pub partition: u32,
    pub reason: String,
}
