//! One stream, in one task: a loop that reads requests and starts them in order, and beside it one that sends answers
//! in the order they are ready. Requests in flight are bounded; beyond, the stream is not read, which is the
//! backpressure.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_protocol::frame::{self, FRAME_BYTES_MAX};
use millstream_protocol::message::{ApiKey, Body};
use millstream_protocol::{ErrorCode, Failure};
use millstream_transport::config::CloseCode;
use millstream_transport::{Error, Frame, FrameReader, FrameWriter, OutFrame};
use tokio::sync::mpsc;

use super::session::{Halves, Session};
use super::{Core, Lifeline, dispatch, subscribe};
use crate::error::shutting_down;
use crate::limits::DRAIN_MS_MAX;
use crate::stats::{Refused, Stats};

/// Answers written per flush at most.
const FRAMES_PER_FLUSH: usize = 64;
/// How long an ended stream waits for the client's acknowledgement; below the drain's own end.
const FINISH_WAIT: Duration = Duration::from_millis(DRAIN_MS_MAX / 2);
/// A stream of a broker that stops is quiet when nothing came for so long …
const QUIET: Duration = Duration::from_millis(20);
/// … and is not listened to any longer than this: a client that goes on sending is told by the end of the stream.
const REFUSE_MAX: Duration = Duration::from_millis(DRAIN_MS_MAX / 8);

/// A request in flight, and when it came.
struct Timed {
    answer: Pin<Box<dyn Future<Output = OutFrame> + Send>>,
    began: Instant,
}

impl Future for Timed {
    type Output = (OutFrame, Instant);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = self.began;
        self.answer.as_mut().poll(context).map(|frame| (frame, began))
    }
}

/// A request that was started.
pub(super) enum Pending {
    Ready(OutFrame),
    Later(Pin<Box<dyn Future<Output = OutFrame> + Send>>),
}

impl Pending {
    fn since(self, began: Instant) -> Timed {
        let answer = match self {
            Pending::Ready(frame) => Box::pin(std::future::ready(frame)),
            Pending::Later(answer) => answer,
        };
        Timed { answer, began }
    }
}

pub(super) async fn run(core: Arc<Core>, session: Arc<Session>, (writer, reader): Halves, lifeline: Lifeline) {
    let stats = Arc::clone(core.service.stats());
    let _counted = stats.door.streams.one();
    let in_flight_max = core.service.config.limits.requests_in_flight_per_stream_max.max(1);
    let (started, requests) = mpsc::channel(1);
    let reading = Reading { core: &core, session: &session, stats: &stats, started };
    // Ends when everything in flight is answered, or the client stopped reading.
    let (taken_over, writer) =
        tokio::join!(reading.run(reader, lifeline.clone()), answer(writer, requests, in_flight_max, &stats));
    let Some(mut writer) = writer else { return };
    match taken_over {
        // In a box of its own, as most streams are no subscriptions.
        Some(frame) => Box::pin(subscribe::run((&core, &session), &frame, writer, lifeline)).await,
        None => finish(&mut writer).await,
    }
}

/// The half of a stream that reads.
struct Reading<'a> {
    core: &'a Arc<Core>,
    session: &'a Arc<Session>,
    stats: &'a Stats,
    started: mpsc::Sender<Timed>,
}

impl Reading<'_> {
    /// Starts requests until the stream ends, or is taken over by a subscription.
    async fn run(self, mut reader: FrameReader, mut lifeline: Lifeline) -> Option<Frame> {
        loop {
            let read = tokio::select! {
                biased;
                () = lifeline.stopping() => {
                    // In vain for a client that does not read: then it isn't told either.
                    let _ = tokio::time::timeout(REFUSE_MAX, Box::pin(refuse(&mut reader, &self.started))).await;
                    return None;
                }
                read = reader.read(FRAME_BYTES_MAX) => read,
            };
            let frame = accepted(read, self.session, self.stats)?;
            let began = Instant::now();
            let bytes = frame::HEADER_LEN + frame.body.len() + frame.payload.len();
            self.stats.door.received_bytes.add(bytes as u64);
            if matches!(frame.api(), Ok(ApiKey::Subscribe)) {
                return Some(frame);
            }
            let pending = dispatch::begin(self.core, self.session, frame).await;
            self.started.send(pending.since(began)).await.ok()?;
        }
    }
}

