//! The page, the table and the functions say the same; what is wrong with a call is told; nothing takes more than it may.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use millstream_protocol::columns::Columns;

use super::table::{self, Form};
use crate::expr::{CompileError, Expression, Origin};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/EXPRESSIONS.md");
/// 2026-03-29T01:30:00.250Z.
const TIME: i64 = 1_774_747_800_250;

fn result(source: &str, value: &[u8]) -> Result<String, String> {
    let expression = Expression::compile(source).map_err(|error| format!("compile: {}", error.message))?;
    let mut columns = Columns::default();
    columns.push(17, TIME, Some(b"user-7"), Some(value));
    columns.push_header(b"tenant", Some(b"blue"));
    let row = columns.rows().next().unwrap();
    let mut out = Vec::new();
    let made = expression.value(&row, Origin { topic: "access-log", partition: 2 }, &mut out)?;
    Ok(if made { String::from_utf8_lossy(&out).into_owned() } else { "null".to_owned() })
}

/// A row of the page: its expression and result.
fn row(line: &str) -> Option<(String, &str)> {
    let (source, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
    Some((source.replace("\\|", "|"), rest.strip_suffix("` |")?))
}

/// `UPDATE_EXPECT=1` writes the results anew.
#[test]
fn the_page_is_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let record = page.split("```json\n").nth(1).unwrap().lines().next().unwrap();
    let (mut rows, mut written) = (0, String::new());
    for line in page.lines() {
        match row(line) {
            Some((source, expected)) => {
                rows += 1;
                let result = result(&source, record.as_bytes()).unwrap_or_else(|error| panic!("{source}: {error}"));
                if std::env::var_os("UPDATE_EXPECT").is_none() {
                    assert_eq!(result, expected, "{source}");
                }
                written.push_str(&format!("| `{}` | `{result}` |\n", source.replace('|', "\\|")));
            }
            None => written.push_str(&format!("{line}\n")),
        }
    }
    assert!(rows > 150, "{rows} rows");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PAGE, written).unwrap();
    }
}

/// How a signature's call begins in a text.
fn called(signature: &table::Signature) -> String {
    match signature.form {
        Form::Global => format!("{}(", signature.name),
        Form::Member => format!(".{}(", signature.name),
    }
}

#[test]
fn the_page_names_every_function() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let sources: Vec<String> = page.lines().filter_map(row).map(|(source, _)| source).collect();
    for signature in table::all() {
        let call = called(&signature);
        assert!(sources.iter().any(|source| source.contains(&call)), "no row of the page calls {}", signature.shown);
    }
}

/// A function that is written here has a signature, and a signature a function or a macro.
#[test]
fn the_table_names_every_function() {
    let named: BTreeSet<&str> = table::all().map(|signature| signature.name).collect();
    for own in super::OWN.into_iter().flatten().filter(|own| !own.name.starts_with('@')) {
        let arity = |arity: &usize| arity - usize::from(own.member);
        let within = |signature: &table::Signature| {
            own.arities.iter().all(|count| (signature.least..=signature.most).contains(&arity(count)))
        };
        assert!(table::named(own.name).any(|signature| within(&signature)), "{} has no signature like it", own.name);
    }
    assert!(named.contains("lowerAscii") && named.contains("math.abs") && named.len() > 110, "{}", named.len());
}

/// Independent: made by `golden.py` with Python's hashlib, hmac, uuid, urllib, ipaddress, zoneinfo and datetime.
#[test]
fn as_python_has_it() {
    let golden = include_str!("golden.tsv");
    let mut count = 0;
    for line in golden.lines() {
        let (source, expected) = line.split_once('\t').unwrap();
        assert_eq!(result(source, b"{}").as_deref(), Ok(expected), "{source}");
        count += 1;
    }
    assert!(count > 400, "{count}");
}

/// An expression that is refused: the message, what it points at, what is suggested, and the list's second line.
fn refused(source: &str, expect: Expect) {
    let CompileError { message, at, length, suggestion, help } = Expression::compile(source).unwrap_err();
    let suggestion = suggestion.map(|name| format!(", `{name}`?")).unwrap_or_default();
    let help = help.lines().nth(2).map(|line| format!(" [{line}]")).unwrap_or_default();
    expect.assert_eq(&format!("{message} at `{}`{suggestion}{help}", &source[at..at + length]));
}

#[test]
fn unknown_functions_are_followed_by_the_nearest_or_the_list() {
    let check = refused;
    check(
        "value.x.lower()",
        expect!["unknown function `lower`; there is `text.lowerAscii()` at `lower`, `lowerAscii`?"],
    );
    check("value.x.lowr()", expect!["unknown function `lowr`; there is `text.lowerAscii()` at `lowr`, `lowerAscii`?"]);
    check("lowerAscii(value.x)", expect!["`lowerAscii` is called otherwise: `text.lowerAscii()` at `lowerAscii`"]);
    check(
        "value.x.toUpperCase()",
        expect!["unknown function `toUpperCase`; there is `text.upperAscii()` at `toUpperCase`, `upperAscii`?"],
    );
    check("value.x.sha256()", expect!["`sha256` is called otherwise: `sha256(text or bytes)` at `sha256`"]);
    check(
        "sha265(value.x)",
        expect!["unknown function `sha265`; there is `sha256(text or bytes)` at `sha265`, `sha256`?"],
    );
    check(
        "base64.encod(value.x)",
        expect![
            "unknown function `base64.encod`; there is `base64.encode(text or bytes)` at `base64.encod`, `base64.encode`?"
        ],
    );
    check(
        "now()",
        expect!["unknown function `now`: a result is made of the record alone (`time` is the record's time) at `now`"],
    );
    check(
        "value.qqqqq()",
        expect!["unknown function `qqqqq` at `qqqqq` [conversions: string, int, uint, double, bool, bytes]"],
    );
}

