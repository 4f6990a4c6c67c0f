//! How deep an expression's tree may become, told from its text: what parses, walks, evaluates and drops such a tree
//! calls itself once per level, and a stack that ends takes the whole process with it.

/// Brackets, calls, selections and operators, one inside or after the other.
pub(super) const DEPTH_MAX: usize = 128;
/// Bytes of one expression.
pub(super) const BYTES_MAX: usize = 16 << 10;

/// What stands between two brackets, from the last comma or `&&` on.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// `a ? b : c ? d : e` nests to the right.
    choices: usize,
    /// `a + b + c` nests to the left.
    operators: usize,
    /// So does `a.b[c](d)`; an operator begins another one.
    selections: usize,
}

/// The position from which on the expression is deeper than [`DEPTH_MAX`]; never less deep than its tree is.
pub(super) fn too_deep_at(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut levels = vec![Level::default()];
    // The sum over all open levels but the last.
    let mut below = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let nested = levels.len() > 1;
        let level = levels.last_mut().expect("the outermost level stays");
        let mut width = 1;
        match byte {
            b'(' | b'[' | b'{' => {
                level.selections += 1;
                below += level.depth() + 1;
                levels.push(Level::default());
            }
            b')' | b']' | b'}' if nested => {
                levels.pop();
                below -= levels.last().map_or(0, |level| level.depth() + 1);
            }
            b',' => *level = Level::default(),
            b'&' | b'|' => (level.operators, level.selections) = (0, 0),
            b'?' => *level = Level { choices: level.choices + 1, ..Level::default() },
            b':' => (level.operators, level.selections) = (0, 0),
            b'.' => level.selections += 1,
            b'/' if comment(&bytes[at..]) > 0 => width = comment(&bytes[at..]),
            b'!' | b'-' | b'+' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => {
                *level = Level { operators: level.operators + 1, selections: 0, ..*level };
            }
            b'\'' | b'"' => width = quoted(bytes, at),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                width = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                if &bytes[at..at + width] == b"in" {
                    *level = Level { operators: level.operators + 1, selections: 0, ..*level };
                }
            }
            _ => {}
        }
        if below + levels.last().map_or(0, Level::depth) > DEPTH_MAX {
            return Some(at);
        }
        at += width;
    }
    None
}

impl Level {
    fn depth(&self) -> usize {
        self.choices + self.operators + self.selections
    }
}

/// Bytes of the text in quotes that begins here. A quote that is never closed hides nothing: what follows it counts.
fn quoted(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let width = if bytes[at..].starts_with(&[quote; 3]) { 3 } else { 1 };
    // A raw text has no escapes: `r'\'` is whole.
    let raw = bytes[at.saturating_sub(2)..at].iter().any(|byte| matches!(byte, b'r' | b'R'));
    let mut end = at + width;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if !raw => end += 2,
            b'\n' if width == 1 => return 1,
            byte if byte == quote && bytes[end..].starts_with(&[quote; 3][..width]) => return end + width - at,
            _ => end += 1,
        }
    }
    1
}

/// Bytes of a comment that begins here, to the end of its line; 0 when none does.
fn comment(bytes: &[u8]) -> usize {
    if !bytes.starts_with(b"//") {
        return 0;
    }
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_seen_in_the_text() {
        let check = |source: &str, deep: bool| assert_eq!(too_deep_at(source).is_some(), deep, "{source}");
        let many = |text: &str| text.repeat(DEPTH_MAX + 1);
        check("value.a.b[2].c == 'x' && value.n < 0 || has(value.s)", false);
        for deep in ["(", "[", "{", "!", "-", "1+", "value in ", "true ? 1 : ", "a.", "[0]", "f(", "x.all(y, "] {
            check(&many(deep), true);
        }
        // Side by side is not deep.
        for wide in ["value.a.b == 1 && ", "x || ", "1, ", "f(x), ", "{'a': [1 + 2]}, "] {
            check(&many(wide), false);
        }
        // Texts are not looked into.
        for quoted in ["'", "\"", "'''", "\"\"\"", "r'", "b'"] {
            let end = quoted.trim_start_matches(['r', 'b']);
            check(&format!("{quoted}{}{end}", many("(")), false);
            check(&format!("{quoted}{end} == {}", many("(")), true);
        }
        check(&format!(r"'\'{}'", many("(")), false);
        check(&format!("// don't\n{}", many("(")), true);
        check(&format!("// {}", many("(")), false);
        check(&format!("'\n{}'", many("(")), true);
        check(&format!("'{}", many("(")), true);
        check(&format!(r"r'\' + {}", many("(")), true);
        check("))))]]]}}}", false);
    }
}
