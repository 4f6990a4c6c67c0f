//! Where each column of a line ends. A line that a form could have written is either split as it was written, or
//! refused: no value can move an end.
//!
//! - A column that can't hold the first byte of what follows it ends before that byte: nothing else is possible.
//! - Text in quotes, or before a control character, ends at the first one that is not escaped: servers escape both.
//! - Other text (a user's name before ` [`, a header without quotes) may hold what follows it. It stands in a *stretch* that
//!   ends at the first byte which none of its columns can hold, and is split from both sides. What is left for one
//!   column is that column's. Where several are left, all ends as early as possible and all ends as late as possible are
//!   looked for: only if these agree there is one way to read the line.
//!
//! A list without quotes (`X-Forwarded-For`) among several is given the blanks behind commas, and then nothing
//! else there may hold a blank, so that the count of words decides.
//!
//! Each byte is looked at a bounded number of times per column.

use memchr::{memchr, memchr2, memmem};
use millstream_plugin::prelude::*;

use super::column::{Column, Kind};
use super::form::{Form, Mistake};
use crate::text::{closing_quote, is_address, shortened};

/// A form, ready to split lines.
#[derive(Clone, Debug)]
pub struct Splitter {
    head: String,
    pub columns: Vec<Step>,
}

/// A column, how its end is found, and what stands behind it.
#[derive(Clone, Debug)]
pub struct Step {
    pub column: Column,
    end: End,
    after: String,
    /// Which bytes its values may hold.
    holds: Box<[bool; 256]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It has so many bytes.
    Width(usize),
    /// It is as long as its bytes allow.
    Run,
    /// The first of these that is not escaped.
    Mark(u8),
    /// It is the last column.
    Rest,
    Stretch(Stretch),
}

/// Columns from this one to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    last: usize,
    /// Those behind it are split off from the right.
    middle: usize,
    /// What ends the stretch, as a place in the text behind `last`; `None`: the line's end.
    stop: Option<usize>,
}

impl Splitter {
    /// # Errors
    /// Two columns have nothing between them, and the first may be of any length.
    pub fn compile(form: Form) -> Result<Self, Mistake> {
        let ends = (0..form.columns.len()).map(|index| end(&form.columns, index)).collect::<Result<Vec<_>, _>>()?;
        let steps = form.columns.into_iter().zip(ends).map(|((column, after), end)| {
            let holds = Box::new(std::array::from_fn(|byte| column.kind.holds(byte as u8)));
            Step { column, end, after, holds }
        });
        Ok(Self { head: form.head, columns: steps.collect() })
    }

    /// Finds the value of each column; `values` has room for them.
    ///
    /// # Errors
    /// Names the first column that does not fit.
    pub fn split<'a>(&self, line: &'a str, values: &mut [&'a str]) -> Result<()> {
        let mut rest = line
            .strip_prefix(self.head.as_str())
            .with_context(|| format!("the line does not begin with `{}`: `{}`", self.head, shortened(line)))?;
        let mut index = 0;
        while let Some(step) = self.columns.get(index) {
            let length = match step.end {
                // Apache writes an empty name so, and no other name begins with a quote.
                _ if step.is_empty_user(rest) => 2,
                End::Width(width) => width,
                End::Run => step.column.kind.run(rest, &step.holds),
                End::Mark(mark) => first(mark, rest).with_context(|| step.missing(rest))?,
                End::Rest => rest.len(),
                End::Stretch(stretch) => {
                    rest = self.stretch(index, stretch, rest, values)?;
                    index = stretch.last + 1;
                    continue;
                }
            };
            let (value, after) = rest.split_at_checked(length).with_context(|| step.missing(rest))?;
            rest = after.strip_prefix(step.after.as_str()).with_context(|| step.goes_on(value, after))?;
            values[index] = value;
            index += 1;
        }
        match self.columns.last().filter(|_| !rest.is_empty()) {
            Some(last) => {
                bail!("the line goes on behind its last column, {}: `{}`", last.column.shown(), shortened(rest))
            }
            None => Ok(()),
        }
    }

