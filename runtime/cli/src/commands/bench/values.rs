//! What is sent: values that are not all alike, and keys; made before anything is measured.

use bytes::Bytes;
use millstream_protocol::batch::BatchBuilder;

use super::args::Load;

/// Different values of one load.
const VALUES: usize = 1_024;
/// `k-0000000017`
const KEY_BYTES: usize = 12;
/// Keys that are kept ready.
const KEYS_MAX: usize = 1_000_000;

/// The records of a load, in a fixed order; record `i` may be asked for any number of times.
pub(super) struct Values {
    values: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Values {
    pub(super) fn of(load: &Load) -> Self {
        Values { values: values(load.record_bytes), keys: keys(load) }
    }

    /// The lines of a text; `None` when there are none.
    pub(super) fn of_lines(text: &[u8], load: &Load) -> Option<Self> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let values: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        (!values.is_empty()).then(|| Values { values, keys: keys(load) })
    }

    /// Mean bytes of a value.
    pub(super) fn mean_bytes(&self) -> usize {
        self.values.iter().map(Vec::len).sum::<usize>() / self.values.len()
    }

    pub(super) fn key(&self, i: u64) -> Option<&[u8]> {
        // An odd stride visits the keys out of order, each as often as the others.
        let place = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize;
        (!self.keys.is_empty()).then(|| &self.keys[place % self.keys.len()][..])
    }

    pub(super) fn value(&self, i: u64) -> &[u8] {
        &self.values[i as usize % self.values.len()]
    }

    /// One record batch of the first `records` records.
    pub(super) fn batch(&self, records: usize, load: &Load) -> Bytes {
        let mut builder = BatchBuilder::new(load.compression);
        for i in 0..records as u64 {
            builder.push_simple(1_700_000_000_000 + i as i64 / 100, self.key(i), Some(self.value(i)));
        }
        builder.build()
    }
}

fn keys(load: &Load) -> Vec<Vec<u8>> {
    (0..load.keys.min(KEYS_MAX)).map(|key| format!("k-{key:010}").into_bytes()).collect()
}

/// Bytes of each key, of so many different ones.
pub(super) fn key_bytes(keys: usize) -> usize {
    if keys == 0 { 0 } else { KEY_BYTES }
}

/// Words and digits, which compress about as logs do.
fn values(bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = ["GET", "POST", "/index.html", "200", "404", "Mozilla/5.0", "user=", "host-", "10.0.0."];
    let value = |_| {
        let mut value = Vec::with_capacity(bytes + 32);
        while value.len() < bytes {
            let random = next();
            value.extend_from_slice(words[random as usize % words.len()].as_bytes());
            value.extend_from_slice(format!("{} ", random >> 48).as_bytes());
        }
        value.truncate(bytes);
        value
    };
    (0..VALUES).map(value).collect()
}
