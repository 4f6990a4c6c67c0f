//! What the parser writes out: `cel.bind`, and loops with two names. The crate's loops have one, so a loop with two goes
//! over pairs, and gives the parts of each their names by `bind`.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue};
use cel::parser::{Macro, MacroExprHelper};
use cel::{DeclarationError, Env, ParseError};

const RESULT: &str = "@result";
const PAIR: &str = "@pair";

type Helper<'a, 'h> = &'a mut MacroExprHelper<'h>;
type Target<'a> = &'a mut Option<IdedExpr>;
type Expanded = Result<Option<IdedExpr>, ParseError>;

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_macro(Macro::receiver("bind", 3, cel_bind))?;
    env.add_macro(Macro::receiver("all", 3, |helper, target, args| quantified(helper, target, args, Quantifier::All)))?;
    env.add_macro(Macro::receiver("exists", 3, |h, target, args| quantified(h, target, args, Quantifier::Some)))?;
    for name in ["existsOne", "exists_one"] {
        env.add_macro(Macro::receiver(name, 3, |h, target, args| quantified(h, target, args, Quantifier::One)))?;
    }
    for count in [3, 4] {
        env.add_macro(Macro::receiver("transformList", count, |h, target, args| transform(h, target, args, false)))?;
        env.add_macro(Macro::receiver("transformMap", count, |h, target, args| transform(h, target, args, true)))?;
    }
    Ok(())
}

/// Calls that have another name inside.
pub(in crate::expr) fn rewrite(call: &mut CallExpr) {
    if call.func_name == "timestamp" && call.target.is_none() && call.args.len() == 1 {
        call.func_name = "@timestamp".to_owned();
    }
}

fn call(helper: Helper<'_, '_>, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

fn ident(helper: Helper<'_, '_>, name: &str) -> IdedExpr {
    helper.next_expr(Expr::Ident(name.to_owned()))
}

fn literal(helper: Helper<'_, '_>, value: LiteralValue) -> IdedExpr {
    helper.next_expr(Expr::Literal(value))
}

fn list(helper: Helper<'_, '_>, elements: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::List(ListExpr::new(elements)))
}

fn name_of(helper: Helper<'_, '_>, node: IdedExpr) -> Result<String, ParseError> {
    match node.expr {
        Expr::Ident(name) => Ok(name),
        _ => Err(helper.new_error(node.id, "a simple name belongs here")),
    }
}

/// A loop over nothing, whose result sees `name`.
fn bind(helper: Helper<'_, '_>, name: &str, value: IdedExpr, result: IdedExpr) -> IdedExpr {
    let inner = ComprehensionExpr {
        iter_range: list(helper, Vec::new()),
        iter_var: "@unused".to_owned(),
        iter_var2: None,
        accu_var: name.to_owned(),
        accu_init: value,
        loop_cond: literal(helper, LiteralValue::Boolean(false.into())),
        loop_step: ident(helper, name),
        result,
    };
    helper.next_expr(Expr::Comprehension(Box::new(inner)))
}

fn cel_bind(helper: Helper<'_, '_>, target: Target<'_>, args: &mut Vec<IdedExpr>) -> Expanded {
    if !target.as_ref().is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "cel")) {
        return Ok(None);
    }
    target.take();
    let [name, value, result] = <[IdedExpr; 3]>::try_from(std::mem::take(args)).expect("the macro takes three");
    let name = name_of(helper, name)?;
    Ok(Some(bind(helper, &name, value, result)))
}

/// The two names of a loop.
struct Names(String, String);

impl Names {
    fn take(helper: Helper<'_, '_>, args: &mut Vec<IdedExpr>) -> Result<Names, ParseError> {
        let second = args.remove(1);
        let first = args.remove(0);
        let names = Names(name_of(helper, first)?, name_of(helper, second)?);
        Ok(names)
    }

    /// `body` with the parts of a pair under these names.
    fn within(&self, helper: Helper<'_, '_>, body: IdedExpr) -> IdedExpr {
        let second = part(helper, 1);
        let inner = bind(helper, &self.1, second, body);
        let first = part(helper, 0);
        bind(helper, &self.0, first, inner)
    }
}

