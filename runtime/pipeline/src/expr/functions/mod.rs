//! The functions of expressions: [`GROUPS`] names every one with its signature, those of the CEL crate and those that are
//! written in this folder. From that table come suggestions, lists and messages about arguments; the tests hold that the
//! page `EXPRESSIONS.md` and the hostile suite know each of its rows.
//!
//! A function is one of its arguments alone: no clock, no chance, no file of the machine. `meter` charges for the size of
//! each argument; what takes or makes more than that is charged here, before it is made.

mod collections;
mod digest;
mod encode;
mod macros;
mod net;
mod patterns;
mod table;
mod time;
mod web;

use cel::common::functions::Function;
use cel::common::types::{CelBytes, CelInt, CelOptional, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

pub(super) use macros::rewrite;
pub(super) use net::{Cidr, Ip};
pub(super) use patterns::Use as PatternUse;
pub use table::GROUPS;
pub(super) use table::{Form, all, groups, named, other_name, other_near};
pub(super) use time::{of_millis, text_of_duration, text_of_time};

/// Namespaces: names before a dot that are no values.
pub(super) const NAMESPACES: [&str; 12] =
    ["math", "strings", "lists", "optional", "sets", "base64", "hex", "json", "regex", "url", "cel", "ip"];

pub(super) type Called<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// A function that is written here: its name, whether it is called on its first argument, how many it may have.
struct Own {
    name: &'static str,
    member: bool,
    arities: &'static [usize],
    run: Function,
}

const fn global(name: &'static str, arities: &'static [usize], run: Function) -> Own {
    Own { name, member: false, arities, run }
}

const fn member(name: &'static str, arities: &'static [usize], run: Function) -> Own {
    Own { name, member: true, arities, run }
}

const OWN: [&[Own]; 7] = [
    collections::FUNCTIONS,
    digest::FUNCTIONS,
    encode::FUNCTIONS,
    net::FUNCTIONS,
    patterns::FUNCTIONS,
    time::FUNCTIONS,
    web::FUNCTIONS,
];

/// Whether it is written here, and so charges for what it makes wherever it is called.
pub(super) fn is_own(name: &str) -> bool {
    ["timestamp", "duration"].contains(&name) || OWN.into_iter().flatten().any(|own| own.name == name)
}

/// Adds all of them.
pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    for own in OWN.into_iter().flatten() {
        for arity in own.arities {
            let id = format!("own {} {arity} {}", own.name, own.member);
            let mut types: Vec<_> = (0..*arity).map(|_| DYN_TYPE).collect();
            if own.member {
                let target = types.pop().expect("a member has a target");
                env.add_member_overload(own.name, &id, target, types, own.run)?;
            } else {
                env.add_overload(own.name, &id, types, own.run)?;
            }
        }
    }
    collections::typed(env)?;
    net::typed(env)?;
    macros::register(env)
}

fn text<'a>(function: &str, args: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a str, ExecutionError> {
    match args[at].as_ref().downcast_ref::<CelString<'_>>() {
        Some(text) => Ok(text.inner()),
        None => Err(wrong(function, args)),
    }
}

/// Of a text or bytes.
fn bytes<'a>(function: &str, args: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a [u8], ExecutionError> {
    let value = args[at].as_ref();
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(text.inner().as_bytes());
    }
    match value.downcast_ref::<CelBytes<'_>>() {
        Some(bytes) => Ok(bytes.inner()),
        None => Err(wrong(function, args)),
    }
}

fn int(function: &str, args: &[CowVal<'_, '_>], at: usize) -> Result<i64, ExecutionError> {
    match super::number::Number::of(args[at].as_ref()) {
        Some(super::number::Number::Int(number)) => Ok(number),
        // 16.0 is the whole number 16.
        Some(super::number::Number::Double(number)) if number.trunc() == number && number.abs() < 1e15 => {
            Ok(number as i64)
        }
        _ => Err(wrong(function, args)),
    }
}

/// The arguments are of other kinds than the function takes.
fn wrong(function: &str, args: &[CowVal<'_, '_>]) -> ExecutionError {
    let types = args.iter().map(|arg| arg.get_type().name().to_owned()).collect();
    ExecutionError::no_such_overload(function, types)
}

fn failed(function: &str, why: impl std::fmt::Display) -> ExecutionError {
    ExecutionError::function_error(function, why)
}

fn string<'b, 'v>(text: impl Into<String>) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text.into()))
}

fn number<'b, 'v>(number: i64) -> CowVal<'b, 'v> {
    CowVal::owned(CelInt::from(number))
}

fn truth<'b, 'v>(truth: bool) -> CowVal<'b, 'v> {
    CowVal::owned(cel::common::types::CelBool::from(truth))
}

fn optional<'b, 'v>(value: Option<Box<dyn Val + 'v>>) -> CowVal<'b, 'v> {
    match value {
        Some(value) => CowVal::owned(CelOptional::of(value)),
        None => CowVal::owned(CelOptional::none()),
    }
}

#[cfg(test)]
mod tests;
