//! Keeps the values of `${secret:NAME}` out of what a plugin says: log lines, errors (and so dead letters' headers),
//! names of counters. What a plugin writes into its output records is its own affair, and a value that it changes
//! before it says it is not recognised.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_plugin_host::{Failure, Processed};
use millstream_protocol::Secret;

/// Shorter values are not masked: they would take half of every message with them.
const MASKED_BYTES_MIN: usize = 4;
const MASK: &str = "***";

/// The values to mask; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks(Arc<[Secret]>);

impl Masks {
    /// Of the references that are secrets; `${env:NAME}` is not one.
    pub(super) fn of(variables: &BTreeMap<String, Secret>) -> Self {
        let secrets = variables.iter().filter(|(name, _)| name.starts_with("secret:")).map(|(_, value)| value.expose());
        // As they are, and as they look inside of quoted text.
        let quoted = |text: &str| text.escape_debug().to_string();
        let mut values: Vec<String> = secrets.flat_map(|value| [value.to_owned(), quoted(value)]).collect();
        values.retain(|value| value.len() >= MASKED_BYTES_MIN);
        // The longest first, in case that one is part of another.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Masks(values.into_iter().map(Secret::from).collect())
    }

    /// The text without them. At its end, where it may have been cut, also without the beginning of one.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.0.iter().map(Secret::expose) {
            if text.contains(value) {
                text = text.replace(value, MASK);
            }
            let starts = value.char_indices().map(|(at, _)| at).filter(|at| *at >= MASKED_BYTES_MIN);
            if let Some(start) = starts.rev().find(|at| text.ends_with(&value[..*at])) {
                text.truncate(text.len() - start);
                text.push_str(MASK);
            }
        }
        text
    }

    pub(super) fn failure(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Trap { message } => Failure::Trap { message: self.apply(&message) },
            Failure::Output { message } => Failure::Output { message: self.apply(&message) },
            Failure::Rejected { index, message } => Failure::Rejected { index, message: self.apply(&message) },
            Failure::Init { message } => Failure::Init { message: self.apply(&message) },
            known @ (Failure::Deadline { .. } | Failure::Memory { .. }) => known,
        }
    }

    pub(super) fn processed(&self, processed: &mut Processed) {
        if self.0.is_empty() {
            return;
        }
        processed.rejected.iter_mut().for_each(|rejected| rejected.message = self.apply(&rejected.message));
        processed.counters.iter_mut().for_each(|counter| counter.name = self.apply(&counter.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_masked_and_nothing_else() {
        let variables = [
            ("secret:KEY", "plover-7"),
            ("secret:LONG", "plover-77-and-more"),
            ("secret:QUOTED", "a\"b\nc"),
            ("secret:SHORT", "abc"),
            ("env:MODE", "combined"),
        ];
        let masks = Masks::of(&variables.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect());
        let check = |text: &str, expected: &str| assert_eq!(masks.apply(text), expected);
        check("key plover-7 refused, twice plover-7", "key *** refused, twice ***");
        check("plover-77-and-more", "***");
        check("unknown mode `combined`, abc", "unknown mode `combined`, abc");
        check("a\"b\nc and \"a\\\"b\\nc\"", "*** and \"***\"");
        // A line that was cut inside of a value.
        check("the key is plover-", "the key is ***");
        check("the key is plov", "the key is ***");
        check("the key is plo", "the key is plo");
        assert_eq!(format!("{masks:?}").matches("plover").count(), 0);
        let failure = masks.failure(Failure::Trap { message: "panicked at plover-7".into() });
        assert_eq!(failure, Failure::Trap { message: "panicked at ***".into() });
    }
}
