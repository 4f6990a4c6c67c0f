//! Pipeline files and the expressions in them, as an author may write them, and records under expressions, as any
//! producer may write them.

use std::sync::{Arc, LazyLock};

use millstream_pipeline::expr::{Expression, Origin, units_max};
use millstream_pipeline::plan::Action;
use millstream_pipeline::{Plan, parse};
use millstream_protocol::Columns;

use super::Target;
use crate::allocation::{allocated_by, bounded};

pub(super) const YAML: Target = Target {
    name: "yaml",
    run: yaml,
    words: &[
        b"- ",
        b"[",
        b"{",
        b"? ",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!binary ",
        b"|\n",
        b">-\n",
        b"---\n",
        b"\t",
        b": ",
        b"'",
        b"\"",
        b"${env:A}",
        b"topic: ",
        b"from: ",
        b"steps:\n",
        b"on_error: ",
        b"filter: ",
        b"plugin: ",
        b"with: ",
        b"#",
        b"\xc3\xa9",
    ],
    bytes_max: 8 << 10,
    seeds: yaml_seeds,
};

pub(super) const CEL: Target = Target {
    name: "cel",
    run: cel,
    words: &[
        b"(",
        b"[",
        b"{",
        b"!",
        b"-",
        b"+1",
        b".a",
        b"[0]",
        b" && ",
        b" || ",
        b" ? ",
        b" : ",
        b"value",
        b"headers",
        b"key",
        b".all(x, ",
        b".map(x, ",
        b".filter(x, ",
        b".exists(x, ",
        b"size(",
        b"has(",
        b".matches('",
        b"string(",
        b"int(",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"1e309",
        b"'\\u0000'",
        b"b'\\xff'",
        b"r'",
        b"'''",
        b".split('')",
        b".replace('a', 'aa')",
        b".format([",
        b".substring(",
        b"\xc3\xa9",
        b" in ",
        b" % 0",
        b" / 0",
        b"timestamp",
    ],
    bytes_max: 2 << 10,
    seeds: cel_seeds,
};

pub(super) const VALUES: Target = Target {
    name: "values",
    run: values,
    words: &[
        b"[",
        b"{\"a\":",
        b"]",
        b"}",
        b"\"",
        b"\\u0000",
        b"\\ud800",
        b"1e400",
        b"-0",
        b"18446744073709551615",
        b"null",
        b"true",
        b",",
        b"\"a\"",
        b"\"list\":[",
        b"0.1",
        b"\xf0\x9f\x98\x80",
        b"\xff",
    ],
    bytes_max: 16 << 10,
    seeds: value_seeds,
};

/// A tree knows where each of its nodes stands, which takes far more than the two bytes that a node may have.
const YAML_BYTES_PER_BYTE: usize = 400;
/// What names for values may stand for, ten thousand of them.
const YAML_ALLOWANCE: usize = 8 << 20;
/// A parser's tables for its language, made once a thread.
const CEL_ALLOWANCE: usize = 16 << 20;
/// Of the samples' headers.
const HEADER_BYTES: usize = 3;
/// Bytes allocated in all, freed or not, by a unit of work: twice evaluated, and each node of a loop takes a few texts
/// for names and errors.
const ALLOCATED_PER_UNIT: usize = 64;
/// As trees of values: a number of one digit and its comma become a boxed value.
const VALUE_BYTES_PER_BYTE: usize = 64;

/// A file that is read, planned, and described when it is wrong.
fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(data.len(), data.len() * YAML_BYTES_PER_BYTE + YAML_ALLOWANCE, || {
        let found = match parse(text, "p.yaml") {
            Ok(spec) => Plan::new(&spec, &Default::default()).err(),
            Err(found) => Some(found),
        };
        let Some(found) = found else { return };
        assert!(found.has_errors(), "refused for nothing");
        let shown = found.plain();
        assert!(shown.contains("p.yaml"), "an error has a place: {shown}");
        for diagnostic in found.list() {
            let (line, column) = found.position(diagnostic);
            assert!(line >= 1 && column >= 1);
        }
    });
}

/// An expression, compiled and tried on a few records.
fn cel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(expression) = bounded(data.len(), data.len() * 1024 + CEL_ALLOWANCE, || compile(text)) else { return };
    for row in SAMPLES.rows() {
        let origin = Origin { topic: "orders", partition: 3 };
        let bytes = row.value.map_or(0, <[u8]>::len) + row.key.map_or(0, <[u8]>::len) + HEADER_BYTES;
        let units = usize::try_from(units_max(bytes)).expect("a small record's work is a small number");
        // What came of it is the expression's matter; what it took is ours: a unit of work makes no more than a byte, and
        // the result is written once more.
        bounded(data.len(), 2 * units, || {
            let mut out = Vec::new();
            let (_, made) = allocated_by(|| (expression.test(&row, origin), expression.value(&row, origin, &mut out)));
            assert!(
                made <= ALLOCATED_PER_UNIT * units,
                "{made} bytes allocated in all for {units} units of work: {text}"
            );
            out.clear();
            let _ = expression.key(&row, origin, &mut out);
        });
    }
}

