//! Which member reads which partition: balanced over everything a member may read, and moving as little as
//! balance allows. Deterministic: the same input gives the same assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_protocol::TopicPartition;

/// Member ids are shared: they stand once per partition.
pub(super) type MemberId = Arc<str>;

/// One topic's partitions and who subscribes to it (at least one member).
pub(super) struct Subscription {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) members: Vec<MemberId>,
}

/// Assigns every partition of every subscription. Partitions stay with `previous` where that leaves no two
/// members of a topic more than one partition apart.
pub(super) fn assign(
    subscriptions: &[Subscription],
    previous: &BTreeMap<TopicPartition, MemberId>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut loads: BTreeMap<MemberId, usize> = BTreeMap::new();
    for member in subscriptions.iter().flat_map(|subscription| &subscription.members) {
        loads.entry(Arc::clone(member)).or_default();
    }
    let mut target = keep(subscriptions, previous, &mut loads);
    for subscription in subscriptions {
        for partition in &subscription.partitions {
            if !target.contains_key(partition) {
                let member = least_loaded(&subscription.members, &loads);
                take(&mut loads, &member);
                target.insert(*partition, member);
            }
        }
    }
    // Each move makes the sum of squared loads smaller, so this ends; mostly the second pass moves nothing.
    while level(subscriptions, &mut target, &mut loads) {}
    target
}

fn keep(
    subscriptions: &[Subscription],
    previous: &BTreeMap<TopicPartition, MemberId>,
    loads: &mut BTreeMap<MemberId, usize>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut kept = BTreeMap::new();
    for subscription in subscriptions {
        let members: BTreeSet<&MemberId> = subscription.members.iter().collect();
        for partition in &subscription.partitions {
            if let Some(owner) = previous.get(partition).filter(|owner| members.contains(owner)) {
                take(loads, owner);
                kept.insert(*partition, Arc::clone(owner));
            }
        }
    }
    kept
}

fn level(
    subscriptions: &[Subscription],
    target: &mut BTreeMap<TopicPartition, MemberId>,
    loads: &mut BTreeMap<MemberId, usize>,
) -> bool {
    let mut moved = false;
    for subscription in subscriptions {
        let mut least = least_loaded(&subscription.members, loads);
        for partition in &subscription.partitions {
            let owner = target.get_mut(partition).expect("every partition was assigned before");
            if loads[owner] > loads[&least] + 1 {
                *loads.get_mut(owner).expect("every member has a load") -= 1;
                take(loads, &least);
                *owner = least;
                moved = true;
                least = least_loaded(&subscription.members, loads);
            }
        }
    }
    moved
}

fn take(loads: &mut BTreeMap<MemberId, usize>, member: &MemberId) {
    *loads.entry(Arc::clone(member)).or_default() += 1;
}

fn least_loaded(members: &[MemberId], loads: &BTreeMap<MemberId, usize>) -> MemberId {
    let least = members.iter().min_by_key(|member| (loads.get(*member).copied().unwrap_or(0), Arc::clone(member)));
    Arc::clone(least.expect("a subscription has at least one member"))
}

#[cfg(test)]
mod tests {
    use millstream_protocol::{PartitionIndex, TopicId};

    use super::*;

    fn subscription(topic: u128, partitions: u32, members: &[&str]) -> Subscription {
        let partition = |p| TopicPartition { topic: TopicId(topic), partition: PartitionIndex(p) };
        Subscription {
            partitions: (0..partitions).map(partition).collect(),
            members: members.iter().map(|member| Arc::from(*member)).collect(),
        }
    }

    /// Assigns in turn, each time from the assignment before; compares the last, as `topic/partition:member`.
    fn check(steps: &[&[Subscription]], expected: &str) {
        let target = steps.iter().fold(BTreeMap::new(), |previous, step| assign(step, &previous));
        let text: Vec<String> =
            target.iter().map(|(key, member)| format!("{:x}/{}:{member}", key.topic.0, key.partition)).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn balanced_and_sticky() {
        check(&[&[subscription(1, 3, &["a"])]], "1/0:a 1/1:a 1/2:a");
        check(&[&[subscription(1, 4, &["a", "b"])]], "1/0:a 1/1:b 1/2:a 1/3:b");
        // Topics of one partition spread over the members.
        check(&[&[subscription(1, 1, &["a", "b"]), subscription(2, 1, &["a", "b"])]], "1/0:a 2/0:b");
        // A third member takes one of the fuller one's; the others stay.
        check(
            &[&[subscription(1, 5, &["a", "b"])], &[subscription(1, 5, &["a", "b", "c"])]],
            "1/0:c 1/1:b 1/2:a 1/3:b 1/4:a",
        );
        // One leaves: only its partitions move.
        check(&[&[subscription(1, 4, &["a", "b"])], &[subscription(1, 4, &["b"])]], "1/0:b 1/1:b 1/2:b 1/3:b");
        // More members than partitions.
        check(&[&[subscription(1, 1, &["a", "b", "c"])]], "1/0:a");
        // Members with different topics.
        check(&[&[subscription(1, 2, &["a"]), subscription(2, 2, &["a", "b"])]], "1/0:a 1/1:a 2/0:b 2/1:b");
    }
}
