//! One connection: handshake, `Hello` with the token on its first stream, then streams until it ends. Nothing
//! else is read before the token was accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_ANONYMOUS};
use millstream_protocol::message::{ApiKey, Hello, HelloAck};
use millstream_protocol::{ErrorCode, Failure};
use millstream_transport::config::{CloseCode, Streams, admit};
use millstream_transport::{Accepting, Error, Frame, FrameReader, FrameWriter};
use tracing::Instrument;

use super::{Core, Lifeline, stream};
use crate::access::{Caller, Who};
use crate::budget::Budget;
use crate::limits::{CLIENT_NAME_BYTES_MAX, ENDED_MS, WRONG_TOKEN_MS};
use crate::stats::Refused;

/// An authenticated client.
pub(super) struct Session {
    pub(super) client_name: String,
    pub(super) remote: SocketAddr,
    pub(super) connection: quinn::Connection,
    pub(super) fetch_budget: Budget,
    pub(super) caller: Caller,
}

/// The two halves of a stream.
pub(super) type Halves = (FrameWriter, FrameReader);

/// What `Hello` told.
struct Greeted {
    client_name: String,
    who: Who,
}

/// Counts a connection for as long as it lives.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything that is logged for a connection carries its number and, once it is known, the client's name.
pub(super) async fn run(accepting: Accepting, core: Arc<Core>, lifeline: Lifeline) {
    let (connection, remote) = (core.next_connection(), accepting.remote_address());
    let span = tracing::error_span!("connection", connection, %remote, client = tracing::field::Empty);
    serve(accepting, core, lifeline).instrument(span).await;
}

async fn serve(accepting: Accepting, core: Arc<Core>, mut lifeline: Lifeline) {
    let _counted = Counted::new(&core.service.connections);
    // In a box of its own: what only the beginning needs is given back, and most sessions are idle.
    let Some((session, mut streams, first)) = Box::pin(begin(accepting, &core)).await else { return };
    let connection = session.connection.clone();
    let serve_stream = |halves, lifeline: &Lifeline| {
        let stream = stream::run(Arc::clone(&core), Arc::clone(&session), halves, lifeline.clone());
        tokio::spawn(stream.in_current_span());
    };
    serve_stream(first, &lifeline);
    loop {
        let opened = tokio::select! {
            () = lifeline.stopping() => break,
            () = ended(&session.caller) => {
                // What was refused, or is right now, is on the way.
                tokio::time::sleep(Duration::from_millis(ENDED_MS)).await;
                connection.close(CloseCode::Unauthenticated.into(), b"the token is not accepted any more");
                break;
            }
            opened = connection.accept_bi() => opened,
        };
        let Ok((send, receive)) = opened else { break };
        streams.opened(&connection);
        serve_stream((FrameWriter::new(send), FrameReader::new(receive)), &lifeline);
    }
    // The lifeline must end with the streams, not with this wait for the client to go.
    drop(lifeline);
    connection.closed().await;
    tracing::debug!("session ended");
}

/// Resolves when the token is not accepted any more, whether the client asks for something or is silent.
async fn ended(caller: &Caller) {
    tokio::select! {
        () = caller.ended() => {}
        () = caller.lapsed() => {}
    }
}

/// Handshake and `Hello`; `None` when either failed, which is logged and counted here.
async fn begin(accepting: Accepting, core: &Arc<Core>) -> Option<(Arc<Session>, Streams, Halves)> {
    let stats = core.service.stats();
    let remote = accepting.remote_address();
    let connection = match accepting.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            stats.door.handshake_failures.add(1);
            tracing::debug!(%error, "handshake failed");
            return None;
        }
    };
    let within = Duration::from_millis(core.service.config.limits.handshake_ms_max);
    let greeted = match tokio::time::timeout(within, greet(&connection, core)).await {
        Ok(greeted) => greeted,
        Err(_) => {
            stats.door.refuse(Refused::NoHello);
            Err(Error::Disconnected("no Hello in time".into()))
        }
    };
    match greeted {
        Ok((Greeted { client_name, who }, streams, first)) => {
            stats.door.sessions.add(1);
            tracing::Span::current().record("client", client_name.as_str());
            tracing::debug!(token = who.name(), "session begins");
            let fetch_budget = Budget::new(core.service.config.limits.fetch_bytes_in_flight_per_connection_max);
            let caller = Caller::new(Arc::clone(&core.service), who);
            let session = Session { client_name, remote, connection, fetch_budget, caller };
            Some((Arc::new(session), streams, first))
        }
        Err(error) => {
            let code = match error {
                Error::Failure(_) => CloseCode::Unauthenticated,
                Error::Protocol(_) => {
                    stats.door.refuse(Refused::Protocol);
                    CloseCode::Protocol
                }
                _ => CloseCode::Protocol,
            };
            tracing::debug!(%error, "session refused");
            connection.close(code.into(), error.to_string().as_bytes());
            None
        }
    }
}

/// Reads `Hello` and answers it; the connection has a session's limits afterwards.
async fn greet(connection: &quinn::Connection, core: &Core) -> Result<(Greeted, Streams, Halves), Error> {
    let (send, receive) = connection.accept_bi().await?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let frame = reader.read(FRAME_BYTES_MAX_ANONYMOUS).await?;
    let frame = frame.ok_or_else(|| Error::Disconnected("the stream ended before Hello".into()))?;
    match authenticate(&frame, core) {
        Ok(greeted) => {
            let streams = admit(connection);
            writer.respond::<Hello>(&frame.header, &welcome(core), Vec::new()).await?;
            Ok((greeted, streams, (writer, reader)))
        }
        Err(failure) => {
            core.service.stats().door.refuse(Refused::Unauthenticated);
            // Whoever tries tokens pays a connection and a pause for each.
            tokio::time::sleep(Duration::from_millis(WRONG_TOKEN_MS)).await;
            writer.fail(&frame.header, &failure).await?;
            writer.finish();
            // The client reads the reason before the connection goes.
            writer.stopped().await;
            Err(Error::Failure(failure))
        }
    }
}

fn authenticate(frame: &Frame, core: &Core) -> Result<Greeted, Failure> {
    if frame.api()? != ApiKey::Hello {
        return Err(Failure::new(ErrorCode::Unauthenticated, "the first request of a connection is Hello"));
    }
    let hello: Hello = frame.request()?;
    let who = core.tokens.authenticate(&hello.token)?;
    let name: String = hello.client_name.chars().filter(|c| !c.is_control()).collect();
    let end = name.floor_char_boundary(CLIENT_NAME_BYTES_MAX);
    Ok(Greeted { client_name: name[..end].to_owned(), who })
}

fn welcome(core: &Core) -> HelloAck {
    let meta = core.service.data_dir.meta();
    HelloAck {
        cluster_id: meta.cluster_id.clone(),
        node_id: meta.node_id,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        batch_bytes_max: core.service.config.limits.batch_bytes_max,
    }
}
