//! The way to the cluster: one authenticated connection, made anew when it is lost, and the names of topics.
//! Producers, consumers and the admin share one link.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_protocol::message::{Api, DescribeTopics, Hello, HelloAck};
use millstream_protocol::{ErrorCode, TopicId};
use millstream_transport::{ClientTls, Rpc, connect};
use tokio::time::Instant;

use crate::Error;
use crate::backoff::Backoff;

/// What a link needs to reach a broker.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `host:port`, tried in order.
    pub(crate) servers: Vec<String>,
    pub(crate) ca_pem: String,
    pub(crate) token: String,
    pub(crate) client_name: String,
    /// How long a request may take, attempts included.
    pub(crate) request_timeout: Duration,
}

/// One authenticated connection.
pub(crate) struct Session {
    pub(crate) connection: quinn::Connection,
    /// Small requests: metadata, groups, admin.
    pub(crate) control: Rpc,
    /// Produce requests, so that large frames do not hold up heartbeats.
    pub(crate) produce: Rpc,
    pub(crate) hello: HelloAck,
}

impl Session {
    fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some() || self.control.is_closed() || self.produce.is_closed()
    }
}

/// What producers and consumers need to know about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
    /// Largest batch the topic takes, bytes.
    pub(crate) batch_bytes_max: usize,
}

pub(crate) struct Link {
    settings: Settings,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    topics: Mutex<HashMap<String, Topic>>,
}

impl Link {
    pub(crate) fn new(settings: Settings) -> Self {
        Link { settings, session: tokio::sync::Mutex::new(None), topics: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The live connection, or a new one to the first server that lets us in. One attempt each.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        *current = None;
        let mut failed = None;
        for server in &self.settings.servers {
            match self.open(server).await {
                Ok(session) => {
                    tracing::debug!(server, "connected");
                    let session = Arc::new(session);
                    *current = Some(Arc::clone(&session));
                    return Ok(session);
                }
                // A broker that answers but refuses says more than one that is down.
                Err(error) if failed.is_none() || !error.is_retriable() => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| Error::Invalid("no server address was given".to_owned())))
    }

    async fn open(&self, server: &str) -> Result<Session, Error> {
        let failed = |reason: String| Error::Connect { address: server.to_owned(), reason };
        let (host, port) = server.rsplit_once(':').ok_or_else(|| failed("expected host:port".to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| failed(format!("`{port}` is not a port")))?;
        let tls = ClientTls { ca_pem: self.settings.ca_pem.clone(), server_name: host.to_owned() };
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| failed(error.to_string()))?;
        let mut last = failed(format!("`{host}` has no address"));
        for address in addresses {
            match self.greet(address, &tls).await {
                Ok(session) => return Ok(session),
                Err(Error::Disconnected(reason)) => last = failed(reason),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn greet(&self, address: SocketAddr, tls: &ClientTls) -> Result<Session, Error> {
        let connection = connect(address, tls).await?;
        let control = Rpc::open(&connection).await?;
        let hello = Hello {
            token: self.settings.token.clone(),
            client_name: self.settings.client_name.clone(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let hello = control.call(&hello).await?;
        let produce = Rpc::open(&connection).await?;
        Ok(Session { connection, control, produce, hello })
    }

    /// Closes the connection; the next call makes a new one.
    pub(crate) async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            session.connection.close(millstream_transport::config::CloseCode::Done.into(), b"");
        }
    }

    /// One request, one attempt, on a live connection.
    pub(crate) async fn call_once<A: Api>(&self, request: &A) -> Result<A::Response, Error> {
        let limit = self.settings.request_timeout;
        let call = async { Ok(self.session().await?.control.call(request).await?) };
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(timeout(A::NAME, limit)),
        }
    }

    /// A request that may be carried out twice without harm: repeated while that may help, until the
    /// request's time is over.
    pub(crate) async fn call<A: Api>(&self, request: &A) -> Result<A::Response, Error> {
        self.retry(async || self.call_once(request).await).await
    }

    /// Repeats `attempt` while its errors are retriable, until the time limit of requests.
    pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.settings.request_timeout;
        let mut backoff = Backoff::default();
        loop {
            let error = match attempt().await {
                Err(error) if error.is_retriable() => error,
                done => return done,
            };
            let pause = backoff.next_pause();
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, "will try again");
            tokio::time::sleep(pause).await;
        }
    }

    /// The topic by name, from memory when it was asked for before.
    pub(crate) async fn topic(&self, name: &str) -> Result<Topic, Error> {
        if let Some(topic) = self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(topic.clone());
        }
        self.refresh_topic(name).await
    }

    /// The topic as the broker knows it now.
    pub(crate) async fn refresh_topic(&self, name: &str) -> Result<Topic, Error> {
        let request = DescribeTopics { names: vec![name.to_owned()], include_internal: true };
        let answer = self.call(&request).await?;
        let mut known = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = answer.topics.into_iter().find(|topic| topic.name == name) else {
            known.remove(name);
            return Err(Error::UnknownTopic(name.to_owned()));
        };
        let topic = Topic {
            name: Arc::from(name),
            id: found.id,
            partitions: u32::try_from(found.partitions.len()).unwrap_or(u32::MAX),
            batch_bytes_max: found.effective.batch_bytes_max.unwrap_or(1 << 20) as usize,
        };
        known.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// Forgets a topic that changed.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

pub(crate) fn timeout(what: &str, limit: Duration) -> Error {
    Error::Timeout { what: what.to_owned(), limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}

/// Whether an error means that what is known about a topic is out of date.
pub(crate) fn is_stale(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::NotLeader)
}
