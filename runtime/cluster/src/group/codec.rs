//! Committed offsets as records of the internal topic: one record per commit and partition, its key the
//! group and partition, its value the offset; a null value forgets it. Big-endian:
//!
//! ```text
//! key:   version u8 = 1 | topic u128 | partition u32 | group
//! value: version u8 = 1 | offset i64 | committed at, ms i64 | metadata
//! ```

use millstream_protocol::{Offset, PartitionIndex, TopicId, TopicPartition};
use thiserror::Error;

const VERSION: u8 = 1;

/// One record of the offsets topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub group: String,
    pub partition: TopicPartition,
    /// `None` forgets the offset.
    pub committed: Option<Committed>,
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    pub metadata: String,
    pub at_ms: i64,
}

/// A record of the offsets topic that this version can't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record of a committed offset: its {part} is not in a format this version knows")]
pub struct InvalidEntry {
    part: &'static str,
}

impl Entry {
    pub fn encode_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(21 + self.group.len());
        key.push(VERSION);
        key.extend_from_slice(&self.partition.topic.0.to_be_bytes());
        key.extend_from_slice(&self.partition.partition.0.to_be_bytes());
        key.extend_from_slice(self.group.as_bytes());
        key
    }

    /// `None`: the null value.
    pub fn encode_value(&self) -> Option<Vec<u8>> {
        let committed = self.committed.as_ref()?;
        let mut value = Vec::with_capacity(17 + committed.metadata.len());
        value.push(VERSION);
        value.extend_from_slice(&committed.offset.0.to_be_bytes());
        value.extend_from_slice(&committed.at_ms.to_be_bytes());
        value.extend_from_slice(committed.metadata.as_bytes());
        Some(value)
    }

    /// # Errors
    /// [`InvalidEntry`] when key or value is not in the format above.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, InvalidEntry> {
        let (partition, group) = decode_key(key).ok_or(InvalidEntry { part: "key" })?;
        let committed = match value {
            Some(value) => Some(decode_value(value).ok_or(InvalidEntry { part: "value" })?),
            None => None,
        };
        Ok(Entry { group, partition, committed })
    }
}

fn decode_key(key: &[u8]) -> Option<(TopicPartition, String)> {
    let rest = key.strip_prefix(&[VERSION])?;
    let (topic, rest) = rest.split_first_chunk()?;
    let (partition, group) = rest.split_first_chunk()?;
    let topic = TopicId(u128::from_be_bytes(*topic));
    let partition = PartitionIndex(u32::from_be_bytes(*partition));
    Some((TopicPartition { topic, partition }, String::from_utf8(group.to_vec()).ok()?))
}

fn decode_value(value: &[u8]) -> Option<Committed> {
    let rest = value.strip_prefix(&[VERSION])?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (at_ms, metadata) = rest.split_first_chunk()?;
    let metadata = String::from_utf8(metadata.to_vec()).ok()?;
    Some(Committed { offset: Offset(i64::from_be_bytes(*offset)), metadata, at_ms: i64::from_be_bytes(*at_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_are_golden() {
        let partition = TopicPartition { topic: TopicId(7), partition: PartitionIndex(2) };
        let committed = Committed { offset: Offset(258), metadata: "m".into(), at_ms: 3 };
        let entry = Entry { group: "g".into(), partition, committed: Some(committed) };
        let (key, value) = (entry.encode_key(), entry.encode_value().unwrap());
        assert_eq!(key, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, b'g']);
        assert_eq!(value, [1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, b'm']);
        assert_eq!(Entry::decode(&key, Some(&value)), Ok(entry.clone()));
        assert_eq!(Entry::decode(&key, None), Ok(Entry { committed: None, ..entry }));
    }

    #[test]
    fn other_bytes_are_refused() {
        let check = |key: &[u8], value: Option<&[u8]>, part| {
            assert_eq!(Entry::decode(key, value), Err(InvalidEntry { part }));
        };
        check(&[], None, "key");
        check(&[2; 30], None, "key");
        check(&[1; 20], None, "key");
        let mut not_utf8 = [1; 22];
        not_utf8[21] = 0xff;
        check(&not_utf8, None, "key");
        check(&[1; 22], Some(&[1; 16]), "value");
        check(&[1; 22], Some(&[3; 17]), "value");
    }
}
