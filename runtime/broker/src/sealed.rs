//! Small JSON files with a checksum in them: one object on one line, whose last member is the CRC32C of the bytes
//! before it. They stay readable by people and by `jq`, and no byte of them can change unnoticed.

use serde::Serialize;
use serde::de::DeserializeOwned;

const MEMBER: &str = ",\"crc32c\":\"";
const TAIL_LEN: usize = MEMBER.len() + 8 + 2;

/// The bytes of such a file. The value is a struct with at least one field.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("a struct of plain fields");
    assert_eq!(bytes.pop(), Some(b'}'), "a struct is an object");
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(format!("{MEMBER}{crc:08x}\"}}").as_bytes());
    bytes
}

/// The value; `unsealed` accepts a file without a checksum, of the time before there was one.
///
/// # Errors
/// What is wrong and at which byte.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], unsealed: bool) -> Result<T, String> {
    let body = bytes.len().checked_sub(TAIL_LEN).map(|at| bytes.split_at(at));
    match body.filter(|(_, tail)| tail.starts_with(MEMBER.as_bytes())) {
        Some((body, tail)) => {
            let expected = format!("{MEMBER}{:08x}\"}}", crc32c::crc32c(body));
            if tail != expected.as_bytes() {
                return Err("checksum mismatch over bytes 0 to its end".to_owned());
            }
        }
        None if unsealed => {}
        None => return Err(format!("its checksum is missing at byte {}", bytes.len().saturating_sub(TAIL_LEN))),
    }
    peek(bytes)
}

/// A part of the value, unchecked: to find out whether the rest can be read.
///
/// # Errors
/// It is no JSON, or not of this shape.
pub(crate) fn peek<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example {
        version: u32,
        name: String,
    }

    #[test]
    fn no_byte_changes_unnoticed() {
        let example = Example { version: 2, name: "orders".into() };
        let bytes = encode(&example);
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), r#"{"version":2,"name":"orders","crc32c":"17ac75b9"}"#);
        assert_eq!(decode::<Example>(&bytes, false).unwrap(), example);
        for at in 0..bytes.len() {
            for bits in 1..=255 {
                let mut flipped = bytes.clone();
                flipped[at] ^= bits;
                assert!(decode::<Example>(&flipped, false).is_err(), "byte {at} with {bits:02x}");
            }
            assert!(decode::<Example>(&bytes[..at], false).is_err(), "cut at {at}");
        }
        assert_eq!(decode::<Example>(br#"{"version":1,"name":"orders"}"#, true).unwrap().version, 1);
        assert!(decode::<Example>(br#"{"version":1,"name":"orders"}"#, false).is_err());
    }
}
