//! A record on its way in: value, key, headers, time.

use bytes::Bytes;

/// A record to be produced. A record without a value is a tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
    /// Milliseconds since the epoch; `None`: when it is sent.
    pub(crate) timestamp: Option<i64>,
    pub(crate) partition: Option<u32>,
}

impl Record {
    pub fn new(value: impl Into<Bytes>) -> Self {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// The absence of a value for `key`.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Record { key: Some(key.into()), ..Record::default() }
    }

    /// A record whose value is `value` as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `value` has no form in JSON (a map with keys that are not strings).
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, crate::Error> {
        let json = serde_json::to_vec(value);
        json.map(Record::new).map_err(|error| crate::Error::Invalid(format!("cannot be written as JSON: {error}")))
    }

    /// Records with the same key go to the same partition, in the order they were sent.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header; names may repeat.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header without a value.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Milliseconds since the epoch; without it, the time of sending.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// Goes to this partition, whatever its key.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }
}

impl<T: Into<Bytes>> From<T> for Record {
    fn from(value: T) -> Self {
        Record::new(value)
    }
}
