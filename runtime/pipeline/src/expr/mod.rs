//! CEL expressions over one record: checked and compiled once when a pipeline is read, evaluated per
//! record. The only files that name the CEL crate are in this folder. `scan` says what is JSON, `json` turns values in
//! and out, `number` makes one kind of CEL's numbers, `scope` finds out which parts of a record an expression looks at,
//! `fast` answers the plain ones without CEL, `depth`, `meter` and `cost` limit what the others may take.

mod check;
mod cost;
mod depth;
mod fast;
mod functions;
mod json;
mod meter;
mod number;
mod scan;
mod scope;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelBytes, CelInt, CelMap, CelMapKey, CelNull, CelString};
use cel::common::types::{CelDuration, CelOptional, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};
use millstream_protocol::columns::{Headers, Row};

use crate::diagnostic::{Diagnostic, Diagnostics};
use fast::{Answer, Fast};
use meter::Metered;
use number::{Digits, Number};
use scope::{Uses, ValueUse};

pub use cost::{UNITS_BASE, UNITS_PER_BYTE, units_max};
pub use functions::GROUPS as FUNCTION_GROUPS;

/// The names an expression may use.
pub const VARIABLES: [&str; 8] = ["value", "key", "timestamp", "time", "headers", "topic", "partition", "offset"];

/// Longest error text kept of a failed evaluation, bytes: it goes into a header of the dead letter.
const ERROR_BYTES_MAX: usize = 300;
/// Of an expression in an error that says more than what is wrong.
const SHOWN_CHARS_MAX: usize = 80;
/// The largest record over which a plain expression (see [`meter`]) is evaluated without counting: a copy of it in each
/// of its places is still little.
const UNCOUNTED_BYTES_MAX: usize = 16 << 10;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [
        cel::extensions::strings,
        cel::extensions::lists,
        cel::extensions::math,
        cost::extension,
        number::extension,
        functions::register,
    ] {
        env.add_extension(extension).expect("the standard extensions do not conflict");
    }
    Arc::new(env)
});

/// A compiled expression.
pub struct Expression {
    source: String,
    program: IdedExpr,
    metered: Metered,
    uses: Uses,
    fast: Option<Fast>,
    /// It is `value` and nothing else.
    identity: bool,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Why a text is not a usable expression; `at` is a byte offset into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompileError {
    pub(crate) message: String,
    pub(crate) at: usize,
    pub(crate) length: usize,
    pub(crate) suggestion: Option<&'static str>,
    /// What there is; may be empty.
    pub(crate) help: String,
}

impl CompileError {
    pub(crate) fn diagnostic(self, message: String, span: crate::Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(message, span).help(self.help);
        match self.suggestion {
            Some(suggestion) => diagnostic.label(format!("did you mean `{suggestion}`?")),
            None => diagnostic,
        }
    }
}

/// The record an expression looks at, beside what the row itself holds.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub topic: &'a str,
    pub partition: u32,
}