    /// Splits a stretch; gives what follows it.
    fn stretch<'a>(&self, from: usize, stretch: Stretch, text: &'a str, values: &mut [&'a str]) -> Result<&'a str> {
        let last = &self.columns[stretch.last];
        let end = match stretch.stop {
            Some(stop) => first(last.after.as_bytes()[stop], text).with_context(|| last.misses(&last.after, text))?,
            None => text.len(),
        };
        let (mut inside, outside) = text.split_at(end);
        let (lead, tail) = last.after.split_at(stretch.stop.unwrap_or(last.after.len()));
        inside = inside.strip_suffix(lead).with_context(|| last.misses(lead, inside))?;
        let outside = outside.strip_prefix(tail).with_context(|| last.misses(tail, outside))?;
        for index in (stretch.middle + 1..=stretch.last).rev() {
            let step = &self.columns[index];
            let length = step.column.kind.width().unwrap_or_else(|| step.column.kind.run_back(inside));
            let begin = inside.len().checked_sub(length).filter(|begin| inside.is_char_boundary(*begin));
            let (before, value) = inside.split_at(begin.with_context(|| step.missing(inside))?);
            let between = &self.columns[index - 1].after;
            let stripped = before.strip_suffix(between.as_str());
            inside = stripped.with_context(|| self.columns[index - 1].unseparated(step, before, value))?;
            values[index] = value;
        }
        self.middle(from, stretch.middle, inside, values)?;
        Ok(outside)
    }

    /// Splits columns of which each may hold what follows it: if there is one way only.
    fn middle<'a>(&self, from: usize, to: usize, text: &'a str, values: &mut [&'a str]) -> Result<()> {
        let steps = &self.columns[from..=to];
        let list = steps.iter().position(|step| step.column.kind == Kind::List).filter(|_| steps.len() > 1);
        let mut rest = text;
        for (value, step) in values[from..to].iter_mut().zip(steps) {
            let at = find(rest, &step.after, list.is_some()).with_context(|| step.misses(&step.after, rest))?;
            *value = &rest[..at];
            rest = &rest[at + step.after.len()..];
        }
        values[to] = rest;
        let mut end = text.len();
        for (index, step) in steps.iter().enumerate().rev().skip(1) {
            let at = rfind(&text[..end], &step.after, list.is_some()).with_context(|| step.missing(text))?;
            let early = values[from + index].as_ptr() as usize + values[from + index].len() - text.as_ptr() as usize;
            ensure!(
                early == at,
                "{} and {}: `{}` can be read in more than one way, since each `{}` may belong to either",
                step.column.shown(),
                steps[index + 1].column.shown(),
                shortened(text),
                step.after
            );
            end = at;
        }
        let Some(list) = list else { return Ok(()) };
        for (index, step) in steps.iter().enumerate() {
            let value = values[from + index];
            if index == list {
                let fits = value == "-" || value.split(',').all(|address| is_address(address.trim_start_matches(' ')));
                ensure!(fits, "{} `{}` is no list of addresses", step.column.shown(), shortened(value));
            } else {
                ensure!(
                    !value.contains(' '),
                    "{} `{}` holds a blank beside a list",
                    step.column.shown(),
                    shortened(value)
                );
            }
        }
        Ok(())
    }
}

impl Step {
    fn is_empty_user(&self, rest: &str) -> bool {
        self.column.kind == Kind::User && rest.strip_prefix("\"\"").is_some_and(|rest| rest.starts_with(&self.after))
    }

    fn missing(&self, rest: &str) -> String {
        let name = self.column.shown();
        match self.after.chars().next() {
            _ if rest.is_empty() => format!("{name} is missing"),
            Some('"') => format!("{name}: no closing quote"),
            Some(mark) => format!("{name}: no `{}` behind it: `{}`", mark.escape_debug(), shortened(rest)),
            None => format!("{name}: `{}` is too short", shortened(rest)),
        }
    }

