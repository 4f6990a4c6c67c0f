//! Record batches: as they come from a producer, and their records behind every codec.

use std::io::Write;

use bytes::Bytes;
use millstream_protocol::batch::{
    BatchBuilder, BatchHeader, Compression, HEADER_LEN, check_batch, check_new_batch, decode_batch, decode_batches,
    split_batches,
};
use millstream_protocol::{Columns, Offset, ProducerId};

use super::Target;
use crate::allocation::bounded;

/// Most bytes of records that the targets let a codec give.
const DECOMPRESSED_MAX: usize = 256 << 10;
/// What compressed records may take besides: their bytes decompressed in a buffer that grew by doubling, and the
/// columns made of them; lz4's two blocks of 4 MiB each, snappy's and gzip's tables.
const CODEC_ALLOWANCE: usize = 6 * DECOMPRESSED_MAX + (9 << 20);

pub(super) const BATCHES: Target = Target {
    name: "batches",
    run: batches,
    words: &[b"\x02", b"\0\0\0\x31", b"\xff\xff\xff\xff\xff\xff\xff\xff"],
    bytes_max: 16 << 10,
    seeds: batch_seeds,
};

pub(super) const RECORDS: Target = Target {
    name: "records",
    run: records,
    words: &[b"\0", b"\x01", b"\x0e\0\0\0\x01\x01\0", b"\xff\xff\xff\xff\x0f", b"\x82SNAPPY\0", b"\x28\xb5\x2f\xfd"],
    bytes_max: 16 << 10,
    seeds: record_seeds,
};

/// Bytes as they are: a run of batches.
fn batches(data: &[u8]) {
    let run = Bytes::copy_from_slice(data);
    bounded(data.len(), 0, || {
        let checked = check_batch(data);
        if let Ok(header) = check_new_batch(data) {
            assert_eq!(checked, Ok(header), "what a producer may send is a batch");
        }
        let mut total = 0;
        for split in split_batches(&run) {
            let Ok((header, batch)) = split else { return };
            assert_eq!(batch.len(), header.total_len());
            total += batch.len();
        }
        assert_eq!(total, data.len(), "batches of a run that splits cover it");
    });
    let compressed = split_batches(&run)
        .any(|split| split.is_ok_and(|(header, _)| header.compression().is_ok_and(|codec| codec != Compression::None)));
    let mut columns = Columns::default();
    // Bounded by the columns' own growth: at most doubled.
    let allowance = if compressed { CODEC_ALLOWANCE } else { data.len() * 4 };
    let decoded = bounded(data.len(), allowance, || decode_batches(&run, Offset::ZERO, DECOMPRESSED_MAX, &mut columns));
    columns.validate().unwrap_or_else(|error| panic!("decoded columns do not fit: {error} ({decoded:?})"));
}

/// The first byte chooses a codec and whether the rest is compressed already; what follows are the records of a
/// batch whose header and checksum are right.
fn records(data: &[u8]) {
    let Some((&[choice, count], records)) = data.split_first_chunk::<2>() else { return };
    let codec = Compression::ALL[usize::from(choice) % Compression::ALL.len()];
    let body = if choice & 0x80 == 0 { compress(codec, records) } else { records.to_vec() };
    let batch = wrap(codec, i32::from(count), &body);
    let checked = check_batch(&batch);
    let allowance = if codec == Compression::None { batch.len() * 4 } else { CODEC_ALLOWANCE };
    let mut columns = Columns::default();
    let decoded =
        bounded(batch.len(), allowance, || decode_batch(&batch, Offset::ZERO, DECOMPRESSED_MAX, &mut columns));
    columns.validate().unwrap_or_else(|error| panic!("decoded columns do not fit: {error}"));
    match decoded {
        Ok(()) => {
            let header = checked.unwrap_or_else(|error| panic!("decoded, and yet {error}"));
            let expected = if header.is_control() { 0 } else { header.record_count as usize };
            assert_eq!(columns.len(), expected, "each record once");
            assert!(columns.offsets.is_sorted_by(|a, b| a < b), "offsets ascend");
        }
        Err(_) => assert_eq!(columns, Columns::default(), "nothing stays of a batch that fails"),
    }
}

