//! `header: first`: the names stand in the record at offset 0 of the partition. Nothing keeps them but the instance that
//! read that record. One that starts later (after a restart of the broker, a change of the pipeline, a failure) does not
//! see it again, and fails its records with a sentence instead of guessing; and so does one whose first record
//! can't be a header, as on the other partitions of a topic.

use std::cell::RefCell;

use millstream_plugin::prelude::*;

use crate::config::Header;
use crate::line::Dialect;

/// What an instance knows of the header.
#[derive(Debug)]
pub struct First {
    /// The names that it must have, in any order, if they are known.
    expected: Option<Header>,
    state: RefCell<State>,
}

#[derive(Clone, Debug)]
enum State {
    /// No record came yet.
    New,
    /// Comments came, from offset 0 on.
    Comments,
    Known(Header),
    /// Why it will never be known.
    Unknown(String),
}

impl First {
    pub fn new(expected: Option<Header>) -> Self {
        Self { expected, state: RefCell::new(State::New) }
    }

    /// A comment at this offset.
    pub fn comment(&self, offset: i64) {
        let mut state = self.state.borrow_mut();
        if let State::New = *state {
            *state = if offset == 0 { State::Comments } else { too_late(offset) };
        }
    }

    /// Runs `line` over the columns of this record, unless it is the header itself.
    ///
    /// # Errors
    /// The header is not known, or those of `line`.
    pub fn record(
        &self,
        offset: i64,
        text: &str,
        dialect: Dialect,
        line: impl FnOnce(&Header) -> Result<()>,
    ) -> Result<bool> {
        let mut state = self.state.borrow_mut();
        let first = match *state {
            State::New => offset == 0,
            State::Comments => true,
            State::Known(_) | State::Unknown(_) => false,
        };
        if first {
            *state = self.learn(text, dialect);
        } else if let State::New = *state {
            *state = too_late(offset);
        }
        match &*state {
            State::Known(_) if first => Ok(true),
            State::Known(header) => line(header).map(|()| false),
            State::Unknown(why) => Err(Error::msg(why)),
            State::New | State::Comments => unreachable!("what came was learned from"),
        }
    }

    fn learn(&self, text: &str, dialect: Dialect) -> State {
        let unknown = |why: String| {
            State::Unknown(format!(
                "`header: first`: the record at offset 0 is no header: {why}; on a topic of several partitions only one has it: \
                 give the names, `header: \"id,name\"`"
            ))
        };
        let header = match Header::read(text, dialect) {
            Ok(header) => header,
            Err(why) => return unknown(why.strip_prefix("header: ").unwrap_or(&why).to_owned()),
        };
        let names = |header: &Header| header.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let found = names(&header);
        match self.expected.as_ref().map(names) {
            Some(expected) => {
                if let Some(missing) = expected.iter().find(|name| !found.contains(name)) {
                    return unknown(format!("it has no column `{missing}`"));
                }
                if let Some(other) = found.iter().find(|name| !expected.contains(name)) {
                    return unknown(format!("`{other}` is none of the columns expected"));
                }
            }
            None => {
                if let Some(value) = found.iter().find(|name| is_value(name)) {
                    return unknown(format!("`{value}` is no column's name"));
                }
            }
        }
        State::Known(header)
    }
}

fn too_late(offset: i64) -> State {
    State::Unknown(format!(
        "`header: first`: the names stand in the record at offset 0, which this instance did not see: it began at offset {offset}, \
         after a restart, a change of the pipeline, or not `from: earliest`; give the names, `header: \"id,name\"`"
    ))
}

/// Whether this is data, and no name: a number, a day, a word of JSON.
fn is_value(text: &str) -> bool {
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.,:/ eE%TZ".contains(&byte));
    numeric || matches!(text, "true" | "false" | "null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Quotes;

    const DIALECT: Dialect = Dialect { delimiter: b',', quotes: Quotes::Strict, trim: false };

    fn said(first: &First, offset: i64, text: &str) -> String {
        let mut names = String::new();
        let seen = first.record(offset, text, DIALECT, |header| {
            names = header.to_string();
            Ok(())
        });
        match seen {
            Ok(true) => "header".to_owned(),
            Ok(false) => names,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_record_at_offset_0_names_the_columns() {
        let first = First::new(None);
        assert_eq!(said(&first, 0, "id,name"), "header");
        assert_eq!(said(&first, 1, "1,Ann"), "id, name");
        // A step before may have made several records of the first.
        assert_eq!(said(&first, 0, "1,Ann"), "id, name");
        let first = First::new(None);
        first.comment(0);
        first.comment(1);
        assert_eq!(said(&first, 2, "id"), "header");
    }

    #[test]
    fn what_did_not_see_it_fails_every_record() {
        let late = "`header: first`: the names stand in the record at offset 0, which this instance did not see: it began at \
                    offset 7, after a restart, a change of the pipeline, or not `from: earliest`; give the names, `header: \"id,name\"`";
        let first = First::new(None);
        assert_eq!(said(&first, 7, "id,name"), late);
        assert_eq!(said(&first, 8, "1,Ann"), late);
        let first = First::new(None);
        first.comment(7);
        assert_eq!(said(&first, 8, "id,name"), late);
    }

    #[test]
    fn what_can_be_no_header_is_none() {
        let check = |expected: Option<&[&str]>, text: &str, why: &str| {
            let header = expected.map(|names| Header::read(&names.join(","), DIALECT).unwrap());
            let first = First::new(header);
            let found = said(&first, 0, text);
            assert!(
                found.starts_with(&format!("`header: first`: the record at offset 0 is no header: {why}; on a topic")),
                "{found}"
            );
            assert_eq!(said(&first, 1, "id,name"), found, "it stays so");
        };
        check(None, "1,Ann", "`1` is no column's name");
        check(None, "OSL,2015-05-17", "`2015-05-17` is no column's name");
        check(None, "OSL,", "column 2 has no name");
        check(None, "a,a", "the name `a` is there twice");
        check(None, "a,\"b", "column 2: no closing quote");
        check(Some(&["id", "name"]), "OSL,Oslo", "it has no column `id`");
        check(Some(&["id"]), "id,name", "`name` is none of the columns expected");
        assert_eq!(said(&First::new(Some(Header::read("b,a", DIALECT).unwrap())), 0, "a,b"), "header");
    }
}
