//! Every function of expressions with arguments of a mebibyte: no panic, bounded memory, bounded work. What is called is made
//! of the functions' own table, so that a new one is tried too, or fails here until it is said what stands for its
//! arguments.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use millstream_hostile::allocation::{Counting, allocated_by, peak_of};
use millstream_pipeline::expr::{Expression, FUNCTION_GROUPS, Origin, units_max};
use millstream_protocol::Columns;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BYTES: usize = 1 << 20;
/// As in `targets::pipelines`: the tree of a value, and what a unit of work may allocate in all.
const VALUE_BYTES_PER_BYTE: usize = 64;
const ALLOCATED_PER_UNIT: usize = 64;

/// Something small that an argument of this name may be, where it is not the large value.
fn small(parameter: &str) -> &'static str {
    match parameter {
        "text" | "part" | "text or bytes" | "namespace" | "ip or text" | "cidr or text" | "zone" => "'a'",
        "separator" => "'&'",
        "new" => "'bbbb'",
        "format" => "'%Y'",
        "list" => "[1]",
        "map" => "{'a': 1}",
        "value" | "text or seconds" | "seed" | "start" | "index" | "bits" | "int" => "3",
        "number" => "2.5",
        "count" | "end" | "depth" | "seconds" => "999999999",
        "time" => "time",
        "duration" => "duration('1h')",
        "optional" => "optional.of(value)",
        "ip" => "ip('10.1.2.3')",
        "cidr" => "cidr('10.0.0.0/8')",
        "key" | "name" => "'k'",
        "value.field" => "value.field",
        "'pattern'" => "'a|&|1|%'",
        unknown => panic!("say what stands for `{unknown}`"),
    }
}

/// In a macro: names, and what is done with them.
fn of_macro(parameter: &str) -> Option<&'static str> {
    match parameter {
        "index" | "key" => Some("i"),
        "name" => Some("x"),
        "condition" => Some("x == x"),
        "expression" => Some("[x, x]"),
        _ => None,
    }
}

/// Calls of a signature, with and without what may be left out; the large value for all, for the first, for the others.
fn calls(shown: &str) -> Vec<String> {
    let (head, rest) = shown.split_once('(').unwrap();
    let rest = rest.strip_suffix(')').unwrap();
    let is_macro = rest.contains("expression") || rest.contains("condition");
    let whole: String = rest.chars().filter(|c| !matches!(c, '[' | ']')).collect();
    let short = match (rest.find('['), rest.find(']')) {
        (Some(from), Some(to)) => format!("{}{}", &rest[..from], &rest[to + 1..]),
        _ => whole.clone(),
    };
    let mut made = Vec::new();
    for parameters in [whole, short] {
        let parameters: Vec<&str> =
            parameters.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "…")).collect();
        for large in [|_| true, |at| at == 0, |at| at > 0] as [fn(usize) -> bool; 3] {
            let argument = |at: usize, name: &str| match (is_macro, of_macro(name)) {
                (true, Some(text)) => text.to_owned(),
                _ if large(at) && !matches!(name, "'pattern'" | "value.field") => "value".to_owned(),
                _ => small(name).to_owned(),
            };
            let before = head.split_once('.');
            let targets = ["text", "list", "map", "optional", "time", "ip", "cidr", "value"];
            let is_member = before.is_some_and(|(target, _)| targets.contains(&target));
            let first = usize::from(is_member);
            let arguments: Vec<String> =
                parameters.iter().enumerate().map(|(at, name)| argument(at + first, name)).collect();
            let arguments = arguments.join(", ");
            match before {
                Some((target, name)) if is_member => {
                    made.push(format!("{}.{name}({arguments})", argument(0, target)));
                    made.push(format!("{}.{name}({arguments})", small(target)));
                    // `optional.of` and `ip.isCanonical` are called on nothing.
                    made.push(format!("{head}({arguments})"));
                }
                _ => made.push(format!("{head}({arguments})")),
            }
        }
    }
    made.sort();
    made.dedup();
    made
}

/// How many of the calls could be evaluated, whatever came of it.
fn try_all(shown: &str, value: &[u8]) -> usize {
    let mut columns = Columns::default();
    columns.push(5, 1_431_864_000_250, Some(b"k"), Some(value));
    let row = columns.rows().next().unwrap();
    let units = usize::try_from(units_max(value.len() + 1)).unwrap();
    let mut tried = 0;
    for call in calls(shown) {
        let Ok(expression) = Expression::parse(&call, "call") else { continue };
        tried += 1;
        let origin = Origin { topic: "orders", partition: 3 };
        let mut out = Vec::new();
        let ((_, peak), made) = allocated_by(|| peak_of(|| expression.value(&row, origin, &mut out)));
        // A unit of work makes no more than a byte, and the result is written once more.
        let limit = value.len() * VALUE_BYTES_PER_BYTE + 2 * units;
        assert!(peak <= limit, "{call}: {peak} bytes at a time, {limit} are allowed");
        assert!(made <= ALLOCATED_PER_UNIT * units, "{call}: {made} bytes in all for {units} units of work");
    }
    tried
}

fn of_all(value: &[u8], takes: impl Fn(&str) -> bool) {
    for shown in FUNCTION_GROUPS.iter().flat_map(|(_, signatures)| *signatures).filter(|shown| takes(shown)) {
        assert!(try_all(shown, value) > 0, "no call of {shown} could be made");
    }
}

#[test]
fn texts() {
    for unit in ["a", "&", "%20", "0", "é"] {
        of_all(unit.repeat(BYTES / unit.len()).as_bytes(), |_| true);
    }
}

#[test]
fn lists() {
    let list = format!("[{}1]", "1,".repeat(BYTES / 2));
    of_all(list.as_bytes(), |shown| ["list", "value", "text"].iter().any(|name| shown.contains(name)));
}

#[test]
fn maps() {
    let entries: Vec<String> = (0..BYTES / 12).map(|at| format!("\"{at:06}\":1")).collect();
    let map = format!("{{{}}}", entries.join(","));
    of_all(map.as_bytes(), |shown| ["list", "map", "value("].iter().any(|name| shown.contains(name)));
}
