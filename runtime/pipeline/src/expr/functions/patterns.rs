//! What is done with a pattern beside `matches`: the pattern is compiled with the expression, its number and what a byte
//! of text takes of it are arguments.

use cel::ExecutionError;
use cel::common::types::{CelList, CelString};
use cel::common::value::{CowVal, Val};
use regex::Regex;

use super::{Called, Own, failed, global, int, optional, string, text};
use crate::expr::cost::{self, VALUE_UNITS, charge};

const EXTRACT: &str = "@regex_extract";
const EXTRACT_ALL: &str = "@regex_extract_all";
const REPLACE: &str = "@regex_replace";
/// Of a text's rest, what each further look for a match takes: it may go on to the end before it is sure.
const REST_PER_UNIT: u64 = 4;

/// A function that takes a pattern.
pub(in crate::expr) struct Use {
    /// What `meter` writes in its place.
    pub(in crate::expr) function: &'static str,
    /// Arguments after the pattern.
    pub(in crate::expr) more: std::ops::RangeInclusive<usize>,
    /// The most groups that make sense.
    pub(in crate::expr) groups_max: usize,
}

impl Use {
    pub(in crate::expr) fn of(name: &str) -> Option<Use> {
        match name {
            "extract" => Some(Use { function: EXTRACT, more: 0..=0, groups_max: 1 }),
            "extractAll" => Some(Use { function: EXTRACT_ALL, more: 0..=0, groups_max: 1 }),
            "replace" => Some(Use { function: REPLACE, more: 1..=2, groups_max: usize::MAX }),
            _ => None,
        }
    }
}

pub(super) const FUNCTIONS: &[Own] = &[
    global(EXTRACT, &[3], extract),
    global(EXTRACT_ALL, &[3], extract_all),
    global(REPLACE, &[4, 5], replace),
    // Never called: `meter` writes the ones above. They make the names known.
    global("regex.extract", &[2], unwritten),
    global("regex.extractAll", &[2], unwritten),
    global("regex.replace", &[3, 4], unwritten),
];

fn unwritten<'b, 'v>(_: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Err(failed("regex", "the pattern is a text in quotes"))
}

/// A pattern and a text, the text looked through once.
struct Search<'a> {
    text: &'a str,
    units: u64,
}

impl<'a> Search<'a> {
    fn of(function: &str, args: &'a [CowVal<'_, '_>]) -> Result<Search<'a>, ExecutionError> {
        let text = text(function, args, 0)?;
        let units = cost::number(args[2].as_ref());
        charge((VALUE_UNITS + text.len() as u64).saturating_mul(units))?;
        Ok(Search { text, units })
    }

    /// Each match in turn; `found` charges for what it makes.
    fn each(
        &self,
        args: &[CowVal<'_, '_>],
        mut found: impl FnMut(regex::Captures<'a>) -> Result<bool, ExecutionError>,
    ) -> Result<(), ExecutionError> {
        with(args, |pattern| {
            for captures in pattern.captures_iter(self.text) {
                let at = captures.get_match().end();
                let rest = (self.text.len() - at) as u64;
                charge((VALUE_UNITS + rest / REST_PER_UNIT).saturating_mul(self.units))?;
                if !found(captures)? {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn with<T>(args: &[CowVal<'_, '_>], run: impl FnOnce(&Regex) -> T) -> T {
    let patterns = cost::patterns();
    let at = usize::try_from(cost::number(args[1].as_ref())).unwrap_or(usize::MAX);
    run(patterns.get(at).expect("the number is that of a pattern of this expression"))
}

/// The group, where the pattern has one, else all that matches.
fn wanted<'t>(captures: &regex::Captures<'t>) -> Option<&'t str> {
    captures.get(captures.len() - 1).map(|found| found.as_str())
}

fn extract<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let search = Search::of("regex.extract", &args)?;
    let found = with(&args, |pattern| pattern.captures(search.text).as_ref().and_then(wanted).map(str::to_owned));
    Ok(optional(found.map(|found| Box::new(CelString::from(found)) as Box<dyn Val + 'v>)))
}

fn extract_all<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let search = Search::of("regex.extractAll", &args)?;
    let mut list: Vec<Box<dyn Val + 'v>> = Vec::new();
    search.each(&args, |captures| {
        if let Some(found) = wanted(&captures) {
            charge(VALUE_UNITS + found.len() as u64)?;
            list.push(Box::new(CelString::from(found.to_owned())));
        }
        Ok(true)
    })?;
    Ok(CowVal::owned(CelList::from(list)))
}

/// In what is put in place, `\1` is the first group, `\0` all that matched and `\\` a backslash.
fn replace<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "regex.replace";
    let search = Search::of(name, &args)?;
    let new = text(name, &args, 3)?;
    let mut left = if args.len() == 5 { int(name, &args, 4)? } else { -1 };
    if left == 0 {
        return Ok(string(search.text));
    }
    let (mut out, mut from) = (String::new(), 0);
    search.each(&args, |captures| {
        let all = captures.get_match();
        charge((all.start() - from + new.len()) as u64)?;
        out.push_str(&search.text[from..all.start()]);
        put(name, new, &captures, &mut out)?;
        from = all.end();
        left -= 1;
        Ok(left != 0)
    })?;
    charge((search.text.len() - from) as u64)?;
    out.push_str(&search.text[from..]);
    Ok(string(out))
}

fn put(name: &str, new: &str, captures: &regex::Captures<'_>, out: &mut String) -> Result<(), ExecutionError> {
    let mut chars = new.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => out.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                if group >= captures.len() {
                    return Err(failed(name, format!("the pattern has no group {group}")));
                }
                let found = captures.get(group).map_or("", |found| found.as_str());
                charge(found.len() as u64)?;
                out.push_str(found);
            }
            _ => return Err(failed(name, "a backslash is followed by the number of a group, or by another one")),
        }
    }
    Ok(())
}
