//! Lists, sets, and the least and greatest of anything that has an order.

use std::cmp::Ordering;

use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, CelString, INT_TYPE, UINT_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::{Called, Own, failed, global, member, optional, truth, wrong};
use crate::expr::cost::{self, VALUE_UNITS, charge};
use crate::expr::number::Number;

pub(super) const FUNCTIONS: &[Own] = &[
    global("min", &[1, 2, 3, 4, 5, 6, 7, 8], min),
    global("max", &[1, 2, 3, 4, 5, 6, 7, 8], max),
    global("sets.contains", &[2], sets_contains),
    global("sets.intersects", &[2], sets_intersects),
    global("sets.equivalent", &[2], sets_equivalent),
    member("first", &[1], first),
    member("last", &[1], last),
    global("@pairs", &[1], pairs),
    global("@entries", &[1], entries),
];

/// A number of JSON is of one kind: what the crate does for fractions alone works for whole numbers too.
pub(super) fn typed(env: &mut Env) -> Result<(), DeclarationError> {
    for (name, run) in [
        ("math.ceil", itself as cel::common::functions::Function),
        ("math.floor", itself),
        ("math.round", itself),
        ("math.trunc", itself),
        ("math.isNaN", never),
        ("math.isInf", never),
        ("math.isFinite", always),
    ] {
        env.add_overload(name, &format!("own {name} int"), vec![INT_TYPE], run)?;
        env.add_overload(name, &format!("own {name} uint"), vec![UINT_TYPE], run)?;
    }
    Ok(())
}

fn itself<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(args.swap_remove(0))
}

fn never<'b, 'v>(_: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(false))
}

fn always<'b, 'v>(_: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(true))
}

fn min<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    extreme("min", Ordering::Less, args)
}

fn max<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    extreme("max", Ordering::Greater, args)
}

/// Of the arguments, or of the one that is a list; of equal ones the first.
fn extreme<'b, 'v>(function: &str, wanted: Ordering, mut args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let [list] = &args[..] else {
        let mut best = 0;
        for at in 1..args.len() {
            if compare(function, args[at].as_ref(), args[best].as_ref())? == wanted {
                best = at;
            }
        }
        return Ok(args.swap_remove(best));
    };
    let list = list.as_ref().downcast_ref::<CelList<'_>>().ok_or_else(|| wrong(function, &args))?.inner();
    let (first, rest) = list.split_first().ok_or_else(|| failed(function, "the list is empty"))?;
    let mut best = first;
    for item in rest {
        if compare(function, item.as_ref(), best.as_ref())? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone()))
}

fn compare(function: &str, left: &dyn Val, right: &dyn Val) -> Result<Ordering, ExecutionError> {
    let unlike = || {
        let types = [left, right].map(|value| value.get_type().name().to_owned()).to_vec();
        ExecutionError::no_such_overload(function, types)
    };
    if let (Some(left), Some(right)) = (Number::of(left), Number::of(right)) {
        return Number::order(left, right).ok_or_else(|| failed(function, "NaN has no order"));
    }
    left.as_comparer().ok_or_else(unlike)?.compare(right).map_err(|_| unlike())
}

type Items<'a, 'v> = &'a [Box<dyn Val + 'v>];

/// Both lists, once what comparing each with each takes is charged: most pairs differ at once.
fn sets<'a, 'v>(function: &str, args: &'a [CowVal<'_, 'v>]) -> Result<(Items<'a, 'v>, Items<'a, 'v>), ExecutionError> {
    let list = |at: usize| args[at].as_ref().downcast_ref::<CelList<'_>>().map(CelList::inner);
    let (Some(left), Some(right)) = (list(0), list(1)) else { return Err(wrong(function, args)) };
    let pairs = |one: usize, other: usize| {
        (cost::size(args[one].as_ref()) / 8).saturating_mul(cost::items(args[other].as_ref()))
    };
    charge(pairs(0, 1).saturating_add(pairs(1, 0)))?;
    Ok((left, right))
}

