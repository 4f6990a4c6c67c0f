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
    /// Whether clients should be sent here; when not, `findings` say why.
    pub ready: bool,
    /// What somebody who looks after the cluster wants to know now. The worst first.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node_id: u32,
    pub quic_address: String,
    /// Where metrics and health are; empty when there is no such door.
    pub http_address: String,
    pub uptime_ms: u64,
    pub data_dir: String,
    pub log_bytes: u64,
    pub disk_free_bytes: u64,
    pub connections: u32,
}

/// One thing about a node that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Finding {
    pub cause: Cause,
    /// For people: what it is about and what to do.
    pub message: String,
}

/// What a finding is about. The first ones make the node unready, those from [`Cause::PipelineFailed`] on don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum Cause {
    /// It is starting: logs are checked, pipelines begin.
    Recovering = 1,
    /// It is stopping.
    Draining = 2,
    /// The disk is full, or takes no writes for another reason.
    DiskRefusesWrites = 3,
    PartitionOffline = 4,
    MetadataUnwritable = 5,
    GroupsUnavailable = 6,
    /// Tasks stopped until somebody acts, or the pipeline could not be started.
    PipelineFailed = 20,
    /// Tasks try again what failed.
    PipelineWaiting = 21,
    /// Unfinished writes were cut when logs were opened.
    TailCut = 22,
    DiskLow = 23,
    FilesLow = 24,
    ClockJumped = 25,
    SyncSlow = 26,
}

impl Cause {
    pub const ALL: &'static [Cause] = &[
        Cause::Recovering,
        Cause::Draining,
        Cause::DiskRefusesWrites,
        Cause::PartitionOffline,
        Cause::MetadataUnwritable,
        Cause::GroupsUnavailable,
        Cause::PipelineFailed,
        Cause::PipelineWaiting,
        Cause::TailCut,
        Cause::DiskLow,
        Cause::FilesLow,
        Cause::ClockJumped,
        Cause::SyncSlow,
    ];

    /// Whether a node with such a finding should get no traffic.
    pub fn makes_unready(self) -> bool {
        self < Cause::PipelineFailed
    }

    /// As in /health/ready, metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Recovering => "recovering",
            Cause::Draining => "draining",
            Cause::DiskRefusesWrites => "disk_refuses_writes",
            Cause::PartitionOffline => "partition_offline",
            Cause::MetadataUnwritable => "metadata_unwritable",
            Cause::GroupsUnavailable => "groups_unavailable",
            Cause::PipelineFailed => "pipeline_failed",
            Cause::PipelineWaiting => "pipeline_waiting",
            Cause::TailCut => "tail_cut",
            Cause::DiskLow => "disk_low",
            Cause::FilesLow => "files_low",
            Cause::ClockJumped => "clock_jumped",
            Cause::SyncSlow => "sync_slow",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OfflinePartition {
    pub topic: String,
    pub partition: u32,
    pub reason: String,
}
