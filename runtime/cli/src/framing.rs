//! Where one record ends and the next begins, in what commands read from stdin and write to stdout: a text behind each
//! (a line end, unless another is chosen), or its length before it.

use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr;

/// Longest record, bytes: far more than a topic takes.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Records handed over at once.
pub(crate) const CHUNK_FRAMES: usize = 512;
/// What stands for the length of a record that has no value.
const ABSENT: u32 = u32::MAX;

/// What a record is between two ends; `None` where it has no value, which only a length can tell.
pub(crate) type Frame = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Not empty.
    Delimiter(Vec<u8>),
    /// Four bytes, big-endian, then so many; 0xffffffff and nothing for a record without a value.
    Length,
}

impl Default for Framing {
    fn default() -> Self {
        Framing::Delimiter(b"\n".to_vec())
    }
}

/// `\n`, `\0`, `\r\n`, `\x1e`, any text; `length`.
impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "length" {
            return Ok(Framing::Length);
        }
        let delimiter = unescape(text)?;
        if delimiter.is_empty() {
            return Err("write what ends a record, `\\0` for example, or `length`".to_owned());
        }
        Ok(Framing::Delimiter(delimiter))
    }
}

/// Text with `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` in it, as bytes.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = &rest[at + 1..];
        let (byte, length) = match code.chars().next() {
            Some('n') => (b'\n', 1),
            Some('r') => (b'\r', 1),
            Some('t') => (b'\t', 1),
            Some('0') => (0, 1),
            Some('\\') => (b'\\', 1),
            Some('x') => {
                let digits = code.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or("`\\x` takes two digits: `\\x1e`")?, 3)
            }
            _ => return Err("`\\` begins one of \\n \\r \\t \\0 \\\\ \\xHH".to_owned()),
        };
        bytes.push(byte);
        rest = &code[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

impl Framing {
    /// Appends a frame that `write` writes; without a value where a length can say so and `write` says so.
    pub(crate) fn write(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        match self {
            Framing::Delimiter(delimiter) => {
                let _absent = write(out);
                out.extend_from_slice(delimiter);
            }
            Framing::Length => {
                let start = out.len();
                out.extend_from_slice(&ABSENT.to_be_bytes());
                if write(out).is_some() {
                    let length = u32::try_from(out.len() - start - 4).expect("a record is below 4 GiB");
                    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
    }

    /// Up to [`CHUNK_FRAMES`] frames; fewer when reading on would wait. Empty at the end.
    ///
    /// # Errors
    /// Reading fails, a frame is too long, or the input ends within one that has a length.
    pub(crate) fn read_chunk(&self, input: &mut BufReader<impl Read>) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read(input)? {
            frames.push(frame);
            if frames.len() >= CHUNK_FRAMES || !self.is_whole(input.buffer()) {
                break;
            }
        }
        Ok(frames)
    }

    /// Whether a frame can be read out of this. May be wrong: reading on is then slower, and gives the same.
    fn is_whole(&self, buffer: &[u8]) -> bool {
        match self {
            Framing::Delimiter(delimiter) => memchr::memmem::find(buffer, delimiter).is_some(),
            Framing::Length => buffer.first_chunk::<4>().is_some_and(|length| match u32::from_be_bytes(*length) {
                ABSENT => true,
                length => buffer.len() - 4 >= length as usize,
            }),
        }
    }

    fn read(&self, input: &mut BufReader<impl Read>) -> io::Result<Option<Frame>> {
        match self {
            Framing::Delimiter(delimiter) => read_delimited(input, delimiter).map(|frame| frame.map(Some)),
            Framing::Length => read_counted(input),
        }
    }
}

fn read_delimited(input: &mut BufReader<impl Read>, delimiter: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let last = *delimiter.last().expect("a delimiter is not empty");
    let mut frame = Vec::new();
    loop {
        let left = (FRAME_BYTES_MAX + delimiter.len() + 1).saturating_sub(frame.len());
        let read = Read::take(&mut *input, left as u64).read_until(last, &mut frame)?;
        if frame.ends_with(delimiter) {
            frame.truncate(frame.len() - delimiter.len());
            return Ok(Some(frame));
        }
        if frame.len() > FRAME_BYTES_MAX {
            return Err(invalid(format!("a record has more than {FRAME_BYTES_MAX} bytes before its end")));
        }
        if read == 0 {
            // The last one may lack its end.
            return Ok(Some(frame).filter(|frame| !frame.is_empty()));
        }
    }
}

fn read_counted(input: &mut BufReader<impl Read>) -> io::Result<Option<Frame>> {
    let mut length = Vec::new();
    Read::take(&mut *input, 4).read_to_end(&mut length)?;
    if length.is_empty() {
        return Ok(None);
    }
    let Ok(length) = <[u8; 4]>::try_from(&length[..]) else {
        return Err(invalid(format!("the input ends within a length, after {} of 4 bytes", length.len())));
    };
    let length = u32::from_be_bytes(length);
    if length == ABSENT {
        return Ok(Some(None));
    }
    if length as usize > FRAME_BYTES_MAX {
        let what = format!("a record is said to have {length} bytes, more than {FRAME_BYTES_MAX}");
        return Err(invalid(format!("{what}: is every record preceded by its length in four bytes, big-endian?")));
    }
    let mut frame = Vec::new();
    Read::take(&mut *input, u64::from(length)).read_to_end(&mut frame)?;
    if frame.len() < length as usize {
        return Err(invalid(format!("the input ends within a record, after {} of {length} bytes", frame.len())));
    }
    Ok(Some(Some(frame)))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(framing: &Framing, bytes: &[u8], buffer: usize) -> io::Result<Vec<Frame>> {
        let mut input = BufReader::with_capacity(buffer, bytes);
        let mut frames = Vec::new();
        loop {
            let chunk = framing.read_chunk(&mut input)?;
            if chunk.is_empty() {
                return Ok(frames);
            }
            frames.extend(chunk);
        }
    }

    #[test]
    fn delimiters() {
        let check = |text: &str, expected: Result<&[u8], &str>| {
            let found = text.parse::<Framing>();
            let expected = expected.map(|bytes| Framing::Delimiter(bytes.to_vec())).map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        };
        check(r"\n", Ok(b"\n"));
        check(r"\r\n", Ok(b"\r\n"));
        check(r"\0", Ok(b"\0"));
        check(r"\x1e\\é", Ok(b"\x1e\\\xc3\xa9"));
        check("--", Ok(b"--"));
        check(r"\x1", Err("`\\x` takes two digits: `\\x1e`"));
        check(r"\xé", Err("`\\x` takes two digits: `\\x1e`"));
        check("\\", Err("`\\` begins one of \\n \\r \\t \\0 \\\\ \\xHH"));
        check("", Err("write what ends a record, `\\0` for example, or `length`"));
        assert_eq!("length".parse(), Ok(Framing::Length));
    }

    #[test]
    fn frames_are_read_as_they_come() {
        let check = |framing: &str, bytes: &[u8], expected: &[&[u8]]| {
            let expected: Vec<Frame> = expected.iter().map(|frame| Some(frame.to_vec())).collect();
            assert_eq!(read_all(&framing.parse().unwrap(), bytes, 16).unwrap(), expected, "{framing}");
        };
        check(r"\n", b"a\nb\n", &[b"a", b"b"]);
        check(r"\n", b"a\n\nb", &[b"a", b"", b"b"]);
        check(r"\n", b"\xff\r\n", &[b"\xff\r"]);
        check(r"\n", b"", &[]);
        check(r"\0", b"a\nb\0c\0", &[b"a\nb", b"c"]);
        check("aab", b"xaaabyab", &[b"xa", b"yab"]);
        check("length", b"\0\0\0\x02a\n\0\0\0\0", &[b"a\n", b""]);
        assert_eq!(read_all(&Framing::Length, b"\xff\xff\xff\xff", 16).unwrap(), [None]);
    }

    #[test]
    fn broken_lengths() {
        let check = |bytes: &[u8], expected: &str| {
            let error = read_all(&Framing::Length, bytes, 16).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(b"\0\0", "the input ends within a length, after 2 of 4 bytes");
        check(b"\0\0\0\x05abc", "the input ends within a record, after 3 of 5 bytes");
        check(b"plain text", "a record is said to have 1886151017 bytes, more than 67108864: is every record preceded");
    }

    proptest! {
        #[test]
        fn any_frames_come_back(
            frames in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
            buffer in 1_usize..64,
        ) {
            let mut out = Vec::new();
            for frame in &frames {
                Framing::Length.write(&mut out, |out| frame.as_ref().map(|frame| out.extend_from_slice(frame)));
            }
            prop_assert_eq!(read_all(&Framing::Length, &out, buffer).unwrap(), frames);
        }

        /// As splitting the whole does it.
        #[test]
        fn text_is_split_as_a_whole(text in "[ab]{0,60}", delimiter in "[ab]{1,4}", buffer in 1_usize..16) {
            let mut expected: Vec<Frame> = text.split(&delimiter).map(|part| Some(part.as_bytes().to_vec())).collect();
            if expected.last() == Some(&Some(Vec::new())) {
                expected.pop();
            }
            let framing = Framing::Delimiter(delimiter.clone().into_bytes());
            prop_assert_eq!(read_all(&framing, text.as_bytes(), buffer).unwrap(), expected);
        }
    }
}
