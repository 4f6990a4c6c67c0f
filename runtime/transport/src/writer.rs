//! Writes frames to a stream. Small parts of many frames are put together in one chunk, large payloads
//! pass through uncopied, and one flush hands all of it to QUIC.

use std::mem;

use bytes::{Bytes, BytesMut};
use millstream_protocol::Failure;
use millstream_protocol::frame::{self, FLAG_END, FLAG_FAILURE, FRAME_BYTES_MAX, HEADER_LEN};
use millstream_protocol::message::{Api, Body};

use crate::Error;

/// Payload parts below this size are copied: a chunk of their own costs more than the copy.
const COPY_BYTES_MAX: usize = 1024;

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutFrame {
    pub api: u16,
    pub version: u16,
    pub correlation: u32,
    pub flags: u8,
    pub body: Vec<u8>,
    /// Sent end to end.
    pub payload: Vec<Bytes>,
}

impl OutFrame {
    pub fn request<A: Api>(correlation: u32, request: &A) -> Self {
        OutFrame::with_body(A::KEY, A::VERSION, correlation, request.encode_body())
    }

    pub fn response<A: Api>(correlation: u32, response: &A::Response) -> Self {
        OutFrame::with_body(A::KEY, A::VERSION, correlation, response.encode_body())
    }

    /// Answers the request `to` with a failure.
    pub fn failure(to: &frame::Header, failure: &Failure) -> Self {
        let frame = OutFrame::with_body(to.api, to.version, to.correlation, failure.encode_body());
        OutFrame { flags: FLAG_FAILURE, ..frame }
    }

    fn with_body(api: u16, version: u16, correlation: u32, body: Vec<u8>) -> Self {
        OutFrame { api, version, correlation, flags: 0, body, payload: Vec::new() }
    }

    #[must_use]
    pub fn with_payload(self, payload: Vec<Bytes>) -> Self {
        OutFrame { payload, ..self }
    }

    /// Marks the last frame of a pushed stream.
    #[must_use]
    pub fn end(self) -> Self {
        OutFrame { flags: self.flags | FLAG_END, ..self }
    }

    fn payload_len(&self) -> usize {
        self.payload.iter().map(Bytes::len).sum()
    }

    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.body.len() + self.payload_len()
    }
}

/// The sending half of a stream.
pub struct FrameWriter {
    stream: quinn::SendStream,
    /// Whole chunks, in order; no chunk is empty.
    chunks: Vec<Bytes>,
    /// The chunk being put together, after all of `chunks`.
    open: BytesMut,
    queued: usize,
}

impl FrameWriter {
    pub fn new(stream: quinn::SendStream) -> Self {
        FrameWriter { stream, chunks: Vec::new(), open: BytesMut::new(), queued: 0 }
    }

    /// Puts a frame behind those already queued; [`FrameWriter::flush`] sends them.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the frame is over [`FRAME_BYTES_MAX`]; nothing is queued then.
    pub fn queue(&mut self, frame: OutFrame) -> Result<(), Error> {
        let wire_len = frame.wire_len();
        let length = wire_len - 4;
        if length > FRAME_BYTES_MAX {
            return Err(frame::Error::TooLarge { length, limit: FRAME_BYTES_MAX }.into());
        }
        let header = frame::Header {
            api: frame.api,
            version: frame.version,
            correlation: frame.correlation,
            flags: frame.flags,
            body_len: frame.body.len() as u32,
            payload_len: frame.payload_len() as u32,
        };
        self.open.extend_from_slice(&frame::encode_header(&header));
        self.put(Bytes::from(frame.body));
        frame.payload.into_iter().for_each(|part| self.put(part));
        self.queued += wire_len;
        Ok(())
    }

    fn put(&mut self, part: Bytes) {
        if part.len() < COPY_BYTES_MAX {
            self.open.extend_from_slice(&part);
        } else {
            self.close_open();
            self.chunks.push(part);
        }
    }

    fn close_open(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(self.open.split().freeze());
        }
    }

    /// Bytes queued and not yet handed to QUIC.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Hands everything queued to QUIC; waits while the other end's flow control is the limit. May be
    /// cancelled: the next flush goes on where this one was.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the stream is stopped or lost.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.close_open();
        while !self.chunks.is_empty() {
            let written = self.stream.write_chunks(&mut self.chunks).await?;
            self.chunks.drain(..written.chunks);
            self.queued = self.queued.saturating_sub(written.bytes);
        }
        Ok(())
    }

    /// Queues one frame and flushes.
    ///
    /// # Errors
    /// Those of [`FrameWriter::queue`] and [`FrameWriter::flush`].
    pub async fn write(&mut self, frame: OutFrame) -> Result<(), Error> {
        self.queue(frame)?;
        self.flush().await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Those of [`FrameWriter::write`].
    pub async fn send_request<A: Api>(
        &mut self,
        correlation: u32,
        request: &A,
        payload: Vec<Bytes>,
    ) -> Result<(), Error> {
        self.write(OutFrame::request(correlation, request).with_payload(payload)).await
    }

    /// Answers the request `to`.
    ///
    /// # Errors
    /// Those of [`FrameWriter::write`].
    pub async fn respond<A: Api>(
        &mut self,
        to: &frame::Header,
        response: &A::Response,
        payload: Vec<Bytes>,
    ) -> Result<(), Error> {
        self.write(OutFrame::response::<A>(to.correlation, response).with_payload(payload)).await
    }

    /// Answers the request `to` with a failure.
    ///
    /// # Errors
    /// Those of [`FrameWriter::write`].
    pub async fn fail(&mut self, to: &frame::Header, failure: &Failure) -> Result<(), Error> {
        self.write(OutFrame::failure(to, failure)).await
    }

    /// Ends the stream cleanly after what was flushed.
    pub fn finish(&mut self) {
        // Fails only when the stream is over already.
        let _ = self.stream.finish();
    }

    /// Gives the stream up; the other end may not get what was flushed before.
    pub fn reset(&mut self, code: crate::config::CloseCode) {
        self.chunks.clear();
        mem::take(&mut self.open);
        // Fails only when the stream is over already.
        let _ = self.stream.reset(code.into());
    }

    /// Resolves when the other end stopped reading or acknowledged everything after [`FrameWriter::finish`],
    /// or the connection was lost.
    pub async fn stopped(&self) {
        // Why it ended does not matter: nothing more can be sent.
        let _ = self.stream.stopped().await;
    }
}
