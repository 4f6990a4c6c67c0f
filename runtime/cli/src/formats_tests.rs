//! Text from outside, as commands read and write it, under the loop of `millstream-hostile`: formats, separators,
//! lines of JSON, times and sizes. A target like those of `fuzz/`, here because these parts are this binary's own.

use std::io::BufReader;
use std::str::FromStr;

use clap::Parser;
use millstream_client::Record;
use millstream_hostile::allocation::{Counting, bounded};
use millstream_hostile::fuzz::{Until, run};
use millstream_hostile::targets::Target;
use millstream_protocol::Columns;

use crate::args::{Cli, Command};
use crate::commands::produce::Args;
use crate::framing::Framing;
use crate::records::{Place, Style};
use crate::start::Start;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FORMATS: Target = Target {
    name: "formats",
    run: formats,
    words: &[
        b"%v",
        b"%",
        b"\\",
        b"\\n",
        b"%T",
        b"%d",
        b"{\"value\":",
        b"{\"key\":\"",
        b"\"headers\":{\"",
        b"\"timestamp\":",
        b"null",
        b"9223372036854775808",
        b"\\u0000",
        b"2015-05-17T12:00:00.250Z",
        b"+24:00",
        b"-15m",
        b"@",
        b"18446744073709551615d",
        b"GiB",
        b"\n",
        b"\xff",
        b"\xc3\xa9",
    ],
    bytes_max: 4096,
    seeds,
};

/// The first byte chooses who reads the rest.
fn formats(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let text = std::str::from_utf8(rest).ok();
    match (choice % 6, text) {
        (0, Some(text)) => style(text),
        (1, _) => separated(rest),
        (2, _) => {
            // A tree of JSON and the error's text beside it.
            let args = produce(&["--json"]);
            bounded(rest.len(), rest.len() * 64, || drop(args.record(Some(rest.to_vec()))));
        }
        (3, Some(text)) => words(text),
        (4, _) => lines(rest),
        (5, _) => numbers(rest),
        _ => {}
    }
}

fn style(text: &str) {
    let Ok(style) = bounded(text.len(), text.len() * 40, || Style::parse(text)) else { return };
    let mut columns = Columns::default();
    columns.push(i64::MAX, i64::MIN, Some(b"\xff"), None);
    columns.push(0, i64::MAX, None, Some(b"value"));
    columns.push_header(b"a", None);
    let mut out = Vec::new();
    let place = Place { topic: "orders", partition: u32::MAX };
    columns.rows().for_each(|row| style.write(place, &row, &mut out));
    assert!(out.ends_with(b"\n"), "a record ends its line");
}

/// Up to the first zero byte it is the separator, then a line, split at the first of them.
fn separated(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (separator, line) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(separator) = std::str::from_utf8(separator) else { return };
    let args = produce(&["--null=NULL", &format!("--key-separator={separator}")]);
    let record = args.record(Some(line.to_vec())).expect("any line is a record");
    let at = (0..line.len()).find(|at| !separator.is_empty() && line[*at..].starts_with(separator.as_bytes()));
    let value = at.map_or(line, |at| &line[at + separator.len()..]).to_vec();
    let expected = if value == b"NULL" { Record::default() } else { Record::new(value) };
    assert_eq!(
        record,
        at.map_or(expected.clone(), |at| expected.key(line[..at].to_vec())),
        "nothing of a line is lost"
    );
}

fn produce(flags: &[&str]) -> Args {
    let line = ["millstream", "produce", "orders"].iter().chain(flags);
    match Cli::try_parse_from(line).map(|cli| cli.command) {
        Ok(Command::Produce(args)) => args,
        other => panic!("{flags:?}: {other:?}"),
    }
}

fn words(text: &str) {
    // What they mean is for their own tests; any text is an answer or an error with words.
    if let Err(words) = Start::from_str(text) {
        assert!(!words.is_empty());
    }
    for words in
        [millstream_pipeline::units::duration_ms(text).err(), millstream_pipeline::units::size_bytes(text).err()]
    {
        assert!(words.is_none_or(|words| !words.is_empty()));
    }
}

fn lines(data: &[u8]) {
    let mut input = BufReader::with_capacity(16, data);
    let mut joined = Vec::new();
    loop {
        let chunk = Framing::default().read_chunk(&mut input).expect("memory reads");
        if chunk.is_empty() {
            break;
        }
        for line in chunk.into_iter().flatten() {
            assert!(!line.contains(&b'\n'));
            joined.extend_from_slice(&line);
            joined.push(b'\n');
        }
    }
    // The last line may lack its end.
    joined.truncate(data.len());
    assert_eq!(joined, data, "lines are all there is");
}

/// Numbers that come from brokers and records, shown to people.
fn numbers(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<8>() else { return };
    let number = i64::from_be_bytes(*bytes);
    let shown = [
        crate::format::timestamp(number),
        crate::format::ago(number, 1_700_000_000_000),
        crate::format::milliseconds(number),
        crate::format::bytes(number.cast_unsigned()),
        crate::format::count(number.cast_unsigned()),
        crate::format::nanoseconds(f64::from_bits(number.cast_unsigned())),
        crate::format::duration(std::time::Duration::from_millis(number.cast_unsigned())),
    ];
    assert!(shown.iter().all(|text| !text.is_empty()));
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let seeds: [(&str, &[u8]); 13] = [
        ("format", b"\x00%t/%p@%o %k %v %h %T %d%%\\n\\t\\0\\\\"),
        ("format-wrong", b"\x00100% of %x"),
        ("separator", b"\x01:\0key:value:more"),
        ("separator-long", b"\x01=>\0key=>NULL"),
        ("separator-none", b"\x01\0a line"),
        ("json", br#"2{"key":"k","value":{"a":1},"headers":{"h":"1","n":null},"timestamp":7,"topic":"x"}"#),
        ("json-list", b"\x02[1]"),
        ("json-bytes", b"\x02{\"value_base64\":\"/wA=\",\"headers\":[{\"name_base64\":\"/g==\",\"value\":null}]}"),
        ("time", b"\x032015-05-17T12:00:00.250+02:00"),
        ("age", b"\x03-15m"),
        ("lines", b"\x04one\n\nthree\r\nfour"),
        ("numbers", b"\x05\x7f\xff\xff\xff\xff\xff\xff\xff\x80\0\0\0\0\0\0\0"),
        ("number-small", b"\x05\0\0\x01\x4d\x5a\x4c\x8e\xfa\0\0\0\0\0\0\0\x07"),
    ];
    let mut seeds = seeds.map(|(name, seed)| (name.to_owned(), seed.to_vec())).to_vec();
    // Written as the digit to be readable.
    seeds.iter_mut().filter(|(_, seed)| seed[0] == b'2').for_each(|(_, seed)| seed[0] = 2);
    seeds
}

#[test]
fn text_from_outside_breaks_nothing() {
    millstream_hostile::fuzz::check_seeds(&FORMATS);
    run(&FORMATS, 0x6d69_6c6c, Until::Executions(5_000));
}
