//! Where to start reading, and what offset that is.

use millstream_protocol::message::{ListOffsets, Position};
use millstream_protocol::{PartitionIndex, TopicId};

use crate::Error;
use crate::link::Link;

/// Where to start in a partition that has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record there is.
    Earliest,
    /// After the newest record: only what comes from now on.
    #[default]
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record with this time or a later one, milliseconds since the epoch; at the end when there is none.
    Timestamp(i64),
}

/// The offsets that `start` means, one per partition.
pub(crate) async fn resolve(
    link: &Link,
    topic: TopicId,
    partitions: &[PartitionIndex],
    start: Start,
) -> Result<Vec<i64>, Error> {
    let position = match start {
        Start::Earliest => Position::Earliest,
        Start::Latest => Position::Latest,
        Start::Timestamp(ms) => Position::Timestamp(ms),
        Start::Offset(offset) => return Ok(vec![offset; partitions.len()]),
    };
    let request = ListOffsets { topic, partitions: partitions.to_vec(), position };
    let answer = link.call(&request).await?;
    if answer.offsets.len() != partitions.len() {
        return Err(Error::Invalid("the broker left a partition unanswered".to_owned()));
    }
    Ok(answer.offsets.into_iter().map(|offset| offset.0).collect())
}