impl Expression {
    /// Parses and checks `source`: syntax, variable names, function names.
    pub(crate) fn compile(source: &str) -> Result<Expression, CompileError> {
        if source.len() > depth::BYTES_MAX {
            let message = format!("an expression has at most {} bytes, this has {}", depth::BYTES_MAX, source.len());
            return Err(CompileError { message, at: 0, length: 1, ..CompileError::default() });
        }
        if let Some(at) = depth::too_deep_at(source) {
            let message = format!("this goes deeper than {} levels: make two steps of it", depth::DEPTH_MAX);
            return Err(CompileError { message, at, length: 1, ..CompileError::default() });
        }
        let program = ENV.compile(source).map_err(|errors| syntax_error(source, &errors))?;
        let uses = scope::analyse(&program, source)?;
        check::arguments(&program, source)?;
        let place = |id| program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize).min(source.len());
        let promoted = number::promote(program.expression().clone());
        let metered = meter::meter(&promoted, &place)?;
        Ok(Expression {
            source: source.to_string(),
            fast: Fast::compile(program.expression()),
            identity: scope::names_value(program.expression()),
            program: promoted,
            metered,
            uses,
        })
    }

    /// An expression that stands by itself; `name` is what is shown in place of a file's.
    ///
    /// # Errors
    /// What is wrong with it, at its place.
    pub fn parse(source: &str, name: &str) -> Result<Expression, Diagnostics> {
        Expression::compile(source).map_err(|error| {
            let mut found = Diagnostics::new(name, source);
            let span = error.at..(error.at + error.length).min(source.len());
            found.push(error.clone().diagnostic(error.message, span));
            found
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates to a boolean.
    ///
    /// # Errors
    /// A sentence about this record: a missing field, a type that does not fit.
    pub fn test(&self, row: &Row<'_>, origin: Origin<'_>) -> Result<bool, String> {
        if let Some(Answer::Bool(truth)) = self.answer(row) {
            return Ok(truth);
        }
        self.evaluate(row, origin, |result| match result.downcast_ref::<CelBool>() {
            Some(answer) => Ok(*answer.inner()),
            None => Err(format!("`{}` gave {}, expected true or false", self.source, kind(result))),
        })
    }

    /// Evaluates to a value's bytes, appended to `out`: strings and bytes as they are, everything else as
    /// JSON. `Ok(false)` and nothing appended: the result is null. What is only passed on keeps its bytes: the whole
    /// value, and a field that is a number.
    ///
    /// # Errors
    /// As [`Expression::test`].
    pub fn value(&self, row: &Row<'_>, origin: Origin<'_>, out: &mut Vec<u8>) -> Result<bool, String> {
        if self.identity {
            row.value.inspect(|value| out.extend_from_slice(value));
            return Ok(row.value.is_some());
        }
        match self.answer(row) {
            Some(Answer::Null) => return Ok(false),
            Some(Answer::Text(text)) => {
                out.extend_from_slice(text.as_bytes());
                return Ok(true);
            }
            Some(Answer::Raw(raw) | Answer::Number(_, Some(raw))) => {
                out.extend_from_slice(raw);
                return Ok(true);
            }
            _ => {}
        }
        self.evaluate(row, origin, |result| {
            if let Some(text) = result.downcast_ref::<CelString<'_>>() {
                out.extend_from_slice(text.inner().as_bytes());
            } else if let Some(bytes) = result.downcast_ref::<CelBytes<'_>>() {
                out.extend_from_slice(bytes.inner());
            } else if result.downcast_ref::<CelNull>().is_some() {
                return Ok(false);
            } else if let Some(text) = plain_text(result) {
                out.extend_from_slice(text.as_bytes());
            } else {
                json::write(result, out)?;
            }
            Ok(true)
        })
    }

    /// Evaluates to a key's bytes, appended to `out`: a string, bytes, or a number's canonical text, which is the same
    /// however the number is written. `Ok(false)`: null, no key.
    ///
    /// # Errors
    /// As [`Expression::test`].
    pub fn key(&self, row: &Row<'_>, origin: Origin<'_>, out: &mut Vec<u8>) -> Result<bool, String> {
        match self.answer(row) {
            Some(Answer::Null) => return Ok(false),
            Some(Answer::Text(text)) => {
                out.extend_from_slice(text.as_bytes());
                return Ok(true);
            }
            Some(Answer::Number(number, _)) if number.write(out) => return Ok(true),
            _ => {}
        }
        self.evaluate(row, origin, |result| {
            if let Some(text) = result.downcast_ref::<CelString<'_>>() {
                out.extend_from_slice(text.inner().as_bytes());
            } else if let Some(bytes) = result.downcast_ref::<CelBytes<'_>>() {
                out.extend_from_slice(bytes.inner());
            } else if Number::of(result).is_some_and(|number| number.write(out)) {
                return Ok(true);
            } else if let Some(text) = result.downcast_ref::<Digits>().and_then(Digits::key) {
                out.extend_from_slice(text.as_bytes());
            } else if let Some(text) = plain_text(result) {
                out.extend_from_slice(text.as_bytes());
            } else if result.downcast_ref::<CelNull>().is_some() {
                return Ok(false);
            } else {
                return Err(format!("`{}` gave {}, a key is a string or a number", self.source, kind(result)));
            }
            Ok(true)
        })
    }

    /// Without CEL, where that is possible.
    fn answer<'r>(&'r self, row: &Row<'r>) -> Option<Answer<'r>> {
        self.fast.as_ref()?.run(row.value?)
    }

    fn evaluate<T>(
        &self,
        row: &Row<'_>,
        origin: Origin<'_>,
        use_result: impl FnOnce(&dyn Val) -> Result<T, String>,
    ) -> Result<T, String> {
        let value = match (&self.uses.value, row.value) {
            (ValueUse::None, _) => None,
            (_, None) => Some(Box::new(CelNull) as Box<dyn Val + '_>),
            (ValueUse::Fields(fields), Some(bytes)) => Some(self.read(json::read_fields(bytes, fields))?),
            (ValueUse::Whole, Some(bytes)) => Some(self.read(json::read(bytes))?),
        };
        let record = Record { row, origin, value, headers: self.uses.headers.then(|| header_map(row.headers)) };
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(&record);
        let bytes = row.value.map_or(0, <[u8]>::len) + row.key.map_or(0, <[u8]>::len) + record.header_bytes();
        if self.metered.plain && bytes <= UNCOUNTED_BYTES_MAX {
            let result = Value::resolve_val(&self.program, &context);
            return self.finish(result, row, use_result);
        }
        cost::begin(units_max(bytes), Some(Arc::clone(&self.metered.patterns)));
        let result = Value::resolve_val(&self.metered.expression, &context);
        if cost::end() {
            return Err(self.too_much(bytes));
        }
        self.finish(result, row, use_result)
    }

    fn read<'v>(&self, read: Result<Box<dyn Val + 'v>, scan::Mistake>) -> Result<Box<dyn Val + 'v>, String> {
        read.map_err(|mistake| cut(format!("`{}`: {mistake}", self.source)))
    }

    fn finish<T>(
        &self,
        result: Result<CowVal<'_, '_>, ExecutionError>,
        row: &Row<'_>,
        use_result: impl FnOnce(&dyn Val) -> Result<T, String>,
    ) -> Result<T, String> {
        result
            .map_err(|error| self.explain(&error, row))
            .and_then(|result| use_result(held(result.as_ref())))
            .map_err(cut)
    }

    fn too_much(&self, bytes: usize) -> String {
        let source: String = self.source.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if source.len() < self.source.len() { "…" } else { "" };
        let units = units_max(bytes);
        cut(format!(
            "`{source}{more}`: this takes more than the {units} units of work that an expression may take on a record of \
             {bytes} bytes: loop over less, make two steps of it, or use a plugin"
        ))
    }

    fn explain(&self, error: &ExecutionError, row: &Row<'_>) -> String {
        let about = match error {
            ExecutionError::NoSuchKey(name) => format!("no field `{name}`"),
            ExecutionError::NoSuchOverload(call) if call.function() == "_._" => {
                let asked = call.argument_types().first().map_or("value", String::as_str);
                match row.value {
                    None => "the record has no value".into(),
                    Some(bytes) => match scan::check(bytes) {
                        Ok(()) => format!("a field was asked of a {asked}"),
                        // What begins as an object or a list was meant to be one.
                        Err(mistake) if meant_as_json(bytes) => {
                            format!("the value is not JSON: {mistake}")
                        }
                        Err(_) => format!("a field was asked of a {asked}, the value is not JSON"),
                    },
                }
            }
            ExecutionError::NoSuchOverload(call) if number::is_about_digits(call.argument_types()) => {
                "a number of more than 64 bits, or beyond the range of numbers, is carried and not calculated with: \
                 double(…) makes it a fraction"
                    .into()
            }
            ExecutionError::NoSuchOverload(call) => match check::takes(call.function(), call.argument_types()) {
                Some(takes) => takes,
                None => error.to_string(),
            },
            ExecutionError::FunctionError { function, message } => check::words(function, message.clone()),
            other => other.to_string(),
        };
        format!("`{}`: {about}", self.source)
    }
}

