//! The expressions that most pipelines are made of (a field, comparisons of fields, `&&`, `||`, `!`) evaluated right on
//! the record's bytes. It gives an answer only where CEL gives the same: whatever else comes up, a field that is missing
//! or a type that does not fit, is left to the evaluator, and so are its errors.

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue};

use super::number::Number;
use super::scan::{self, Found};

/// Whole numbers up to here are the same as fractions.
const EXACT_MAX: u64 = 1 << 53;

/// Compiled; `names` are the fields that it looks at.
pub(super) struct Fast {
    names: Vec<Box<str>>,
    root: Node,
}

enum Node {
    /// By its number in `names`.
    Field(usize),
    Literal(Literal),
    Compare(fn(Ordering) -> bool, Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    In(Box<Node>, Vec<Literal>),
    Affix(fn(&str, &str) -> bool, Box<Node>, Box<str>),
}

enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
}

/// What a part of an expression is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer<'v> {
    Null,
    Bool(bool),
    /// With its text, where it stands in the record.
    Number(Number, Option<&'v [u8]>),
    Text(Cow<'v, str>),
    /// A list, an object, or a number that is only carried, as it is written.
    Raw(&'v [u8]),
}

thread_local! {
    /// Reused from record to record.
    static FOUND: RefCell<Found> = RefCell::new(Found::default());
}

impl Fast {
    pub(super) fn compile(expression: &IdedExpr) -> Option<Fast> {
        let mut names = Vec::new();
        let root = node(expression, &mut names)?;
        (!names.is_empty()).then_some(Fast { names, root })
    }

    /// `None`: it is not for here to say.
    pub(super) fn run<'v>(&'v self, value: &'v [u8]) -> Option<Answer<'v>> {
        FOUND.with_borrow_mut(|found| {
            if !scan::fields(value, &self.names, found).ok()? || found.twice.is_some() {
                return None;
            }
            self.root.answer(value, found)
        })
    }
}

fn node(expression: &IdedExpr, names: &mut Vec<Box<str>>) -> Option<Node> {
    Some(match &expression.expr {
        Expr::Select(select) if !select.test => {
            if !matches!(&select.operand.expr, Expr::Ident(name) if name == "value") {
                return None;
            }
            Node::Field(names.iter().position(|name| **name == *select.field).unwrap_or_else(|| {
                names.push(select.field.as_str().into());
                names.len() - 1
            }))
        }
        Expr::Literal(value) => Node::Literal(literal(value)?),
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if let (Some(target), [argument]) = (&call.target, &call.args[..]) {
                let test: fn(&str, &str) -> bool = match name {
                    "startsWith" => |text, affix| text.starts_with(affix),
                    "endsWith" => |text, affix| text.ends_with(affix),
                    _ => return None,
                };
                let Expr::Literal(LiteralValue::String(affix)) = &argument.expr else { return None };
                return Some(Node::Affix(test, Box::new(node(target, names)?), affix.inner().into()));
            }
            match (name, &call.args[..]) {
                ("!_", [inner]) => Node::Not(Box::new(node(inner, names)?)),
                ("@in", [element, list]) => {
                    let Expr::List(list) = &list.expr else { return None };
                    let mut literals = Vec::new();
                    for element in &list.elements {
                        let Expr::Literal(value) = &element.expr else { return None };
                        literals.push(literal(value)?);
                    }
                    Node::In(Box::new(node(element, names)?), literals)
                }
                (_, [left, right]) => binary(name, left, right, names)?,
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn binary(name: &str, left: &IdedExpr, right: &IdedExpr, names: &mut Vec<Box<str>>) -> Option<Node> {
    let mut both = || Some((Box::new(node(left, names)?), Box::new(node(right, names)?)));
    let order: fn(Ordering) -> bool = match name {
        "_&&_" => return both().map(|(left, right)| Node::And(left, right)),
        "_||_" => return both().map(|(left, right)| Node::Or(left, right)),
        "_==_" => return both().map(|(left, right)| Node::Equal(left, right)),
        "_!=_" => return both().map(|(left, right)| Node::Not(Box::new(Node::Equal(left, right)))),
        "_<_" => Ordering::is_lt,
        "_<=_" => Ordering::is_le,
        "_>_" => Ordering::is_gt,
        "_>=_" => Ordering::is_ge,
        _ => return None,
    };
    both().map(|(left, right)| Node::Compare(order, left, right))
}

fn literal(value: &LiteralValue) -> Option<Literal> {
    Some(match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(value) => Literal::Bool(*value.inner()),
        LiteralValue::Int(value) => Literal::Number(Number::Int(*value.inner())),
        LiteralValue::Double(value) => {
            Literal::Number(Number::Double(Some(*value.inner()).filter(|value| value.is_finite())?))
        }
        LiteralValue::String(value) => Literal::Text(value.inner().into()),
        _ => return None,
    })
}

impl Node {
    fn answer<'v>(&'v self, value: &'v [u8], found: &Found) -> Option<Answer<'v>> {
        Some(match self {
            Node::Field(number) => read(&value[found.spans[*number].clone()?])?,
            Node::Literal(literal) => literal.answer(),
            Node::Compare(order, left, right) => {
                Answer::Bool(order(compare(&left.answer(value, found)?, &right.answer(value, found)?)?))
            }
            Node::Equal(left, right) => Answer::Bool(equal(&left.answer(value, found)?, &right.answer(value, found)?)?),
            Node::Not(inner) => Answer::Bool(!inner.truth(value, found)?),
            Node::And(left, right) => Answer::Bool(left.truth(value, found)? && right.truth(value, found)?),
            Node::Or(left, right) => Answer::Bool(left.truth(value, found)? || right.truth(value, found)?),
            Node::In(element, list) => {
                let element = element.answer(value, found)?;
                for literal in list {
                    if equal(&element, &literal.answer())? {
                        return Some(Answer::Bool(true));
                    }
                }
                Answer::Bool(false)
            }
            Node::Affix(test, text, affix) => match text.answer(value, found)? {
                Answer::Text(text) => Answer::Bool(test(&text, affix)),
                _ => return None,
            },
        })
    }

    fn truth(&self, value: &[u8], found: &Found) -> Option<bool> {
        match self.answer(value, found)? {
            Answer::Bool(truth) => Some(truth),
            _ => None,
        }
    }
}

impl Literal {
    fn answer(&self) -> Answer<'_> {
        match self {
            Literal::Null => Answer::Null,
            Literal::Bool(value) => Answer::Bool(*value),
            Literal::Number(number) => Answer::Number(*number, None),
            Literal::Text(text) => Answer::Text(Cow::Borrowed(text)),
        }
    }
}

fn read(raw: &[u8]) -> Option<Answer<'_>> {
    Some(match raw {
        b"null" => Answer::Null,
        b"true" => Answer::Bool(true),
        b"false" => Answer::Bool(false),
        [b'"', ..] => Answer::Text(scan::text(raw)?),
        [b'{' | b'[', ..] => Answer::Raw(raw),
        number => match Number::read(std::str::from_utf8(number).ok()?) {
            Some(value) => Answer::Number(value, Some(number)),
            None => Answer::Raw(number),
        },
    })
}

fn compare(left: &Answer<'_>, right: &Answer<'_>) -> Option<Ordering> {
    match (left, right) {
        (Answer::Number(left, _), Answer::Number(right, _)) => compare_numbers(*left, *right),
        (Answer::Text(left), Answer::Text(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn compare_numbers(left: Number, right: Number) -> Option<Ordering> {
    let exact = |number: Number| match number {
        Number::Int(number) => number.unsigned_abs() <= EXACT_MAX,
        Number::UInt(_) => false,
        Number::Double(_) => true,
    };
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
        _ if exact(left) && exact(right) => left.as_double().partial_cmp(&right.as_double()),
        _ => None,
    }
}

fn equal(left: &Answer<'_>, right: &Answer<'_>) -> Option<bool> {
    match (left, right) {
        (Answer::Null, Answer::Null) => Some(true),
        (Answer::Bool(left), Answer::Bool(right)) => Some(left == right),
        (Answer::Null, Answer::Number(..) | Answer::Text(_) | Answer::Bool(_))
        | (Answer::Number(..) | Answer::Text(_) | Answer::Bool(_), Answer::Null) => Some(false),
        _ => compare(left, right).map(Ordering::is_eq),
    }
}
