//! An embedded broker with plugins, and the few calls the tests are written in.

use std::ops::Range;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_plugin_host::testing;
use millstream_protocol::batch::{BatchBuilder, Compression, decode_batches};
use millstream_protocol::message::*;
use millstream_protocol::{Columns, Failure, Offset, PartitionIndex};
use millstream_transport::Error;
use tempfile::TempDir;

use super::support::{self, Client};

pub(crate) struct Lab {
    folder: TempDir,
    broker: Option<Broker>,
    client: Option<Client>,
    /// Given with every apply.
    pub(crate) variables: Vec<(String, String)>,
}

/// One record as text.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) partition: u32,
    pub(crate) key: String,
    pub(crate) value: String,
    headers: Vec<(String, String)>,
}

impl Row {
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

/// Numbers as lines.
pub(crate) fn lines(range: Range<usize>) -> Vec<String> {
    marked(range, "")
}

pub(crate) fn marked(range: Range<usize>, mark: &str) -> Vec<String> {
    range.map(|n| format!("{n}{mark}")).collect()
}

fn component(name: &str) -> Vec<u8> {
    if name == "troublesome" {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/troublesome");
        return testing::component_of(&folder);
    }
    testing::component(name)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Failure(failure) => failure,
        other => panic!("{other}"),
    }
}

