//! Takes a line of CSV apart. A field in quotes may hold delimiters, line ends and doubled quotes. Elsewhere a quote is an
//! error, or text where the dialect is lax.

use std::borrow::Cow;

use millstream_plugin::prelude::*;

/// How fields are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    pub quotes: Quotes,
    /// Whether spaces around fields, and around the quotes of fields, are left out.
    pub trim: bool,
}

/// What becomes of quotes where RFC 4180 has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quotes {
    /// The line fails.
    #[default]
    Strict,
    /// They are text, and so is what stands behind a closing quote.
    Lax,
}

/// One field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub text: Cow<'a, str>,
    pub quoted: bool,
}

/// The fields in order, at least one. Ends after the first error, which names the column from 1.
pub fn fields(line: &str, dialect: Dialect) -> impl Iterator<Item = Result<Field<'_>>> {
    let mut rest = Some(line);
    (1..).map_while(move |column| {
        let line = rest.take()?;
        // A delimiter may be a space too, or a tab.
        let spaces = |char: char| char == ' ' && dialect.delimiter != b' ';
        let begin = if dialect.trim { line.trim_start_matches(spaces) } else { line };
        let parsed = match begin.strip_prefix('"') {
            Some(inner) => quoted(inner, dialect),
            None => unquoted(line, dialect),
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

fn unquoted(line: &str, dialect: Dialect) -> Result<Split<'_>, &'static str> {
    let (text, after) = until_delimiter(line, dialect);
    if dialect.quotes == Quotes::Strict && text.contains('"') {
        return Err("a quote in a field without quotes (`quotes: lax` takes it for text)");
    }
    let text = if dialect.trim { text.trim() } else { text };
    Ok((Field { text: Cow::Borrowed(text), quoted: false }, after))
}

fn until_delimiter(line: &str, dialect: Dialect) -> (&str, Option<&str>) {
    // The delimiter is ASCII, so its byte is never part of another character.
    let end = line.bytes().position(|byte| byte == dialect.delimiter);
    end.map_or((line, None), |end| (&line[..end], Some(&line[end + 1..])))
}

/// `inner` begins behind the opening quote.
fn quoted(inner: &str, dialect: Dialect) -> Result<Split<'_>, &'static str> {
    let mut text = Cow::Borrowed("");
    let mut rest = inner;
    loop {
        let (part, after) = rest.split_once('"').ok_or("no closing quote")?;
        match &mut text {
            Cow::Borrowed("") => text = Cow::Borrowed(part),
            text => text.to_mut().push_str(part),
        }
        if let Some(behind) = after.strip_prefix('"') {
            text.to_mut().push('"');
            rest = behind;
            continue;
        }
        let (behind, next) = until_delimiter(after, dialect);
        let behind = if dialect.trim { behind.trim() } else { behind };
        if !behind.is_empty() {
            if dialect.quotes == Quotes::Strict {
                return Err("text after the closing quote (`quotes: lax` takes it for text)");
            }
            text.to_mut().push_str(behind);
        }
        return Ok((Field { text, quoted: true }, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        // Quotes are written as ' here, and fields in quotes in <>, for the sake of the eyes.
        let check_as = |quotes: Quotes, trim: bool, line: &str, expected: &[&str]| {
            let line = line.replace('\'', "\"");
            let show = |field: Result<Field<'_>>| match field {
                Ok(Field { text, quoted: true }) => format!("<{text}>").replace('"', "'"),
                Ok(field) => field.text.replace('"', "'"),
                Err(error) => error.to_string(),
            };
            let found: Vec<String> = fields(&line, Dialect { delimiter: b',', quotes, trim }).map(show).collect();
            assert_eq!(found, expected, "{line}");
        };
        let check = |line, expected: &[&str]| {
            check_as(Quotes::Strict, false, line, expected);
            // What is as RFC 4180 has it means the same to both.
            if !expected.iter().any(|field| field.starts_with("column")) {
                check_as(Quotes::Lax, false, line, expected);
            }
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
        let quote = "a quote in a field without quotes (`quotes: lax` takes it for text)".replace('"', "'");
        let behind = "text after the closing quote (`quotes: lax` takes it for text)";
        check("x,5' disk,x", &["x", &format!("column 2: {quote}")]);
        check(" 'a, b',c", &[&format!("column 1: {quote}")]);
        check("'a'b,c", &[&format!("column 1: {behind}")]);
        check("'a' ,c", &[&format!("column 1: {behind}")]);
        let lax = |line, expected: &[&str]| check_as(Quotes::Lax, false, line, expected);
        lax("5' disk,'x' y,z'", &["5' disk", "<x y>", "z'"]);
        lax("'a'b'c,d',e", &["<ab'c>", "d'", "e"]);
        lax("'a''b'c''", &["<a'bc''>"]);
        lax(" 'a,b',c", &[" 'a", "b'", "c"]);
        lax("'a,b", &["column 1: no closing quote"]);
        let trimmed = |line, expected: &[&str]| check_as(Quotes::Strict, true, line, expected);
        trimmed(" a , 'b, c' ,  ", &["a", "<b, c>", ""]);
        trimmed(" ' b ' ", &["< b >"]);
        check("ü,'é'", &["ü", "<é>"]);
    }
}
