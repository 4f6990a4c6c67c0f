//! Tests of the batch format: golden bytes, checks of bad bytes, splitting and patching, round trips.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Columns, LeaderEpoch, Offset, ProducerId};

const MAX: usize = 1 << 20;

fn sample(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    builder.set_producer(ProducerId(4000), 3, 17);
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"1")), (b"none", None)];
    builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), headers.into_iter());
    builder.push_simple(1_700_000_000_005, None, Some(b""));
    builder.push_simple(1_699_999_999_000, Some(b"gone"), None);
    builder.build()
}

fn decode(batch: &[u8], from: i64) -> Result<Columns, Error> {
    let mut columns = Columns::default();
    decode_batch(batch, Offset(from), MAX, &mut columns)?;
    columns.validate().unwrap();
    Ok(columns)
}

fn expected_columns() -> Columns {
    let mut columns = Columns::default();
    columns.push(0, 1_700_000_000_000, Some(b"key"), Some(b"value"));
    columns.push_header(b"h", Some(b"1"));
    columns.push_header(b"none", None);
    columns.push(1, 1_700_000_000_005, None, Some(b""));
    columns.push(2, 1_699_999_999_000, Some(b"gone"), None);
    columns
}

/// `batch` with its checksum made right again after a change.
fn reseal(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = header::compute_crc(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn built_batches_check_and_decode_with_every_codec() {
    for compression in Compression::ALL {
        let batch = sample(compression);
        let header = check_new_batch(&batch).unwrap();
        assert_eq!(header.compression(), Ok(compression));
        assert_eq!((header.total_len(), header.record_count), (batch.len(), 3));
        assert_eq!((header.last_offset(), header.next_offset()), (Offset(2), Offset(3)));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_005));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (ProducerId(4000), 3, 17));
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(0), LeaderEpoch(-1)));
        assert_eq!(decode(&batch, 0).unwrap(), expected_columns(), "{compression}");
        assert_eq!(compression.to_string().parse(), Ok(compression));
    }
    assert!("brotli".parse::<Compression>().unwrap_err().contains("use none, gzip"));
}

#[test]
fn a_builder_is_reusable_and_forgets_its_producer() {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    builder.set_producer(ProducerId(1), 0, 0);
    builder.push_simple(5, None, Some(b"first"));
    assert_eq!((builder.len(), builder.is_empty()), (1, false));
    let first = builder.build();
    assert_eq!((builder.len(), builder.bytes()), (0, HEADER_LEN));
    builder.push_simple(9, None, Some(b"second"));
    let second = builder.build();
    assert_eq!(check_batch(&first).unwrap().producer_id, ProducerId(1));
    let header = check_batch(&second).unwrap();
    assert_eq!((header.producer_id, header.base_timestamp), (ProducerId::NONE, 9));
    assert_eq!(decode(&second, 0).unwrap().values, b"second");
}

#[test]
fn records_never_take_more_than_the_estimate() {
    let big = vec![b'x'; 70_000];
    let check = |timestamp: i64, key: Option<&[u8]>, value: &[u8], headers: &[(&[u8], Option<&[u8]>)]| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_simple(0, None, None);
        let before = builder.bytes();
        builder.push(timestamp, key, Some(value), headers.iter().copied());
        let header_bytes = headers.iter().map(|(name, value)| name.len() + value.unwrap_or_default().len()).sum();
        let key_len = key.map_or(0, <[u8]>::len);
        let max = BatchBuilder::record_bytes_max(key_len, value.len(), headers.len(), header_bytes);
        assert!(builder.bytes() - before <= max);
    };
    check(0, None, b"", &[]);
    check(i64::MAX, Some(&big), &big, &[(&big, Some(&big)), (b"", None)]);
    check(i64::MIN, Some(b"k"), b"v", &[(b"n", Some(b"v"))]);
}

