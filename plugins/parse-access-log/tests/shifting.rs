//! Nothing shifts, for any line: what is written by a form is read back as it was or refused, what is read could have been
//! written, and the forms with a name agree with the strings that stand for them.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use parse_access_log::declared::{Declared, Escape};
use parse_access_log::line::{self, Format};
use proptest::prelude::*;
use serde_json::Value;

const COMBINED: &str = "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\"";

fn declared(format: &str) -> Declared {
    Declared::compile(format, Escape::Default, Some(0)).unwrap()
}

fn json_of(form: &Declared, line: &str) -> Result<Value, String> {
    let mut json = Vec::new();
    let parsed = form.parse(line).map_err(|error| error.to_string())?;
    parsed.write(&mut json).map_err(|error| error.to_string())?;
    Ok(serde_json::from_slice(&json).unwrap())
}

/// As `ap_escape_logitem` writes it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// Text with what separates columns in it.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{1,3}",
        3 => Just(" ".to_owned()),
        1 => Just(", ".to_owned()),
        1 => Just("-".to_owned()),
        1 => Just("\"".to_owned()),
        1 => Just("\\".to_owned()),
        1 => Just("\" \"".to_owned()),
        1 => Just(" [".to_owned()),
        1 => Just("] \"".to_owned()),
        1 => Just("[17/May/2015:10:05:03 +0000]".to_owned()),
        1 => Just("\t".to_owned()),
        1 => Just("ü\n\u{1}".to_owned()),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A column: its directive, its value in the line, and in the object: `None` where that is put together of others.
#[derive(Clone, Debug)]
struct Cell {
    directive: String,
    written: String,
    field: Option<(String, Value)>,
}

fn cell(directive: &str, name: &str, written: String, value: impl Into<Value>) -> Cell {
    Cell { directive: directive.to_owned(), written, field: Some((name.to_owned(), value.into())) }
}

fn text_cell(directive: String, name: String, text: String) -> Cell {
    let value = if matches!(text.as_str(), "" | "-") { Value::Null } else { text.clone().into() };
    Cell { directive, written: escaped(&text), field: Some((name, value)) }
}

/// A cell of one kind; `number` keeps names apart.
fn any_cell(number: usize) -> impl Strategy<Value = Cell> {
    let named = move |what: &str, letter: &str, text: String| {
        text_cell(format!("%{{X{number}}}{letter}"), format!("{what}_x{number}"), text)
    };
    prop_oneof![
        4 => text().prop_map(move |text| named("header", "i", text)),
        1 => text().prop_map(move |text| named("env", "e", text)),
        1 => text().prop_map(move |text| named("cookie", "C", text)),
        1 => text().prop_map(|text| text_cell("%u".into(), "user".into(), text)),
        1 => text().prop_map(|text| text_cell("%f".into(), "filename".into(), text)),
        1 => "[a-z]{1,5}|[0-9]{1,3}(\\.[0-9]{1,3}){3}|2001:db8::[0-9a-f]{1,4}"
            .prop_map(|host| cell("%h", "host", host.clone(), host)),
        1 => "[a-z]{1,3}(\\.[a-z]{2})?".prop_map(|host| cell("%v", "vhost", host.clone(), host)),
        1 => any::<u64>().prop_map(|bytes| cell("%b", "bytes", bytes.to_string(), bytes)),
        1 => Just(cell("%O", "bytes_sent", "-".into(), Value::Null)),
        1 => any::<i64>().prop_map(|time| cell("%D", "duration_us", time.to_string(), time)),
        1 => (100_u16..1000).prop_map(|status| cell("%>s", "status", status.to_string(), status)),
        1 => Just(Cell { directive: "%t".into(), written: "[17/May/2015:10:05:03 +0000]".into(), field: None }),
        1 => "(127\\.0\\.0\\.[1-9]|::1|unknown)(, ?10\\.0\\.0\\.[1-9]){0,3}|x, y|z y"
            .prop_map(|list| text_cell("%{X-Forwarded-For}i".into(), "header_x_forwarded_for".into(), list)),
    ]
}

