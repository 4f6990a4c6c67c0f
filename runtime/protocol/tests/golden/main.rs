//! Golden bytes of the native protocol: one fixed value of every request and response, as the hex text in
//! `golden.txt`, so that no layout changes silently. After a change that is meant, run the test with
//! `UPDATE_EXPECT=1` and, once a version was released, give the API a new version number.

mod admin;
mod data;
mod group;
mod pipeline;
mod plugin;
mod session;
mod token;

use std::fmt::{Debug, Write};

use expect_test::expect_file;
use millstream_protocol::message::{Api, ApiKey, Body, Cause};
use millstream_protocol::{ErrorCode, Failure};

/// One API with an example of each direction, encoded.
struct Row {
    key: u16,
    name: &'static str,
    version: u16,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn row<A>(request: A, response: A::Response) -> Row
where
    A: Api + PartialEq + Debug,
    A::Response: PartialEq + Debug,
{
    Row { key: A::KEY, name: A::NAME, version: A::VERSION, request: encode(&request), response: encode(&response) }
}

/// The bytes of `value`, which decode to it again, and which may be damaged in any way without a panic.
fn encode<T: Body + PartialEq + Debug>(value: &T) -> Vec<u8> {
    let bytes = value.encode_body();
    assert_eq!(T::decode_body(&bytes).as_ref(), Ok(value));
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            // Some damage gives another value, the rest an error.
            let _ = T::decode_body(&damaged);
        }
        let _ = T::decode_body(&bytes[..at]);
        let _ = T::decode_body(&bytes[at + 1..]);
    }
    bytes
}

fn rows() -> Vec<Row> {
    [session::rows(), admin::rows(), data::rows(), group::rows(), plugin::rows(), pipeline::rows(), token::rows()]
        .into_iter()
        .flatten()
        .collect()
}

fn write_hex(out: &mut String, what: &str, bytes: &[u8]) {
    writeln!(out, "  {what}, {} bytes", bytes.len()).expect("writing to a string");
    for line in bytes.chunks(32) {
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "    {hex}").expect("writing to a string");
    }
}

#[test]
fn layouts_of_all_messages_stay_as_they_are() {
    let mut text = String::new();
    for row in rows() {
        writeln!(text, "{} {} version {}", row.key, row.name, row.version).expect("writing to a string");
        write_hex(&mut text, "request", &row.request);
        write_hex(&mut text, "response", &row.response);
    }
    writeln!(text, "Failure").expect("writing to a string");
    write_hex(&mut text, "body", &encode(&Failure::new(ErrorCode::DiskFull, "disk full: free some space")));
    expect_file!["golden.txt"].assert_eq(&text);
}

#[test]
fn every_api_has_a_row() {
    let rows: Vec<(u16, &str)> = rows().iter().map(|row| (row.key, row.name)).collect();
    let all: Vec<(u16, &str)> = ApiKey::ALL.iter().map(|key| (*key as u16, key.name())).collect();
    assert_eq!(rows, all);
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_wire(*key as u16), Some(*key));
    }
    assert_eq!(ApiKey::from_wire(0), None);
}

#[test]
fn error_codes_keep_their_numbers() {
    use ErrorCode::*;
    let codes = [
        (Timeout, 1),
        (Busy, 2),
        (ShuttingDown, 3),
        (Disconnected, 4),
        (StorageUnavailable, 5),
        (UnknownTopic, 20),
        (UnknownPartition, 21),
        (NotLeader, 22),
        (UnknownMember, 23),
        (StaleGeneration, 24),
        (UnknownGroup, 25),
        (UnknownPlugin, 26),
        (UnknownPipeline, 27),
        (UnknownToken, 28),
        (InvalidRequest, 40),
        (InvalidTopic, 41),
        (TopicExists, 42),
        (InvalidBatch, 43),
        (BatchTooLarge, 44),
        (OffsetOutOfRange, 45),
        (OutOfOrderSequence, 46),
        (FencedProducer, 47),
        (PluginExists, 48),
        (InvalidPlugin, 49),
        (InvalidPipeline, 50),
        (GroupNotEmpty, 51),
        (InUse, 52),
        (UnsupportedVersion, 53),
        (LimitExceeded, 54),
        (TokenExists, 55),
        (DuplicateSequence, 56),
        (Unauthenticated, 60),
        (Forbidden, 61),
        (DiskFull, 80),
        (CorruptData, 81),
        (Internal, 99),
    ];
    for (code, number) in codes {
        assert_eq!(code as u16, number, "{code:?}");
        // The archive holds the number itself, in one byte for as long as all of them fit.
        assert_eq!(code.encode_body(), [number as u8], "{code:?}");
    }
}

#[test]
fn causes_keep_their_numbers_and_names() {
    let all: Vec<(u8, &str, bool)> =
        Cause::ALL.iter().map(|cause| (cause.encode_body()[0], cause.name(), cause.makes_unready())).collect();
    let expected = [
        (1, "recovering", true),
        (2, "draining", true),
        (3, "disk_refuses_writes", true),
        (4, "partition_offline", true),
        (5, "metadata_unwritable", true),
        (6, "groups_unavailable", true),
        (20, "pipeline_failed", false),
        (21, "pipeline_waiting", false),
        (22, "tail_cut", false),
        (23, "disk_low", false),
        (24, "files_low", false),
        (25, "clock_jumped", false),
        (26, "sync_slow", false),
    ];
    assert_eq!(all, expected);
}
