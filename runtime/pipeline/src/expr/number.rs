//! Numbers as JSON has them: of one kind, whole or not. CEL's integers and fractions stay what they are inside, and this
//! file makes one of them: arithmetic promotes, text is canonical, and what fits neither is carried as it is written.
//!
//! *Canonical text* is that of RFC 8785, which is ECMAScript's, with one difference: whole numbers below 10^21 keep all
//! their digits, where ECMAScript rounds beyond 2^53. So equal numbers have equal text however they were written, and
//! different ones never share a key.

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::common::types::{CelDouble, CelInt, CelString, CelUInt, DOUBLE_TYPE, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, IdedExpr};

/// Below this, a whole number is written with all its digits.
const WHOLE_MAX: f64 = 1e21;

/// A number that can be calculated with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    /// Above `i64::MAX`.
    UInt(u64),
    /// Finite.
    Double(f64),
}

impl Number {
    /// Reads a number's JSON text. `None`: it is a whole number of more than 64 bits, or beyond the range of fractions.
    pub(super) fn read(text: &str) -> Option<Number> {
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            // A zero with a sign is a zero.
            return text.parse().map(Number::Int).or_else(|_| text.parse().map(Number::UInt)).ok();
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Number::Double)
    }

    pub(super) fn of(value: &dyn Val) -> Option<Number> {
        if let Some(number) = value.downcast_ref::<CelInt>() {
            return Some(Number::Int(*number.inner()));
        }
        if let Some(number) = value.downcast_ref::<CelUInt>() {
            return Some(Number::whole(i128::from(*number.inner())).expect("64 bits fit"));
        }
        value.downcast_ref::<CelDouble>().map(|number| Number::Double(*number.inner()))
    }

    fn whole(number: i128) -> Option<Number> {
        i64::try_from(number).map(Number::Int).or_else(|_| u64::try_from(number).map(Number::UInt)).ok()
    }

    pub(super) fn into_val<'v>(self) -> Box<dyn Val + 'v> {
        match self {
            Number::Int(number) => Box::new(CelInt::from(number)),
            Number::UInt(number) => Box::new(CelUInt::from(number)),
            Number::Double(number) => Box::new(CelDouble::from(number)),
        }
    }

    /// By size; `None` for what is no number (NaN).
    pub(super) fn order(left: Number, right: Number) -> Option<std::cmp::Ordering> {
        match (left.as_whole(), right.as_whole()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_double().partial_cmp(&right.as_double()),
        }
    }

    fn as_whole(self) -> Option<i128> {
        match self {
            Number::Int(number) => Some(number.into()),
            Number::UInt(number) => Some(number.into()),
            Number::Double(_) => None,
        }
    }

    pub(super) fn as_double(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::UInt(number) => number as f64,
            Number::Double(number) => number,
        }
    }

    /// Appends the canonical text; `false` and nothing for what is no number (infinite, NaN).
    pub(super) fn write(self, out: &mut Vec<u8>) -> bool {
        let number = match self {
            Number::Int(number) => return push(out, &number.to_string()),
            Number::UInt(number) => return push(out, &number.to_string()),
            Number::Double(number) => number,
        };
        if !number.is_finite() {
            return false;
        }
        if number.trunc() == number && number.abs() < WHOLE_MAX {
            // Exact: below 10^21 it fits. Minus zero is zero.
            return push(out, &(number as i128).to_string());
        }
        // Shortest digits that read back as this number, laid out as ECMAScript's Number::toString does.
        let (sign, digits, exponent) = shortest(number);
        let text = match exponent {
            // A whole number of this size was written above.
            0..=20 => {
                let (whole, fraction) = digits.split_at((exponent as usize + 1).min(digits.len()));
                format!("{sign}{whole}.{fraction}")
            }
            -6..0 => format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
            _ => {
                let plus = if exponent > 0 { "+" } else { "" };
                let (first, rest) = digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                format!("{sign}{first}{point}{rest}e{plus}{exponent}")
            }
        };
        push(out, &text)
    }
}