/// What was sent before the client could know of the stop is refused in so many words, so that it need not guess
/// whether it was carried out.
async fn refuse(reader: &mut FrameReader, started: &mpsc::Sender<Timed>) {
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(QUIET, reader.read(FRAME_BYTES_MAX)).await {
        let refusal = OutFrame::failure(&frame.header, &shutting_down());
        if started.send(Pending::Ready(refusal).since(Instant::now())).await.is_err() {
            return;
        }
    }
}

/// Ends a stream and waits, for a while, until the client has everything: a connection that is closed before loses it.
pub(super) async fn finish(writer: &mut FrameWriter) {
    writer.finish();
    // A client that is gone or does not read loses no more by this.
    let _ = tokio::time::timeout(FINISH_WAIT, writer.stopped()).await;
}

/// The frame, or the end of this stream; a broken protocol ends the whole connection.
fn accepted(read: Result<Option<Frame>, Error>, session: &Session, stats: &Stats) -> Option<Frame> {
    match read {
        Ok(frame) => frame,
        Err(Error::Protocol(reason)) => {
            stats.door.refuse(Refused::Protocol);
            tracing::warn!(reason, "connection closed: the client broke the protocol");
            session.connection.close(CloseCode::Protocol.into(), reason.as_bytes());
            None
        }
        Err(_) => None,
    }
}

/// Sends answers until the requests end; gives the writer back unless it broke.
async fn answer(
    mut writer: FrameWriter,
    mut requests: mpsc::Receiver<Timed>,
    in_flight_max: usize,
    stats: &Stats,
) -> Option<FrameWriter> {
    let mut in_flight = FuturesUnordered::new();
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            Some(frame) = in_flight.next(), if !in_flight.is_empty() => {
                queue(&mut writer, frame, stats);
                for _ in 1..FRAMES_PER_FLUSH {
                    let Some(Some(frame)) = in_flight.next().now_or_never() else { break };
                    queue(&mut writer, frame, stats);
                }
                writer.flush().await.ok()?;
            }
            next = requests.recv(), if open && in_flight.len() < in_flight_max => match next {
                Some(request) => in_flight.push(request),
                None => open = false,
            },
            else => return Some(writer),
        }
    }
}

fn queue(writer: &mut FrameWriter, (frame, began): (OutFrame, Instant), stats: &Stats) {
    let (api, version, correlation) = (frame.api, frame.version, frame.correlation);
    stats.door.sent_bytes.add(frame.wire_len() as u64);
    stats.door.answered(api, outcome(&frame), began.elapsed());
    if let Err(error) = writer.queue(frame) {
        let header = frame::Header { api, version, correlation, flags: 0, body_len: 0, payload_len: 0 };
        let message = format!("the answer is too large ({error}): ask for less at a time");
        let failure = Failure::new(ErrorCode::LimitExceeded, message);
        writer.queue(OutFrame::failure(&header, &failure)).expect("a failure is small");
    }
}

/// What the client is told. A fault of the broker's own is logged here, where the answer leaves; what the client did
/// wrong is its own business.
fn outcome(frame: &OutFrame) -> Result<(), ErrorCode> {
    if frame.flags & frame::FLAG_FAILURE == 0 {
        return Ok(());
    }
    let Ok(Failure { code, message }) = Failure::decode_body(&frame.body) else { return Err(ErrorCode::Internal) };
    let api = ApiKey::from_wire(frame.api).map_or("unknown", ApiKey::name);
    if code == ErrorCode::Forbidden {
        // The guard has said it, with the token's name.
    } else if code == ErrorCode::Internal {
        tracing::error!(api, request = frame.correlation, reason = %message, "request failed inside the broker");
    } else {
        tracing::debug!(api, request = frame.correlation, ?code, reason = %message, "request refused");
    }
    Err(code)
}
