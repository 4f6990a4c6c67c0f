//! Declared forms: what each directive gives, what is refused, and that nothing shifts.

use super::*;

fn parsed_with(format: &str, escape: Escape, zone: Option<i64>, line: &str) -> String {
    let form = match Declared::compile(format, escape, zone) {
        Ok(form) => form,
        Err(error) => return error,
    };
    let mut json = Vec::new();
    match form.parse(line).and_then(|line| line.write(&mut json)) {
        Ok(()) => String::from_utf8(json).unwrap(),
        Err(error) => error.to_string(),
    }
}

fn check(format: &str, line: &str, expected: &str) {
    assert_eq!(parsed_with(format, Escape::Default, None, line), expected, "{format}: {line}");
}

#[test]
fn it_works() {
    check("%h %l %u %t \"%r\" %>s %b", "a, b - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5", "");
}
