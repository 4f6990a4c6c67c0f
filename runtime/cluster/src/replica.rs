//! One partition's leader: it decides how far consumers may read (the high watermark) and which appends may
//! be acknowledged. The log beside it holds the bytes; this holds only offsets. Followers are part of the
//! rule already, with an empty set on a single node.
//!
//! Invariants: `high_watermark <= log_end`; it never falls; on a `Disk` topic it never passes what is synced
//! on the leader and on every in-sync follower.

use std::collections::{BTreeMap, VecDeque};

use millstream_protocol::message::{Acks, Durability};
use millstream_protocol::{LeaderEpoch, Offset, mutant};

/// Names one append towards whoever waits for it; chosen by the caller, who keeps the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A broker of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Records up to `end` are in the leader's page cache; `ticket` waits for `acks`. A recognised duplicate
    /// comes with the end of its first time.
    Appended {
        ticket: Ticket,
        end: Offset,
        acks: Acks,
    },
    /// Records up to `end` are synced on the leader.
    Durable {
        end: Offset,
    },
    /// An in-sync follower has everything up to `end`, as durable as the topic asks. Ignored from another epoch.
    FollowerAck {
        follower: NodeId,
        epoch: LeaderEpoch,
        end: Offset,
    },
    DurabilityChanged {
        durability: Durability,
    },
    /// The log can't be written any more: nobody waiting will be acknowledged.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Consumers may read up to here. Comes before the acknowledgements it allows.
    HighWatermark(Offset),
    Acknowledge(Ticket),
    Refuse(Ticket),
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Replica {
    epoch: LeaderEpoch,
    durability: Durability,
    log_end: Offset,
    durable_end: Offset,
    high_watermark: Offset,
    in_sync: BTreeMap<NodeId, Offset>,
    /// Ordered by arrival; ends need not rise (duplicates), the watermark decides each.
    waiting: VecDeque<(Ticket, Offset)>,
}

impl Replica {
    /// A leader without followers over a log that recovery left at `end`, all of it synced.
    pub fn new(epoch: LeaderEpoch, durability: Durability, end: Offset) -> Self {
        Replica {
            epoch,
            durability,
            log_end: end,
            durable_end: end,
            high_watermark: end,
            in_sync: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether what is appended becomes readable after a sync only.
    pub fn waits_for_disk(&self) -> bool {
        self.durability == Durability::Disk
    }

    /// Whether an append waits for a sync of the leader's own log.
    pub fn wants_sync(&self) -> bool {
        self.durability == Durability::Disk && self.durable_end < self.log_end
    }

    /// Takes a follower into the in-sync set, from `end` on.
    pub fn follower_joined(&mut self, follower: NodeId, end: Offset) {
        self.in_sync.insert(follower, end);
    }

    /// # Panics
    /// When the log end falls: a leader never truncates.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Output>) {
        match event {
            Event::Appended { ticket, end, acks } => {
                self.log_end = self.log_end.max(end);
                match acks {
                    Acks::Leader => out.push(Output::Acknowledge(ticket)),
                    Acks::All if mutant!("ack-before-sync") => out.push(Output::Acknowledge(ticket)),
                    Acks::All => self.waiting.push_back((ticket, end)),
                }
            }
            Event::Durable { end } => {
                assert!(end <= self.log_end, "synced {end:?} beyond the log end {:?}", self.log_end);
                self.durable_end = self.durable_end.max(end);
            }
            Event::FollowerAck { follower, epoch, end } => {
                let Some(known) = self.in_sync.get_mut(&follower).filter(|_| epoch == self.epoch) else { return };
                *known = (*known).max(end);
            }
            Event::DurabilityChanged { durability } => self.durability = durability,
            Event::Failed => {
                out.extend(self.waiting.drain(..).map(|(ticket, _)| Output::Refuse(ticket)));
                return;
            }
        }
        self.advance(out);
    }

    fn advance(&mut self, out: &mut Vec<Output>) {
        let own = match self.durability {
            Durability::Disk if mutant!("high-watermark-one-too-far") => self.log_end.min(self.durable_end.next()),
            Durability::Disk => self.durable_end,
            Durability::Replicated => self.log_end,
        };
        let reached = self.in_sync.values().fold(own, |least, end| least.min(*end));
        if reached > self.high_watermark {
            self.high_watermark = reached;
            out.push(Output::HighWatermark(reached));
        }
        let reached = self.high_watermark;
        // Ends rise but for duplicates, so the front blocks at most a few that could go: they follow soon.
        while let Some((ticket, _)) = self.waiting.pop_front_if(|(_, end)| *end <= reached) {
            out.push(Output::Acknowledge(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(ticket: u64, end: i64, acks: Acks) -> Event {
        Event::Appended { ticket: Ticket(ticket), end: Offset(end), acks }
    }

    /// Feeds events to a leader at offset 10 with the given followers in sync there.
    fn check(durability: Durability, followers: &[u32], events: &[Event], expected: &[Output]) {
        let mut replica = Replica::new(LeaderEpoch(3), durability, Offset(10));
        followers.iter().for_each(|id| replica.follower_joined(NodeId(*id), Offset(10)));
        let mut out = Vec::new();
        events.iter().for_each(|event| replica.handle(*event, &mut out));
        assert_eq!(out, expected);
    }

    #[test]
    fn acknowledged_when_durable() {
        use Output::{Acknowledge, HighWatermark, Refuse};
        let durable = |end| Event::Durable { end: Offset(end) };
        let ack = |epoch, end| {
            let (follower, epoch) = (NodeId(2), LeaderEpoch(epoch));
            Event::FollowerAck { follower, epoch, end: Offset(end) }
        };
        let (disk, replicated) = (Durability::Disk, Durability::Replicated);
        check(disk, &[], &[appended(1, 12, Acks::All)], &[]);
        check(disk, &[], &[appended(1, 12, Acks::Leader)], &[Acknowledge(Ticket(1))]);
        let two = [appended(1, 12, Acks::All), appended(2, 15, Acks::All), durable(12)];
        check(disk, &[], &two, &[HighWatermark(Offset(12)), Acknowledge(Ticket(1))]);
        let both = [HighWatermark(Offset(15)), Acknowledge(Ticket(1)), Acknowledge(Ticket(2))];
        check(disk, &[], &[two[0], two[1], durable(15)], &both);
        let at_once = [HighWatermark(Offset(12)), Acknowledge(Ticket(1))];
        check(replicated, &[], &[appended(1, 12, Acks::All)], &at_once);
        // A duplicate of something durable is acknowledged at once; of something on its way, with it.
        check(disk, &[], &[appended(1, 9, Acks::All)], &[Acknowledge(Ticket(1))]);
        check(disk, &[2], &[appended(1, 12, Acks::All), durable(12)], &[]);
        check(disk, &[2], &[appended(1, 12, Acks::All), durable(12), ack(2, 12)], &[]);
        check(disk, &[2], &[appended(1, 12, Acks::All), durable(12), ack(3, 12)], &at_once);
        check(disk, &[2], &[appended(1, 12, Acks::All), ack(3, 12), durable(12)], &at_once);
        check(disk, &[], &[appended(1, 12, Acks::All), Event::Failed], &[Refuse(Ticket(1))]);
        let relaxed = Event::DurabilityChanged { durability: replicated };
        check(disk, &[], &[appended(1, 12, Acks::All), relaxed], &at_once);
    }
}