fn compile(text: &str) -> Option<Arc<Expression>> {
    // As YAML reads a double-quoted text, all of JSON's escapes mean the same.
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    let file = format!(
        "pipeline: p\ninputs: [{{ topic: a }}]\nsteps:\n  - filter: {quoted}\n    on_error: skip\noutputs: [{{ topic: b }}]\n"
    );
    let spec = parse(&file, "p.yaml").ok()?;
    let plan = Plan::new(&spec, &Default::default()).ok()?;
    plan.steps.into_iter().find_map(|step| match step.action {
        Action::Filter(expression) => Some(expression),
        _ => None,
    })
}

static SAMPLES: LazyLock<Columns> = LazyLock::new(|| {
    let mut columns = Columns::default();
    columns.push(5, 1_431_864_000_250, Some(b"k"), Some(br#"{"a":{"b":[1,2,{"c":"x"}]},"n":-7,"f":1.5,"s":"text"}"#));
    columns.push_header(b"h", Some(b"v"));
    columns.push_header(b"n", None);
    columns.push(6, 0, None, None);
    columns.push(7, -1, Some(b"\xff\xfe"), Some(b"plain text"));
    columns
});

static EXPRESSIONS: LazyLock<Vec<Arc<Expression>>> = LazyLock::new(|| {
    let texts = [
        "value.a.b > 1",
        "value",
        "value.list.all(x, x.n > 0)",
        "size(value)",
        "has(value.a) && value.a.startsWith('x')",
        "key + '/' + string(offset)",
        "headers.h == 'v'",
        "{'copy': value, 'at': timestamp}",
        "value.a[0]",
    ];
    texts.iter().map(|text| compile(text).unwrap_or_else(|| panic!("{text} compiles"))).collect()
});

/// A record's key and value: the first byte is the key's length.
fn values(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    let mut columns = Columns::default();
    columns.push(1, 2, Some(key), Some(value));
    columns.push_header(key, Some(value));
    let allowance = data.len() * VALUE_BYTES_PER_BYTE;
    for expression in EXPRESSIONS.iter() {
        for row in columns.rows() {
            let origin = Origin { topic: "orders", partition: 3 };
            bounded(data.len(), allowance, || {
                let mut out = Vec::new();
                let first = expression.value(&row, origin, &mut out);
                let mut again = Vec::new();
                assert_eq!(expression.value(&row, origin, &mut again), first, "the same record gives the same");
                assert_eq!(again, out, "the same record gives the same bytes");
                let _ = (expression.test(&row, origin), expression.key(&row, origin, &mut out));
            });
        }
    }
}

fn yaml_seeds() -> Vec<(String, Vec<u8>)> {
    let full = "version: 1\npipeline: web\nguarantee: at_least_once\ninputs:\n  - topic: log\n    from: earliest\n    partitions: 3\n\
steps:\n  - name: parse\n    plugin: { use: parse@0.1, with: { format: combined, secret: '${env:TOKEN}' } }\n    limits: { memory: 64MiB, time: 1s }\n\
    on_error: { retry: { attempts: 3, backoff: 100ms }, dead_letter: bad }\n  - name: only\n    filter: value.status >= 400\n  - name: size\n    branch:\n      big: value.n > 9\n      rest: default\n\
  - name: by\n    from: only\n    key_by: value.path\noutputs:\n  - { topic: out, from: by, trace: true }\n";
    let nested = "a: ".to_owned() + &"[".repeat(3000);
    let maps = "{a: ".repeat(500);
    let laughs: String = (0..12)
        .map(|n| {
            let reference = if n == 0 { "lol".to_owned() } else { format!("*a{}", n - 1) };
            format!("a{n}: &a{n} [{}]\n", [reference.as_str(); 9].join(","))
        })
        .collect();
    let seeds: [(&str, &[u8]); 9] = [
        ("full", full.as_bytes()),
        ("small", b"pipeline: p\ninputs: [{ topic: a }]\noutputs: [{ topic: b }]\n"),
        ("map", b"pipeline: p\ninputs: [{ topic: a }]\nsteps:\n  - map: { value: 'value.x', headers: { h: key } }\noutputs: [{ topic: b }]\n"),
        ("nested", nested.as_bytes()),
        ("maps", maps.as_bytes()),
        ("laughs", laughs.as_bytes()),
        ("merge", b"pipeline: p\nx: &a { topic: a }\ninputs: [{ <<: *a }]\noutputs: [{ topic: b }]\n"),
        ("anchors", b"pipeline: &p p\ninputs: [{ topic: *p }]\noutputs: [{ topic: b }]\n"),
        ("tags", b"pipeline: !!str p\ninputs: !!seq [{ topic: !!binary YQ== }]\noutputs: [{ topic: b }]\n"),
    ];
    seeds.map(|(name, seed)| (name.to_owned(), seed.to_vec())).to_vec()
}

fn cel_seeds() -> Vec<(String, Vec<u8>)> {
    let seeds = [
        ("compare", "value.a.b[2].c == 'x' && value.n < 0 || has(value.s)".to_owned()),
        ("macros", "value.a.b.all(x, type(x) != string) ? [1, 2].map(x, x * 2) : [3].filter(x, x > 2)".to_owned()),
        (
            "strings",
            "value.s.replace('t', 'T').split('x').join(',') + key.upperAscii() + headers.h.substring(0, 1)".to_owned(),
        ),
        ("numbers", "int('7') + 9223372036854775806 - offset * partition % 3 + int(1.5e3)".to_owned()),
        ("maps", "{'a': value, 'b': [timestamp, topic], 1: {true: null}}.size() > 2".to_owned()),
        ("regex", "value.s.matches('^(t|e){1,20}[^x]*$')".to_owned()),
        ("format", "'%s %d %f %x'.format([value.s, 7, 1.5, 255])".to_owned()),
        ("bytes", "b'\\xff\\x00' == bytes(key) || '\\u00e9'.size() == 1".to_owned()),
        ("parentheses", "(".repeat(500) + "1" + &")".repeat(500)),
        ("lists", "[".repeat(300)),
        ("nots", "!".repeat(900) + "true"),
        ("minuses", "-".repeat(900) + "1"),
        ("sum", format!("1{} > 0", "+1".repeat(900))),
        ("selects", format!("value{}", ".a".repeat(900))),
        ("indexes", format!("value{}", "[0]".repeat(600))),
        ("ternaries", "true ? ".repeat(250) + "1" + &" : 2".repeat(250)),
        ("ands", format!("true{}", " && true".repeat(230))),
        (
            "loops",
            "lists.range(999).all(a, lists.range(999).all(b, lists.range(999).all(c, a + b + c >= 0)))".to_owned(),
        ),
        ("doubling", format!("value.s{}.size()", ".replace('t', 'tttttttttttttttt')".repeat(9))),
        ("copies", "lists.range(9999).map(x, [value, value, headers]).size()".to_owned()),
        ("pattern", "lists.range(999).exists(x, (value.s + string(x)).matches('(t|te|tex)*[^x]{1,60}$'))".to_owned()),
        ("swallowed", "lists.range(9999).exists(a, lists.range(9999).exists(b, a + 'x' == value))".to_owned()),
        ("nest-of-macros", "[1, 2, 3, 4, 5, 6, 7, 8].all(a, ".repeat(5) + "true" + &")".repeat(5)),
    ];
    seeds.map(|(name, seed)| (name.to_owned(), seed.into_bytes())).to_vec()
}

fn value_seeds() -> Vec<(String, Vec<u8>)> {
    let nested = [b"\x01k".to_vec(), b"[".repeat(3000)].concat();
    let objects = [b"\x01k".to_vec(), b"{\"a\":".repeat(1000)].concat();
    let closed = [b"\x01k{\"a\":".to_vec(), b"[".repeat(120), b"]".repeat(120), b"}".to_vec()].concat();
    let seeds: [(&str, &[u8]); 8] = [
        ("object", br#"{k"}{"a":{"b":2},"list":[{"n":1},{"n":2}],"x":null}"#),
        ("list", b"\x02key[1,2.5,\"three\",true,null,{\"n\":-1},18446744073709551615,1e300]"),
        ("text", b"\x01kplain text"),
        ("binary", b"\x03\xff\xfe\xfd\xff\x00\x01"),
        ("escapes", br#"k{"a":"\u00e9\ud83d\ude00\n\"","\u0061":1,"a":2}"#),
        ("nested", &nested),
        ("objects", &objects),
        ("closed", &closed),
    ];
    let mut seeds = seeds.map(|(name, seed)| (name.to_owned(), seed.to_vec())).to_vec();
    // The first byte of these was written as a letter to be readable: make it a key's length.
    seeds.iter_mut().filter(|(_, seed)| seed[0] >= b' ').for_each(|(_, seed)| seed[0] = 1);
    seeds
}