#[test]
fn what_cannot_succeed_is_refused_before_the_first_record() {
    let check = refused;
    check("sha256()", expect!["`sha256` takes other arguments: `sha256(text or bytes)` at `sha256`"]);
    check("value.x.trim(1)", expect!["`trim` takes other arguments: `text.trim()` at `trim`"]);
    check(
        "format_time(time)",
        expect!["`format_time` takes other arguments: `format_time(time, format[, zone])` at `format_time`"],
    );
    check("format_time(time, '%Q')", expect!["the format `%Q` has a directive that does not exist at `format_time`"]);
    check(
        "format_time(time, '%Y', 'Europe/Wien')",
        expect!["there is no time zone `Europe/Wien`: write one such as Europe/Vienna or +02:00 at `format_time`"],
    );
    check(
        "time < timestamp('2026-01-31')",
        expect![
            "`2026-01-31` is no time of RFC 3339, such as 2026-01-31T13:05:00Z; parse_time reads others at `timestamp`"
        ],
    );
    check("duration('ten')", expect!["this is no duration, such as 1h30m, 90s or 250ms at `duration`"]);
    check(
        "cidr('10.0.0.0/33').containsIP(value.x)",
        expect!["`10.0.0.0/33` is no network, such as 10.0.0.0/8 at `cidr`"],
    );
    check("sha256(1)", expect!["`sha256(text or bytes)` was given int at `sha256`"]);
    check(
        "regex.extract(value.x, value.y)",
        expect!["the pattern of `regex.extract` is a text in quotes: it is compiled before the first record at `(`"],
    );
    check(
        "regex.extract(value.x, '(a)(b)')",
        expect![
            "the pattern of `regex.extract` has 2 groups: name the one that is meant by (?:…) around the others at `(`"
        ],
    );
    check(
        "regex.replace(value.x, 'a')",
        expect!["`regex.replace` takes other arguments: `regex.replace(text, 'pattern', new[, count])` at `replace`"],
    );
    check("regex.replace(value.x, '(', '')", expect!["the pattern cannot be read: unclosed group at `(`"]);
    check("value.x.transformList(1, v, v)", expect!["a simple name belongs here at `1`"]);
}

#[test]
fn failures_of_one_record() {
    let check = |source: &str, expect: Expect| {
        let value = br#"{"x":"text","n":1,"list":[1,"a"],"url":"http://[::1"}"#;
        expect.assert_eq(&result(source, value).unwrap_err());
    };
    check("sha256(value.n)", expect!["`sha256(value.n)`: `sha256(text or bytes)` was given int"]);
    check("value.n.lowerAscii()", expect!["`value.n.lowerAscii()`: `text.lowerAscii()` was given int"]);
    check("max(value.list)", expect!["`max(value.list)`: `max(value, …)` was given string, int"]);
    check(
        "timestamp(value.x)",
        expect![
            "`timestamp(value.x)`: `text` is no time of RFC 3339, such as 2026-01-31T13:05:00Z; parse_time reads others"
        ],
    );
    check("parse_time(value.x, '%Y')", expect!["`parse_time(value.x, '%Y')`: `text` is not of the form `%Y`"]);
    check(
        "parse_time('2026-03-29 02:30' + value.x.substring(4), '%Y-%m-%d %H:%M', 'Europe/Vienna')",
        expect![
            "`parse_time('2026-03-29 02:30' + value.x.substring(4), '%Y-%m-%d %H:%M', 'Europe/Vienna')`: `2026-03-29 02:30` is a time that this zone leaves out"
        ],
    );
    check("ip(value.x)", expect!["`ip(value.x)`: `text` is no IP address"]);
    check("url.parse(value.url)", expect!["`url.parse(value.url)`: `http://[::1` is no URL: the host or port"]);
    check("json.parse(value.x)", expect!["`json.parse(value.x)`: this is not JSON: a value belongs here at byte 1"]);
    check("hex.decode(value.x)", expect!["`hex.decode(value.x)`: this is not two hex digits for each byte"]);
    check(
        "uuid5(value.x, 'a')",
        expect!["`uuid5(value.x, 'a')`: the namespace is a UUID, or one of dns, url, oid and x500"],
    );
    check(
        "regex.replace(value.x, 'x', r'\\7')",
        expect![[r#"`regex.replace(value.x, 'x', r'\7')`: the pattern has no group 7"#]],
    );
    check(
        "truncate_time(time, duration('0s'))",
        expect!["`truncate_time(time, duration('0s'))`: a duration above zero is needed"],
    );
}