/// Sign, digits without zeros at either end, and the exponent of the first digit. Of two texts as close the even one, as
/// `serde_json` does and `std` does not.
fn shortest(number: f64) -> (&'static str, String, i32) {
    let text = serde_json::to_string(&number.abs()).expect("a finite number has a text");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let zeros = all.len() - all.trim_start_matches('0').len();
    let exponent = exponent + whole.len() as i32 - 1 - zeros as i32;
    let sign = if number < 0.0 { "-" } else { "" };
    (sign, all.trim_matches('0').to_owned(), exponent)
}

fn push(out: &mut Vec<u8>, text: &str) -> bool {
    out.extend_from_slice(text.as_bytes());
    true
}

static DIGITS: Type = Type::new_unspecified_type("number");

/// A number that is carried as it is written, since calculating with it would change it: whole, with more than 64 bits,
/// or beyond the range of fractions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digits(pub(super) String);

impl Digits {
    /// The canonical text of a whole number; `None` for one beyond the range of fractions.
    pub(super) fn key(&self) -> Option<String> {
        let double: f64 = self.0.parse().ok().filter(|number: &f64| number.is_finite())?;
        if double.abs() < WHOLE_MAX {
            return Some(self.0.clone());
        }
        // The same number may be written with an exponent.
        let exact = format!("{double:.0}") == self.0;
        let mut text = Vec::new();
        Number::Double(double).write(&mut text);
        Some(if exact { String::from_utf8(text).expect("digits are text") } else { self.0.clone() })
    }
}

impl Val for Digits {
    fn get_type(&self) -> &Type {
        &DIGITS
    }

    fn cel_type() -> &'static Type {
        &DIGITS
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Digits>().is_some_and(|other| other == self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Digits {}

/// Whether an error is about a number that is only carried.
pub(super) fn is_about_digits(types: &[String]) -> bool {
    types.iter().any(|name| *name == DIGITS.name())
}

const ADD: &str = "@add";
const SUBTRACT: &str = "@subtract";
const MULTIPLY: &str = "@multiply";
const DIVIDE: &str = "@divide";
const REMAINDER: &str = "@remainder";
const TEXT: &str = "@number_text";

/// The operators that promote, under the names that [`promote`] gives them, and functions of numbers.
pub(super) fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(DIGITS.to_owned())?;
    env.add_overload(ADD, ADD, vec![DYN_TYPE, DYN_TYPE], add)?;
    env.add_overload(SUBTRACT, SUBTRACT, vec![DYN_TYPE, DYN_TYPE], subtract)?;
    env.add_overload(MULTIPLY, MULTIPLY, vec![DYN_TYPE, DYN_TYPE], multiply)?;
    env.add_overload(DIVIDE, DIVIDE, vec![DYN_TYPE, DYN_TYPE], divide)?;
    env.add_overload(REMAINDER, REMAINDER, vec![DYN_TYPE, DYN_TYPE], remainder)?;
    env.add_overload(TEXT, TEXT, vec![DYN_TYPE], text)?;
    env.add_overload("div", "div", vec![DYN_TYPE, DYN_TYPE], div)?;
    env.add_overload("double", "number_to_double", vec![DIGITS.to_owned()], digits_to_double)?;
    debug_assert_eq!(DOUBLE_TYPE.name(), "double");
    Ok(())
}

/// Writes calls of the functions above for what may calculate with numbers of two kinds, and for `string` of a number.
pub(super) fn promote(mut node: IdedExpr) -> IdedExpr {
    fn all(nodes: Vec<IdedExpr>) -> Vec<IdedExpr> {
        nodes.into_iter().map(promote).collect()
    }
    fn entry(entry: &mut EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => field.value = promote(std::mem::take(&mut field.value)),
            EntryExpr::MapEntry(entry) => {
                entry.key = promote(std::mem::take(&mut entry.key));
                entry.value = promote(std::mem::take(&mut entry.value));
            }
        }
    }
    match &mut node.expr {
        Expr::Call(call) => {
            let name = match call.func_name.as_str() {
                "_+_" => Some(ADD),
                "_-_" => Some(SUBTRACT),
                "_*_" => Some(MULTIPLY),
                "_/_" => Some(DIVIDE),
                "_%_" => Some(REMAINDER),
                _ => None,
            };
            // A list, a map or a text is no number, and a loop's step is known by its form.
            if let Some(name) = name.filter(|_| call.args.iter().all(may_be_number)) {
                call.func_name = name.to_owned();
            }
            if call.func_name == "string" && call.target.is_none() && call.args.len() == 1 {
                let argument = std::mem::take(&mut call.args[0]);
                let id = argument.id;
                let inner = cel::common::ast::CallExpr { func_name: TEXT.into(), target: None, args: vec![argument] };
                call.args[0] = IdedExpr { id, expr: Expr::Call(inner) };
            }
            super::functions::rewrite(call);
            call.args = all(std::mem::take(&mut call.args));
            if let Some(target) = &mut call.target {
                **target = promote(std::mem::take(&mut **target));
            }
        }
        Expr::Select(select) => *select.operand = promote(std::mem::take(&mut *select.operand)),
        Expr::List(list) => list.elements = all(std::mem::take(&mut list.elements)),
        Expr::Map(map) => map.entries.iter_mut().for_each(|of| entry(&mut of.expr)),
        Expr::Struct(made) => made.entries.iter_mut().for_each(|of| entry(&mut of.expr)),
        Expr::Comprehension(inner) => {
            for part in [
                &mut inner.iter_range,
                &mut inner.accu_init,
                &mut inner.loop_cond,
                &mut inner.loop_step,
                &mut inner.result,
            ] {
                *part = promote(std::mem::take(part));
            }
        }
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
    }
    node
}