#[test]
fn bad_batches_are_refused_with_their_reason() {
    let check = |change: fn(&mut Vec<u8>), expected: &str| {
        let mut batch = sample(Compression::None).to_vec();
        change(&mut batch);
        assert_eq!(check_new_batch(&reseal(batch)).unwrap_err().to_string(), expected);
    };
    check(|b| b[16] = 1, "record batch has format version 1, only 2 is supported; use a client of Kafka 0.11 or later");
    check(|b| b[0] = 0x80, "record batch has the impossible base offset -9223372036854775808");
    check(|b| b[0] = 0x7f, "record batch has the impossible base offset 9151314442816847872");
    check(|b| b[8..12].fill(0), "record batch has the impossible length 0");
    check(|b| b[8..12].fill(255), "record batch has the impossible length -1");
    check(|b| b[11] += 1, "record batch needs 106 bytes, 105 are there");
    check(|b| b.push(0), "record batch of 105 bytes is followed by 1 bytes that are not part of it");
    check(|b| b.truncate(60), "record batch needs 61 bytes, 60 are there");
    check(|b| b[22] = 5, "record batch has the unknown compression type 5");
    check(|b| b[60] = 2, "record batch from a producer must have one offset per record");
    check(|b| b[57..61].fill(0), "record batch from a producer holds no record");
    check(|b| b[22] |= 32, "record batch from a producer must not be a control batch");
    check(|b| b[53] = 0x80, "record batch from a producer with an id needs an epoch and a sequence number");
    check(|b| b[60] = 7, "record batch claims 7 records with last offset delta 2 in 44 bytes");
    check(|b| b[57] = 0x7f, "record batch claims 2130706435 records with last offset delta 2 in 44 bytes");
    check(|b| b[57] = 0x80, "record batch claims -2147483645 records with last offset delta 2 in 44 bytes");
    check(|b| b[23] = 0x80, "record batch claims 3 records with last offset delta -2147483646 in 44 bytes");

    let mut flipped = sample(Compression::None).to_vec();
    flipped[80] ^= 1;
    assert!(matches!(check_batch(&flipped), Err(Error::Checksum { .. })));
}

#[test]
fn every_flipped_bit_outside_the_patched_fields_is_noticed() {
    let batch = sample(Compression::Lz4);
    for bit in 8 * 8..batch.len() * 8 {
        let mut flipped = batch.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let epoch = (12..16).contains(&(bit / 8));
        assert_eq!(check_batch(&flipped).is_ok(), epoch, "bit {bit}");
    }
}

#[test]
fn bad_records_are_refused_and_leave_the_columns_alone() {
    let check = |change: fn(&mut Vec<u8>), expected: &str| {
        let mut batch = sample(Compression::None).to_vec();
        change(&mut batch);
        let mut columns = expected_columns();
        let error = decode_batch(&batch, Offset(0), MAX, &mut columns).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(columns, expected_columns());
    };
    // The first record is at 61: length, attributes, two deltas, key, value, headers.
    check(|b| b[61] = 0x7e, "record 0 of the batch: its length is over the bytes that remain");
    check(|b| b[61] = 1, "record 0 of the batch: its length is over the bytes that remain");
    check(|b| b[65] = 0x7e, "record 0 of the batch: a field is over the bytes that remain");
    check(|b| b[65] = 3, "record 0 of the batch: a field is over the bytes that remain");
    check(|b| b[64] = 1, "record 0 of the batch: its offset is out of order");
    check(|b| b[64] = 8, "record 0 of the batch: its offset is out of order");
    check(|b| b[64] = 4, "record 1 of the batch: its offset is out of order");
    check(|b| b[75] = 6, "record 0 of the batch: a header is over the bytes that remain");
    check(|b| b[76] = 1, "record 0 of the batch: a header is over the bytes that remain");
    check(|b| b[75] = 2, "record 0 of the batch: bytes follow its headers");
    check(|b| b[60] = 2, "record 2 of the batch: bytes follow the last record");
    check(|b| b.truncate(100), "record batch needs 105 bytes, 100 are there");
}

#[test]
fn decoding_starts_at_the_wanted_offset() {
    let check = |from: i64, expected: &[i64]| {
        let mut batch = sample(Compression::Zstd).to_vec();
        patch_header(&mut batch, Offset(100), LeaderEpoch(9));
        let header = check_batch(&batch).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(100), LeaderEpoch(9)));
        assert_eq!(decode(&batch, from).unwrap().offsets, expected);
    };
    check(0, &[100, 101, 102]);
    check(i64::MIN + 200, &[100, 101, 102]);
    check(101, &[101, 102]);
    check(102, &[102]);
    check(103, &[]);
    check(i64::MAX, &[]);
}