/// A form, piece by piece: what stands before each cell, and the cell. At the end what stands behind them all.
fn any_form() -> impl Strategy<Value = (Vec<(String, Cell)>, String)> {
    let between = prop_oneof![
        4 => Just(" "), 4 => Just("\" \""), 1 => Just("|"), 1 => Just("\t"), 1 => Just(" -> "), 1 => Just("\" "),
        1 => Just(" \""), 1 => Just(":"), 1 => Just(", "), 1 => Just("] ["), 1 => Just("x")
    ];
    let cells = (1_usize..7).prop_flat_map(|count| (0..count).map(any_cell).collect::<Vec<_>>());
    (cells, prop::collection::vec(between, 8), prop_oneof![Just("\""), Just(""), Just("]"), Just(" ")]).prop_map(
        |(cells, between, edge)| {
            let mut names = Vec::new();
            let mut form = Vec::new();
            for (cell, between) in cells.into_iter().zip(between) {
                if !names.contains(&cell.directive) {
                    names.push(cell.directive.clone());
                    form.push((if form.is_empty() { edge } else { between }.to_owned(), cell));
                }
            }
            (form, edge.to_owned())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The one thing that must not happen is a field with something else than was written.
    #[test]
    fn what_is_written_is_read_back_or_refused((form, tail) in any_form()) {
        let format: String = form.iter().map(|(before, cell)| format!("{before}{}", cell.directive)).collect();
        let line: String = form.iter().map(|(before, cell)| format!("{before}{}", cell.written)).collect();
        let (format, line) = (format + &tail, line + &tail);
        let Ok(compiled) = Declared::compile(&format, Escape::Default, None) else { return Ok(()) };
        if let Ok(object) = json_of(&compiled, &line) {
            for (name, value) in form.iter().filter_map(|(_, cell)| cell.field.as_ref()) {
                prop_assert_eq!(&object[name], value, "{}: {}\n{}", name, format, line);
            }
        }
    }

    /// In quotes everything is read back, whatever it is.
    #[test]
    fn what_stands_in_quotes_is_always_read_back(texts in prop::collection::vec(text(), 1..6)) {
        let format: Vec<String> = (0..texts.len()).map(|at| format!("\"%{{X{at}}}i\"")).collect();
        let line: Vec<String> = texts.iter().map(|text| format!("\"{}\"", escaped(text))).collect();
        let object = json_of(&declared(&format.join(" ")), &line.join(" ")).unwrap();
        for (at, text) in texts.iter().enumerate() {
            let expected = if matches!(text.as_str(), "" | "-") { Value::Null } else { text.clone().into() };
            prop_assert_eq!(&object[format!("header_x{at}")], &expected);
        }
    }

    /// A line is refused, or the columns that were found and the form's own text make it up.
    #[test]
    fn a_line_that_is_read_could_have_been_written(line in any_line(), form in 0..3_usize) {
        let pieces: [&[&str]; 3] = [
            &["", " ", " ", " ", " \"", "\" ", " ", " \"", "\" \"", "\""],
            &["", " ", " -> ", ""],
            &["", ":", " ", " ", " ", " \"", "\" ", " ", ""],
        ];
        let formats = [COMBINED, "%{A}i %{B}i -> %U", "%v:%p %{X-Forwarded-For}i %u %t \"%r\" %>s %O"];
        let declared = declared(formats[form]);
        if let Ok(parsed) = declared.parse(&line) {
            let mut written = String::new();
            for (value, before) in parsed.values().iter().zip(pieces[form]) {
                written += before;
                written += value;
            }
            prop_assert_eq!(written + pieces[form].last().unwrap(), line);
        }
    }

    /// The fast reader of named forms and the reader of strings say the same.
    #[test]
    fn named_forms_are_the_strings_they_stand_for(line in any_line()) {
        let string = declared(COMBINED);
        let from_string = json_of(&string, &line).map(|mut object| {
            object.as_object_mut().unwrap().remove("ident");
            object
        });
        let named = line::parse(&line, Format::Combined).map_err(|error| error.to_string());
        let from_name = named.as_ref().map(|entry| serde_json::to_value(entry).unwrap()).map_err(String::clone);
        match (&from_name, &from_string) {
            (Err(_), Err(_)) => {}
            // Any column of a string may be absent.
            (Err(_), Ok(object)) if object["status"].is_null() => {}
            _ => prop_assert_eq!(&from_name, &from_string, "{}", line),
        }
    }

    /// Entries are written as serialising writes them.
    #[test]
    fn entries_are_written_as_they_serialise(line in any_line()) {
        if let Ok(entry) = line::parse(&line, Format::Auto) {
            let mut json = Vec::new();
            entry.write(&mut json).unwrap();
            prop_assert_eq!(String::from_utf8(json).unwrap(), serde_json::to_string(&entry).unwrap());
        }
    }

    /// Any text at all.
    #[test]
    fn nothing_panics(line in "\\PC{0,200}", format in "\\PC{0,60}") {
        for format in [Format::Auto, Format::Common, Format::Combined, Format::VhostCombined, Format::Nginx] {
            let _ = line::parse(&line, format);
        }
        let _ = parse_access_log::errors::apache::parse(&line, 0);
        let _ = parse_access_log::errors::nginx::parse(&line, 0);
        if let Ok(form) = Declared::compile(&format, Escape::Default, Some(0)) {
            let _ = json_of(&form, &line);
        }
    }
}

/// A combined line in which something may have gone wrong.
fn any_line() -> impl Strategy<Value = String> {
    let head = prop_oneof![
        Just("192.0.2.7".to_owned()),
        Just("v.example:80 h".to_owned()),
        Just("a, b".to_owned()),
        "\\PC{0,9}"
    ];
    let ident = prop_oneof![4 => Just("-".to_owned()), 1 => "[a-z.0-9]{1,8}"];
    let user = prop_oneof![2 => Just("-".to_owned()), 1 => Just("ann".to_owned()), 1 => text().prop_map(|text| escaped(&text)), 1 => text()];
    let time = prop_oneof![6 => Just("[17/May/2015:10:05:03 +0200]".to_owned()), 1 => "\\[[0-9]{2}/May/2015:10:05:[0-9]{2} \\+0000\\]"];
    let quoted = || {
        prop_oneof![
            2 => Just("GET /a?b HTTP/1.1".to_owned()), 1 => Just("-".to_owned()), 2 => text().prop_map(|text| escaped(&text)), 1 => text()
        ]
    };
    let status = prop_oneof![6 => Just("200".to_owned()), 1 => "[0-9-]{0,4}"];
    let bytes = prop_oneof![6 => "[0-9]{1,21}", 1 => "[0-9+-]{0,2}"];
    let line = (head, ident, user, time, quoted(), (status, bytes), quoted(), quoted()).prop_map(
        |(head, ident, user, time, request, (status, bytes), referer, agent)| {
            format!("{head} {ident} {user} {time} \"{request}\" {status} {bytes} \"{referer}\" \"{agent}\"")
        },
    );
    // A piece is left out, or there twice.
    (line, 0..100_usize, 0..4_usize, 0..3_u8).prop_map(|(line, at, length, change)| {
        let chars: Vec<char> = line.chars().collect();
        let at = at % (chars.len() + 1);
        let end = (at + length).min(chars.len());
        let piece: String = chars[at..end].iter().collect();
        let (before, after): (String, String) = (chars[..at].iter().collect(), chars[end..].iter().collect());
        match change {
            0 => line.clone(),
            1 => before + &after,
            _ => before + &piece + &piece + &after,
        }
    })
}
