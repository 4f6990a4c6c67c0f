//! Batches written by an independent producer (kafka-python, see `kafka_batches.py`) decode here with
//! every codec, and this crate writes the same uncompressed bytes.

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, Compression, check_new_batch, decode_batch, patch_header};
use millstream_protocol::{Columns, LeaderEpoch, Offset, ProducerId};

const FILE: &str = include_str!("kafka_batches.txt");
const LIMIT: usize = 64 * 1024;

fn batches() -> impl Iterator<Item = (Compression, Vec<u8>)> {
    FILE.lines().map(|line| {
        let (name, hex) = line.split_once(' ').expect("a codec and its bytes");
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
        let bytes = hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]));
        (name.parse().expect("a codec"), bytes.collect())
    })
}

/// The records of the script.
fn expected() -> Columns {
    let mut columns = Columns::default();
    columns.push(0, 1_700_000_000_000, Some(b"key"), Some(b"value"));
    columns.push_header(b"h", Some(b"1"));
    columns.push_header(b"none", None);
    columns.push(1, 1_700_000_000_005, None, Some(b""));
    columns.push(2, 1_699_999_999_000, Some(b"gone"), None);
    (3..40).for_each(|i| columns.push(i, 1_700_000_000_000 + i, None, Some(b"the same again")));
    columns
}

fn build(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    builder.set_producer(ProducerId(4000), 3, 17);
    for row in expected().rows() {
        builder.push(row.timestamp, row.key, row.value, row.headers.iter());
    }
    builder.build()
}

#[test]
fn batches_of_another_producer_decode_with_every_codec() {
    let mut codecs = Vec::new();
    for (compression, batch) in batches() {
        let header = check_new_batch(&batch).unwrap();
        assert_eq!(header.compression(), Ok(compression));
        let mut columns = Columns::default();
        decode_batch(&batch, Offset(0), LIMIT, &mut columns).unwrap();
        assert_eq!(columns, expected(), "{compression}");
        codecs.push(compression);
    }
    assert_eq!(codecs, Compression::ALL);
}

#[test]
fn uncompressed_batches_are_the_same_bytes() {
    let (_, theirs) = batches().next().unwrap();
    let mut ours = build(Compression::None).to_vec();
    // The one difference: a producer here leaves the leader epoch unset, kafka-python writes 0.
    patch_header(&mut ours, Offset(0), LeaderEpoch(0));
    assert_eq!(ours, theirs);
}

#[test]
fn snappy_is_written_in_the_framing_of_java_and_read_without_it_too() {
    const FRAMING: usize = 16 + 4;
    let framed = build(Compression::Snappy);
    assert_eq!(framed[61..77], [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    let mut raw = [&framed[..61], &framed[61 + FRAMING..]].concat();
    let length = raw.len() as i32 - 12;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    let mut columns = Columns::default();
    decode_batch(&raw, Offset(0), LIMIT, &mut columns).unwrap();
    assert_eq!(columns, expected());
}