fn same(left: &dyn Val, right: &dyn Val) -> bool {
    match (Number::of(left), Number::of(right)) {
        (Some(left), Some(right)) => Number::order(left, right) == Some(Ordering::Equal),
        _ => left.equals(right),
    }
}

fn holds<'v>(list: &[Box<dyn Val + 'v>], item: &(dyn Val + 'v)) -> bool {
    list.iter().any(|other| same(other.as_ref(), item))
}

fn sets_contains<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let (all, some) = sets("sets.contains", &args)?;
    Ok(truth(some.iter().all(|item| holds(all, item.as_ref()))))
}

fn sets_intersects<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let (left, right) = sets("sets.intersects", &args)?;
    Ok(truth(left.iter().any(|item| holds(right, item.as_ref()))))
}

fn sets_equivalent<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let (left, right) = sets("sets.equivalent", &args)?;
    let within =
        |some: &[Box<dyn Val + 'v>], all: &[Box<dyn Val + 'v>]| some.iter().all(|item| holds(all, item.as_ref()));
    Ok(truth(within(left, right) && within(right, left)))
}

fn first<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let list = args[0].as_ref().downcast_ref::<CelList<'v>>().ok_or_else(|| wrong("first", &args))?;
    Ok(optional(list.inner().first().cloned()))
}

fn last<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let list = args[0].as_ref().downcast_ref::<CelList<'v>>().ok_or_else(|| wrong("last", &args))?;
    Ok(optional(list.inner().last().cloned()))
}

/// What a loop with two names goes over: index and item of a list, key and value of a map in the keys' order.
fn pairs<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let value = args[0].as_ref();
    charge(cost::size(value).saturating_add(cost::items(value).saturating_mul(3 * VALUE_UNITS)))?;
    let pair = |first: Box<dyn Val + 'v>, second: &(dyn Val + 'v)| -> Box<dyn Val + 'v> {
        Box::new(CelList::from(vec![first, second.clone_as_boxed()]))
    };
    let pairs: Vec<Box<dyn Val + 'v>> = if let Some(list) = value.downcast_ref::<CelList<'v>>() {
        let index = |at: usize| Box::new(CelInt::from(at as i64));
        list.inner().iter().enumerate().map(|(at, item)| pair(index(at), item.as_ref())).collect()
    } else if let Some(map) = value.downcast_ref::<CelMap<'v>>() {
        let mut entries: Vec<_> = map.inner().iter().collect();
        entries.sort_by(|a, b| order_of_keys(a.0, b.0));
        entries.into_iter().map(|(key, value)| pair(key.inner().clone_as_boxed(), value.as_ref())).collect()
    } else {
        return Err(failed("a loop with two names", format!("{} is no list and no map", crate::expr::kind(value))));
    };
    Ok(CowVal::owned(CelList::from(pairs)))
}

/// A map has no order of its own, and a result may not depend on chance.
fn order_of_keys(left: &CelMapKey<'_>, right: &CelMapKey<'_>) -> Ordering {
    match (Number::of(left.inner()), Number::of(right.inner())) {
        (Some(left), Some(right)) => Number::order(left, right).unwrap_or(Ordering::Equal),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => {
            let text = |value: &dyn Val| value.downcast_ref::<CelString<'_>>().map(|text| text.inner().to_owned());
            text(left.inner()).cmp(&text(right.inner()))
        }
    }
}

/// A map of pairs; a key that is there twice is refused.
fn entries<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "transformMap";
    charge(cost::size(args[0].as_ref()))?;
    let list = args[0].as_ref().downcast_ref::<CelList<'v>>().ok_or_else(|| wrong(name, &args))?;
    let mut map = std::collections::HashMap::with_capacity(list.inner().len());
    for pair in list.inner() {
        let pair = pair.downcast_ref::<CelList<'v>>().map(CelList::inner);
        let Some([key, value]) = pair else { return Err(wrong(name, &args)) };
        let key = CelMapKey::try_from(key.clone())?;
        if map.insert(key, value.clone()).is_some() {
            return Err(failed(name, "a key is there twice"));
        }
    }
    Ok(CowVal::owned(CelMap::from(map)))
}
