//! Walks a compiled expression: refuses names that do not exist, and finds which parts of a record it
//! needs, so that a record is parsed no further than that.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::{Context, ExecutionError, IdedExpr, Program};

use super::functions::{self, Form, NAMESPACES};
use super::{CompileError, ENV, VARIABLES};

/// How much of the value an expression looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueUse {
    None,
    /// Only these fields of the object it is.
    Fields(Vec<Box<str>>),
    Whole,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uses {
    pub(super) value: ValueUse,
    pub(super) headers: bool,
}

pub(super) fn analyse(program: &Program, source: &str) -> Result<Uses, CompileError> {
    let mut walk =
        Walk { program, source, locals: Vec::new(), uses: Uses { value: ValueUse::None, headers: false }, error: None };
    walk.expression(program.expression());
    match walk.error {
        Some(error) => Err(error),
        None => Ok(walk.uses),
    }
}

/// Whether the expression is the record's value, and nothing else.
pub(super) fn names_value(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == "value")
}

struct Walk<'p> {
    program: &'p Program,
    source: &'p str,
    /// Names bound by the macros around the current node.
    locals: Vec<&'p str>,
    uses: Uses,
    error: Option<CompileError>,
}

impl<'p> Walk<'p> {
    fn expression(&mut self, node: &'p IdedExpr) {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.identifier(node, name),
            Expr::Select(select) => match self.is_value(&select.operand) {
                true => self.use_field(&select.field),
                false => self.expression(&select.operand),
            },
            Expr::Call(call) => {
                if let ("_[_]" | "_?._" | "_[?_]", [operand, index]) = (call.func_name.as_str(), &call.args[..])
                    && self.is_value(operand)
                    && let Expr::Literal(LiteralValue::String(field)) = &index.expr
                {
                    return self.use_field(field.inner());
                }
                self.call(node, call);
                call.args.iter().for_each(|arg| self.expression(arg));
            }
            Expr::Comprehension(inner) => {
                self.expression(&inner.iter_range);
                self.expression(&inner.accu_init);
                let depth = self.locals.len();
                self.locals.extend([inner.iter_var.as_str(), inner.accu_var.as_str()]);
                self.locals.extend(inner.iter_var2.as_deref());
                self.expression(&inner.loop_cond);
                self.expression(&inner.loop_step);
                self.expression(&inner.result);
                self.locals.truncate(depth);
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.expression(element)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(made) => made.entries.iter().for_each(|entry| self.entry(&entry.expr)),
        }
    }

