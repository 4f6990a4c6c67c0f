//! Makes an expression charge for its work: every place that walks, copies or multiplies a value gets a call of one of
//! `cost`'s functions around it. What can be refused before any record is seen is refused here: loops in loops in
//! loops, and patterns that are not known beforehand or too large.

use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue};
use regex::{Regex, RegexBuilder};

use super::CompileError;
use super::cost::{COST, COUNT, LOOP, MATCHES, SQUARE, TIMES, VALUE_UNITS};
use super::depth::DEPTH_MAX;
use super::functions::{NAMESPACES, PatternUse};

/// `all`, `map` and the like, one inside the other.
const LOOPS_MAX: usize = 3;
/// A pattern, compiled.
const PATTERN_BYTES_MAX: usize = 128 << 10;
/// Patterns of one expression.
const PATTERNS_MAX: usize = 16;
/// Of a pattern's size, what trying one byte of a text takes a unit for.
const PATTERN_BYTES_PER_UNIT: usize = 1 << 10;
/// Places that charge, in an expression that may do without on a small record.
const PLACES_FREE_MAX: usize = 32;
/// An element that `split` makes of a byte.
const SPLIT_TIMES: i64 = VALUE_UNITS.cast_signed() + 2;
/// Digits that `format` may be asked for by a byte: a thousand by six.
const FORMAT_TIMES: i64 = 170;
/// Comparisons of an element that is sorted, at the most: more elements than 2^24 fit nowhere.
const SORT_TIMES: i64 = 24;

/// Calls whose work and result are no larger than their arguments; `_` begins an operator.
const PLAIN: [&str; 19] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "has",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "lowerAscii",
    "upperAscii",
    "trim",
    "substring",
    "charAt",
    "abs",
    "dyn",
];
/// Operators that only look at whether something is true, or which.
const FREE: [&str; 7] = ["_&&_", "_||_", "_?_:_", "!_", "-_", "@not_strictly_false", "__not_strictly_false__"];
/// Operators whose names begin otherwise than with `_`, those of numbers included.
const OPERATORS: [&str; 7] = ["@in", "@add", "@subtract", "@multiply", "@divide", "@remainder", "@number_text"];

/// An expression that charges.
pub(super) struct Metered {
    pub(super) expression: IdedExpr,
    pub(super) patterns: Arc<[Regex]>,
    /// Nothing in it takes more than a few times the record: a small one needs no counting.
    pub(super) plain: bool,
}

/// Where something is in the source, told from a node's number.
pub(super) type Place<'p> = &'p dyn Fn(u64) -> usize;

pub(super) fn meter(expression: &IdedExpr, place: Place<'_>) -> Result<Metered, CompileError> {
    let mut meter = Meter { place, patterns: Vec::new(), loops: 0, locals: Vec::new(), places: 0, plain: true };
    let expression = meter.expression(expression.clone())?;
    // What charges stands between two levels, and evaluating takes the stack for each.
    if depth(&expression) > DEPTH_MAX {
        let message =
            format!("this goes deeper than {DEPTH_MAX} levels with what counts its work: make two steps of it");
        return Err(CompileError { message, at: 0, length: 1, ..CompileError::default() });
    }
    let plain = meter.plain && meter.places <= PLACES_FREE_MAX;
    Ok(Metered { expression, patterns: meter.patterns.into(), plain })
}

struct Meter<'p> {
    place: Place<'p>,
    patterns: Vec<Regex>,
    /// Loops around the current node.
    loops: usize,
    /// Names they give, which may be those of namespaces.
    locals: Vec<String>,
    places: usize,
    plain: bool,
}

type Made = Result<IdedExpr, CompileError>;

