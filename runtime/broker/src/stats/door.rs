//! Connections and requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_protocol::message::ApiKey;
use millstream_protocol::{ErrorCode, Failure};

use super::{Alive, Count, Failures, Outcomes, Timer};

/// Why the door did not serve a connection, or not any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    ConnectionsMax,
    Unauthenticated,
    NoHello,
    Protocol,
}

impl Refused {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Refused::ConnectionsMax => "connections_max",
            Refused::Unauthenticated => "unauthenticated",
            Refused::NoHello => "no_hello",
            Refused::Protocol => "protocol",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct DoorStats {
    pub(crate) sessions: Count,
    pub(crate) streams: Alive,
    pub(crate) received_bytes: Count,
    pub(crate) sent_bytes: Count,
    pub(crate) handshake_failures: Count,
    pub(crate) produce_refused: Failures,
    refused: Mutex<BTreeMap<Refused, u64>>,
    /// In the order of [`ApiKey::ALL`], and one more for APIs that are none.
    requests: Vec<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    outcomes: Outcomes,
    took: Timer,
}

impl Default for DoorStats {
    fn default() -> Self {
        let requests = (0..=ApiKey::ALL.len()).map(|_| Requests::default()).collect();
        DoorStats {
            sessions: Count::default(),
            streams: Alive::default(),
            received_bytes: Count::default(),
            sent_bytes: Count::default(),
            handshake_failures: Count::default(),
            produce_refused: Failures::default(),
            refused: Mutex::default(),
            requests,
        }
    }
}

impl DoorStats {
    pub(crate) fn refuse(&self, why: Refused) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    pub(crate) fn refused(&self) -> BTreeMap<Refused, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request of this API was answered.
    pub(crate) fn answered(&self, api: u16, outcome: Result<(), ErrorCode>, took: Duration) {
        let known = ApiKey::ALL.partition_point(|key| (*key as u16) < api);
        let known =
            if ApiKey::ALL.get(known).is_some_and(|key| *key as u16 == api) { known } else { ApiKey::ALL.len() };
        let requests = &self.requests[known];
        requests.outcomes.add(outcome);
        requests.took.record(took);
    }

    /// Per API that was asked for: its name, the outcomes, and how long they took.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, Vec<(String, u64)>, &Timer)> {
        let names = ApiKey::ALL.iter().map(|key| key.name()).chain(["unknown"]);
        let asked = names.zip(&self.requests).filter(|(_, requests)| requests.took.count() > 0);
        asked.map(|(name, requests)| (name, requests.outcomes.get(), &requests.took))
    }

    /// The outcomes of a produce request's entries.
    pub(crate) fn produced<'a>(&self, failures: impl Iterator<Item = &'a Failure>) {
        failures.for_each(|failure| self.produce_refused.add(failure.code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_api() {
        assert!(ApiKey::ALL.is_sorted_by_key(|key| *key as u16), "they are searched");
        let door = DoorStats::default();
        door.answered(ApiKey::Fetch as u16, Ok(()), Duration::ZERO);
        door.answered(ApiKey::Fetch as u16, Err(ErrorCode::OffsetOutOfRange), Duration::ZERO);
        door.answered(9_999, Err(ErrorCode::UnsupportedVersion), Duration::ZERO);
        let found: Vec<_> = door.requests().map(|(name, outcomes, took)| (name, outcomes, took.count())).collect();
        let row = |name: &str, count: u64| (name.to_owned(), count);
        let fetch = ("Fetch", vec![row("ok", 1), row("offset_out_of_range", 1)], 2);
        let unknown = ("unknown", vec![row("ok", 0), row("unsupported_version", 1)], 1);
        assert_eq!(found, [fetch, unknown]);
    }
}