/// A batch around records, valid but for what they are.
fn wrap(codec: Compression, count: i32, body: &[u8]) -> Vec<u8> {
    let attributes = Compression::ALL.iter().position(|other| *other == codec).unwrap_or(0) as i16;
    let mut batch = vec![0; HEADER_LEN];
    batch[8..12].copy_from_slice(&((HEADER_LEN - 12 + body.len()) as i32).to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).max(0).to_be_bytes());
    batch[43..51].copy_from_slice(&ProducerId::NONE.0.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(body);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn compress(codec: Compression, records: &[u8]) -> Vec<u8> {
    let infallible = "compressing from memory into memory can't fail";
    match codec {
        Compression::None => records.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(records).expect(infallible);
            encoder.finish().expect(infallible)
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(records).expect(infallible),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records).expect(infallible);
            encoder.finish().expect(infallible)
        }
        Compression::Zstd => zstd::bulk::compress(records, 1).expect(infallible),
    }
}

fn sample(codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.push_simple(1_000, Some(b"key"), Some(b"a value of some length, a value of some length"));
    builder.push_simple(1_001, None, Some(b""));
    builder.push_simple(1_003, Some(b""), None);
    builder.build().to_vec()
}

fn batch_seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> =
        Compression::ALL.iter().map(|codec| (codec.name().to_owned(), sample(*codec))).collect();
    let mut two = sample(Compression::None);
    let mut second = sample(Compression::Lz4);
    second[..8].copy_from_slice(&3_i64.to_be_bytes());
    two.extend_from_slice(&second);
    seeds.push(("two".into(), two));
    seeds
}

fn record_seeds() -> Vec<(String, Vec<u8>)> {
    let plain = sample(Compression::None);
    let header = BatchHeader::decode(&plain).expect("a batch just made");
    let records = &plain[HEADER_LEN..header.total_len()];
    let mut seeds = Vec::new();
    for (choice, codec) in Compression::ALL.iter().enumerate() {
        let with = |flag: u8, body: &[u8]| [&[choice as u8 | flag, header.record_count as u8], body].concat();
        // 0x80 is divisible by the number of codecs only by chance: keep the codec the same.
        seeds.push((codec.name().to_owned(), with(0, records)));
        let flagged = (0x80..=0xff_u8).find(|flag| usize::from(*flag) % Compression::ALL.len() == choice);
        let made = &sample(*codec)[HEADER_LEN..];
        let first = [flagged.expect("128 numbers have every remainder"), header.record_count as u8];
        seeds.push((format!("{}-compressed", codec.name()), [&first[..], made].concat()));
    }
    // A batch of nothing but the smallest records, and one of headers without names.
    let smallest: Vec<u8> = (0..200_u8)
        .flat_map(|delta| {
            let delta = u16::from(delta) * 2;
            let delta = if delta < 128 { vec![delta as u8] } else { vec![delta as u8 | 0x80, (delta >> 7) as u8] };
            let length = (6 + delta.len()) as u8 * 2 - 2;
            [&[length, 0, 0][..], &delta, &[1, 1, 0]].concat()
        })
        .collect();
    seeds.push(("smallest".into(), [&[0, 200][..], &smallest].concat()));
    let headers = [&[0x8c, 0x10, 0, 0, 0, 1, 1, 0x80, 0x10][..], &[0, 1].repeat(512)].concat();
    seeds.push(("headers".into(), [&[0, 1][..], &headers].concat()));
    for (choice, codec) in Compression::ALL.iter().enumerate().skip(1) {
        let bomb = compress(*codec, &vec![0; 2 * DECOMPRESSED_MAX]);
        let flagged = (0x80..=0xff_u8).find(|flag| usize::from(*flag) % Compression::ALL.len() == choice);
        let first = [flagged.expect("128 numbers have every remainder"), 1];
        // Snappy's is the largest by far, 24 KiB; the others are a few hundred bytes.
        if bomb.len() < 8 << 10 {
            seeds.push((format!("{}-bomb", codec.name()), [&first[..], &bomb].concat()));
        }
    }
    seeds
}
