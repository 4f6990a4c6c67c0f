//! `pipeline eval`: results, failures of single records, and expressions that are refused.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};

fn check(arguments: &[&str], input: &[u8], expect: Expect) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["--color", "never", "pipeline", "eval"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that is refused reads nothing.
    let _closed = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    expect.assert_eq(&format!("{out}-- {}\n{err}", output.status.code().unwrap()));
}

#[test]
fn records_of_standard_input() {
    check(
        &["value.a + 1"],
        b"{\"a\":1}\n{\"a\":2.5}\n",
        expect![[r#"
        2
        3.5
        -- 0
    "#]],
    );
    check(
        &["value.?a"],
        b"{\"a\":\"x\"}\n{}\nplain\n",
        expect![[r#"
        x
        null
        null
        -- 0
    "#]],
    );
    check(
        &["--as", "filter", "value.a > 1"],
        b"{\"a\":1}\n{\"a\":2}\n",
        expect![[r#"
        false
        true
        -- 0
    "#]],
    );
    check(
        &["--as", "key", "sha1(value.a)", "--output", "json"],
        b"{\"a\":\"abc\"}\n",
        expect![[r#"
        {"result":"a9993e364706816aba3e25717850c26c9cd0d89d"}
        -- 0
    "#]],
    );
    check(
        &["lists.range(3)"],
        b"",
        expect![[r#"
        [0,1,2]
        -- 0
    "#]],
    );
    check(
        &["--delimiter", "\\0", "value.size()"],
        b"a\nb\0c\0",
        expect![[r#"
        3
        1
        -- 0
    "#]],
    );
}

#[test]
fn records_as_consume_prints_them() {
    let line = br#"{"topic":"t","partition":3,"offset":9,"timestamp":1774747800250,"key":"k","value":"{\"a\":1}","headers":[{"name":"h","value":"x"}]}"#;
    let line = [&line[..], b"\n"].concat();
    let expression =
        "[headers.h, key, topic, string(partition), string(offset), string(time), string(value.a)].join(' ')";
    check(
        &["--json", expression],
        &line,
        expect![[r#"
        x k t 3 9 2026-03-29T01:30:00.25Z 1
        -- 0
    "#]],
    );
    check(
        &["--json", "value.size()"],
        b"{\"value_base64\":\"/wA=\"}\nplain\n",
        expect![[r#"
        2
        -- 4
        error: record 2: not JSON: expected value at line 1 column 1
        error: 1 of 2 records failed
    "#]],
    );
}

#[test]
fn what_fails_is_told() {
    check(
        &["value.a + 1"],
        b"{\"a\":1}\n{\"b\":1}\n{\"a\":3}\n",
        expect![[r#"
        2
        4
        -- 4
        error: record 2: `value.a + 1`: no field `a`
        error: 1 of 3 records failed
    "#]],
    );
    check(
        &["--as", "filter", "value.a"],
        b"{\"a\":1}\n",
        expect![[r#"
        -- 4
        error: record 1: `value.a` gave an int, expected true or false
        error: 1 of 1 record failed
    "#]],
    );
    check(
        &["--output", "json", "value.a"],
        b"{}\n",
        expect![[r#"
        {"error":"`value.a`: no field `a`"}
        -- 4
        error: record 1: `value.a`: no field `a`
        error: 1 of 1 record failed
    "#]],
    );
    check(
        &["value.a.lower() == 'x'"],
        b"",
        expect![[r#"
        -- 4
        error: unknown function `lower`; there is `text.lowerAscii()`
         --> expression:1:9
          |
        1 | value.a.lower() == 'x'
          |         ^^^^^ did you mean `lowerAscii`?

    "#]],
    );
    check(
        &["format_time(time, '%Y', 'Europe/Wien')"],
        b"",
        expect![[r#"
        -- 4
        error: there is no time zone `Europe/Wien`: write one such as Europe/Vienna or +02:00
         --> expression:1:1
          |
        1 | format_time(time, '%Y', 'Europe/Wien')
          | ^^^^^^^^^^^

    "#]],
    );
    check(
        &["value.a =="],
        b"",
        expect![[r#"
        -- 4
        error: the expression ends too early
         --> expression:1:11
          |
        1 | value.a ==
          |           ^

    "#]],
    );
}
