//! Reading once and looking positions up, and producer ids.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::Failure;
use millstream_protocol::message::{Fetch, FetchAck, InitProducer, InitProducerAck, ListOffsets, ListOffsetsAck};

use super::session::Session;
use super::{Core, guard};
use crate::error::shutting_down;

/// Reads where it is; waits at the end of the log for as long as asked.
pub(super) async fn fetch(
    core: Arc<Core>,
    session: Arc<Session>,
    request: Fetch,
) -> Result<(FetchAck, Bytes), Failure> {
    let limits = &core.service.config.limits;
    let partition = core.service.partition(request.topic, request.partition)?;
    if request.wait_ms > 0 && request.offset == partition.high_watermark() {
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(limits.fetch_wait_ms_max)));
        // Whatever came of it shows in what is read.
        let _ = tokio::time::timeout(wait, partition.wait_readable(request.offset)).await;
        // The token may have gone meanwhile.
        guard::again(&session, &core.service, &request)?;
    }
    let bytes_max = request.bytes_max.min(limits.fetch_bytes_max) as usize;
    let permit = session.fetch_budget.take(bytes_max).await?;
    let fetched = partition.read(request.offset, bytes_max).await?;
    let ack = FetchAck { high_watermark: fetched.high_watermark, log_start: fetched.log_start };
    Ok((ack, permit.hold(fetched.bytes)))
}

/// Timestamps are looked up in the files, maybe decompressing a batch: not on an IO worker.
pub(super) async fn list_offsets(core: Arc<Core>, request: ListOffsets) -> Result<ListOffsetsAck, Failure> {
    let looked_up = tokio::task::spawn_blocking(move || {
        let offset = |index: &_| core.service.partition(request.topic, *index)?.offset_of(request.position);
        request.partitions.iter().map(offset).collect::<Result<_, _>>()
    });
    Ok(ListOffsetsAck { offsets: looked_up.await.map_err(|_| shutting_down())?? })
}

pub(super) async fn init_producer(core: Arc<Core>, _request: InitProducer) -> Result<InitProducerAck, Failure> {
    core.service.init_producer().await
}
