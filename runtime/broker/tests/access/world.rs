//! A broker with things to be allowed or refused, and tokens of every kind.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use millstream_broker::Broker;
use millstream_plugin_host::{digest, testing};
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Failure, TopicId};
use millstream_transport::{Error, Rpc};
use tempfile::TempDir;

use super::support::{self, Client};

pub(crate) struct World {
    folder: TempDir,
    pub(crate) broker: Broker,
    /// With the admin token of the token file.
    pub(crate) root: Client,
    component: Vec<u8>,
    next: AtomicU32,
}

impl World {
    pub(crate) async fn start() -> World {
        let folder = tempfile::tempdir().unwrap();
        let broker = support::start(folder.path()).await;
        let root = support::connect(&broker, folder.path()).await;
        // Built once for all tests; another process may be at it.
        let component = tokio::task::spawn_blocking(|| testing::component("identity")).await.unwrap();
        World { folder, broker, root, component, next: AtomicU32::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The next run of the same folder.
    pub(crate) async fn restart(mut self) -> World {
        self.broker.shutdown().await;
        self.broker = support::start(self.folder.path()).await;
        self.root = support::connect(&self.broker, self.folder.path()).await;
        self
    }

    /// A name nobody had before, among those the tokens of the matrix are about.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("mine.{what}{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) async fn token(&self, id: &str, rights: &[&str]) -> String {
        let rights = rights.iter().map(|right| (*right).to_owned()).collect();
        let request = CreateToken { id: id.to_owned(), rights, expires_at_ms: None };
        self.root.rpc.call(&request).await.unwrap().token.expose().to_owned()
    }

    pub(crate) async fn connect_with(&self, token: &str) -> Client {
        self.try_connect(token).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) async fn try_connect(&self, token: &str) -> Result<Client, Error> {
        let client = self.connect_silent().await;
        client.rpc.call(&support::hello(token.to_owned())).await?;
        Ok(client)
    }

    /// A client that has not said `Hello`.
    pub(crate) async fn connect_silent(&self) -> Client {
        let connection = support::connect_anonymous(&self.broker, self.path()).await;
        let rpc = Rpc::open(&connection).await.unwrap();
        Client { connection, rpc }
    }

    /// A client of a fresh token with these rights.
    pub(crate) async fn client(&self, id: &str, rights: &[&str]) -> Client {
        let token = self.token(id, rights).await;
        self.connect_with(&token).await
    }

    pub(crate) async fn topic(&self) -> (String, TopicId) {
        let name = self.fresh("topic");
        let id = self.root.create(&name, 1).await;
        (name, id)
    }

    pub(crate) async fn plugin(&self) -> String {
        let name = self.fresh("plugin");
        push(&self.root, &self.component, (&name, "0.1.0", false)).await.unwrap();
        name
    }

    /// Another plugin's bytes every time.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut bytes = self.component.clone();
        let mark = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // A custom section without meaning: id 0, size, name.
        bytes.extend([0, 5, 4]);
        bytes.extend(mark.map(|byte| b'a' + (byte & 0xf)));
        bytes
    }

    /// The digest of [`World::plugin`]'s component.
    pub(crate) fn component_digest(&self) -> [u8; 32] {
        digest(&self.component)
    }

    /// A running pipeline; its revisions differ in a comment.
    pub(crate) async fn pipeline(&self, revisions: u32) -> String {
        let name = self.fresh("pipeline");
        let (input, _) = self.topic().await;
        let (output, _) = self.topic().await;
        for revision in 0..revisions {
            let yaml = format!(
                "# {revision}\npipeline: {name}\ninputs: [{{ topic: {input} }}]\nsteps: [{{ filter: 'true' }}]\n\
                 outputs: [{{ topic: {output} }}]\n"
            );
            self.root.rpc.call(&apply(yaml)).await.unwrap();
        }
        name
    }

    /// A group with one member: its name, the member and the generation.
    pub(crate) async fn group(&self, topic: &str) -> (String, GroupHeartbeatAck) {
        let group = self.fresh("group");
        let ack = self.root.rpc.call(&join(&group, topic)).await.unwrap();
        (group, ack)
    }

    /// A group without members and with an offset.
    pub(crate) async fn empty_group(&self, topic: TopicId) -> String {
        let group = self.fresh("group");
        self.root.rpc.call(&commit(&group, "", 0, topic)).await.unwrap();
        group
    }
}

pub(crate) fn apply(yaml: String) -> ApplyPipeline {
    ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false }
}

pub(crate) fn join(group: &str, topic: &str) -> GroupHeartbeat {
    GroupHeartbeat {
        group: group.into(),
        member_id: String::new(),
        generation: 0,
        client_name: "test".into(),
        topics: vec![topic.into()],
        session_timeout_ms: 30_000,
        owned: Vec::new(),
    }
}

pub(crate) fn commit(group: &str, member_id: &str, generation: u32, topic: TopicId) -> CommitOffsets {
    let (partition, offset) = (millstream_protocol::PartitionIndex(0), millstream_protocol::Offset(0));
    let offsets = vec![CommittedOffset { topic, partition, offset, metadata: String::new() }];
    CommitOffsets { group: group.into(), member_id: member_id.into(), generation, offsets }
}

/// Uploads in chunks that fit the limits before `Hello`.
pub(crate) async fn push(
    client: &Client,
    bytes: &[u8],
    (name, version, replace): (&str, &str, bool),
) -> Result<(), Error> {
    for (i, chunk) in bytes.chunks(40_000).enumerate() {
        let request = UploadPlugin {
            name: name.into(),
            version: version.into(),
            digest: digest(bytes),
            size: bytes.len() as u64,
            position: i as u64 * 40_000,
            replace,
        };
        client.rpc.call_with(&request, vec![Bytes::copy_from_slice(chunk)]).await?;
    }
    Ok(())
}

pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::Failure(failure) => failure,
        other => panic!("{other}"),
    }
}

/// The code of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    failure(result.unwrap_err()).code
}
