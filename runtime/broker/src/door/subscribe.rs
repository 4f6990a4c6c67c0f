//! Push subscriptions: the stream is the broker's to write, one chunk per partition in turn, as fast as QUIC
//! flow control takes it. A partition with nothing to read costs nothing until its high watermark moves.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_protocol::access::Right;
use millstream_protocol::batch::split_batches;
use millstream_protocol::message::{Batches, Subscribe, SubscribeEntry};
use millstream_protocol::{ErrorCode, Failure, Offset};
use millstream_transport::{Frame, FrameWriter, OutFrame};

use super::guard::admit;
use super::session::Session;
use super::{Core, Lifeline, stream};
use crate::access::Caller;
use crate::partition::{Fetched, Partition};
use crate::stats::Stats;

/// Smallest useful soft limit, so that a client can't ask for a frame per batch by mistake.
const BYTES_MIN: u32 = 4 * 1024;

/// One partition of the subscription.
struct Source {
    entry: SubscribeEntry,
    partition: Arc<Partition>,
    /// The next offset to send.
    position: Offset,
}

struct Subscription {
    writer: FrameWriter,
    correlation: u32,
    stats: Arc<Stats>,
    bytes_max: usize,
    /// Indexes into the sources that may have something to read, in turn.
    ready: VecDeque<usize>,
    sources: Vec<Source>,
}

/// Serves the subscription until the client ends it, every partition failed, or the broker stops.
pub(super) async fn run(
    (core, session): (&Core, &Session),
    frame: &Frame,
    mut writer: FrameWriter,
    mut lifeline: Lifeline,
) {
    let request = match parse(core, session, frame) {
        Ok(request) => request,
        Err(failure) => {
            // The client may be gone; there is nobody else to tell.
            let _ = writer.fail(&frame.header, &failure).await;
            stream::finish(&mut writer).await;
            return;
        }
    };
    let bytes_max = request.bytes_max.clamp(BYTES_MIN, core.service.config.limits.fetch_bytes_max.max(BYTES_MIN));
    let mut subscription = Subscription {
        writer,
        correlation: frame.header.correlation,
        stats: Arc::clone(core.service.stats()),
        bytes_max: bytes_max as usize,
        ready: VecDeque::new(),
        sources: Vec::new(),
    };
    let ended = tokio::select! {
        () = lifeline.stopping() => Ok(()),
        ended = subscription.serve(core, &session.caller, request.entries) => ended,
    };
    if ended.is_ok() {
        stream::finish(&mut subscription.writer).await;
    }
}

fn parse(core: &Core, session: &Session, frame: &Frame) -> Result<Subscribe, Failure> {
    let request: Subscribe = admit(session, &core.service, frame)?;
    let max = core.service.config.limits.subscription_partitions_max;
    if request.entries.is_empty() || request.entries.len() > max {
        let message = format!("a subscription has 1 to {max} partitions, got {}", request.entries.len());
        return Err(Failure::new(ErrorCode::LimitExceeded, message));
    }
    Ok(request)
}

impl Subscription {
    async fn serve(
        &mut self,
        core: &Core,
        caller: &Caller,
        entries: Vec<SubscribeEntry>,
    ) -> Result<(), millstream_transport::Error> {
        for entry in entries {
            let allowed = caller.need_topic(Right::Read, entry.topic);
            match allowed.and_then(|()| core.service.partition(entry.topic, entry.partition)) {
                Ok(partition) => {
                    self.ready.push_back(self.sources.len());
                    self.sources.push(Source { entry, partition, position: entry.offset });
                }
                Err(failure) => self.write_failure(&entry, failure).await?,
            }
        }
        let mut waits = FuturesUnordered::new();
        loop {
            while let Some(source) = self.ready.pop_front() {
                let at = &self.sources[source];
                // Before each read: the token may have gone since the last.
                let allowed = caller.need_topic(Right::Read, at.entry.topic);
                let read = match allowed {
                    Ok(()) => at.partition.read(at.position, self.bytes_max).await,
                    Err(failure) => Err(failure),
                };
                match read {
                    Ok(fetched) if fetched.bytes.is_empty() => {
                        let (partition, position) = (Arc::clone(&at.partition), at.position);
                        waits.push(async move {
                            // Why it woke shows at the next read.
                            let _ = partition.wait_readable(position).await;
                            source
                        });
                    }
                    Ok(fetched) => {
                        self.write(source, fetched).await?;
                        self.ready.push_back(source);
                    }
                    Err(failure) => {
                        let entry = at.entry;
                        self.write_failure(&entry, failure).await?;
                    }
                }
                // Whoever became readable meanwhile takes its turn.
                while let Some(Some(woken)) = futures_util::FutureExt::now_or_never(waits.next()) {
                    self.ready.push_back(woken);
                }
            }
            tokio::select! {
                woken = waits.next() => match woken {
                    Some(source) => self.ready.push_back(source),
                    None => return Ok(()),
                },
                () = self.writer.stopped() => return Ok(()),
            }
        }
    }

    async fn write(&mut self, source: usize, fetched: Fetched) -> Result<(), millstream_transport::Error> {
        let at = &mut self.sources[source];
        let (topic, partition) = (at.entry.topic, at.entry.partition);
        let last = split_batches(&fetched.bytes).last();
        let Some(Ok((last, _))) = last else {
            let entry = at.entry;
            let message = format!("{}/{}: the log gave half a batch", at.partition.topic(), partition);
            at.partition.set_offline(Failure::new(ErrorCode::CorruptData, message.clone()));
            return self.write_failure(&entry, Failure::new(ErrorCode::CorruptData, message)).await;
        };
        at.position = last.next_offset();
        let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start);
        let head = Batches { topic, partition, high_watermark, log_start, failure: None };
        let frame = OutFrame::response::<Subscribe>(self.correlation, &head).with_payload(vec![fetched.bytes]);
        self.stats.door.sent_bytes.add(frame.wire_len() as u64);
        self.writer.write(frame).await
    }

    /// Ends one partition's part of the subscription.
    async fn write_failure(
        &mut self,
        entry: &SubscribeEntry,
        failure: Failure,
    ) -> Result<(), millstream_transport::Error> {
        let (topic, partition) = (entry.topic, entry.partition);
        let (high_watermark, log_start) = (Offset(-1), Offset(-1));
        let head = Batches { topic, partition, high_watermark, log_start, failure: Some(failure) };
        self.writer.write(OutFrame::response::<Subscribe>(self.correlation, &head)).await
    }
}
