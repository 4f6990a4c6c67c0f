//! Finds the fields of a JSON object without making anything of the rest, which is checked all the same: what is found
//! in a text with a mistake anywhere is a mistake. RFC 8259, at most [`DEPTH_MAX`] levels deep, surrogates in pairs.
//! Whether the bytes of a string are UTF-8 is for whoever looks at that string.

use std::borrow::Cow;

/// Levels of lists and objects, as `serde_json` allows.
pub(super) const DEPTH_MAX: u32 = 128;

/// Why bytes are no JSON, and at which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) at: usize,
    pub(super) what: Cow<'static, str>,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Where a value lies in the bytes it was found in.
pub(super) type Span = std::ops::Range<usize>;

/// The fields of an object that were asked for, by their number.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) spans: Vec<Option<Span>>,
    /// A name that was asked for and is there twice, and where.
    pub(super) twice: Option<(usize, usize)>,
}

/// Looks for `names`. `Ok(false)`: it is JSON, and no object.
///
/// # Errors
/// It is no JSON.
pub(super) fn fields(bytes: &[u8], names: &[Box<str>], found: &mut Found) -> Result<bool, Mistake> {
    found.spans.clear();
    found.spans.resize(names.len(), None);
    found.twice = None;
    let mut scan = Scan { bytes, at: 0 };
    scan.blanks();
    let is_object = scan.peek() == Some(b'{');
    if is_object {
        scan.members(|scan, name, value| {
            if let Some(number) = names.iter().position(|wanted| scan.is_name(&name, wanted)) {
                if found.spans[number].is_some() {
                    found.twice.get_or_insert((number, name.start));
                }
                found.spans[number] = Some(value);
            }
        })?;
    } else {
        scan.value(0)?;
    }
    scan.end()?;
    Ok(is_object)
}

/// Whether the bytes are one JSON value.
///
/// # Errors
/// Where they are not.
pub(super) fn check(bytes: &[u8]) -> Result<(), Mistake> {
    let mut scan = Scan { bytes, at: 0 };
    scan.value(0)?;
    scan.end()
}

/// The text between the quotes of a string that was scanned.
pub(super) fn text(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// What stands at a place that begins a value which was scanned.
pub(super) struct Scan<'v> {
    pub(super) bytes: &'v [u8],
    pub(super) at: usize,
}