/// What an optional holds, null where it holds nothing; anything else is itself.
fn held<'b, 'v>(result: &'b (dyn Val + 'v)) -> &'b (dyn Val + 'v) {
    match result.downcast_ref::<CelOptional<'v>>() {
        Some(optional) => optional.option().map_or(&CelNull, held),
        None => result,
    }
}

/// The text of a time, a duration, an address or a network.
fn plain_text(value: &dyn Val) -> Option<String> {
    if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        return Some(functions::text_of_time(time));
    }
    if let Some(duration) = value.downcast_ref::<CelDuration>() {
        return Some(functions::text_of_duration(duration));
    }
    if let Some(ip) = value.downcast_ref::<functions::Ip>() {
        return Some(ip.0.to_string());
    }
    value.downcast_ref::<functions::Cidr>().map(ToString::to_string)
}

/// A text that is none of these is a line of something else.
fn meant_as_json(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    bytes.starts_with(b"{") || bytes.starts_with(b"[") || bytes.starts_with(b"\xef\xbb\xbf")
}

fn cut(mut message: String) -> String {
    if message.len() > ERROR_BYTES_MAX {
        message.truncate(message.floor_char_boundary(ERROR_BYTES_MAX));
        message.push('…');
    }
    message
}

fn kind(value: &dyn Val) -> String {
    let name = value.get_type().name().to_string();
    match name.chars().next() {
        Some('a' | 'e' | 'i' | 'o') => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

/// The variables of one evaluation. Parsed parts are made at most once, and only when mentioned.
struct Record<'r> {
    row: &'r Row<'r>,
    origin: Origin<'r>,
    value: Option<Box<dyn Val + 'r>>,
    headers: Option<CelMap<'r>>,
}

impl Record<'_> {
    /// Of the headers, when they are looked at.
    fn header_bytes(&self) -> usize {
        match self.headers {
            Some(_) => self.row.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum(),
            None => 0,
        }
    }
}

