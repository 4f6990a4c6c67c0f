//! Kafka's variable-length integers: zigzag, then 7 bits per byte, least significant first. Reading
//! happens on a cursor that never reads past its slice; writing goes into a small array on the stack.

/// Most bytes one integer takes.
const VARINT_BYTES_MAX: usize = 10;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes `value` takes when written.
pub(super) fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A few integers on their way into a buffer: one copy instead of a capacity check per byte.
pub(super) struct Scratch {
    bytes: [u8; Scratch::CAPACITY],
    len: usize,
}

impl Scratch {
    /// Room for three integers of any size and some single bytes.
    const CAPACITY: usize = 3 * VARINT_BYTES_MAX + 2;

    pub(super) fn new() -> Self {
        Scratch { bytes: [0; Scratch::CAPACITY], len: 0 }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    pub(super) fn varint(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends one integer to `out`.
pub(super) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let zigzagged = zigzag(value);
    if zigzagged < 0x80 {
        out.push(zigzagged as u8);
    } else {
        let mut scratch = Scratch::new();
        scratch.varint(value);
        out.extend_from_slice(scratch.as_slice());
    }
}

/// Reads from a slice, front to back. `None` means the bytes end too early or hold an impossible number.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Option<i64> {
        let first = self.byte()?;
        let raw = if first < 0x80 { u64::from(first) } else { self.long_varint(first)? };
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// The rest of an integer whose `first` byte says that more follow.
    fn long_varint(&mut self, first: u8) -> Option<u64> {
        let mut raw = u64::from(first & 0x7f);
        for index in 1..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte has room for one bit only.
                return if index == VARINT_BYTES_MAX - 1 && byte > 1 { None } else { Some(raw) };
            }
        }
        None
    }

    /// An integer that must fit 32 bits.
    #[inline]
    pub(super) fn varint32(&mut self) -> Option<i32> {
        i32::try_from(self.varint()?).ok()
    }

    /// A length, then that many bytes; a length of -1 means null. The outer `None` is an error.
    #[inline]
    pub(super) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint32()? {
            -1 => Some(None),
            len => self.take(usize::try_from(len).ok()?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: i64, expected: &[u8]) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, expected, "{value}");
        assert_eq!(varint_len(value), expected.len(), "{value}");
        let mut cursor = Cursor::new(expected);
        assert_eq!((cursor.varint(), cursor.remaining()), (Some(value), 0));
    }

    #[test]
    fn integers_have_the_published_bytes() {
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[126]);
        check(-64, &[127]);
        check(64, &[0x80, 1]);
        check(-65, &[0x81, 1]);
        check(8191, &[0xfe, 0x7f]);
        check(8192, &[0x80, 0x80, 1]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn integers_that_end_early_or_never_are_refused() {
        let check = |bytes: &[u8]| assert_eq!(Cursor::new(bytes).varint(), None, "{bytes:?}");
        check(&[]);
        check(&[0x80]);
        check(&[0xff; 9]);
        check(&[0xff; 11]);
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]);
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x10]).varint32(), None);
    }
}
