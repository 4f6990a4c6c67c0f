//! Many requests in flight on one long-lived stream, matched to their answers by correlation number.
//! One task owns the stream; handles talk to it through a bounded queue.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::Api;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{Error, Frame, FrameReader, FrameWriter, OutFrame, config, open_stream};

/// Frames taken from the queue per flush.
const FRAMES_PER_FLUSH: usize = 64;

/// A handle to the stream; clones share it. The stream ends when the last handle is dropped and every
/// request was answered.
#[derive(Clone)]
pub struct Rpc {
    queue: mpsc::Sender<OutFrame>,
    shared: Arc<Shared>,
}

struct Shared {
    correlation: AtomicU32,
    in_flight: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// Told when the last request that waited was answered.
    drained: Notify,
}

#[derive(Default)]
struct Waiting {
    requests: HashMap<u32, Waiter>,
    /// Why the stream is gone, once it is.
    lost: Option<Error>,
}

struct Waiter {
    answer: oneshot::Sender<Result<Frame, Error>>,
    /// Held until the answer came, even when nobody waits for it any more: the broker still works on it.
    _permit: OwnedSemaphorePermit,
}

/// A response and the bytes that came beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<R> {
    pub response: R,
    pub payload: Bytes,
}

/// A request that was sent; await it for the reply. Dropping it does not take the request back.
#[must_use = "the answer may be a failure"]
pub struct Pending<A: Api> {
    answer: oneshot::Receiver<Result<Frame, Error>>,
    api: PhantomData<fn() -> A>,
}

impl Rpc {
    /// Opens a stream with [`config::REQUESTS_IN_FLIGHT`].
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the connection is lost.
    pub async fn open(connection: &quinn::Connection) -> Result<Self, Error> {
        let (writer, reader) = open_stream(connection).await?;
        Ok(Rpc::new(writer, reader, config::REQUESTS_IN_FLIGHT))
    }

    /// Takes a stream over. More than `in_flight_max` requests wait in [`Rpc::submit`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(writer: FrameWriter, reader: FrameReader, in_flight_max: usize) -> Self {
        let (queue, requests) = mpsc::channel(in_flight_max.clamp(1, config::REQUESTS_IN_FLIGHT));
        let shared = Arc::new(Shared {
            correlation: AtomicU32::new(1),
            in_flight: Arc::new(Semaphore::new(in_flight_max.max(1))),
            waiting: Mutex::default(),
            drained: Notify::new(),
        });
        tokio::spawn(drive(writer, reader, requests, Arc::clone(&shared)));
        Rpc { queue, shared }
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// [`Error::Failure`] from the broker, or [`Error::Disconnected`].
    pub async fn call<A: Api>(&self, request: &A) -> Result<A::Response, Error> {
        Ok(self.submit(request, Vec::new()).await?.await?.response)
    }

    /// [`Rpc::call`] with bytes beside the request and the response.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn call_with<A: Api>(&self, request: &A, payload: Vec<Bytes>) -> Result<Reply<A::Response>, Error> {
        self.submit(request, payload).await?.await
    }

    /// Sends a request without waiting for its answer. Requests submitted one after the other arrive in
    /// that order. Waits while too many are in flight.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the stream is gone, [`Error::Protocol`] for a frame over the limit.
    pub async fn submit<A: Api>(&self, request: &A, payload: Vec<Bytes>) -> Result<Pending<A>, Error> {
        let correlation = self.shared.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = OutFrame::request(correlation, request).with_payload(payload);
        if frame.wire_len() > FRAME_BYTES_MAX {
            let reason = format!("{} of {} bytes is over the limit of {FRAME_BYTES_MAX}", A::NAME, frame.wire_len());
            return Err(Error::Protocol(reason));
        }
        let permit = Arc::clone(&self.shared.in_flight).acquire_owned().await.map_err(|_| self.shared.lost())?;
        let place = self.queue.reserve().await.map_err(|_| self.shared.lost())?;
        let (answer, pending) = oneshot::channel();
        self.shared.expect(correlation, Waiter { answer, _permit: permit })?;
        place.send(frame);
        Ok(Pending { answer: pending, api: PhantomData })
    }

    /// Whether the stream is gone; a new connection is needed then.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Resolves when the stream is gone.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl<A: Api> Future for Pending<A> {
    type Output = Result<Reply<A::Response>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let frame = answer.unwrap_or_else(|_| Err(Error::disconnected("the runtime is shutting down")))?;
        // Decoded here, in the task that asked, not in the one that reads for all.
        Poll::Ready(Ok(Reply { response: frame.response::<A>()?, payload: frame.payload }))
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while it was held can't leave it half changed: every change is one call.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> Error {
        self.waiting().lost.clone().unwrap_or_else(|| Error::disconnected("the stream is closed"))
    }

    fn expect(&self, correlation: u32, waiter: Waiter) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if let Some(error) = &waiting.lost {
            return Err(error.clone());
        }
        waiting.requests.insert(correlation, waiter);
        Ok(())
    }

    fn deliver(&self, frame: Frame) -> Result<(), Error> {
        let mut waiting = self.waiting();
        let correlation = frame.header.correlation;
        let Some(waiter) = waiting.requests.remove(&correlation) else {
            return Err(Error::Protocol(format!("an answer to request {correlation}, which is not in flight")));
        };
        if waiting.requests.is_empty() {
            self.drained.notify_one();
        }
        drop(waiting);
        // Whoever asked may have gone.
        let _ = waiter.answer.send(Ok(frame));
        Ok(())
    }

    /// Tells everybody who waits, and whoever asks later.
    fn lose(&self, error: &Error) {
        let mut waiting = self.waiting();
        waiting.lost = Some(error.clone());
        let requests = std::mem::take(&mut waiting.requests);
        drop(waiting);
        self.in_flight.close();
        for waiter in requests.into_values() {
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }
}

async fn drive(
    mut writer: FrameWriter,
    mut reader: FrameReader,
    mut requests: mpsc::Receiver<OutFrame>,
    shared: Arc<Shared>,
) {
    let ended = tokio::select! {
        ended = send(&mut writer, &mut requests, &shared) => ended,
        ended = receive(&mut reader, &shared) => ended,
    };
    let error = ended.err().unwrap_or_else(|| Error::disconnected("the stream was finished"));
    if let Error::Protocol(reason) = &error {
        tracing::warn!(reason, "gave a stream up");
        reader.stop(config::CloseCode::Protocol);
        writer.reset(config::CloseCode::Protocol);
    }
    shared.lose(&error);
}

/// Sends what is queued. When all handles are gone, finishes the stream and returns after the last answer.
async fn send(writer: &mut FrameWriter, requests: &mut mpsc::Receiver<OutFrame>, shared: &Shared) -> Result<(), Error> {
    let mut batch = Vec::with_capacity(FRAMES_PER_FLUSH);
    while requests.recv_many(&mut batch, FRAMES_PER_FLUSH).await > 0 {
        for frame in batch.drain(..) {
            writer.queue(frame)?;
        }
        writer.flush().await?;
    }
    writer.finish();
    while !shared.waiting().requests.is_empty() {
        shared.drained.notified().await;
    }
    Ok(())
}

async fn receive(reader: &mut FrameReader, shared: &Shared) -> Result<(), Error> {
    while let Some(frame) = reader.read(FRAME_BYTES_MAX).await? {
        shared.deliver(frame)?;
    }
    Ok(())
}
