//! Forms that are declared by the server's own string: Apache's `LogFormat` or nginx's `log_format`. [`apache`] and [`nginx`]
//! turn a string into a [`form`], [`split`] finds the columns of a line, [`write`](mod@write) makes JSON of them.

pub mod apache;
pub mod column;
pub mod form;
pub mod nginx;
pub mod split;
pub mod strftime;
pub mod write;

use millstream_plugin::prelude::*;

use crate::text::is_plain;
use crate::time::Time;
use form::COLUMNS_MAX;
use split::Splitter;
use write::{Writer, times};

/// How the server escapes what would end a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\"` and `\xhh`: what Apache always, and nginx usually, does.
    #[default]
    Default,
    /// nginx's `escape=json`.
    Json,
}

/// A declared form.
#[derive(Clone, Debug)]
pub struct Declared {
    splitter: Splitter,
    writer: Writer,
}

/// A line of it.
#[derive(Debug)]
pub struct Line<'a, 'f> {
    form: &'f Declared,
    values: [&'a str; COLUMNS_MAX],
    /// When the request began and ended, where the form says so.
    pub begin: Option<Time>,
    pub end: Option<Time>,
    /// Whether what is borrowed has nothing that JSON escapes, quotes apart.
    plain: bool,
}

impl Declared {
    /// `zone` is that of times which name none, in seconds ahead of UTC.
    ///
    /// # Errors
    /// For the form's author: what is not known, with its place.
    pub fn compile(format: &str, escape: Escape, zone: Option<i64>) -> Result<Self, String> {
        // Whichever sign comes first: the other's strings have it as text at most.
        let apache = format.find(['%', '$']).is_some_and(|at| format.as_bytes()[at] == b'%');
        let compiled = || {
            let form = if apache { apache::read(format)? } else { nginx::read(format)? };
            let writer = Writer::new(&form, escape, zone)?;
            Ok(Self { splitter: Splitter::compile(form)?, writer })
        };
        if apache && escape == Escape::Json {
            return Err("escape: only nginx writes `json`; leave it out for Apache's `LogFormat`".to_owned());
        }
        compiled().map_err(|mistake: form::Mistake| mistake.shown(format))
    }

    /// Parses a line without its line end.
    ///
    /// # Errors
    /// Names the column that does not fit.
    pub fn parse<'a>(&self, line: &'a str) -> Result<Line<'a, '_>> {
        let mut values = [""; COLUMNS_MAX];
        ensure!(!line.is_empty(), "the line is empty");
        self.splitter.split(line, &mut values)?;
        let [begin, end] = times(&self.splitter.columns, &values, &self.writer)?;
        Ok(Line { form: self, values, begin, end, plain: is_plain(line) })
    }
}

impl Line<'_, '_> {
    /// Appends the JSON object.
    ///
    /// # Errors
    /// Names the column whose value is not what its directive writes.
    pub fn write(&self, json: &mut Vec<u8>) -> Result<()> {
        self.form.writer.object(json, &self.form.splitter.columns, self)
    }

    /// The columns as they stand in the line.
    pub fn values(&self) -> &[&str] {
        &self.values[..self.form.splitter.columns.len()]
    }
}

#[cfg(test)]
mod tests;
