//! What evaluating an expression over one record may cost, and the functions that charge for it. The CEL crate counts
//! nothing itself, so `meter` writes calls of these functions into an expression, where none can be written by hand:
//! their names begin with `@`. A unit is about a nanosecond, or a byte that is copied.
//!
//! What is left stands in a cell of the thread: the crate's functions are plain pointers that carry no state.

use std::cell::RefCell;
use std::sync::Arc;

use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelMapKey, CelOptional, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::Regex;

use super::number::Digits;

/// Units that any record may take ...
pub const UNITS_BASE: u64 = 8 << 20;
/// ... and for each of its bytes: as a tree, a byte takes up to 32, and may be walked a few times.
pub const UNITS_PER_BYTE: u64 = 128;
/// What a value takes beside its bytes: it is boxed.
pub(super) const VALUE_UNITS: u64 = 64;

/// Returns its first argument; charges its size times the second.
pub(super) const COST: &str = "@cost";
/// Returns its first argument; charges its size times that of the second.
pub(super) const TIMES: &str = "@times";
/// Returns its first argument; charges its size, and for each of its items the second.
pub(super) const LOOP: &str = "@loop";
/// Returns its argument; charges what comparing each of its items with each takes.
pub(super) const SQUARE: &str = "@square";
/// Returns its first argument; charges the second as often as the first says.
pub(super) const COUNT: &str = "@count";
/// Whether a text matches one of the expression's patterns; the third argument is charged for each byte.
pub(super) const MATCHES: &str = "@matches";

thread_local! {
    static PURSE: RefCell<Purse> = const { RefCell::new(Purse { left: u64::MAX, spent: false, patterns: None }) };
}

struct Purse {
    left: u64,
    /// Something was refused: what came of it counts no more.
    spent: bool,
    patterns: Option<Arc<[Regex]>>,
}

/// Units that a record of so many bytes may take.
pub fn units_max(record_bytes: usize) -> u64 {
    UNITS_BASE + UNITS_PER_BYTE * record_bytes as u64
}

/// Begins an evaluation that may take `units`.
pub(super) fn begin(units: u64, patterns: Option<Arc<[Regex]>>) {
    PURSE.with_borrow_mut(|purse| *purse = Purse { left: units, spent: false, patterns });
}

/// Ends it: whether it wanted more than it had.
pub(super) fn end() -> bool {
    PURSE.with_borrow_mut(|purse| {
        purse.patterns = None;
        purse.left = u64::MAX;
        std::mem::take(&mut purse.spent)
    })
}

/// Takes `units`, or says that they are not there. What was refused once is refused from then on: a loop that swallows
/// errors gets no further.
pub(super) fn charge(units: u64) -> Result<(), ExecutionError> {
    PURSE.with_borrow_mut(|purse| match purse.left.checked_sub(units) {
        Some(left) if !purse.spent => {
            purse.left = left;
            Ok(())
        }
        _ => {
            purse.spent = true;
            Err(ExecutionError::function_error(COST, "the limit is reached"))
        }
    })
}

/// Adds the functions.
pub(super) fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(COST, COST, vec![DYN_TYPE, DYN_TYPE], cost)?;
    env.add_overload(TIMES, TIMES, vec![DYN_TYPE, DYN_TYPE], times)?;
    env.add_overload(LOOP, LOOP, vec![DYN_TYPE, DYN_TYPE], iterate)?;
    env.add_overload(SQUARE, SQUARE, vec![DYN_TYPE], square)?;
    env.add_overload(COUNT, COUNT, vec![DYN_TYPE, DYN_TYPE], count)?;
    env.add_overload(MATCHES, MATCHES, vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], matches)
}

type Called<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn cost<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let times = number(args[1].as_ref());
    charge(size(args[0].as_ref()).saturating_mul(times))?;
    Ok(args.swap_remove(0))
}

fn times<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    charge(size(args[0].as_ref()).saturating_mul(bytes(args[1].as_ref()) + 1))?;
    Ok(args.swap_remove(0))
}

fn iterate<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let step = number(args[1].as_ref());
    charge(size(args[0].as_ref()).saturating_add(items(args[0].as_ref()).saturating_mul(step)))?;
    Ok(args.swap_remove(0))
}

fn square<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    // Comparing makes nothing, and most pairs differ at once.
    charge((size(args[0].as_ref()) / 8).saturating_mul(items(args[0].as_ref()).max(1)))?;
    Ok(args.swap_remove(0))
}

fn count<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    charge(number(args[0].as_ref()).saturating_mul(number(args[1].as_ref())))?;
    Ok(args.swap_remove(0))
}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let Some(text) = args[0].as_ref().downcast_ref::<CelString<'_>>() else {
        let types = vec![args[0].get_type().name().to_owned(), "string".to_owned()];
        return Err(ExecutionError::no_such_overload("matches", types));
    };
    charge((VALUE_UNITS + text.inner().len() as u64).saturating_mul(number(args[2].as_ref())))?;
    let at = usize::try_from(number(args[1].as_ref())).unwrap_or(usize::MAX);
    let found = PURSE.with_borrow(|purse| {
        let patterns = purse.patterns.as_deref().expect("an expression with patterns is evaluated with them");
        patterns.get(at).expect("the number is that of a pattern of this expression").is_match(text.inner())
    });
    Ok(CowVal::owned(CelBool::from(found)))
}

/// The patterns of the expression that is evaluated.
pub(super) fn patterns() -> Arc<[Regex]> {
    PURSE.with_borrow(|purse| purse.patterns.clone()).expect("an expression with patterns is evaluated with them")
}

/// A count, 0 for what is none: whoever is given it then says what is wrong with it.
pub(super) fn number(value: &dyn Val) -> u64 {
    value.downcast_ref::<CelInt>().map_or(0, |number| u64::try_from(*number.inner()).unwrap_or(0))
}

pub(super) fn items(value: &dyn Val) -> u64 {
    match (value.downcast_ref::<CelList<'_>>(), value.downcast_ref::<CelMap<'_>>()) {
        (Some(list), _) => list.inner().len() as u64,
        (_, Some(map)) => map.inner().len() as u64,
        _ => 0,
    }
}

/// Bytes of a text; everything else is as long as its JSON at the most.
fn bytes(value: &dyn Val) -> u64 {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() { text.inner().len() as u64 } else { size(value) }
}

/// What copying this takes, its parts included.
pub(super) fn size(value: &dyn Val) -> u64 {
    let parts = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len() as u64
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len() as u64
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().map(|item| size(item.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner().iter().map(|(key, value)| key_size(key) + size(value.as_ref())).sum()
    } else if let Some(held) = value.downcast_ref::<CelOptional<'_>>() {
        held.option().map_or(0, size)
    } else if let Some(digits) = value.downcast_ref::<Digits>() {
        digits.0.len() as u64
    } else {
        0
    };
    VALUE_UNITS + parts
}

fn key_size(key: &CelMapKey<'_>) -> u64 {
    match key {
        CelMapKey::String(name) => VALUE_UNITS + name.inner().len() as u64,
        _ => VALUE_UNITS,
    }
}
