//! Records as columns, the shape in which they cross the plugin boundary (`record batch` in `sdk/wit`).
//! Private to the SDK: a transform sees [`Record`] and [`Output`](crate::Output) instead.

use crate::Record;

/// Many records: one entry per record in every column, bytes of all keys (values, headers) end to end.
/// Lengths of -1 stand for an absent key or value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub offsets: Vec<i64>,
    pub timestamps: Vec<i64>,
    pub key_lens: Vec<i32>,
    pub keys: Vec<u8>,
    pub value_lens: Vec<i32>,
    pub values: Vec<u8>,
    pub header_counts: Vec<u32>,
    pub header_lens: Vec<i32>,
    pub headers: Vec<u8>,
}

/// A length of every column, to which it can be cut back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) rows: usize,
    pub(crate) keys: usize,
    pub(crate) values: usize,
    pub(crate) header_lens: usize,
    pub(crate) headers: usize,
}

impl Columns {
    #[cfg(target_family = "wasm")]
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            rows: self.offsets.len(),
            keys: self.keys.len(),
            values: self.values.len(),
            header_lens: self.header_lens.len(),
            headers: self.headers.len(),
        }
    }

    /// Cuts back to an earlier [`Columns::mark`].
    pub(crate) fn truncate(&mut self, mark: &Mark) {
        self.offsets.truncate(mark.rows);
        self.timestamps.truncate(mark.rows);
        self.key_lens.truncate(mark.rows);
        self.keys.truncate(mark.keys);
        self.value_lens.truncate(mark.rows);
        self.values.truncate(mark.values);
        self.header_counts.truncate(mark.rows);
        self.header_lens.truncate(mark.header_lens);
        self.headers.truncate(mark.headers);
    }

    #[cfg(target_family = "wasm")]
    /// Drops all records, keeps the allocations.
    pub(crate) fn clear(&mut self) {
        self.truncate(&Mark::default());
    }

    /// The records in order. The columns must fit together, as the host guarantees.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let (mut keys, mut values) = (&self.keys[..], &self.values[..]);
        let (mut header_lens, mut headers) = (&self.header_lens[..], &self.headers[..]);
        let parts = self.key_lens.iter().zip(&self.value_lens).zip(&self.header_counts);
        let stamps = self.offsets.iter().zip(&self.timestamps);
        stamps.zip(parts).map(move |((offset, timestamp), ((key_len, value_len), header_count))| {
            let key = take(&mut keys, *key_len);
            let value = take(&mut values, *value_len);
            let mut own: (&[i32], &[u8]) = (&[], &[]);
            if *header_count > 0 {
                (own.0, header_lens) = header_lens.split_at(*header_count as usize * 2);
                let bytes: usize = own.0.iter().map(|len| (*len).max(0) as usize).sum();
                (own.1, headers) = headers.split_at(bytes);
            }
            Record { offset: *offset, timestamp: *timestamp, key, value, header_lens: own.0, header_bytes: own.1 }
        })
    }
}

/// Splits `len` bytes off the front; a negative length is an absent part.
pub(crate) fn take<'a>(rest: &mut &'a [u8], len: i32) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok()?;
    let (part, after) = rest.split_at(len);
    *rest = after;
    Some(part)
}
