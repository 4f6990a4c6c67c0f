//! Native frames as a broker reads them from a stream, and every body as either end decodes it.

use millstream_protocol::frame::{self, FLAG_FAILURE};
use millstream_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_ANONYMOUS, HEADER_LEN, Header, decode_header};
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Failure, Offset, PartitionIndex, TopicId};

use super::Target;
use crate::allocation::bounded;

pub(super) const FRAMES: Target = Target {
    name: "frames",
    run: frames,
    words: &[b"\0\0\0\x14", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"],
    bytes_max: 16 << 10,
    seeds,
};

/// The input is a stream of frames. Whatever API a header names, the body is also tried as another one: the
/// first byte of the correlation number chooses.
fn frames(data: &[u8]) {
    let mut rest = data;
    while let Some(head) = rest.first_chunk::<HEADER_LEN>() {
        let anonymous = decode_header(head, FRAME_BYTES_MAX_ANONYMOUS);
        let Ok(header) = decode_header(head, FRAME_BYTES_MAX) else {
            assert!(anonymous.is_err(), "what a session refuses is refused before it as well");
            return;
        };
        let length = header.body_len as usize + header.payload_len as usize;
        assert!(HEADER_LEN - 4 + length <= FRAME_BYTES_MAX);
        assert_eq!(frame::encode_header(&header)[..12], head[..12], "a header says the same when written again");
        let Some(frame) = rest[HEADER_LEN..].get(..length) else { return };
        let (body, _) = frame.split_at(header.body_len as usize);
        decode(&header, body);
        rest = &rest[HEADER_LEN + length..];
    }
}

fn decode(header: &Header, body: &[u8]) {
    if header.flags & FLAG_FAILURE != 0 {
        round_trip::<Failure>(body);
    }
    if let Some(api) = ApiKey::from_wire(header.api) {
        api.visit(Both(body));
    }
    let other = header.correlation.to_be_bytes()[0] as usize;
    ApiKey::ALL[other % ApiKey::ALL.len()].visit(Both(body));
}

/// Decodes a body as the API's request and as its response.
struct Both<'a>(&'a [u8]);

impl ApiVisitor for Both<'_> {
    type Output = ();

    fn visit<A: Api>(self) {
        round_trip::<A>(self.0);
        round_trip::<A::Response>(self.0);
    }
}

fn round_trip<B: Body>(body: &[u8]) {
    let Ok(value) = bounded(body.len(), 0, || B::decode_body(body)) else { return };
    let written = value.encode_body();
    let again = B::decode_body(&written).unwrap_or_else(|error| panic!("{error} after it was decoded"));
    assert_eq!(again.encode_body(), written, "a body says the same when written again");
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |name: &str, api: u16, flags: u8, body: Vec<u8>, payload: &[u8]| {
        let (body_len, payload_len) = (body.len() as u32, payload.len() as u32);
        let header = Header { api, version: 1, correlation: 7, flags, body_len, payload_len };
        let mut bytes = frame::encode_header(&header).to_vec();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(payload);
        seeds.push((name.to_owned(), bytes));
    };
    let text = || "a name longer than eight bytes".to_owned();
    let hello = Hello { token: text(), client_name: text(), client_version: "1".into() };
    add("hello", Hello::KEY, 0, hello.encode_body(), b"");
    let entry = |partition| ProduceEntry { topic: TopicId(3), partition: PartitionIndex(partition), bytes: 5 };
    let produce = Produce { acks: Acks::All, entries: vec![entry(0), entry(1)] };
    add("produce", Produce::KEY, 0, produce.encode_body(), b"batchbatch");
    let result = |failure| ProduceResult { base_offset: Offset(1), log_start: Offset(0), failure };
    let failure = || Failure::new(ErrorCode::DiskFull, text());
    let ack = ProduceAck { results: vec![result(None), result(Some(failure()))] };
    add("produce-ack", Produce::KEY, 0, ack.encode_body(), b"");
    add("failure", Fetch::KEY, FLAG_FAILURE, failure().encode_body(), b"");
    let apply = ApplyPipeline {
        yaml: "pipeline: p\n".into(),
        variables: vec![(text(), text()), ("a".into(), "b".into())],
        create_partitions: 3,
        dry_run: true,
    };
    add("apply", ApplyPipeline::KEY, 0, apply.encode_body(), b"");
    let create = CreateTopic { name: text(), partitions: 3, config: TopicConfig::default(), if_not_exists: true };
    add("create-topic", CreateTopic::KEY, 0, create.encode_body(), b"");
    let upload =
        UploadPlugin { name: text(), version: "1.0.0".into(), digest: [7; 32], size: 4, position: 0, replace: false };
    add("upload", UploadPlugin::KEY, 0, upload.encode_body(), b"\0asm");
    let names = vec!["a".to_owned(), text(), String::new()];
    let describe = DescribeTopics { names, include_internal: false };
    add("describe", DescribeTopics::KEY, 0, describe.encode_body(), b"");
    add("done", DeleteTopic::KEY, 0, Done.encode_body(), b"");
    seeds
}
