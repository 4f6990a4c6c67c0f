//! Records as columns: one entry per record in every column, bytes of all keys (values, headers) end to
//! end. Pipelines and plugins work on this shape because lists of primitives cross the plugin boundary
//! as single copies. The mirror of `record batch` in `sdk/wit`.

use thiserror::Error;

/// Many records. Invariants are those of [`Columns::validate`]; code in this workspace keeps them by
/// building through [`Columns::push`], bytes from outside are validated first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// In an input: the record's own offset. In an output: the offset of the input record it came from.
    pub offsets: Vec<i64>,
    /// Milliseconds since the epoch.
    pub timestamps: Vec<i64>,
    /// Bytes of each key in `keys`; -1 means no key.
    pub key_lens: Vec<i32>,
    pub keys: Vec<u8>,
    /// Bytes of each value in `values`; -1 means a null value (a tombstone).
    pub value_lens: Vec<i32>,
    pub values: Vec<u8>,
    /// Headers of each record.
    pub header_counts: Vec<u32>,
    /// Two entries per header: bytes of its name, bytes of its value (-1: null value).
    pub header_lens: Vec<i32>,
    pub headers: Vec<u8>,
}

/// Why columns do not fit together. Names the column, for a plugin's author.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("column `{column}` has {found} entries, expected {expected}")]
    Count { column: &'static str, found: usize, expected: usize },
    #[error("column `{column}` holds length {length} at entry {entry}")]
    Length { column: &'static str, entry: usize, length: i32 },
    #[error("column `{column}` has {found} bytes, its lengths add up to {expected}")]
    Bytes { column: &'static str, found: usize, expected: u64 },
}

/// One record of a [`Columns`], borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of one record, in order; names may repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    lens: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Number of headers.
    pub fn len(&self) -> usize {
        self.lens.len() / 2
    }

    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Name and value of each header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone + use<'a> {
        let mut rest = self.bytes;
        self.lens.chunks_exact(2).map(move |pair| {
            let name = take(&mut rest, pair[0]).unwrap_or_default();
            (name, take(&mut rest, pair[1]))
        })
    }
}

impl Columns {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Payload bytes: keys, values and headers, without the length columns.
    pub fn payload_bytes(&self) -> usize {
        self.keys.len() + self.values.len() + self.headers.len()
    }

    /// Drops all records, keeps the allocations.
    pub fn clear(&mut self) {
        self.offsets.clear();
        self.timestamps.clear();
        self.key_lens.clear();
        self.keys.clear();
        self.value_lens.clear();
        self.values.clear();
        self.header_counts.clear();
        self.header_lens.clear();
        self.headers.clear();
    }

    /// Appends a record without headers.
    pub fn push(&mut self, offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
        append(&mut self.key_lens, &mut self.keys, key);
        append(&mut self.value_lens, &mut self.values, value);
        self.header_counts.push(0);
    }

