//! Rows as record batches per output partition: which partition a row goes to, and where a batch ends.

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression};
use millstream_protocol::partitioner::partition_for_key;
use millstream_protocol::{Columns, ErrorCode, Failure, PartitionIndex, Row};

use super::partition::Batches;

/// Target size of an output batch, bytes; less where the topic's own limit is lower.
const BATCH_BYTES: usize = 512 << 10;

/// Encodes one task's outputs; its buffers are used again from call to call.
pub struct Encoder {
    /// Rows without a key go to the partition with the input's number.
    input_partition: u32,
    builders: Vec<Building>,
}

/// Batches of one output partition.
struct Building {
    builder: BatchBuilder,
    batches: Batches,
}

impl Encoder {
    pub fn new(input_partition: u32) -> Self {
        Encoder { input_partition, builders: Vec::new() }
    }

    /// The rows as batches for a topic of `partitions` whose batches have at most `batch_bytes_max`, by partition.
    ///
    /// # Errors
    /// A batch does not decode, which is this broker's fault.
    pub fn encode(
        &mut self,
        rows: &Columns,
        partitions: u32,
        batch_bytes_max: usize,
    ) -> Result<Vec<(PartitionIndex, Batches)>, Failure> {
        let partitions = partitions.max(1);
        let target = batch_bytes_max.min(BATCH_BYTES);
        let new = || Building { builder: BatchBuilder::new(Compression::None), batches: Batches::new() };
        while self.builders.len() < partitions as usize {
            self.builders.push(new());
        }
        for row in rows.rows() {
            let partition = match row.key {
                Some(key) => partition_for_key(key, partitions),
                None => PartitionIndex(self.input_partition % partitions),
            };
            self.builders[partition.0 as usize].push(&row, target)?;
        }
        let mut encoded = Vec::new();
        for (index, building) in (0..).zip(&mut self.builders) {
            building.flush()?;
            if !building.batches.is_empty() {
                encoded.push((PartitionIndex(index), std::mem::take(&mut building.batches)));
            }
        }
        Ok(encoded)
    }
}

impl Building {
    fn push(&mut self, row: &Row<'_>, target: usize) -> Result<(), Failure> {
        let (key, value) = (row.key.map_or(0, <[u8]>::len), row.value.map_or(0, <[u8]>::len));
        let header_bytes = row.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
        let most = BatchBuilder::record_bytes_max(key, value, row.headers.len(), header_bytes);
        if !self.builder.is_empty() && self.builder.bytes() + most > target {
            self.flush()?;
        }
        if row.headers.is_empty() {
            self.builder.push_simple(row.timestamp, row.key, row.value);
        } else {
            self.builder.push(row.timestamp, row.key, row.value, row.headers.iter());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.builder.is_empty() {
            let bytes: Bytes = self.builder.build();
            let header = BatchHeader::decode(&bytes).map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?;
            self.batches.push((header, bytes));
        }
        Ok(())
    }
}
