//! The codecs of a batch's records, in the framings Kafka uses. Decompression streams into a buffer
//! that grows with what really comes out and stops at a ceiling: a claimed size allocates nothing.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use super::Error;

/// How the records of a batch are compressed, as one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The low bits of a batch's attributes.
    pub(super) fn attributes(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    pub(super) fn from_attributes(bits: i16) -> Result<Self, Error> {
        Compression::ALL.into_iter().find(|codec| codec.attributes() == bits).ok_or(Error::UnknownCompression(bits))
    }

    /// The word for it in configs and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Compression::ALL
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| format!("unknown compression `{text}`: use none, gzip, snappy, lz4 or zstd"))
    }
}

/// What Java's `SnappyOutputStream` writes first: magic, version 1, compatible with version 1.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_MAGIC_LEN: usize = 8;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy of 64 bytes takes 3, so nothing expands more than this.
const SNAPPY_EXPANSION_MAX: usize = 22;
/// What a frame of lz4 begins with.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Kafka's defaults for the codecs that have levels.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// Windows up to 8 MiB are what the zstd format asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Compresses batches with one codec; keeps what that codec would otherwise set up for each of them.
pub(super) struct Encoder {
    codec: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    snappy: snap::raw::Encoder,
}

impl Encoder {
    pub(super) fn new(codec: Compression) -> Self {
        Encoder { codec, zstd: None, snappy: snap::raw::Encoder::new() }
    }

    pub(super) fn codec(&self) -> Compression {
        self.codec
    }

    /// Appends `records`, compressed, to `out`.
    pub(super) fn encode(&mut self, records: &[u8], out: &mut Vec<u8>) {
        let compressed = match self.codec {
            Compression::None => out.write_all(records),
            Compression::Gzip => compress_gzip(records, out),
            Compression::Snappy => compress_snappy(&mut self.snappy, records, out),
            Compression::Lz4 => compress_lz4(records, out),
            Compression::Zstd => self.compress_zstd(records, out),
        };
        compressed.expect("compressing from memory into memory can't fail");
    }

    /// In one go rather than as a stream, so that the frame carries the size of its content.
    fn compress_zstd(&mut self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let compressor = match &mut self.zstd {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        let from = out.len();
        out.resize(from + zstd::zstd_safe::compress_bound(records.len()), 0);
        let length = compressor.compress_to_buffer(records, &mut out[from..])?;
        out.truncate(from + length);
        Ok(())
    }
}

fn compress_gzip(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}

fn compress_snappy(encoder: &mut snap::raw::Encoder, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_HEADER);
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = out.len();
        let from = length_at + 4;
        out.resize(from + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder.compress(block, &mut out[from..]).map_err(io::Error::other)?;
        out.truncate(from + length);
        out[length_at..from].copy_from_slice(&(length as u32).to_be_bytes());
    }
    Ok(())
}

fn compress_lz4(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // Kafka's own settings: blocks of 64 KiB that do not refer to each other.
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
    encoder.write_all(records)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

/// The records behind `compressed`, at most `limit` bytes.
///
/// # Errors
/// [`Error::TooLarge`] over the limit, [`Error::Decompress`] for bytes that are not of the codec.
pub(super) fn decompress(codec: Compression, compressed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::Decompress { codec, reason: error.to_string() };
    match codec {
        Compression::None => Ok(compressed.to_vec()),
        Compression::Gzip => read_limited(codec, flate2::bufread::MultiGzDecoder::new(compressed), compressed, limit),
        Compression::Snappy => decompress_snappy(compressed, limit),
        // Frames of the legacy format, which Kafka never had, cost two blocks of 8 MiB before their first byte.
        Compression::Lz4 if !compressed.is_empty() && !compressed.starts_with(&LZ4_MAGIC) => {
            Err(Error::Decompress { codec, reason: "it does not begin as a frame does".into() })
        }
        Compression::Lz4 => read_limited(codec, lz4_flex::frame::FrameDecoder::new(compressed), compressed, limit),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(failed)?;
            let window_log_max = ZSTD_WINDOW_LOG_MAX.max(limit.checked_ilog2().unwrap_or(0)).min(27);
            decoder.window_log_max(window_log_max).map_err(failed)?;
            read_limited(codec, decoder, compressed, limit)
        }
    }
}

fn read_limited(codec: Compression, reader: impl Read, compressed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    // A usual ratio as the first guess; the buffer doubles from there with what really arrives.
    let mut out = Vec::with_capacity(compressed.len().saturating_mul(4).min(limit));
    reader
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut out)
        .map_err(|error| Error::Decompress { codec, reason: error.to_string() })?;
    if out.len() > limit { Err(Error::TooLarge { limit }) } else { Ok(out) }
}

/// Java's framing, or one raw block as other clients write it.
fn decompress_snappy(compressed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    if !compressed.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) {
        decompress_snappy_block(compressed, limit, &mut out)?;
        return Ok(out);
    }
    let cut = || snappy_failed("the framing is cut off");
    let mut rest = compressed.get(XERIAL_HEADER.len()..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (block, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        decompress_snappy_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn decompress_snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let length = snap::raw::decompress_len(block).map_err(|error| snappy_failed(&error.to_string()))?;
    if length > limit - out.len() {
        return Err(Error::TooLarge { limit });
    }
    if length > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(snappy_failed("it claims more bytes than it can hold"));
    }
    let from = out.len();
    out.resize(from + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[from..])
        .map_err(|error| snappy_failed(&error.to_string()))?;
    out.truncate(from + written);
    Ok(())
}

fn snappy_failed(reason: &str) -> Error {
    Error::Decompress { codec: Compression::Snappy, reason: reason.to_owned() }
}
