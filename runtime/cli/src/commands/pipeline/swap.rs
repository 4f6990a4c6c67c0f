//! How a swap is told: which code owns which offsets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use millstream_protocol::message::Swap;

use crate::console::Console;
use crate::format::{nanoseconds, short_digest};

pub(crate) fn report_swaps(console: &Console, swaps: &[Swap]) {
    lines(swaps).iter().for_each(|line| console.verb("Swapped", line));
}

/// A plugin, its digest before, and after.
type Code<'a> = (&'a str, [u8; 32], [u8; 32]);

/// A line per plugin and pair of digests: `parse  3f9a41c0 -> 81c2e07d  at logs/0@667 /1@671, paused 2 ms`.
fn lines(swaps: &[Swap]) -> Vec<String> {
    let mut by_code: BTreeMap<Code<'_>, Vec<&Swap>> = BTreeMap::new();
    for swap in swaps {
        by_code.entry((&swap.plugin, swap.old, swap.new)).or_default().push(swap);
    }
    by_code.into_iter().map(|((plugin, old, new), rows)| line(plugin, &old, &new, &rows)).collect()
}

fn line(plugin: &str, old: &[u8; 32], new: &[u8; 32], rows: &[&Swap]) -> String {
    let mut places: Vec<(&str, u32, i64)> =
        rows.iter().map(|row| (row.topic.as_str(), row.partition, row.offset.0)).collect();
    places.sort_unstable();
    // Steps of one task that share a plugin are swapped together.
    places.dedup();
    let name = plugin.split('@').next().unwrap_or(plugin);
    let mut line = format!("{name}  {} -> {}  at", short_digest(old), short_digest(new));
    let mut topic = "";
    for (of, partition, offset) in places {
        let shown = if of == topic { "" } else { of };
        topic = of;
        write!(line, " {shown}/{partition}@{offset}").expect("writing to memory can't fail");
    }
    let pause = rows.iter().map(|row| row.pause_us).max().unwrap_or(0);
    write!(line, ", paused {}", duration(Duration::from_micros(pause))).expect("writing to memory can't fail");
    line
}

fn duration(pause: Duration) -> String {
    match pause.as_millis() {
        0 => nanoseconds(pause.as_nanos() as f64),
        _ => crate::format::duration(pause),
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::Offset;

    use super::*;

    fn swap(plugin: &str, topic: &str, partition: u32, offset: i64, pause_us: u64) -> Swap {
        let (old, new) = ([0x3f; 32], [0x81; 32]);
        let (plugin, topic, step) = (plugin.to_owned(), topic.to_owned(), "parse".to_owned());
        Swap { step, plugin, old, new, topic, partition, offset: Offset(offset), pause_us }
    }

    #[test]
    fn swaps_are_told_by_plugin() {
        let check = |swaps: &[Swap], expected: &[&str]| assert_eq!(lines(swaps), expected);
        check(&[], &[]);
        check(
            &[
                swap("parse", "logs", 2, 662, 400),
                swap("parse", "logs", 0, 667, 2_100),
                swap("parse", "logs", 0, 667, 3),
            ],
            &["parse  3f3f3f3f -> 81818181  at logs/0@667 /2@662, paused 2 ms"],
        );
        check(
            &[swap("b@0.1.0", "x", 0, 1, 12), swap("a", "x", 0, 1, 0), swap("a", "y", 0, 5, 0)],
            &[
                "a  3f3f3f3f -> 81818181  at x/0@1 y/0@5, paused 0 ns",
                "b  3f3f3f3f -> 81818181  at x/0@1, paused 12.00 µs",
            ],
        );
    }
}
