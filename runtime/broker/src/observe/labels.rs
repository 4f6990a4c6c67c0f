//! Whose series are on the page: at most so many topics, groups and pipelines each. Who is on it stays on it for as
//! long as it exists, so that no series comes and goes because of others.

use std::collections::BTreeSet;

/// One roster for each label.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    pub(super) topics: Roster,
    pub(super) groups: Roster,
    pub(super) pipelines: Roster,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Roster(BTreeSet<String>);

/// Who is shown, and how many are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    names: BTreeSet<String>,
    pub(crate) left_out: usize,
}

impl Roster {
    /// Those of `existing` that are shown; free places go to the others in their order.
    pub(super) fn choose<'a>(&mut self, existing: impl Iterator<Item = &'a str>, max: usize) -> Shown {
        let existing: Vec<&str> = existing.collect();
        let all: BTreeSet<&str> = existing.iter().copied().collect();
        self.0.retain(|name| all.contains(name.as_str()));
        for name in &existing {
            if self.0.len() >= max {
                break;
            }
            if !self.0.contains(*name) {
                self.0.insert((*name).to_owned());
            }
        }
        Shown { left_out: all.len() - self.0.len(), names: self.0.clone() }
    }
}

impl Shown {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_shown_stays_until_it_is_gone() {
        let mut roster = Roster::default();
        let mut check = |existing: &[&str], expected: &[&str]| {
            let shown = roster.choose(existing.iter().copied(), 2);
            let found: Vec<&str> = existing.iter().copied().filter(|name| shown.has(name)).collect();
            assert_eq!((&found[..], shown.left_out), (expected, existing.len() - expected.len()));
        };
        check(&[], &[]);
        check(&["b"], &["b"]);
        check(&["a", "b", "c"], &["a", "b"]);
        check(&["0", "a", "b", "c"], &["a", "b"]);
        check(&["b", "c"], &["b", "c"]);
        check(&["c"], &["c"]);
    }
}