impl Meter<'_> {
    fn expression(&mut self, node: IdedExpr) -> Made {
        let IdedExpr { id, expr } = node;
        let expr = match expr {
            Expr::Call(call) => return self.call(id, call),
            Expr::Comprehension(inner) => Expr::Comprehension(Box::new(self.comprehension(id, *inner)?)),
            Expr::Select(mut select) => {
                *select.operand = self.expression(*select.operand)?;
                Expr::Select(select)
            }
            Expr::List(mut list) => {
                list.elements = self.copied_all(list.elements)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    self.entry(&mut entry.expr)?;
                }
                Expr::Map(map)
            }
            Expr::Struct(mut made) => {
                for entry in &mut made.entries {
                    self.entry(&mut entry.expr)?;
                }
                Expr::Struct(made)
            }
            leaf => leaf,
        };
        Ok(IdedExpr { id, expr })
    }

    fn entry(&mut self, entry: &mut EntryExpr) -> Result<(), CompileError> {
        match entry {
            EntryExpr::StructField(field) => field.value = self.copied(std::mem::take(&mut field.value), 1)?,
            EntryExpr::MapEntry(entry) => {
                entry.key = self.copied(std::mem::take(&mut entry.key), 1)?;
                entry.value = self.copied(std::mem::take(&mut entry.value), 1)?;
            }
        }
        Ok(())
    }

    /// A node whose value is walked or copied `times`. A literal's is as long as its text.
    fn copied(&mut self, node: IdedExpr, times: i64) -> Made {
        if times == 1 && matches!(node.expr, Expr::Literal(_)) {
            return Ok(node);
        }
        self.places += 1;
        let node = self.expression(node)?;
        Ok(charged(COST, node, Some(int(times))))
    }

    fn copied_all(&mut self, nodes: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, CompileError> {
        nodes.into_iter().map(|node| self.copied(node, 1)).collect()
    }

    fn comprehension(&mut self, id: u64, mut inner: ComprehensionExpr) -> Result<ComprehensionExpr, CompileError> {
        self.plain = false;
        // `sortBy` names a value by a loop over nothing.
        let loops = !matches!(&inner.iter_range.expr, Expr::List(list) if list.elements.is_empty());
        if loops && self.loops == LOOPS_MAX {
            let message = format!("more than {LOOPS_MAX} loops one inside the other: use a plugin for this");
            return Err(self.fail(id, message));
        }
        let step = (nodes(&inner.loop_cond) + nodes(&inner.loop_step)).saturating_mul(VALUE_UNITS.cast_signed());
        let range = self.expression(inner.iter_range)?;
        inner.iter_range = if loops { charged(LOOP, range, Some(int(step))) } else { range };
        inner.accu_init = self.copied(inner.accu_init, 1)?;
        self.loops += usize::from(loops);
        let locals = self.locals.len();
        self.locals.extend([inner.iter_var.clone(), inner.accu_var.clone()]);
        inner.loop_cond = self.expression(inner.loop_cond)?;
        inner.loop_step = self.step(inner.loop_step, &inner.accu_var)?;
        self.loops -= usize::from(loops);
        inner.result = self.expression(inner.result)?;
        self.locals.truncate(locals);
        Ok(inner)
    }

    /// A loop's step. What it adds to its list is appended in place by the crate, which knows it by its form: only the
    /// element is charged.
    fn step(&mut self, node: IdedExpr, list: &str) -> Made {
        let is_list = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if name == list);
        let IdedExpr { id, expr } = node;
        match expr {
            Expr::Call(mut call) if call.func_name == "_?_:_" && call.args.len() == 3 && is_list(&call.args[2]) => {
                let condition = self.expression(std::mem::take(&mut call.args[0]))?;
                let step = self.step(std::mem::take(&mut call.args[1]), list)?;
                call.args[0] = condition;
                call.args[1] = step;
                Ok(IdedExpr { id, expr: Expr::Call(call) })
            }
            Expr::Call(mut call) if call.func_name == "_+_" && call.args.len() == 2 && is_list(&call.args[0]) => {
                call.args[1] = self.expression(std::mem::take(&mut call.args[1]))?;
                Ok(IdedExpr { id, expr: Expr::Call(call) })
            }
            expr => self.expression(IdedExpr { id, expr }),
        }
    }

    fn call(&mut self, id: u64, mut call: CallExpr) -> Made {
        let name = call.func_name.clone();
        if FREE.contains(&name.as_str()) {
            call.args = call.args.into_iter().map(|arg| self.expression(arg)).collect::<Result<_, _>>()?;
            return Ok(IdedExpr { id, expr: Expr::Call(call) });
        }
        if name == "matches" {
            return self.matches(id, call);
        }
        let namespace = call.target.as_deref().and_then(|target| self.namespace(target));
        if let Some(of) = PatternUse::of(&name).filter(|_| namespace == Some("regex")) {
            return self.pattern(id, call, &of);
        }
        let namespace = namespace.is_some();
        // A name that is written inside begins with `@`: those that grow charge by themselves, and need a purse.
        if !name.starts_with('_') && !OPERATORS.contains(&name.as_str()) && !PLAIN.contains(&name.as_str()) {
            self.plain = false;
        }
        match name.as_str() {
            "range" if namespace => {
                self.plain = false;
                call.args = self.counted(call.args)?;
                return Ok(IdedExpr { id, expr: Expr::Call(call) });
            }
            // What is put in between, or looked for, at each place of the text or list.
            "replace" if call.args.len() >= 2 => return self.product(id, call, 1),
            "join" | "indexOf" | "lastIndexOf" if !call.args.is_empty() => return self.product(id, call, 0),
            _ => {}
        }
        let times = match name.as_str() {
            "split" => SPLIT_TIMES,
            "format" => FORMAT_TIMES,
            "sort" | "@sortByAssociatedKeys" => SORT_TIMES,
            _ => 1,
        };
        call.args = self.copied_all(call.args)?;
        if let Some(target) = call.target.take() {
            let target = match namespace {
                true => *target,
                false if name == "distinct" => charged(SQUARE, self.expression(*target)?, None),
                false => self.copied(*target, times)?,
            };
            call.target = Some(Box::new(target));
        }
        Ok(IdedExpr { id, expr: Expr::Call(call) })
    }

    fn namespace<'n>(&self, node: &'n IdedExpr) -> Option<&'n str> {
        match &node.expr {
            Expr::Ident(name) if NAMESPACES.contains(&name.as_str()) && !self.locals.contains(name) => Some(name),
            _ => None,
        }
    }

    fn counted(&mut self, args: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, CompileError> {
        let each = int(VALUE_UNITS.cast_signed());
        args.into_iter().map(|arg| Ok(charged(COUNT, self.expression(arg)?, Some(each.clone())))).collect()
    }

    /// A call that may take its target's size times that of argument `at`. That argument is given a name first, by a
    /// loop over nothing, to be evaluated once.
    fn product(&mut self, id: u64, mut call: CallExpr, at: usize) -> Made {
        const NAME: &str = "@factor";
        self.plain = false;
        let factor = std::mem::replace(&mut call.args[at], name(NAME));
        let factor = self.copied(factor, 1)?;
        for (_, arg) in call.args.iter_mut().enumerate().filter(|(number, _)| *number != at) {
            *arg = self.copied(std::mem::take(arg), 1)?;
        }
        if let Some(target) = call.target.take() {
            let target = self.expression(*target)?;
            call.target = Some(Box::new(charged(TIMES, target, Some(name(NAME)))));
        }
        let bind = ComprehensionExpr {
            iter_range: IdedExpr { id, expr: Expr::List(Default::default()) },
            iter_var: "@unused".into(),
            iter_var2: None,
            accu_var: NAME.into(),
            accu_init: factor,
            loop_cond: IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(false.into())) },
            loop_step: name(NAME),
            result: IdedExpr { id, expr: Expr::Call(call) },
        };
        Ok(IdedExpr { id, expr: Expr::Comprehension(Box::new(bind)) })
    }

    /// `text.matches('pattern')` and `matches(text, 'pattern')`: the pattern is compiled here, once.
    fn matches(&mut self, id: u64, mut call: CallExpr) -> Made {
        self.plain = false;
        let wanted = if call.target.is_some() { 1 } else { 2 };
        if call.args.len() != wanted {
            return Err(self.fail(id, "`matches` takes a text and a pattern".into()));
        }
        let pattern = call.args.pop().expect("the arguments were counted");
        let subject = call.target.map(|target| *target).or_else(|| call.args.pop()).expect("there is a text");
        let args = self.compiled(id, "matches", subject, &pattern, 0)?.0;
        Ok(IdedExpr { id, expr: Expr::Call(CallExpr { func_name: MATCHES.into(), target: None, args }) })
    }

    /// `regex.extract(text, 'pattern')` and its like.
    fn pattern(&mut self, id: u64, mut call: CallExpr, of: &PatternUse) -> Made {
        self.plain = false;
        let name = format!("regex.{}", call.func_name);
        if call.args.len() < 2 || !of.more.contains(&(call.args.len() - 2)) {
            let takes = super::functions::named(&name).next().map_or("", |signature| signature.shown);
            return Err(self.fail(id, format!("the arguments of `{name}` are {takes}")));
        }
        let rest = call.args.split_off(2);
        let pattern = call.args.pop().expect("the arguments were counted");
        let text = call.args.pop().expect("the arguments were counted");
        let (mut args, groups) = self.compiled(id, &name, text, &pattern, 1)?;
        if groups > of.groups_max {
            let message = format!(
                "the pattern of `{name}` has {groups} groups: name the one that is meant by (?:…) around the others"
            );
            return Err(self.fail(id, message));
        }
        args.extend(self.copied_all(rest)?);
        Ok(IdedExpr { id, expr: Expr::Call(CallExpr { func_name: of.function.into(), target: None, args }) })
    }

    /// The text, the number of the pattern and what a byte takes; and the groups that the pattern has.
    fn compiled(
        &mut self,
        id: u64,
        function: &str,
        subject: IdedExpr,
        pattern: &IdedExpr,
        copies: i64,
    ) -> Result<(Vec<IdedExpr>, usize), CompileError> {
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            let message =
                format!("the pattern of `{function}` is a text in quotes: it is compiled before the first record");
            return Err(self.fail(id, message));
        };
        if self.patterns.len() == PATTERNS_MAX {
            let message = format!("more than {PATTERNS_MAX} patterns: make two steps of it");
            return Err(self.fail(id, message));
        }
        let (regex, size) = compile(text.inner()).map_err(|message| self.fail(id, message))?;
        let (at, groups) = (self.patterns.len(), regex.captures_len() - 1);
        self.patterns.push(regex);
        let subject = if copies > 0 { self.copied(subject, copies)? } else { self.expression(subject)? };
        let units = (size / PATTERN_BYTES_PER_UNIT).max(1);
        Ok((vec![subject, int(at as i64), int(units as i64)], groups))
    }

    fn fail(&self, id: u64, message: String) -> CompileError {
        CompileError { message, at: (self.place)(id), length: 1, ..CompileError::default() }
    }
}