impl VariableResolver for Record<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable {
            "value" => self.value.as_deref().map(CowVal::Borrowed),
            "headers" => self.headers.as_ref().map(|headers| CowVal::Borrowed(headers as &dyn Val)),
            // Looked at each time, and so charged each time; a name that is not found ends the evaluation.
            "key" => match self.row.key {
                Some(key) => cost::charge(key.len() as u64).ok().map(|()| text_or_bytes(key)),
                None => Some(CowVal::owned(CelNull)),
            },
            "timestamp" => Some(CowVal::owned(CelInt::from(self.row.timestamp))),
            // A time outside of the years 1 to 9999 is none.
            "time" => Some(match functions::of_millis(self.row.timestamp) {
                Some(time) => CowVal::owned(time),
                None => CowVal::owned(CelNull),
            }),
            "offset" => Some(CowVal::owned(CelInt::from(self.row.offset))),
            "partition" => Some(CowVal::owned(CelInt::from(i64::from(self.origin.partition)))),
            "topic" => Some(CowVal::owned(CelString::from(self.origin.topic))),
            _ => None,
        }
    }
}

fn text_or_bytes<'b>(bytes: &'b [u8]) -> CowVal<'b, 'b> {
    match std::str::from_utf8(bytes) {
        Ok(text) => CowVal::owned(CelString::from(text)),
        Err(_) => CowVal::owned(CelBytes::from(bytes)),
    }
}

/// A repeated header name keeps its last value, as Kafka's `lastHeader` does.
fn header_map<'r>(headers: Headers<'r>) -> CelMap<'r> {
    let entries = headers.iter().filter_map(|(name, value)| {
        let name = std::str::from_utf8(name).ok()?;
        let value: Box<dyn Val + 'r> = match value {
            Some(value) => text_or_bytes(value).into_owned(),
            None => Box::new(CelNull),
        };
        Some((CelMapKey::from(name), value))
    });
    CelMap::from(entries.collect::<std::collections::HashMap<_, _>>())
}

fn syntax_error(source: &str, errors: &cel::ParseErrors) -> CompileError {
    let Some(first) = errors.errors.first() else {
        return CompileError {
            message: "not a valid expression".into(),
            at: 0,
            length: source.len(),
            ..CompileError::default()
        };
    };
    let (line, column) = (first.pos.0.max(1) as usize, first.pos.1.max(1) as usize);
    let at = crate::yaml::offset_of(source, line, column).min(source.len());
    let message = plain_words(first.msg.trim_start_matches("Syntax error: ").trim());
    CompileError { message, at, length: 1, ..CompileError::default() }
}

/// The parser's messages list every token it could have taken; what it found instead is what helps.
fn plain_words(message: &str) -> String {
    let found = message.split_once('\'').and_then(|(_, rest)| rest.split_once("' expecting")).map(|(found, _)| found);
    match (found, message.strip_prefix("token recognition error at: ")) {
        (Some("<EOF>"), _) => "the expression ends too early".into(),
        (Some(found), _) => format!("unexpected `{found}`"),
        (None, Some(text)) if text.starts_with("'= ") => "`=` is no operator: equality is `==`".into(),
        (None, Some(text)) => format!("cannot read {text}: is a quote left open?"),
        (None, None) => message.to_string(),
    }
}

#[cfg(test)]
mod tests;