    /// Adds a header to the record pushed last.
    ///
    /// # Panics
    /// When there is no record yet.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let count = self.header_counts.last_mut().expect("a header belongs to a record pushed before");
        *count += 1;
        append(&mut self.header_lens, &mut self.headers, Some(name));
        append(&mut self.header_lens, &mut self.headers, value);
    }

    /// Appends a record with all its headers.
    pub fn push_row(&mut self, row: &Row<'_>) {
        self.push(row.offset, row.timestamp, row.key, row.value);
        if let Some(count) = self.header_counts.last_mut() {
            *count = row.headers.len() as u32;
        }
        self.header_lens.extend_from_slice(row.headers.lens);
        self.headers.extend_from_slice(row.headers.bytes);
    }

    /// The records in order. Cheap: walks the columns once.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let (mut keys, mut values) = (&self.keys[..], &self.values[..]);
        let (mut header_lens, mut headers) = (&self.header_lens[..], &self.headers[..]);
        (0..self.len()).map(move |i| {
            let (lens, rest) = header_lens.split_at(self.header_counts[i] as usize * 2);
            header_lens = rest;
            let bytes: usize = lens.iter().map(|len| (*len).max(0) as usize).sum();
            let (own, rest) = headers.split_at(bytes);
            headers = rest;
            Row {
                offset: self.offsets[i],
                timestamp: self.timestamps[i],
                key: take(&mut keys, self.key_lens[i]),
                value: take(&mut values, self.value_lens[i]),
                headers: Headers { lens, bytes: own },
            }
        })
    }

    /// Checks that the columns fit together: equal counts, lengths of -1 or more that add up to the bytes.
    ///
    /// # Errors
    /// The first column that does not fit.
    pub fn validate(&self) -> Result<(), Error> {
        let records = self.offsets.len();
        check_count("timestamps", self.timestamps.len(), records)?;
        check_count("key-lens", self.key_lens.len(), records)?;
        check_count("value-lens", self.value_lens.len(), records)?;
        check_count("header-counts", self.header_counts.len(), records)?;
        check_bytes("key-lens", "keys", &self.key_lens, self.keys.len())?;
        check_bytes("value-lens", "values", &self.value_lens, self.values.len())?;
        let headers: u64 = self.header_counts.iter().map(|count| u64::from(*count)).sum();
        if headers.checked_mul(2) != Some(self.header_lens.len() as u64) {
            let expected = usize::try_from(headers.saturating_mul(2)).unwrap_or(usize::MAX);
            return Err(Error::Count { column: "header-lens", found: self.header_lens.len(), expected });
        }
        if let Some(entry) = self.header_lens.iter().step_by(2).position(|len| *len < 0) {
            return Err(Error::Length { column: "header-lens", entry: entry * 2, length: self.header_lens[entry * 2] });
        }
        check_bytes("header-lens", "headers", &self.header_lens, self.headers.len())
    }
}

fn append(lens: &mut Vec<i32>, bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        Some(part) => {
            lens.push(i32::try_from(part.len()).expect("a record part is bounded by the frame limit"));
            bytes.extend_from_slice(part);
        }
        None => lens.push(-1),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: i32) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok()?;
    let (part, after) = rest.split_at(len);
    *rest = after;
    Some(part)
}

fn check_count(column: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Count { column, found, expected }) }
}

fn check_bytes(lens_name: &'static str, column: &'static str, lens: &[i32], found: usize) -> Result<(), Error> {
    if let Some(entry) = lens.iter().position(|len| *len < -1) {
        return Err(Error::Length { column: lens_name, entry, length: lens[entry] });
    }
    let expected: u64 = lens.iter().map(|len| (*len).max(0) as u64).sum();
    if expected == found as u64 { Ok(()) } else { Err(Error::Bytes { column, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Columns {
        let mut columns = Columns::default();
        columns.push(7, 100, Some(b"k"), Some(b"value"));
        columns.push_header(b"a", Some(b"1"));
        columns.push_header(b"b", None);
        columns.push(8, 101, None, None);
        columns.push(9, 102, Some(b""), Some(b"x"));
        columns
    }

    #[test]
    fn rows_give_back_what_was_pushed() {
        let columns = sample();
        columns.validate().unwrap();
        let rows: Vec<Row<'_>> = columns.rows().collect();
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].key, rows[0].value), (Some(&b"k"[..]), Some(&b"value"[..])));
        let headers: Vec<_> = rows[0].headers.iter().collect();
        assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (&b"b"[..], None)]);
        assert_eq!((rows[1].key, rows[1].value, rows[1].headers.len()), (None, None, 0));
        assert_eq!(rows[2].key, Some(&b""[..]));
        let mut copy = Columns::default();
        rows.iter().for_each(|row| copy.push_row(row));
        assert_eq!(copy, columns);
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let check = |change: fn(&mut Columns), expected: &str| {
            let mut columns = sample();
            change(&mut columns);
            assert_eq!(columns.validate().unwrap_err().to_string(), expected);
        };
        check(|c| c.timestamps.truncate(1), "column `timestamps` has 1 entries, expected 3");
        check(|c| c.key_lens[0] = -2, "column `key-lens` holds length -2 at entry 0");
        check(|c| c.values.push(0), "column `values` has 7 bytes, its lengths add up to 6");
        check(|c| c.value_lens[1] = i32::MAX, "column `values` has 6 bytes, its lengths add up to 2147483653");
        check(|c| c.header_counts[1] = u32::MAX, "column `header-lens` has 4 entries, expected 8589934594");
        check(|c| c.header_lens[2] = -1, "column `header-lens` holds length -1 at entry 2");
    }
}