impl Scan<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Mistake> {
        let what = if self.at >= self.bytes.len() { "the end comes too early" } else { what };
        Err(Mistake { at: self.at, what: what.into() })
    }

    fn end(&mut self) -> Result<(), Mistake> {
        self.blanks();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail("more than one value") }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Mistake> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.fail(what)
    }

    fn is_name(&self, name: &Span, wanted: &str) -> bool {
        let inner = &self.bytes[name.start + 1..name.end - 1];
        if inner.len() == wanted.len() {
            // A name as long as the one wanted could be it with escapes only if it were longer.
            return inner == wanted.as_bytes();
        }
        inner.len() > wanted.len()
            && inner.contains(&b'\\')
            && text(&self.bytes[name.clone()]).is_some_and(|name| name == wanted)
    }

    /// Passes the members of the object that begins here, each with the places of its name and its value.
    pub(super) fn members(&mut self, mut visit: impl FnMut(&Self, Span, Span)) -> Result<(), Mistake> {
        self.expect(b'{', "an object begins with `{`")?;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            let name = self.at;
            self.string()?;
            let name = name..self.at;
            self.blanks();
            self.expect(b':', "a `:` belongs here")?;
            self.blanks();
            let value = self.at;
            self.value(1)?;
            let value = value..self.at;
            visit(self, name, value);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("a `,` or `}` belongs here"),
            }
        }
    }

    /// Passes a value that lies `depth` levels deep.
    pub(super) fn value(&mut self, depth: u32) -> Result<(), Mistake> {
        self.blanks();
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{' | b'[') => self.nested(depth),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(0xef) if self.bytes[self.at..].starts_with(b"\xef\xbb\xbf") => self.fail("a byte order mark"),
            _ => self.fail("a value belongs here"),
        }
    }

    /// Lists and objects, without a call for each level.
    fn nested(&mut self, depth: u32) -> Result<(), Mistake> {
        // A bit for each level that is open: whether it is an object.
        let (mut kinds, mut open) = (0_u128, 0_u32);
        loop {
            // Here a value begins.
            self.blanks();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth + open >= DEPTH_MAX {
                        return self.fail("more than 128 levels");
                    }
                    let is_object = bracket == b'{';
                    self.at += 1;
                    self.blanks();
                    if self.peek() == Some(if is_object { b'}' } else { b']' }) {
                        self.at += 1;
                    } else {
                        kinds = kinds << 1 | u128::from(is_object);
                        open += 1;
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                _ => self.value(depth)?,
            }
            // Here one has ended.
            loop {
                if open == 0 {
                    return Ok(());
                }
                self.blanks();
                let is_object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if is_object {
                            self.blanks();
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => self.at += 1,
                    Some(b']') if !is_object => self.at += 1,
                    _ if is_object => return self.fail("a `,` or `}` belongs here"),
                    _ => return self.fail("a `,` or `]` belongs here"),
                }
                kinds >>= 1;
                open -= 1;
            }
        }
    }

    fn name(&mut self) -> Result<(), Mistake> {
        self.string()?;
        self.blanks();
        self.expect(b':', "a `:` belongs here")
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Mistake> {
        for byte in word {
            self.expect(*byte, "a value belongs here")?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Mistake> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fail("a digit belongs here");
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Mistake> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if let Some(b'0'..=b'9') = self.peek() {
            return self.fail("a number does not begin with 0");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    pub(super) fn string(&mut self) -> Result<(), Mistake> {
        self.expect(b'"', "a name in quotes belongs here")?;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) else {
                self.at = self.bytes.len();
                return self.fail("a quote is left open");
            };
            self.at += length;
            match rest[length] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return self.fail("a control character within a string, which has to be escaped"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Mistake> {
        let start = self.at;
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let lone = Mistake { at: start, what: "a lone surrogate, half of a character,".into() };
                match self.unit()? {
                    0xdc00..=0xdfff => return Err(lone),
                    0xd800..=0xdbff => {
                        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(lone);
                        }
                        if !matches!(self.unit()?, 0xdc00..=0xdfff) {
                            return Err(lone);
                        }
                    }
                    _ => {}
                }
            }
            _ => return self.fail("an unknown escape"),
        }
        Ok(())
    }

    /// The number that `\u` and four digits stand for.
    fn unit(&mut self) -> Result<u16, Mistake> {
        let digits = self.bytes.get(self.at + 2..self.at + 6);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|digits| std::str::from_utf8(digits).ok()) else {
            return Err(Mistake { at: self.at, what: "`\\u` takes four hexadecimal digits:".into() });
        };
        self.at += 6;
        Ok(u16::from_str_radix(digits, 16).expect("four hexadecimal digits are 16 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_found() {
        let check = |json: &str, names: &[&str], expected: &[Option<&str>]| {
            let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
            let mut found = Found::default();
            assert_eq!(fields(json.as_bytes(), &names, &mut found), Ok(true), "{json}");
            let shown: Vec<Option<&str>> =
                found.spans.iter().map(|span| span.clone().map(|span| &json[span])).collect();
            assert_eq!(shown, expected, "{json}");
        };
        check(r#"{"a":1,"b":{"a":2},"c":[3]}"#, &["a", "c", "x"], &[Some("1"), Some("[3]"), None]);
        check(" { \"a\" : \"x\\\"}\" , \"bc\":null }\n", &["bc", "a"], &[Some("null"), Some(r#""x\"}""#)]);
        check(r#"{"\u0061":1.50,"b":-0}"#, &["a", "b"], &[Some("1.50"), Some("-0")]);
        check("{}", &["a"], &[None]);
        let mut found = Found::default();
        assert_eq!(fields(b"[1]", &["a".into()], &mut found), Ok(false));
        fields(br#"{"a":1,"b":2,"a":3}"#, &["a".into()], &mut found).unwrap();
        assert_eq!(found.twice, Some((0, 13)));
    }

    #[test]
    fn mistakes_have_their_place() {
        let tell = |json: &str, expected: &str| {
            let told = check(json.as_bytes()).unwrap_err().to_string();
            assert_eq!(told, expected, "{json}");
            let mut found = Found::default();
            assert_eq!(fields(json.as_bytes(), &["a".into()], &mut found).unwrap_err().to_string(), expected, "{json}");
        };
        tell(r#"{"a":1,}"#, "a name in quotes belongs here at byte 7");
        tell(r#"{"a":1 "b":2}"#, "a `,` or `}` belongs here at byte 7");
        tell(r#"{"a":1}x"#, "more than one value at byte 7");
        tell(r#"{"a":01}"#, "a number does not begin with 0 at byte 6");
        tell(r#"{"a":"\ud800"}"#, "a lone surrogate, half of a character, at byte 6");
        tell(r#"{"b":"\udc00\ud800"}"#, "a lone surrogate, half of a character, at byte 6");
        tell(r#"{"b":"\u12x4"}"#, "`\\u` takes four hexadecimal digits: at byte 6");
        tell("{\"b\":\"\t\"}", "a control character within a string, which has to be escaped at byte 6");
        tell(r#"{"b":[1,2}"#, "a `,` or `]` belongs here at byte 9");
        tell(r#"{"b":"#, "the end comes too early at byte 5");
        tell("\u{feff}{}", "a byte order mark at byte 0");
        tell("'a'", "a value belongs here at byte 0");
        tell(&"[".repeat(129), "more than 128 levels at byte 128");
    }

    /// Something close to JSON, and JSON.
    fn almost_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\"([ -!#-\\[\\]-~é\u{1f600}]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-c][0-9a-f]{3}|\\\\ud83d\\\\ude00){0,6}\"",
        ];
        let tree = leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                proptest::collection::vec(("[ab]{1,2}", inner), 0..4).prop_map(|fields| {
                    let fields: Vec<String> =
                        fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        });
        (tree, proptest::option::of((any::<proptest::sample::Index>(), "[\\[\\]{},:\"\\\\0-9a-u. \t]?"))).prop_map(
            |(mut text, damage)| {
                if let Some((at, with)) = damage {
                    let at = at.index(text.len() + 1);
                    if text.is_char_boundary(at) {
                        let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
                        text.replace_range(at..end, &with);
                    }
                }
                text
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// What is taken is what the full parser takes, whichever fields are asked for.
        #[test]
        fn what_is_json_is_what_the_full_parser_takes(text in almost_json()) {
            let full = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok()
                && serde_json::from_str::<serde_json::Value>(&text).map_err(|error| error.to_string()).map_or_else(
                    |error| error.contains("number out of range"), |_| true);
            prop_assert_eq!(check(text.as_bytes()).is_ok(), full, "{}", text);
            let mut found = Found::default();
            let lazy = fields(text.as_bytes(), &["a".into(), "bb".into()], &mut found);
            prop_assert_eq!(lazy.is_ok(), full, "{}", text);
            let Ok(tree) = serde_json::from_str::<serde_json::Value>(&text) else { return Ok(()) };
            for (name, span) in ["a", "bb"].iter().zip(&found.spans) {
                let value = span.clone().map(|span| serde_json::from_str::<serde_json::Value>(&text[span]).unwrap());
                prop_assert_eq!(value.as_ref(), tree.get(*name), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let full = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            // Bytes that are no text may stand in strings.
            prop_assert!(!full || check(&bytes).is_ok());
        }
    }
}