#[test]
fn attributes_change_what_is_decoded() {
    let with_attribute = |bit: u8| {
        let mut batch = sample(Compression::None).to_vec();
        batch[22] |= bit;
        reseal(batch)
    };
    let append_time = with_attribute(8);
    assert!(check_batch(&append_time).unwrap().log_append_time());
    assert_eq!(decode(&append_time, 0).unwrap().timestamps, [1_700_000_000_005; 3]);
    assert!(check_batch(&with_attribute(16)).unwrap().is_transactional());
    let control = with_attribute(32);
    assert!(check_batch(&control).unwrap().is_control());
    assert!(decode(&control, 0).unwrap().is_empty());
}

#[test]
fn a_run_of_batches_splits_without_copies_and_stops_at_a_cut() {
    let (one, two) = (sample(Compression::None), sample(Compression::Gzip));
    let run = Bytes::from([&one[..], &two[..]].concat());
    let split: Vec<_> = split_batches(&run).map(Result::unwrap).collect();
    assert_eq!(split.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), [one.clone(), two.clone()]);
    assert_eq!(split[1].1.as_ptr(), run[one.len()..].as_ptr());
    let mut columns = Columns::default();
    decode_batches(&run, Offset(1), MAX, &mut columns).unwrap();
    assert_eq!(columns.offsets, [1, 2, 1, 2]);

    for cut in one.len() + 1..run.len() {
        let split: Vec<_> = split_batches(&run.slice(..cut)).collect();
        assert_eq!((split.len(), split[0].is_ok(), split[1].is_err()), (2, true, true), "cut at {cut}");
    }
}

#[test]
fn decompression_stops_at_its_ceiling() {
    for compression in Compression::ALL.into_iter().skip(1) {
        let mut builder = BatchBuilder::new(compression);
        let value = vec![0; 50_000];
        (0..20).for_each(|_| builder.push_simple(0, None, Some(&value)));
        let uncompressed = builder.bytes() - HEADER_LEN;
        let batch = builder.build();
        assert!(batch.len() < uncompressed / 10, "{compression}");
        let mut columns = Columns::default();
        let mut decode = |max| decode_batch(&batch, Offset(0), max, &mut columns);
        let limit = uncompressed - 1;
        assert_eq!(decode(limit), Err(Error::TooLarge { limit }), "{compression}");
        assert_eq!(decode(0), Err(Error::TooLarge { limit: 0 }), "{compression}");
        assert_eq!(decode(uncompressed), Ok(()), "{compression}");
        assert_eq!(columns.len(), 20);
    }
}

fn parts() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..200))
}

type AnyRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn records() -> impl Strategy<Value = Vec<AnyRecord>> {
    let headers = proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), parts()), 0..3);
    proptest::collection::vec((any::<i64>(), parts(), parts(), headers), 1..40)
}

fn build(compression: Compression, records: &[AnyRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (timestamp, key, value, headers) in records {
        let headers = headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        builder.push(*timestamp, key.as_deref(), value.as_deref(), headers);
    }
    builder.build()
}

fn any_compression() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_is_built_decodes_to_the_same_records(records in records(), compression in any_compression()) {
        let batch = build(compression, &records);
        check_new_batch(&batch).unwrap();
        let columns = decode(&batch, 0).unwrap();
        let decoded: Vec<AnyRecord> = columns.rows().map(|row| {
            let headers = row.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
            (row.timestamp, row.key.map(<[u8]>::to_vec), row.value.map(<[u8]>::to_vec), headers.collect())
        }).collect();
        prop_assert_eq!(decoded, records);
    }

    #[test]
    fn changed_bytes_never_panic_the_decoder(
        records in records(),
        compression in any_compression(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut batch = build(compression, &records).to_vec();
        for (index, byte) in changes {
            let at = index.index(batch.len());
            batch[at] = byte;
        }
        let _ = decode(&batch, 0);
        batch.truncate(cut.index(batch.len()));
        let _ = decode(&batch, 0);
        let _ = check_batch(&batch);
        let _ = split_batches(&Bytes::from(batch)).count();
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_decoder(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        attributes in 0_u8..64,
    ) {
        let _ = check_batch(&bytes);
        let _ = decode(&bytes, 0);
        // Behind a header that makes sense, so that the records are reached.
        let mut batch = sample(Compression::None)[..HEADER_LEN].to_vec();
        batch.extend_from_slice(&bytes);
        let length = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] = attributes;
        let _ = decode(&batch, 0);
    }
}
