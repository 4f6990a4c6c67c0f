//! What can be said of an expression's calls before any record is seen: how many arguments a function takes, and, of a
//! call whose arguments are all written out, what comes of it.

use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use cel::{Context, ExecutionError, IdedExpr, Program, Value};

use super::functions::{self, Form, NAMESPACES};
use super::{CompileError, ENV, cost, number};

/// Functions of a time whose other arguments are wrong, or not, whatever the time is.
const FORMATS: [&str; 2] = ["format_time", "parse_time"];

/// Looks at every call.
///
/// # Errors
/// The first that can't succeed.
pub(super) fn arguments(program: &Program, source: &str) -> Result<(), CompileError> {
    let mut calls = Vec::new();
    gather(program.expression(), &mut calls);
    for (node, call) in calls {
        let Err(message) = check(node, call) else { continue };
        let start = program.source_info().offset_for(node.id).map_or(0, |(start, _)| start as usize).min(source.len());
        let bare = call.func_name.trim_start_matches('@');
        let at = place(source, start, bare);
        return Err(CompileError {
            message,
            at,
            length: bare.len().max(1).min(source.len().saturating_sub(at)).max(1),
            ..CompileError::default()
        });
    }
    Ok(())
}

/// A function's own words, where they are for people.
pub(super) fn words(function: &str, message: String) -> String {
    match function {
        "duration" => "this is no duration, such as 1h30m, 90s or 250ms".to_owned(),
        _ => message,
    }
}

/// Where a call's name is: its node's place is that of the parenthesis after it, or of what it begins with.
pub(super) fn place(source: &str, start: usize, name: &str) -> usize {
    let before = source.get(..start).map(str::trim_end).filter(|before| before.ends_with(name));
    match before {
        Some(before) => before.len() - name.len(),
        None => source.get(start..).and_then(|rest| rest.find(name)).map_or(start, |at| start + at),
    }
}

/// What a known function takes, and what it was given; `None` for an operator.
pub(super) fn takes(function: &str, types: &[String]) -> Option<String> {
    let function = function.strip_prefix('@').unwrap_or(function);
    let shown: Vec<&str> = functions::named(function).map(|signature| signature.shown).collect();
    (!shown.is_empty()).then(|| format!("`{}` was given {}", shown.join("` or `"), types.join(", ")))
}

fn gather<'p>(node: &'p IdedExpr, calls: &mut Vec<(&'p IdedExpr, &'p CallExpr)>) {
    match &node.expr {
        Expr::Call(call) => {
            calls.push((node, call));
            call.target.iter().for_each(|target| gather(target, calls));
            call.args.iter().for_each(|arg| gather(arg, calls));
        }
        Expr::Select(select) => gather(&select.operand, calls),
        Expr::List(list) => list.elements.iter().for_each(|element| gather(element, calls)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| {
            if let EntryExpr::MapEntry(entry) = &entry.expr {
                gather(&entry.key, calls);
                gather(&entry.value, calls);
            }
        }),
        Expr::Comprehension(inner) => {
            for part in [&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result] {
                gather(part, calls);
            }
        }
        Expr::Struct(_) | Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
    }
}

fn check(node: &IdedExpr, call: &CallExpr) -> Result<(), String> {
    let target = call.target.as_deref();
    let namespace = target.and_then(|target| match &target.expr {
        Expr::Ident(name) if NAMESPACES.contains(&name.as_str()) => Some(name.as_str()),
        _ => None,
    });
    let of_namespace = namespace.map(|namespace| format!("{namespace}.{}", call.func_name));
    let (name, form) = match &of_namespace {
        Some(name) if functions::named(name).next().is_some() => (name.as_str(), Form::Global),
        _ => (call.func_name.as_str(), if target.is_some() { Form::Member } else { Form::Global }),
    };
    let signatures: Vec<_> = functions::named(name).filter(|signature| signature.form == form).collect();
    if signatures.is_empty() {
        return Ok(());
    }
    let given = call.args.len();
    if !signatures.iter().any(|signature| (signature.least..=signature.most).contains(&given)) {
        let shown: Vec<&str> = signatures.iter().map(|signature| signature.shown).collect();
        return Err(format!("`{name}` takes other arguments: `{}`", shown.join("` or `")));
    }
    let written_out = |node: &IdedExpr| matches!(node.expr, Expr::Literal(_));
    // Whatever takes a pattern is looked at by `meter`.
    if name == "matches" || name.starts_with("regex.") {
        return Ok(());
    }
    if functions::is_own(name)
        && call.args.iter().all(written_out)
        && (namespace.is_some() || target.is_none_or(written_out))
        && given > 0
    {
        return evaluate(node.clone());
    }
    if FORMATS.contains(&name) && call.args[1..].iter().all(written_out) {
        return format(call);
    }
    Ok(())
}

/// A call without anything of a record in it.
fn evaluate(node: IdedExpr) -> Result<(), String> {
    let context = Context::with_env(Arc::clone(&ENV));
    let node = number::promote(node);
    cost::begin(cost::units_max(0), None);
    let result = Value::resolve_val(&node, &context);
    cost::end();
    match result {
        Ok(_) => Ok(()),
        Err(ExecutionError::FunctionError { function, message }) => Err(words(&function, message)),
        Err(ExecutionError::NoSuchOverload(call)) => match takes(call.function(), call.argument_types()) {
            Some(message) => Err(message),
            None => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

/// A format and a zone, tried on a time; what is read of a text is another matter.
fn format(call: &CallExpr) -> Result<(), String> {
    let mut args = call.args.clone();
    let zero = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(0.into())) };
    let time = CallExpr { func_name: "timestamp".into(), target: None, args: vec![zero] };
    args[0] = IdedExpr { id: 0, expr: Expr::Call(time) };
    evaluate(IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: "format_time".into(), target: None, args }) })
}