fn part(helper: Helper<'_, '_>, at: i64) -> IdedExpr {
    let pair = ident(helper, PAIR);
    let at = literal(helper, LiteralValue::Int(at.into()));
    call(helper, "_[_]", vec![pair, at])
}

/// A loop over the pairs of `range`.
fn over(helper: Helper<'_, '_>, range: IdedExpr, [init, condition, step, result]: [IdedExpr; 4]) -> IdedExpr {
    let inner = ComprehensionExpr {
        iter_range: call(helper, "@pairs", vec![range]),
        iter_var: PAIR.to_owned(),
        iter_var2: None,
        accu_var: RESULT.to_owned(),
        accu_init: init,
        loop_cond: condition,
        loop_step: step,
        result,
    };
    helper.next_expr(Expr::Comprehension(Box::new(inner)))
}

#[derive(Clone, Copy)]
enum Quantifier {
    All,
    Some,
    One,
}

fn quantified(helper: Helper<'_, '_>, target: Target<'_>, args: &mut Vec<IdedExpr>, which: Quantifier) -> Expanded {
    let range = target.take().expect("a receiver macro has a target");
    let names = Names::take(helper, args)?;
    let body = args.pop().expect("the macro takes three");
    let body = names.within(helper, body);
    let so_far = ident(helper, RESULT);
    let truth = |helper: Helper<'_, '_>, truth: bool| literal(helper, LiteralValue::Boolean(truth.into()));
    let number = |helper: Helper<'_, '_>, number: i64| literal(helper, LiteralValue::Int(number.into()));
    let parts = match which {
        Quantifier::All => {
            let until = ident(helper, RESULT);
            let until = call(helper, "@not_strictly_false", vec![until]);
            let step = call(helper, "_&&_", vec![so_far, body]);
            [truth(helper, true), until, step, ident(helper, RESULT)]
        }
        Quantifier::Some => {
            let until = ident(helper, RESULT);
            let until = call(helper, "!_", vec![until]);
            let until = call(helper, "@not_strictly_false", vec![until]);
            let step = call(helper, "_||_", vec![so_far, body]);
            [truth(helper, false), until, step, ident(helper, RESULT)]
        }
        Quantifier::One => {
            let one = number(helper, 1);
            let before = ident(helper, RESULT);
            let more = call(helper, "_+_", vec![before, one]);
            let step = call(helper, "_?_:_", vec![body, more, so_far]);
            let (count, one) = (ident(helper, RESULT), number(helper, 1));
            let result = call(helper, "_==_", vec![count, one]);
            [number(helper, 0), truth(helper, true), step, result]
        }
    };
    Ok(Some(over(helper, range, parts)))
}

/// A list of what the body gives for each; for a map a list of pairs, of which the map is made at the end.
fn transform(helper: Helper<'_, '_>, target: Target<'_>, args: &mut Vec<IdedExpr>, map: bool) -> Expanded {
    let range = target.take().expect("a receiver macro has a target");
    let names = Names::take(helper, args)?;
    let mut body = args.pop().expect("the macro takes three or four");
    if map {
        let key = ident(helper, &names.0);
        body = list(helper, vec![key, body]);
    }
    let made = names.within(helper, body);
    let made = list(helper, vec![made]);
    let so_far = ident(helper, RESULT);
    let mut step = call(helper, "_+_", vec![so_far, made]);
    if let Some(condition) = args.pop() {
        let condition = names.within(helper, condition);
        let otherwise = ident(helper, RESULT);
        step = call(helper, "_?_:_", vec![condition, step, otherwise]);
    }
    let condition = literal(helper, LiteralValue::Boolean(true.into()));
    let parts = [list(helper, Vec::new()), condition, step, ident(helper, RESULT)];
    let made = over(helper, range, parts);
    Ok(Some(if map { call(helper, "@entries", vec![made]) } else { made }))
}
