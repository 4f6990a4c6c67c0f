//! Produce: checks every batch where it was received, hands each entry to its partition in the order of the
//! request, and answers when the last of them is as durable as asked. Bytes are never copied here.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::message::{Acks, Produce, ProduceAck, ProduceEntry, ProduceResult};
use millstream_protocol::{ErrorCode, Failure, Offset};
use millstream_transport::{Frame, OutFrame};
use tokio::sync::oneshot;

use super::Core;
use super::guard::admit;
use super::session::Session;
use super::stream::Pending;
use crate::error::shutting_down;
use crate::partition::{Append, Appended, Reply};
use crate::topics::INTERNAL_PREFIX;

type Outcome = oneshot::Receiver<Result<Appended, Failure>>;

/// Enqueues all entries; the answer follows. One entry's failure does not keep the others, but for a topic that the
/// client may not write: then nothing is taken.
pub(super) async fn begin(core: &Arc<Core>, session: &Session, frame: Frame) -> Pending {
    let header = frame.header;
    let request = match parse(core, session, &frame) {
        Ok(request) => request,
        Err(failure) => return Pending::Ready(OutFrame::failure(&header, &failure)),
    };
    let mut payload = frame.payload;
    let mut outcomes = Vec::with_capacity(request.entries.len());
    for entry in &request.entries {
        let bytes = payload.split_to(entry.bytes as usize);
        outcomes.push(enqueue(core, entry, bytes, request.acks).await);
    }
    let stats = Arc::clone(core.service.stats());
    Pending::Later(Box::pin(async move {
        let mut results = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            results.push(result(outcome).await);
        }
        stats.door.produced(results.iter().filter_map(|result| result.failure.as_ref()));
        OutFrame::response::<Produce>(header.correlation, &ProduceAck { results })
    }))
}

fn parse(core: &Core, session: &Session, frame: &Frame) -> Result<Produce, Failure> {
    let request: Produce = admit(session, &core.service, frame)?;
    let max = core.service.config.limits.produce_entries_max;
    if request.entries.len() > max {
        let message = format!("a produce request may have {max} entries, got {}", request.entries.len());
        return Err(Failure::new(ErrorCode::LimitExceeded, message));
    }
    let claimed: u64 = request.entries.iter().map(|entry| u64::from(entry.bytes)).sum();
    if claimed != frame.payload.len() as u64 {
        let message = format!("entries claim {claimed} bytes, the payload has {}", frame.payload.len());
        return Err(Failure::new(ErrorCode::InvalidRequest, message));
    }
    Ok(request)
}

async fn enqueue(core: &Core, entry: &ProduceEntry, bytes: Bytes, acks: Acks) -> Result<Outcome, Failure> {
    let partition = core.service.partition(entry.topic, entry.partition)?;
    if partition.topic().starts_with(INTERNAL_PREFIX) {
        let message = format!("topic `{}` is the broker's own", partition.topic());
        return Err(Failure::new(ErrorCode::Forbidden, message));
    }
    let batches = partition.check_new(&bytes)?;
    let budget = Some(core.service.produce_budget().take(bytes.len()).await?);
    let (reply, outcome) = oneshot::channel();
    partition.enqueue(Append { batches, acks, reply: Reply::Channel(reply), budget }).await?;
    Ok(outcome)
}

async fn result(enqueued: Result<Outcome, Failure>) -> ProduceResult {
    let appended = match enqueued {
        Ok(outcome) => outcome.await.unwrap_or_else(|_| Err(shutting_down())),
        Err(failure) => Err(failure),
    };
    match appended {
        Ok(appended) => {
            ProduceResult { base_offset: appended.base_offset, log_start: appended.log_start, failure: None }
        }
        Err(failure) => ProduceResult { base_offset: Offset(-1), log_start: Offset(-1), failure: Some(failure) },
    }
}
