//! The frame around every native message, in both directions:
//!
//! ```text
//! length u32 | api u16 | version u16 | correlation u32 | flags u8 | 0 0 0 | body length u32 | body | payload
//! ```
//!
//! Big-endian. `length` counts everything after itself. The body is one rkyv archive (see [`crate::message`]),
//! the payload is raw record batches or plugin bytes that travel beside it uncopied.

use thiserror::Error;

/// Bytes before the body.
pub const HEADER_LEN: usize = 20;
/// Largest frame before a session is authenticated, bytes after the length field.
pub const FRAME_BYTES_MAX_ANONYMOUS: usize = 64 * 1024;
/// Largest frame of an authenticated session, bytes after the length field.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The frame answers with a [`crate::Failure`] body instead of the API's response.
pub const FLAG_FAILURE: u8 = 1;
/// The last frame of a pushed stream.
pub const FLAG_END: u8 = 2;

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub api: u16,
    pub version: u16,
    /// Chosen by the requester, repeated in every frame that answers.
    pub correlation: u32,
    pub flags: u8,
    pub body_len: u32,
    pub payload_len: u32,
}

/// Why a frame is refused; the connection can't go on after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLarge { length: usize, limit: usize },
    #[error("frame of {length} bytes is too short for a body of {body} bytes")]
    Inconsistent { length: usize, body: usize },
}

/// Encodes a header for a body and payload of the given sizes.
///
/// # Panics
/// When body and payload together do not fit a `u32`; callers stay below [`FRAME_BYTES_MAX`].
pub fn encode_header(header: &Header) -> [u8; HEADER_LEN] {
    let length = (HEADER_LEN as u32 - 4)
        .checked_add(header.body_len)
        .and_then(|length| length.checked_add(header.payload_len))
        .expect("frames stay below FRAME_BYTES_MAX");
    let mut out = [0; HEADER_LEN];
    out[0..4].copy_from_slice(&length.to_be_bytes());
    out[4..6].copy_from_slice(&header.api.to_be_bytes());
    out[6..8].copy_from_slice(&header.version.to_be_bytes());
    out[8..12].copy_from_slice(&header.correlation.to_be_bytes());
    out[12] = header.flags;
    out[16..20].copy_from_slice(&header.body_len.to_be_bytes());
    out
}

/// Decodes a header and checks its lengths against `limit` before anything is allocated for the frame.
///
/// # Errors
/// [`Error::TooLarge`] over the limit, [`Error::Inconsistent`] when the body can't fit the frame.
pub fn decode_header(bytes: &[u8; HEADER_LEN], limit: usize) -> Result<Header, Error> {
    let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let length = u32_at(0) as usize;
    let body_len = u32_at(16);
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    let rest = length.checked_sub(HEADER_LEN - 4);
    let Some(payload_len) = rest.and_then(|rest| rest.checked_sub(body_len as usize)) else {
        return Err(Error::Inconsistent { length, body: body_len as usize });
    };
    Ok(Header {
        api: u16::from_be_bytes([bytes[4], bytes[5]]),
        version: u16::from_be_bytes([bytes[6], bytes[7]]),
        correlation: u32_at(8),
        flags: bytes[12],
        body_len,
        payload_len: payload_len as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_are_golden() {
        let header = Header { api: 10, version: 1, correlation: 7, flags: FLAG_END, body_len: 3, payload_len: 5 };
        let bytes = encode_header(&header);
        assert_eq!(bytes, [0, 0, 0, 24, 0, 10, 0, 1, 0, 0, 0, 7, 2, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(decode_header(&bytes, 64), Ok(header));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let check = |length: u32, body: u32, expected: Error| {
            let mut bytes = [0; HEADER_LEN];
            bytes[0..4].copy_from_slice(&length.to_be_bytes());
            bytes[16..20].copy_from_slice(&body.to_be_bytes());
            assert_eq!(decode_header(&bytes, 1000), Err(expected));
        };
        check(1001, 0, Error::TooLarge { length: 1001, limit: 1000 });
        check(u32::MAX, 0, Error::TooLarge { length: u32::MAX as usize, limit: 1000 });
        check(15, 0, Error::Inconsistent { length: 15, body: 0 });
        check(20, 5, Error::Inconsistent { length: 20, body: 5 });
    }
}