    fn entry(&mut self, entry: &'p EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key);
                self.expression(&entry.value);
            }
        }
    }

    fn is_value(&self, node: &IdedExpr) -> bool {
        names_value(node) && !self.locals.contains(&"value")
    }

    fn use_field(&mut self, field: &str) {
        match &mut self.uses.value {
            ValueUse::Whole => {}
            ValueUse::Fields(fields) if fields.iter().any(|known| **known == *field) => {}
            ValueUse::Fields(fields) => fields.push(field.into()),
            none => *none = ValueUse::Fields(vec![field.into()]),
        }
    }

    fn identifier(&mut self, node: &IdedExpr, name: &str) {
        let bare = name.trim_start_matches('.');
        if name.starts_with('@') || self.locals.contains(&bare) || TYPES.contains(&bare) {
            return;
        }
        match bare {
            "value" => self.uses.value = ValueUse::Whole,
            "headers" => self.uses.headers = true,
            known if VARIABLES.contains(&known) => {}
            unknown => {
                let message = format!("unknown name `{unknown}`; a record has {}", VARIABLES.join(", "));
                let suggestion = crate::diagnostic::nearest(unknown, VARIABLES);
                self.fail(node, unknown, message, suggestion.and_then(known_variable));
            }
        }
    }

    fn call(&mut self, node: &'p IdedExpr, call: &'p cel::common::ast::CallExpr) {
        let name = call.func_name.as_str();
        let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        let namespace = call.target.as_deref().and_then(|target| match &target.expr {
            Expr::Ident(root) if !VARIABLES.contains(&root.as_str()) && !self.locals.contains(&root.as_str()) => {
                Some(root.as_str())
            }
            _ => None,
        });
        match (&call.target, namespace) {
            (Some(_), Some(namespace))
                if known(&format!("{namespace}.{name}"), Form::Global) || exists(&format!("{namespace}.{name}()")) => {}
            (Some(_), Some(namespace)) if NAMESPACES.contains(&namespace) => {
                self.unknown_function(node, &format!("{namespace}.{name}"), Form::Global);
            }
            (Some(target), _) => {
                self.expression(target);
                if !is_operator && !known(name, Form::Member) && !exists(&format!("''.{name}()")) {
                    self.unknown_function(node, name, Form::Member);
                }
            }
            (None, _) if is_operator || known(name, Form::Global) || exists(&format!("{name}()")) => {}
            (None, _) => self.unknown_function(node, name, Form::Global),
        }
    }

    /// A name of another language, else the nearest of the same form, else the nearest of all; else the list of what
    /// there is.
    fn unknown_function(&mut self, node: &IdedExpr, name: &str, form: Form) {
        let of_form = functions::all().filter(|signature| signature.form == form).map(|signature| signature.name);
        let elsewhere = functions::named(name).next().map(|signature| signature.name);
        let suggestion = elsewhere
            .or_else(|| functions::other_name(name))
            .or_else(|| nearest(name, of_form))
            .or_else(|| functions::other_near(name))
            .or_else(|| nearest(name, functions::all().map(|signature| signature.name)));
        if suggestion == Some(name) {
            let shown = functions::named(name).next().map_or("", |signature| signature.shown);
            return self.fail(node, name, format!("`{name}` is called otherwise: `{shown}`"), None);
        }
        let mut message = format!("unknown function `{name}`");
        if ["now", "today", "random", "rand", "uuid", "uuid4", "env"].contains(&name) {
            message.push_str(": a result is made of the record alone (`time` is the record's time)");
            return self.fail(node, name, message, None);
        }
        let meant = suggestion.and_then(|suggestion| functions::named(suggestion).next());
        if let Some(signature) = meant {
            message.push_str(&format!("; there is `{}`", signature.shown));
        }
        self.fail(node, name, message, suggestion);
        if let (None, Some(error)) = (suggestion, &mut self.error)
            && error.help.is_empty()
            && error.message.starts_with("unknown function")
        {
            error.help = format!("there are\n{}", functions::groups());
        }
    }

    /// Keeps the first error. The node's own position may be that of an operator, so the name is looked
    /// for from there.
    fn fail(&mut self, node: &IdedExpr, name: &str, message: String, suggestion: Option<&'static str>) {
        let start = self.program.source_info().offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let near = super::check::place(self.source, start, name);
        let is_there = self.source.get(near..).is_some_and(|rest| rest.starts_with(name));
        let at = if is_there { near } else { self.source.find(name).unwrap_or(0) };
        self.error.get_or_insert(CompileError { message, at, length: name.len(), suggestion, help: String::new() });
    }
}

const TYPES: [&str; 11] =
    ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "optional_type", "type"];

fn known_variable(name: &str) -> Option<&'static str> {
    VARIABLES.into_iter().find(|known| *known == name)
}

fn known(name: &str, form: Form) -> bool {
    functions::named(name).any(|signature| signature.form == form)
}

/// As [`crate::diagnostic::nearest`], with or without the namespace.
fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let candidates: Vec<&'static str> = candidates.collect();
    let found = crate::diagnostic::nearest(name, candidates.iter().copied()).map(str::to_owned);
    if let Some(found) = found {
        return candidates.into_iter().find(|candidate| *candidate == found);
    }
    let bare = |name: &'static str| name.rsplit_once('.').map_or(name, |(_, bare)| bare);
    let found = crate::diagnostic::nearest(name, candidates.iter().map(|name| bare(name)))?.to_owned();
    candidates.into_iter().find(|candidate| bare(candidate) == found)
}

/// Whether a call names a function at all: one that exists complains about its arguments instead.
fn exists(call: &str) -> bool {
    let context = Context::with_env(Arc::clone(&ENV));
    match ENV.compile(call) {
        Ok(program) => !matches!(program.execute(&context), Err(ExecutionError::UndeclaredReference(_))),
        Err(_) => true,
    }
}
