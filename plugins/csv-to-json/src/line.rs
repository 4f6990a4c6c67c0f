//! Takes a line of CSV apart. A field in quotes may hold delimiters, line ends and doubled quotes; elsewhere a quote is
//! an ordinary character.

use std::borrow::Cow;

use millstream_plugin::prelude::*;

/// One field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub text: Cow<'a, str>,
    pub quoted: bool,
}

/// The fields in order, at least one. Ends after the first error, which names the column from 1.
pub fn fields(line: &str, delimiter: u8) -> impl Iterator<Item = Result<Field<'_>>> {
    let mut rest = Some(line);
    (1..).map_while(move |column| {
        let line = rest.take()?;
        let parsed = match line.strip_prefix('"') {
            Some(inner) => quoted(inner, delimiter),
            None => Ok(unquoted(line, delimiter)),
        };
        Some(match parsed {
            Ok((field, after)) => {
                rest = after;
                Ok(field)
            }
            Err(what) => Err(Error::msg(format_args!("column {column}: {what}"))),
        })
    })
}

/// A field, and the rest of the line behind its delimiter.
type Split<'a> = (Field<'a>, Option<&'a str>);

fn unquoted(line: &str, delimiter: u8) -> Split<'_> {
    // The delimiter is ASCII, so its byte is never part of another character.
    let end = line.bytes().position(|byte| byte == delimiter);
    let (text, after) = end.map_or((line, None), |end| (&line[..end], Some(&line[end + 1..])));
    (Field { text: Cow::Borrowed(text), quoted: false }, after)
}

/// `inner` begins behind the opening quote.
fn quoted(inner: &str, delimiter: u8) -> Result<Split<'_>, &'static str> {
    let mut text = Cow::Borrowed("");
    let mut rest = inner;
    loop {
        let (part, after) = rest.split_once('"').ok_or("no closing quote")?;
        match &mut text {
            Cow::Borrowed("") => text = Cow::Borrowed(part),
            text => text.to_mut().push_str(part),
        }
        let field = |text| Field { text, quoted: true };
        match after.bytes().next() {
            None => return Ok((field(text), None)),
            Some(b'"') => text.to_mut().push('"'),
            Some(byte) if byte == delimiter => return Ok((field(text), Some(&after[1..]))),
            Some(_) => return Err("text after the closing quote"),
        }
        rest = &after[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        // Quotes are written as ' here, and fields in quotes in <>, for the sake of the eyes.
        let check = |line: &str, expected: &[&str]| {
            let line = line.replace('\'', "\"");
            let show = |field: Result<Field<'_>>| match field {
                Ok(Field { text, quoted: true }) => format!("<{text}>").replace('"', "'"),
                Ok(field) => field.text.replace('"', "'"),
                Err(error) => error.to_string(),
            };
            let found: Vec<String> = fields(&line, b',').map(show).collect();
            assert_eq!(found, expected, "{line}");
        };
        check("a,b", &["a", "b"]);
        check("", &[""]);
        check(",", &["", ""]);
        check("'a,b',c", &["<a,b>", "c"]);
        check("'a''b''',''", &["<a'b'>", "<>"]);
        check("'a','b", &["<a>", "column 2: no closing quote"]);
        check("'',''''", &["<>", "<'>"]);
        check("'''''", &["column 1: no closing quote"]);
        check("'''',", &["<'>", ""]);
        check("5' disk,x", &["5' disk", "x"]);
        check("'a'b,c", &["column 1: text after the closing quote"]);
        check("ü,'é'", &["ü", "<é>"]);
    }
}