fn may_be_number(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => false,
        Expr::Ident(name) => !name.starts_with('@'),
        Expr::Literal(literal) => {
            matches!(literal, LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_))
        }
        _ => true,
    }
}

type Called<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Both as numbers.
fn numbers(args: &[CowVal<'_, '_>]) -> Option<(Number, Number)> {
    Some((Number::of(args[0].as_ref())?, Number::of(args[1].as_ref())?))
}

fn no_overload<'b, 'v>(operator: &str, args: &[CowVal<'_, '_>]) -> Called<'b, 'v> {
    let types = args.iter().map(|arg| arg.get_type().name().to_owned()).collect();
    Err(ExecutionError::no_such_overload(operator, types))
}

fn calculate<'b, 'v>(
    operator: &'static str,
    (left, right): (Number, Number),
    whole: impl Fn(i128, i128) -> Result<i128, &'static str>,
    fraction: impl Fn(f64, f64) -> f64,
) -> Called<'b, 'v> {
    let failed = |why: String| Err(ExecutionError::function_error(operator, why));
    let result = match (left.as_whole(), right.as_whole()) {
        (Some(left), Some(right)) => match whole(left, right).map(Number::whole) {
            Ok(Some(number)) => number,
            Ok(None) => {
                return failed(format!(
                    "{left} {operator} {right} has more than 64 bits: double(…) makes it a fraction"
                ));
            }
            Err(why) => return failed(format!("{left} {operator} {right}: {why}")),
        },
        _ => Number::Double(fraction(left.as_double(), right.as_double())),
    };
    Ok(CowVal::Owned(result.into_val()))
}

macro_rules! operator {
    ($name:ident, $sign:literal, $function:literal, $accessor:ident, $method:ident, $whole:expr, $fraction:expr) => {
        fn $name<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
            if let Some(numbers) = numbers(&args) {
                return calculate($sign, numbers, $whole, $fraction);
            }
            match args[0].$accessor() {
                Some(left) => Ok(CowVal::Owned(left.$method(args[1].as_ref())?.into_owned())),
                None => no_overload($function, &args),
            }
        }
    };
}

operator!(add, "+", "_+_", as_adder, add, |a, b| Ok(a + b), |a, b| a + b);
operator!(subtract, "-", "_-_", as_subtractor, sub, |a, b| Ok(a - b), |a, b| a - b);
// Two numbers of 64 bits make one of 128 at the most.
operator!(multiply, "*", "_*_", as_multiplier, mul, |a, b| Ok(a.saturating_mul(b)), |a, b| a * b);
operator!(divide, "/", "_/_", as_divider, div, |a, b| a.checked_div(b).ok_or("division by zero"), |a, b| a / b);
operator!(remainder, "%", "_%_", as_modder, modulo, |a, b| a.checked_rem(b).ok_or("division by zero"), |a, b| a % b);

