//! A client below the SDK: nothing is repeated, so each request has one outcome; and streams that nobody reads.

use millstream_client::message::{Acks, Hello, Produce, ProduceEntry, Subscribe, SubscribeEntry};
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicId};
use millstream_transport::{ClientTls, Error, FrameReader, FrameWriter, Rpc, connect, open_stream};

use super::support::Server;

#[derive(serde::Deserialize)]
struct Profile {
    ca: String,
    token: String,
}

pub(crate) struct Raw {
    connection: quinn::Connection,
    pub(crate) rpc: Rpc,
}

/// What an append came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Refused(ErrorCode),
    /// The connection ended before an answer came.
    Untold,
}

impl Raw {
    pub(crate) async fn connect(server: &Server) -> Raw {
        let text = std::fs::read_to_string(server.data("profile.yaml")).unwrap();
        let Profile { ca, token } = serde_yaml::from_str(&text).unwrap();
        let tls = ClientTls { ca_pem: ca, server_name: "127.0.0.1".to_owned() };
        let connection = connect(server.address().parse().unwrap(), &tls).await.unwrap();
        let rpc = Rpc::open(&connection).await.unwrap();
        let hello = Hello { token, client_name: "raw".to_owned(), client_version: "0".to_owned() };
        rpc.call(&hello).await.unwrap();
        Raw { connection, rpc }
    }

    /// A subscription that is never read, and the stream's two ends to keep it open.
    pub(crate) async fn subscribe(&self, topic: TopicId) -> (FrameWriter, FrameReader) {
        let (mut writer, reader) = open_stream(&self.connection).await.unwrap();
        let entry = SubscribeEntry { topic, partition: PartitionIndex(0), offset: Offset(0) };
        let request = Subscribe { entries: vec![entry], bytes_max: 1 << 20 };
        writer.send_request(1, &request, Vec::new()).await.unwrap();
        (writer, reader)
    }

    /// Sends one value and returns the future of what it came to; the order of calls is the order of arrival.
    pub(crate) async fn produce(&self, topic: TopicId, value: &[u8]) -> impl Future<Output = Outcome> + Send + use<> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_simple(0, None, Some(value));
        let batch = builder.build();
        let entry = ProduceEntry { topic, partition: PartitionIndex(0), bytes: batch.len() as u32 };
        let submitted = self.rpc.submit(&Produce { acks: Acks::All, entries: vec![entry] }, vec![batch]).await;
        async move {
            let reply = match submitted {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            match reply.map(|mut reply| reply.response.results.remove(0).failure) {
                Ok(None) => Outcome::Stored,
                Ok(Some(Failure { code, .. })) | Err(Error::Failure(Failure { code, .. })) => Outcome::Refused(code),
                Err(Error::Disconnected(_)) => Outcome::Untold,
                Err(other) => panic!("{other}"),
            }
        }
    }
}
