//! A form as it is declared: columns, and what stands before and between them. What Apache's and nginx's strings become.

use super::column::{Column, Kind};

/// Most columns of a form.
pub const COLUMNS_MAX: usize = 64;

/// Columns with the literal text around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Before the first column.
    pub head: String,
    /// Each with the text behind it.
    pub columns: Vec<(Column, String)>,
}

/// What is wrong with a form, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub place: usize,
    pub text: String,
}

impl Mistake {
    /// The message for a form's author: the place is a character, counted from 1, and shown in the form.
    pub fn shown(&self, format: &str) -> String {
        let (before, at) = format.split_at_checked(self.place).unwrap_or((format, ""));
        let character = before.chars().count() + 1;
        let end = at.char_indices().nth(24).map_or(at.len(), |(end, _)| end);
        let dots = if end < at.len() { "…" } else { "" };
        format!("format: character {character}, at `{}{dots}`: {}", &at[..end], self.text)
    }
}

impl Form {
    pub(super) fn literal(&mut self, char: char) {
        self.columns.last_mut().map_or(&mut self.head, |(_, literal)| literal).push(char);
    }

    /// Takes a query into the path that it directly follows: where the one ends and the other begins can't be known.
    pub(super) fn fuse(&mut self, written: &str) -> bool {
        match self.columns.last_mut() {
            Some((column, literal)) if column.kind == Kind::Target && literal.is_empty() => {
                column.written.push_str(written);
                true
            }
            _ => false,
        }
    }

    pub(super) fn column(&mut self, column: Column) -> Result<(), Mistake> {
        let (place, written) = (column.place, &column.written);
        let mistake = |text: String| Err(Mistake { place, text });
        if self.columns.len() == COLUMNS_MAX {
            return mistake(format!("a form has at most {COLUMNS_MAX} columns"));
        }
        for name in fields(&column) {
            let earlier = self.columns.iter().find(|(earlier, _)| fields(earlier).any(|earlier| earlier == name));
            // Times are put together; everything else is one column's.
            if let Some((earlier, _)) = earlier.filter(|_| !matches!(column.kind, Kind::Time(..))) {
                let hint = if name == "status" { "; `%<s` is the status before an internal redirect" } else { "" };
                return mistake(format!(
                    "`{written}` makes the field `{name}`, and so does `{}`{hint}",
                    earlier.written
                ));
            }
        }
        self.columns.push((column, String::new()));
        Ok(())
    }
}

/// Names of the fields that a column makes.
pub fn fields(column: &Column) -> impl Iterator<Item = String> {
    let prefix = column.name.strip_suffix("request").filter(|_| column.kind == Kind::Request);
    let parts = prefix.map(|prefix| ["method", "path", "protocol"].map(|part| format!("{prefix}{part}")));
    let single = if parts.is_none() { Some(column.name.clone()) } else { None };
    parts.into_iter().flatten().chain(single)
}

/// `header` and `X-Request-ID` make `header_x_request_id`.
pub(super) fn field_name(prefix: &str, name: &str) -> String {
    let letter = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' };
    format!("{prefix}_{}", name.chars().map(letter).collect::<String>())
}