/// The quotient with its fraction, also of whole numbers.
fn div<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let Some((left, right)) = numbers(&args) else { return no_overload("div", &args) };
    if right.as_double() == 0.0 {
        return Err(ExecutionError::function_error("div", "division by zero"));
    }
    Ok(CowVal::owned(CelDouble::from(left.as_double() / right.as_double())))
}

fn text<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let mut text = Vec::new();
    let written = Number::of(args[0].as_ref()).is_some_and(|number| number.write(&mut text));
    if written {
        return Ok(CowVal::owned(CelString::from(String::from_utf8(text).expect("digits are text"))));
    }
    match args[0].downcast_ref::<Digits>() {
        Some(digits) => Ok(CowVal::owned(CelString::from(digits.key().unwrap_or_else(|| digits.0.clone())))),
        None => Ok(args.swap_remove(0)),
    }
}

fn digits_to_double<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let digits = args[0].downcast_ref::<Digits>().map_or("", |digits| digits.0.as_str());
    match digits.parse::<f64>().ok().filter(|number| number.is_finite()) {
        Some(number) => Ok(CowVal::owned(CelDouble::from(number))),
        None => Err(ExecutionError::function_error("double", format!("{digits} is out of the range of numbers"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        match Number::read(text) {
            Some(number) => {
                let mut out = Vec::new();
                assert!(number.write(&mut out));
                String::from_utf8(out).unwrap()
            }
            None => Digits(text.to_owned()).key().unwrap_or_else(|| "none".to_owned()),
        }
    }

    /// The examples of RFC 8785, appendix B, and what lies beside them.
    #[test]
    fn canonical_texts() {
        let check = |bits: u64, expected: &str| {
            let mut out = Vec::new();
            assert!(Number::Double(f64::from_bits(bits)).write(&mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0x0000_0000_0000_0000, "0");
        check(0x8000_0000_0000_0000, "0");
        check(0x0000_0000_0000_0001, "5e-324");
        check(0x8000_0000_0000_0001, "-5e-324");
        check(0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308");
        check(0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308");
        // ECMAScript rounds these two, to 295147905179352830000 and 999999999999999700000.
        check(0x4430_0000_0000_0000, "295147905179352825856");
        check(0x444b_1ae4_d6e2_ef4e, "999999999999999737856");
        check(0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22");
        check(0x44b5_2d02_c7e1_4af6, "1e+23");
        check(0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23");
        check(0x444b_1ae4_d6e2_ef50, "1e+21");
        check(0x3eb0_c6f7_a0b5_ed8d, "0.000001");
        check(0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7");
        check(0x41b3_de43_5555_5553, "333333333.3333332");
        check(0x41b3_de43_5555_5554, "333333333.33333325");
        check(0x41b3_de43_5555_5557, "333333333.33333343");
        check(0x4340_0000_0000_0000, "9007199254740992");

        check(0xbecb_f647_612f_3696, "-0.0000033333333333333333");
        check(0x4314_3ff3_c1cb_0959, "1424953923781206.2");
        let mut out = Vec::new();
        assert!(!Number::Double(f64::NAN).write(&mut out) && !Number::Double(f64::INFINITY).write(&mut out));
    }

    /// However it is written, it is one key.
    #[test]
    fn equal_numbers_have_equal_texts() {
        let check = |texts: &[&str], expected: &str| {
            texts.iter().for_each(|text| assert_eq!(canonical(text), expected, "{text}"));
        };
        check(&["16", "16.0", "1.6e1", "160e-1"], "16");
        check(&["0", "-0", "0.0", "-0.0e5"], "0");
        check(&["3.5", "35e-1", "3.50"], "3.5");
        check(&["9223372036854775808", "9.223372036854775808e18"], "9223372036854775808");
        check(&["1152921504606846976", "1152921504606846976.0"], "1152921504606846976");
        check(&["9007199254740993"], "9007199254740993");
        check(&["100000000000000000000", "1e20"], "100000000000000000000");
        check(&["1000000000000000000000", "1e21", "1e+21"], "1e+21");
        check(&["1000000000000000000001"], "1000000000000000000001");
        check(&["123456789012345678901234567890"], "123456789012345678901234567890");
        check(&["1e400", "-1e400"], "none");
    }
}
