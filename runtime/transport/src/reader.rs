//! Reads frames from a stream. A frame that lies within one received chunk is handed out as slices of
//! it; others are put together in one buffer. Lengths are checked before anything is allocated.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use millstream_protocol::frame::{self, FLAG_END, FLAG_FAILURE, HEADER_LEN};
use millstream_protocol::message::{Api, ApiKey, Body};
use millstream_protocol::pool::{self, Buffer};
use millstream_protocol::{ErrorCode, Failure};

use crate::Error;

/// Chunks taken from the stream at a time.
const CHUNKS_PER_READ: usize = 32;

/// A received frame. `body` and `payload` are slices of one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub header: frame::Header,
    pub body: Bytes,
    pub payload: Bytes,
}

impl Frame {
    /// Server side: the API this frame asks for.
    ///
    /// # Errors
    /// A [`Failure`] to answer with, when the API or its version is unknown.
    pub fn api(&self) -> Result<ApiKey, Failure> {
        ApiKey::from_wire(self.header.api).ok_or_else(|| {
            let message = format!("this broker does not know API {}; use a client of its version", self.header.api);
            Failure::new(ErrorCode::UnsupportedVersion, message)
        })
    }

    /// Server side: the request in this frame.
    ///
    /// # Errors
    /// A [`Failure`] to answer with, when version or body do not fit.
    pub fn request<A: Api>(&self) -> Result<A, Failure> {
        if self.header.version != A::VERSION {
            let message = format!(
                "{} version {} is not supported, this broker speaks version {}",
                A::NAME,
                self.header.version,
                A::VERSION
            );
            return Err(Failure::new(ErrorCode::UnsupportedVersion, message));
        }
        A::decode_body(&self.body).map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))
    }

    /// Client side: the response in this frame.
    ///
    /// # Errors
    /// [`Error::Failure`] when the broker answered with one, [`Error::Protocol`] when the body does not fit.
    pub fn response<A: Api>(&self) -> Result<A::Response, Error> {
        if self.header.flags & FLAG_FAILURE != 0 {
            return Err(Error::Failure(Failure::decode_body(&self.body)?));
        }
        if (self.header.api, self.header.version) != (A::KEY, A::VERSION) {
            let (api, version) = (self.header.api, self.header.version);
            return Err(Error::Protocol(format!("{} was answered as API {api} version {version}", A::NAME)));
        }
        Ok(A::Response::decode_body(&self.body)?)
    }

    /// Whether this is the last frame of a pushed stream.
    pub fn is_end(&self) -> bool {
        self.header.flags & FLAG_END != 0
    }
}

/// The receiving half of a stream.
pub struct FrameReader {
    stream: quinn::RecvStream,
    /// Received and not yet handed out, in order; no chunk is empty.
    chunks: VecDeque<Bytes>,
    /// A frame whose header was read.
    partial: Option<Partial>,
}

/// A frame on its way in: `buffer` fills up to what `header` announces.
struct Partial {
    header: frame::Header,
    len: usize,
    buffer: Buffer,
}

impl FrameReader {
    pub fn new(stream: quinn::RecvStream) -> Self {
        FrameReader { stream, chunks: VecDeque::new(), partial: None }
    }

    /// The next frame, of at most `limit` bytes after its length field; `None` when the other end
    /// finished the stream between two frames. May be cancelled and called again at any time.
    ///
    /// # Errors
    /// [`Error::Protocol`] for an impossible or too large frame, after which nothing more can be read;
    /// [`Error::Disconnected`] when the stream ends inside a frame or is lost.
    pub async fn read(&mut self, limit: usize) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.next_buffered(limit)? {
                return Ok(Some(frame));
            }
            if !poll_fn(|context| self.poll_chunks(context)).await? {
                if self.partial.is_none() && self.chunks.is_empty() {
                    return Ok(None);
                }
                return Err(Error::disconnected("the stream ended inside a frame"));
            }
        }
    }

    /// Takes what was received; `false` at the end of the stream. The room for chunks is on the thread's stack: a
    /// stream that waits does not keep it.
    fn poll_chunks(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
        let count = {
            // Keeps nothing from one poll to the next.
            let read = pin!(self.stream.read_chunks(&mut chunks));
            ready!(read.poll(context))?
        };
        let received = chunks.into_iter().take(count.unwrap_or(0)).filter(|chunk| !chunk.is_empty());
        self.chunks.extend(received);
        Poll::Ready(Ok(count.is_some()))
    }

    /// Tells the other end that nothing more will be read.
    pub fn stop(&mut self, code: crate::config::CloseCode) {
        // Fails only when the stream is over already.
        let _ = self.stream.stop(code.into());
    }

    fn next_buffered(&mut self, limit: usize) -> Result<Option<Frame>, Error> {
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None => match self.take_header(limit)? {
                Some(partial) => partial,
                None => return Ok(None),
            },
        };
        let missing = partial.len - partial.buffer.len();
        if partial.buffer.is_empty() && self.chunks.front().is_some_and(|chunk| chunk.len() >= missing) {
            let whole = self.take_from_front(missing);
            return Ok(Some(partial.into_frame(whole)));
        }
        self.fill(&mut partial);
        if partial.buffer.len() == partial.len {
            let whole = std::mem::take(&mut partial.buffer).freeze();
            return Ok(Some(partial.into_frame(whole)));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    fn take_header(&mut self, limit: usize) -> Result<Option<Partial>, Error> {
        let whole = self.chunks.front().is_some_and(|chunk| chunk.len() >= HEADER_LEN);
        if !whole && self.chunks.iter().map(Bytes::len).sum::<usize>() < HEADER_LEN {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_LEN];
        let mut filled = 0;
        while filled < HEADER_LEN {
            let chunk = self.take_from_front(HEADER_LEN - filled);
            bytes[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
        }
        let header = frame::decode_header(&bytes, limit)?;
        let len = header.body_len as usize + header.payload_len as usize;
        Ok(Some(Partial { header, len, buffer: Buffer::default() }))
    }

    /// Moves buffered chunks into the frame's own buffer, up to the frame's end.
    fn fill(&mut self, partial: &mut Partial) {
        while partial.buffer.len() < partial.len && !self.chunks.is_empty() {
            let missing = partial.len - partial.buffer.len();
            if partial.buffer.is_empty() {
                // The whole length was checked against the session's limit.
                partial.buffer = pool::take(partial.len);
            }
            let chunk = self.take_from_front(missing);
            partial.buffer.extend_from_slice(&chunk);
        }
    }

    /// Up to `len` bytes of the first chunk; nothing when there is none.
    fn take_from_front(&mut self, len: usize) -> Bytes {
        match self.chunks.front_mut() {
            Some(chunk) if chunk.len() > len => chunk.split_to(len),
            Some(_) => self.chunks.pop_front().unwrap_or_default(),
            None => Bytes::new(),
        }
    }
}

impl Partial {
    fn into_frame(self, mut whole: Bytes) -> Frame {
        let body = whole.split_to(self.header.body_len as usize);
        Frame { header: self.header, body, payload: whole }
    }
}