impl Lab {
    pub(crate) async fn start(plugins: &[&str]) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Lab { folder, broker: None, client: None, variables: Vec::new() };
        lab.open().await;
        for name in plugins {
            lab.upload(name, component(name)).await;
        }
        lab
    }

    async fn open(&mut self) {
        let broker = support::start(self.folder.path()).await;
        self.client = Some(support::connect(&broker, self.folder.path()).await);
        self.broker = Some(broker);
    }

    /// Stops the broker cleanly and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.client = None;
        self.broker.take().unwrap().shutdown().await;
        self.open().await;
    }

    /// Drops the broker as it is and starts it again.
    pub(crate) async fn crash(&mut self) {
        self.client = None;
        drop(self.broker.take());
        self.open().await;
    }

    /// Where the console is.
    pub(crate) fn http(&self) -> std::net::SocketAddr {
        self.broker.as_ref().unwrap().http_addr().unwrap()
    }

    /// The folder, for those who do harm; the broker is stopped cleanly before and started after.
    pub(crate) async fn restart_after(&mut self, harm: impl FnOnce(&std::path::Path)) {
        self.client = None;
        self.broker.take().unwrap().shutdown().await;
        harm(self.folder.path());
        self.open().await;
    }

    pub(crate) fn broker(&self) -> (&Broker, &std::path::Path) {
        (self.broker.as_ref().unwrap(), self.folder.path())
    }

    pub(crate) fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub(crate) async fn upload(&self, name: &str, bytes: Vec<u8>) -> [u8; 32] {
        self.try_upload(name, bytes).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) async fn try_upload(&self, name: &str, bytes: Vec<u8>) -> Result<[u8; 32], Failure> {
        let digest = millstream_plugin_host::digest(&bytes);
        let size = bytes.len() as u64;
        for (index, chunk) in bytes.chunks(1 << 20).enumerate() {
            let request = UploadPlugin {
                name: name.into(),
                version: "0.1.0".into(),
                digest,
                size,
                position: (index << 20) as u64,
                replace: true,
            };
            let reply = self.client().rpc.call_with(&request, vec![bytes::Bytes::copy_from_slice(chunk)]).await;
            reply.map_err(failure)?;
        }
        Ok(digest)
    }

    /// Uploads a build of the plugin that does the same and is not the same: old and new digest.
    pub(crate) async fn upload_variant(&self, name: &str) -> ([u8; 32], [u8; 32]) {
        let mut bytes = component(name);
        let old = millstream_plugin_host::digest(&bytes);
        // A custom section without meaning: id 0, size, name.
        bytes.extend([0, 5, 4, b'n', b'o', b't', b'e']);
        (old, self.upload(name, bytes).await)
    }

    pub(crate) async fn create(&self, topic: &str, partitions: u32) {
        self.client().create(topic, partitions).await;
    }

    pub(crate) async fn alter_partitions(&self, topic: &str, partitions: u32) {
        let request = AlterTopic { name: topic.into(), partitions: Some(partitions), config: TopicConfig::default() };
        self.client().rpc.call(&request).await.unwrap();
    }

    pub(crate) async fn delete_topic(&self, topic: &str) {
        self.client().rpc.call(&DeleteTopic { name: topic.into() }).await.unwrap();
    }

    pub(crate) async fn produce(&self, topic: &str, partition: u32, values: &[String]) {
        let id = self.client().describe(topic).await.unwrap().id;
        let mut builder = BatchBuilder::new(Compression::None);
        values.iter().for_each(|value| builder.push_simple(1, None, Some(value.as_bytes())));
        self.client().produce(id, partition, builder.build()).await.unwrap();
    }

    /// All records of a topic, partition by partition.
    pub(crate) async fn rows(&self, topic: &str) -> Vec<Row> {
        let topic = self.client().describe(topic).await.unwrap();
        let mut rows = Vec::new();
        for partition in 0..topic.partitions.len() as u32 {
            let mut offset = Offset::ZERO;
            loop {
                let request = Fetch {
                    topic: topic.id,
                    partition: PartitionIndex(partition),
                    offset,
                    bytes_max: 1 << 20,
                    wait_ms: 0,
                };
                let reply = self.client().rpc.call_with(&request, Vec::new()).await.unwrap();
                let mut columns = Columns::default();
                decode_batches(&reply.payload, offset, 1 << 26, &mut columns).unwrap();
                let Some(last) = columns.offsets.last() else { break };
                offset = Offset(last + 1);
                let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"")).into_owned();
                rows.extend(columns.rows().map(|row| Row {
                    partition,
                    key: text(row.key),
                    value: text(row.value),
                    headers: row.headers.iter().map(|(name, value)| (text(Some(name)), text(value))).collect(),
                }));
            }
        }
        rows
    }

    pub(crate) async fn values(&self, topic: &str) -> Vec<String> {
        self.rows(topic).await.into_iter().map(|row| row.value).collect()
    }

    pub(crate) async fn try_apply(&self, yaml: &str, dry_run: bool) -> Result<ApplyPipelineAck, Failure> {
        let variables = self.variables.clone();
        let request = ApplyPipeline { yaml: yaml.into(), variables, create_partitions: 0, dry_run };
        self.client().rpc.call(&request).await.map_err(failure)
    }

    pub(crate) async fn apply(&mut self, yaml: &str) -> ApplyPipelineAck {
        self.try_apply(yaml, false).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) async fn control(&self, name: &str, action: PipelineAction) -> Result<Done, Failure> {
        self.client().rpc.call(&ControlPipeline { name: name.into(), action }).await.map_err(failure)
    }

    pub(crate) async fn list(&self) -> Vec<PipelineSummary> {
        self.client().rpc.call(&ListPipelines).await.unwrap().pipelines
    }

    pub(crate) async fn describe(&self, name: &str) -> DescribePipelineAck {
        self.client().rpc.call(&DescribePipeline { name: name.into() }).await.unwrap()
    }

    pub(crate) async fn logs(&self, name: &str) -> Vec<LogLine> {
        let request = PipelineLogs { name: name.into(), after: 0, lines_max: 0 };
        self.client().rpc.call(&request).await.unwrap().lines
    }

    pub(crate) async fn redrive(&self, name: &str) -> Result<RedrivePipelineAck, Failure> {
        self.client().rpc.call(&RedrivePipeline { name: name.into() }).await.map_err(failure)
    }

    /// Waits until every task has committed all there is.
    pub(crate) async fn drained(&self, name: &str) {
        self.until("all records are through", async |lab| {
            let seen = lab.describe(name).await;
            assert_ne!(seen.state, PipelineState::Failed, "{:?}", seen.tasks);
            !seen.tasks.is_empty() && seen.tasks.iter().all(|task| task.lag == 0)
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, check: impl AsyncFn(&Lab) -> bool) {
        for _ in 0..3000 {
            if check(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within 30 s");
    }
}