    fn goes_on(&self, value: &str, after: &str) -> String {
        let found = if after.is_empty() { "the end of the line".to_owned() } else { format!("`{}`", shortened(after)) };
        let behind = if value.is_empty() { String::new() } else { format!(" behind `{}`", shortened(value)) };
        format!("{}: expected `{}`{behind}, found {found}", self.column.shown(), self.after.escape_debug())
    }

    fn misses(&self, literal: &str, text: &str) -> String {
        format!("{}: expected `{}` behind it, found `{}`", self.column.shown(), literal.escape_debug(), shortened(text))
    }

    /// The text between this column and the next one, which was found, is not there.
    fn unseparated(&self, next: &Self, before: &str, value: &str) -> String {
        let tail = before.char_indices().rev().nth(20).map_or(before, |(at, _)| &before[at..]);
        if before.is_empty() {
            return format!("{} is missing", self.column.shown());
        }
        let name = next.column.shown();
        format!("{name}: expected `{}` before `{}`, found `{tail}`", self.after.escape_debug(), shortened(value))
    }
}

/// How the column's end is found.
fn end(columns: &[(Column, String)], index: usize) -> Result<End, Mistake> {
    let (column, after) = &columns[index];
    let kind = &column.kind;
    let last = index + 1 == columns.len();
    if let Some(width) = kind.width() {
        return Ok(End::Width(width));
    }
    match after.as_bytes().first() {
        None if last => Ok(if kind.is_text() { End::Rest } else { End::Run }),
        None => {
            let next = &columns[index + 1].0.written;
            let text = format!(
                "nothing stands between `{}` and `{next}`, so where the first ends can't be known",
                column.written
            );
            Err(Mistake { place: column.place, text })
        }
        Some(byte) if *kind == Kind::Upstreams && matches!(byte, b' ' | b'"') => Ok(End::Run),
        Some(byte) if !kind.holds(*byte) => Ok(if kind.is_text() { End::Mark(*byte) } else { End::Run }),
        Some(_) => Ok(End::Stretch(stretch(columns, index))),
    }
}

fn stretch(columns: &[(Column, String)], from: usize) -> Stretch {
    let mut last = from;
    let mut stop = None;
    for index in from..columns.len() {
        last = index;
        let inside = &columns[from..=index];
        let hard = |byte: u8| !inside.iter().any(|(column, _)| column.kind.holds(byte));
        stop = columns[index].1.bytes().position(hard);
        if stop.is_some() {
            break;
        }
    }
    let mut middle = last;
    while middle > from && ends_backwards(columns, middle) {
        middle -= 1;
    }
    Stretch { last, middle, stop }
}

/// Whether the column's beginning can be told from its end.
fn ends_backwards(columns: &[(Column, String)], index: usize) -> bool {
    let kind = &columns[index].0.kind;
    let before = columns[index - 1].1.as_bytes().last();
    kind.width().is_some()
        || (before.is_some_and(|byte| !kind.holds(*byte)) && !kind.is_text() && *kind != Kind::Upstreams)
}

/// Where the first of these bytes is that no backslash escapes.
fn first(mark: u8, text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if mark == b'"' {
        return closing_quote(bytes);
    }
    if mark == b'\\' {
        return memchr(mark, bytes);
    }
    let mut from = 0;
    loop {
        let at = from + memchr2(mark, b'\\', bytes.get(from..)?)?;
        if bytes[at] == mark {
            return Some(at);
        }
        from = at + 2;
    }
}

/// As `str::find`; beside a list, blanks behind commas do not count.
fn find(text: &str, literal: &str, beside_list: bool) -> Option<usize> {
    if !beside_list {
        return memmem::find(text.as_bytes(), literal.as_bytes());
    }
    text.match_indices(literal).map(|(at, _)| at).find(|at| !belongs_to_list(text, *at, literal))
}

fn rfind(text: &str, literal: &str, beside_list: bool) -> Option<usize> {
    text.rmatch_indices(literal).map(|(at, _)| at).find(|at| !beside_list || !belongs_to_list(text, *at, literal))
}

fn belongs_to_list(text: &str, at: usize, literal: &str) -> bool {
    literal.starts_with(' ') && text[..at].ends_with(',')
}
