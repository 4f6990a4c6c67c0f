//! Reading once and looking positions up, and producer ids.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::Failure;
use millstream_protocol::message::{Fetch, FetchAck, InitProducer, InitProducerAck, ListOffsets, ListOffsetsAck};

use super::Core;
use crate::error::shutting_down;

/// Reads where it is; waits at the end of the log for as long as asked.
pub(super) async fn fetch(core: Arc<Core>, request: Fetch) -> Result<(FetchAck, Bytes), Failure> {
    let limits = &core.service.config.limits;
    let partition = core.service.partition(request.topic, request.partition)?;
    let bytes_max = request.bytes_max.min(limits.fetch_bytes_max) as usize;
    let mut fetched = partition.read(request.offset, bytes_max)?;
    if fetched.bytes.is_empty() && request.wait_ms > 0 {
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(limits.fetch_wait_ms_max)));
        if let Ok(readable) = tokio::time::timeout(wait, partition.wait_readable(request.offset)).await {
            readable?;
            fetched = partition.read(request.offset, bytes_max)?;
        }
    }
    Ok((FetchAck { high_watermark: fetched.high_watermark, log_start: fetched.log_start }, fetched.bytes))
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