/// The pattern, and how large it is: the smallest power of two that it compiles in.
fn compile(pattern: &str) -> Result<(Regex, usize), String> {
    let mut size = PATTERN_BYTES_PER_UNIT;
    loop {
        let built = RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(PATTERN_BYTES_MAX).build();
        match built {
            Ok(regex) => return Ok((regex, size)),
            Err(regex::Error::CompiledTooBig(_)) if size < PATTERN_BYTES_MAX => size *= 2,
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err(format!(
                    "the pattern takes more than {} KiB compiled: repeat less in it, or say `(?-u:\\w)` for `\\w`",
                    PATTERN_BYTES_MAX >> 10
                ));
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                return Err(format!("the pattern cannot be read: {reason}"));
            }
        }
    }
}

fn charged(function: &str, node: IdedExpr, second: Option<IdedExpr>) -> IdedExpr {
    let id = node.id;
    let args = std::iter::once(node).chain(second).collect();
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: function.into(), target: None, args }) }
}

fn int(value: i64) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(value.into())) }
}

fn name(name: &str) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(name.into()) }
}

/// Nodes of a loop's step that are evaluated each time, those of loops in it aside: they charge for themselves.
fn nodes(node: &IdedExpr) -> i64 {
    let inner: i64 = match &node.expr {
        Expr::Comprehension(inner) => nodes(&inner.iter_range) + nodes(&inner.accu_init) + nodes(&inner.result),
        _ => children(node).into_iter().map(nodes).sum(),
    };
    1 + inner
}

/// Levels of the tree.
fn depth(node: &IdedExpr) -> usize {
    1 + children(node).into_iter().map(depth).max().unwrap_or(0)
}

/// The nodes right below one.
fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
        match entry {
            EntryExpr::StructField(field) => vec![&field.value],
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        }
    }
    match &node.expr {
        Expr::Call(call) => call.args.iter().chain(call.target.as_deref()).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        _ => Vec::new(),
    }
}
