//! Expressions over sample records: results, errors, and how much of the value they look at.

use expect_test::{Expect, expect};
use millstream_protocol::columns::Columns;

use super::*;

const ORIGIN: Origin<'_> = Origin { topic: "access-log", partition: 2 };

fn with_row<T>(value: Option<&[u8]>, use_row: impl FnOnce(&Row<'_>) -> T) -> T {
    let mut columns = Columns::default();
    columns.push(17, 1_000, Some(b"k1"), value);
    columns.push_header(b"tenant", Some(b"blue"));
    columns.push_header(b"tenant", Some(b"red"));
    use_row(&columns.rows().next().unwrap())
}

fn check(source: &str, value: impl AsRef<[u8]>, expect: Expect) {
    let expression = Expression::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    let shown = with_row(Some(value.as_ref()), |row| {
        let mut out = Vec::new();
        match expression.value(row, ORIGIN, &mut out) {
            Ok(true) => String::from_utf8(out).unwrap(),
            Ok(false) => "(null)".into(),
            Err(error) => format!("error: {error}"),
        }
    });
    expect.assert_eq(&shown);
}

#[test]
fn values() {
    let line = r#"{"status":404,"path":"/a b","bytes":1.5,"tags":["x","y"],"user":null,"nested":{"b":1,"a":"\n"},"big":18446744073709551615}"#;
    check("value.status >= 400 && value.path.startsWith('/')", line, expect!["true"]);
    check("value.status + 1", line, expect!["405"]);
    check(
        "{'p': value.path, 'a': value.nested, 't': value.tags, 'n': value.user}",
        line,
        expect![[r#"{"a":{"a":"\n","b":1},"n":null,"p":"/a b","t":["x","y"]}"#]],
    );
    check("value['path'].upperAscii()", line, expect!["/A B"]);
    check("has(value.user) && !has(value.absent)", line, expect!["true"]);
    check("value.tags.map(t, t + '!')", line, expect![[r#"["x!","y!"]"#]]);
    check("value.big", line, expect!["18446744073709551615"]);
    check("value.bytes * 2.0", line, expect!["3"]);
    check("value.user", line, expect!["(null)"]);
    check("value.path", line, expect!["/a b"]);
    check("value.nested", line, expect![[r#"{"b":1,"a":"\n"}"#]]);
    check("has(value.path)", line, expect!["true"]);
    check(
        "value.a",
        r#"{"a":1,"a":2}"#,
        expect!["error: `value.a`: the field `a` is there twice, the second time at byte 7"],
    );
    check("value", "plain text, no JSON", expect!["plain text, no JSON"]);
    check("value.size()", "plain", expect!["5"]);
    check("value", "[1, 2]", expect!["[1, 2]"]);
    check(
        "key + '/' + topic + '/' + string(partition) + '@' + string(offset) + ' ' + string(timestamp)",
        "",
        expect!["k1/access-log/2@17 1000"],
    );
    check("headers.tenant", "", expect!["red"]);
    check("math.abs(-3)", "", expect!["3"]);
    check("value.exists(value, value == 1)", "[1]", expect!["true"]);
}

#[test]
fn failures_of_one_record() {
    check("value.absent", r#"{"a":1}"#, expect!["error: `value.absent`: no field `absent`"]);
    check("value.a.b", r#"{"a":1}"#, expect!["error: `value.a.b`: a field was asked of a int"]);
    check(
        "value.status >= 400",
        "not json",
        expect!["error: `value.status >= 400`: a field was asked of a string, the value is not JSON"],
    );
    check(
        "value.a > 'x'",
        r#"{"a":1}"#,
        expect!["error: `value.a > 'x'`: found no matching overload for '_>_' applied to '(int, string)'"],
    );
    check("1 / value.a", r#"{"a":0}"#, expect!["error: `1 / value.a`: 1 / 0: division by zero"]);
    check(
        "int(value.a)",
        r#"{"a":"many"}"#,
        expect!["error: `int(value.a)`: string parse error: invalid digit found in string"],
    );
    check("headers.absent", "", expect!["error: `headers.absent`: no field `absent`"]);
    check(
        "value.a + [value.a]",
        format!(r#"{{"a":"{}"}}"#, "x".repeat(1000)),
        expect![[
            r#"error: `value.a + [value.a]`: Unsupported binary operator 'add': String("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"#
        ]],
    );
}

/// Bytes that are no text harm only whoever looks at them.
#[test]
fn no_text_in_a_field() {
    let value = b"{\"a\":1,\"b\":\"\xff\",\"c\":{\"d\":2}}";
    check("value.a + value.c.d", value, expect!["3"]);
    check("value.a", value, expect!["1"]);
    check("value.b", value, expect!["error: `value.b`: a string that is no UTF-8 at byte 11"]);
    check(
        "value.a",
        b"{\"a\":1} \xff",
        expect!["error: `value.a`: the value is not JSON: more than one value at byte 8"],
    );
}

/// Numbers of JSON are of one kind.
#[test]
fn numbers_promote() {
    let line = r#"{"whole":3,"fraction":3.5,"sixteen":16.0,"big":9223372036854775808,"zero":0,"text":"x"}"#;
    check("value.fraction * 2", line, expect!["7"]);
    check("value.whole * 2", line, expect!["6"]);
    check("2 * value.fraction - value.whole + 0.5", line, expect!["4.5"]);
    check("value.whole + value.fraction", line, expect!["6.5"]);
    check("value.sixteen / value.whole", line, expect!["5.333333333333333"]);
    check("(16 + value.whole) / 2", line, expect!["9"]);
    check("div(16 + value.whole, 2)", line, expect!["9.5"]);
    check("div(1, value.zero)", line, expect!["error: `div(1, value.zero)`: division by zero"]);
    check("value.fraction % 2", line, expect!["1.5"]);
    check("value.whole % 2", line, expect!["1"]);
    check("value.whole < value.fraction && value.fraction > 3 && value.sixteen == 16", line, expect!["true"]);
    check("value.sixteen in [1, 16]", line, expect!["true"]);
    check("value.big + 1", line, expect!["9223372036854775809"]);
    check("value.big - value.big", line, expect!["0"]);
    check("value.big > value.whole", line, expect!["true"]);
    check(
        "value.big * 4",
        line,
        expect!["error: `value.big * 4`: 9223372036854775808 * 4 has more than 64 bits: double(…) makes it a fraction"],
    );
    check(
        "value.text * 2",
        line,
        expect!["error: `value.text * 2`: found no matching overload for '_*_' applied to '(string, int)'"],
    );
    check(
        "string(value.sixteen) + '/' + string(value.fraction) + '/' + string(value.whole)",
        line,
        expect!["16/3.5/3"],
    );
    check("string(1e21) + ' ' + string(true)", line, expect!["1e+21 true"]);
    check("'a' + 'b' + value.text", line, expect!["abx"]);
    check("[1] + [value.fraction]", line, expect!["[1,3.5]"]);
}

/// What is only passed on keeps its digits, its bytes and the order of its fields.
#[test]
fn what_passes_is_not_touched() {
    let line = r#"{ "n": 123456789012345678901234567890, "p": 0.1000, "e": 1e400, "o": {"z":1, "a": [1.0]} }"#;
    check(
        "value",
        line,
        expect![[r#"{ "n": 123456789012345678901234567890, "p": 0.1000, "e": 1e400, "o": {"z":1, "a": [1.0]} }"#]],
    );
    check("value.n", line, expect!["123456789012345678901234567890"]);
    check("value.p", line, expect!["0.1000"]);
    check("value.e", line, expect!["1e400"]);
    check("value.o", line, expect![[r#"{"z":1, "a": [1.0]}"#]]);
    check("{'n': value.n, 'e': value.e}", line, expect![[r#"{"e":1e400,"n":123456789012345678901234567890}"#]]);
    check("double(value.n)", line, expect!["1.2345678901234568e+29"]);
    check("string(value.n)", line, expect!["123456789012345678901234567890"]);
    check(
        "value.n + 1",
        line,
        expect![
            "error: `value.n + 1`: a number of more than 64 bits, or beyond the range of numbers, is carried and not calculated with: double(…) makes it a fraction"
        ],
    );
    check("double(value.e)", line, expect!["error: `double(value.e)`: 1e400 is out of the range of numbers"]);
    check("value", "\"text\"", expect![[r#""text""#]]);
}

/// A mistake is told as what it is.
#[test]
fn mistakes_in_json_are_named() {
    check(
        "value.a > 1",
        r#"{"a":"\ud800"}"#,
        expect!["error: `value.a > 1`: the value is not JSON: a lone surrogate, half of a character, at byte 6"],
    );
    check(
        "value.a > 1",
        r#"{"a":1,"b":2,"a":3}"#,
        expect!["error: `value.a > 1`: the field `a` is there twice, the second time at byte 13"],
    );
    check("value.b > 1", r#"{"a":1,"b":2,"a":3}"#, expect!["true"]);
    check(
        "value.o.a > 1",
        r#"{"o":{"a":1,"a":3}}"#,
        expect!["error: `value.o.a > 1`: the field `a` is there twice, the second time at byte 12"],
    );
    check(
        "value.a > 1",
        r#"{"a":2,"b":tru}"#,
        expect!["error: `value.a > 1`: the value is not JSON: a value belongs here at byte 14"],
    );
    check(
        "value.a > 1",
        "\u{feff}{\"a\":2}",
        expect!["error: `value.a > 1`: the value is not JSON: a byte order mark at byte 0"],
    );
    check(
        "value.a > 1",
        r#"{"a":1e400}"#,
        expect![
            "error: `value.a > 1`: a number of more than 64 bits, or beyond the range of numbers, is carried and not calculated with: double(…) makes it a fraction"
        ],
    );
    check("value.startsWith('{x')", "{x} is a text", expect!["true"]);
}

/// However a number is written, it is one key.
#[test]
fn keys_of_numbers() {
    let check = |numbers: &[&str], expected: &str| {
        for number in numbers {
            for source in ["value.x", "true ? value.x : null", "string(value.x)"] {
                let line = format!(r#"{{"x":{number}}}"#);
                let mut out = Vec::new();
                let expression = Expression::compile(source).unwrap();
                let made = with_row(Some(line.as_bytes()), |row| expression.key(row, ORIGIN, &mut out));
                assert_eq!(
                    (made, String::from_utf8(out).unwrap().as_str()),
                    (Ok(true), expected),
                    "{source} of {number}"
                );
            }
        }
    };
    check(&["16", "16.0", "1.6e1"], "16");
    check(&["0", "-0.0"], "0");
    check(&["3.5"], "3.5");
    check(&["9223372036854775808", "9.223372036854775808e18"], "9223372036854775808");
    check(&["123456789012345678901234567890"], "123456789012345678901234567890");
    check(&["1e21", "1000000000000000000000"], "1e+21");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3_000))]

    /// What is answered without CEL is what CEL answers.
    #[test]
    fn the_short_way_leads_to_the_same(
        source in "(value\\.(a|b|c)|1|2\\.5|'x'|null|true) ?(==|!=|<|<=|>|>=) ?(value\\.(a|b|c)|1|16|2\\.5|'x'|null|false)( (&&|\\|\\|) !?(value\\.(a|b)|\\(value\\.a (==|<) value\\.b\\)|value\\.c in \\[1, 'x', 2\\.5\\]|value\\.b\\.(startsWith|endsWith)\\('x'\\)))?|value\\.(a|b|c)",
        a in "null|true|false|1|16\\.0|2\\.5|-0|\"x\"|\"x\\\\u0061\"|\\[1\\]|9007199254740993|12345678901234567890123",
        b in "null|true|1|2\\.50|\"xx\"|\"\"|\\{\"a\":1\\}|1e400",
        twice in proptest::prelude::any::<bool>(),
    ) {
        let Ok(expression) = Expression::compile(&source) else { return Ok(()) };
        let general = Expression { fast: None, ..Expression::compile(&source).unwrap() };
        let more = if twice { ",\"c\":1,\"a\":2" } else { "" };
        let line = format!("{{\"a\":{a},\"b\":{b}{more}}}");
        with_row(Some(line.as_bytes()), |row| {
            assert_eq!(expression.test(row, ORIGIN), general.test(row, ORIGIN), "{source} of {line}");
            let key = |expression: &Expression| {
                let mut out = Vec::new();
                (expression.key(row, ORIGIN, &mut out), out)
            };
            assert_eq!(key(&expression), key(&general), "{source} of {line}");
        });
    }
}

#[test]
fn keys_and_tests_have_their_types() {
    let key = |source: &str, expect: Expect| {
        let expression = Expression::compile(source).unwrap();
        let mut out = Vec::new();
        let result = with_row(Some(br#"{"n":7}"#), |row| expression.key(row, ORIGIN, &mut out));
        expect.assert_eq(&format!("{result:?} {}", String::from_utf8(out).unwrap()));
    };
    key("value.n", expect!["Ok(true) 7"]);
    key("'a' + key", expect!["Ok(true) ak1"]);
    key("null", expect!["Ok(false) "]);
    key("1.5", expect!["Ok(true) 1.5"]);
    let test = |source: &str, expect: Expect| {
        let expression = Expression::compile(source).unwrap();
        let result = with_row(None, |row| expression.test(row, ORIGIN));
        expect.assert_eq(&format!("{result:?}"));
    };
    test("value == null", expect!["Ok(true)"]);
    test("value.a == 1", expect![[r#"Err("`value.a == 1`: the record has no value")"#]]);
    test("timestamp", expect![[r#"Err("`timestamp` gave an int, expected true or false")"#]]);
}

#[test]
fn refused_expressions() {
    let check = |source: &str, expect: Expect| {
        let error = Expression::compile(source).unwrap_err();
        let suggestion = error.suggestion.map(|name| format!(", `{name}`?")).unwrap_or_default();
        let pointed = source.get(error.at..error.at + error.length).unwrap_or("(end)");
        expect.assert_eq(&format!("{} at {} `{pointed}`{suggestion}", error.message, error.at));
    };
    check("value.status >=", expect!["the expression ends too early at 15 `(end)`"]);
    check("value.status >= 400)", expect!["unexpected `)` at 19 `)`"]);
    check("'open", expect!["cannot read ''open': is a quote left open? at 0 `'`"]);
    check("", expect!["the expression ends too early at 0 `(end)`"]);
    check("a +", expect!["the expression ends too early at 3 `(end)`"]);
    check(
        "1 + valeu.status",
        expect![
            "unknown name `valeu`; a record has value, key, timestamp, time, headers, topic, partition, offset at 4 `valeu`, `value`?"
        ],
    );
    check(
        "value.x.startWith('a')",
        expect!["unknown function `startWith`; there is `text.startsWith(part)` at 8 `startWith`, `startsWith`?"],
    );
    check("sizes(value)", expect!["unknown function `sizes`; there is `size(value)` at 0 `sizes`, `size`?"]);
    check(
        "value.tags.all(t, u == 1)",
        expect![
            "unknown name `u`; a record has value, key, timestamp, time, headers, topic, partition, offset at 18 `u`"
        ],
    );
    check(
        "math.abz(1)",
        expect!["unknown function `math.abz`; there is `math.abs(number)` at 0 `math.abz`, `math.abs`?"],
    );
}

#[test]
fn the_value_is_parsed_no_further_than_needed() {
    let check =
        |source: &str, expect: Expect| expect.assert_eq(&format!("{:?}", Expression::compile(source).unwrap().uses));
    check("offset > 3", expect!["Uses { value: None, headers: false }"]);
    check(
        "value.a > 1 && has(value.b) && value['c'] == 1",
        expect![[r#"Uses { value: Fields(["a", "b", "c"]), headers: false }"#]],
    );
    check("value.a > 1 && size(value) == 2", expect!["Uses { value: Whole, headers: false }"]);
    check("value.list.exists(x, x == value.b)", expect![[r#"Uses { value: Fields(["list", "b"]), headers: false }"#]]);
    check("headers.a == 'b'", expect!["Uses { value: None, headers: true }"]);
}

/// A few seconds each, or gigabytes, without a limit.
#[test]
fn work_without_end_is_refused() {
    let check = |source: &str, value: &str| {
        let expression = Expression::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        let result = with_row(Some(value.as_bytes()), |row| expression.value(row, ORIGIN, &mut Vec::new()));
        let error = result.expect_err(source);
        assert!(error.contains("units of work") && error.contains("use a plugin"), "{source}: {error}");
    };
    let numbers = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    check("value.all(a, value.all(b, value.all(c, a + b + c > 0)))", &numbers(300));
    // Errors that a loop swallows do not carry it on.
    check("value.exists(a, value.exists(b, value.exists(c, a + b + c > 'x')))", &numbers(300));
    check("lists.range(1000000).size()", "");
    check("lists.range(1000).map(a, lists.range(1000)).size()", "");
    check(&format!("'a'{}", ".replace('a', 'aaaaaaaaaaaaaaaa')".repeat(8)), "");
    check("lists.range(1000).map(x, '').join(value)", &"y".repeat(100_000));
    check("value.map(x, value).size()", &numbers(3000));
    check("value.map(x, {x: value, 'k': [value, value]}).size()", &numbers(3000));
    check("value.distinct()", &numbers(20_000));
    check("value.all(x, !(2 in value))", &numbers(3000));
    check("value.indexOf(value + 'b')", &"a".repeat(100_000));
    check("lists.range(2000).all(x, key + topic + value != '')", &"a".repeat(10_000));
    check("lists.range(2000).all(x, value.matches('(a|aa)+$'))", &"a".repeat(10_000));
}

#[test]
fn work_that_ends_is_done() {
    let orders = |count: usize| {
        let order = r#"{"name":"bolt","price":12.5,"tags":["small","steel"]}"#;
        format!("[{}]", vec![order; count].join(","))
    };
    check("value.filter(o, o.price > 10.0 && 'steel' in o.tags).map(o, o.name).size()", orders(1000), expect!["1000"]);
    check("value.filter(a, value.exists(b, a.name == b.name)).size()", orders(60), expect!["60"]);
    check("value.map(o, o.price).distinct()", orders(500), expect!["[12.5]"]);
    check("value.map(o, o.name).sort().join('+').size()", orders(100), expect!["499"]);
    check("value.sortBy(o, o.price)[0].name", orders(3), expect![[r#"bolt"#]]);
    check("value.split(' ').map(w, w.replace('l', 'LL')).join('_')", "all is well", expect!["aLLLL_is_weLLLL"]);
    check("value.replace('l', 'r', 1).replace('x', value)", "all", expect!["arl"]);
    check("value.indexOf('is') + value.lastIndexOf(' ')", "all is well", expect!["10"]);
    check("'%s at %.2f'.format([value[0].name, value[0].price])", orders(1), expect!["bolt at 12.50"]);
    check(
        "[value.matches('^a.*l$'), matches(value, r'(\\w+ ){2}'), value.matches('x')]",
        "all is well",
        expect!["[true,true,false]"],
    );
    check("lists.range(3).map(math, string(math))", "", expect![[r#"["0","1","2"]"#]]);
    check(
        "value.matches('1')",
        "1",
        expect![
            "error: `value.matches('1')`: `text.matches('pattern')` or `matches(text, 'pattern')` was given int, string"
        ],
    );
    // More places than a small record may do without counting in: the same answers.
    check(&format!("size([value{}])", ", value".repeat(40)), "abc", expect!["41"]);
}

#[test]
fn work_that_can_be_told_beforehand_is_refused_beforehand() {
    let check = |source: &str, expect: Expect| {
        let error = Expression::compile(source).unwrap_err();
        expect.assert_eq(&format!("{} at {}", error.message, error.at));
    };
    // Less than 128 levels as it is written, and more with what charges.
    check(
        &format!("value{}", " + value".repeat(100)),
        expect!["this goes deeper than 128 levels with what counts its work: make two steps of it at 0"],
    );
    check(
        &format!("value{}", ".replace('a', 'b')".repeat(60)),
        expect!["this goes deeper than 128 levels with what counts its work: make two steps of it at 0"],
    );
    check(
        "value.all(a, a.all(b, b.all(c, c.all(d, d))))",
        expect!["more than 3 loops one inside the other: use a plugin for this at 36"],
    );
    check(
        "value.a.matches(value.b)",
        expect!["the pattern of `matches` is a text in quotes: it is compiled before the first record at 15"],
    );
    check("value.a.matches('(unclosed')", expect!["the pattern cannot be read: unclosed group at 15"]);
    check(
        "value.a.matches('((a{100}){100}){100}')",
        expect![[
            r#"the pattern takes more than 128 KiB compiled: repeat less in it, or say `(?-u:\w)` for `\w` at 15"#
        ]],
    );
    check(
        &format!("true{}", " || key.matches('a')".repeat(17)),
        expect!["more than 16 patterns: make two steps of it at 339"],
    );
}
