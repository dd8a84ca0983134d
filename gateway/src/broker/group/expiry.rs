//! Which committed offsets nobody came back for: those of groups that had no members, and committed nothing, for
//! `offsets.retention.minutes`; and those of topics that the members of a group no longer read.
//!
//! Age is counted in time of open journal, as everywhere: neither a step of the clock nor a week in a drawer takes an
//! offset. Membership is in memory, so after a start groups get time to come together before any is taken for empty.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;

use super::{CommittedOffset, GroupDescription, GroupPhase, offset, subscription::CONSUMER};

/// Members whose gateway was restarted are back by then: the longest session timeout.
const GRACE_MS: u64 = 30 * 60 * 1000;

/// What is known of groups since the start.
#[derive(Debug)]
pub(super) struct Expiry {
    retention_ms: u64,
    started_open_ms: u64,
    grace_ms: u64,
    /// Groups that had members, and when they were last seen with some.
    last_active: HashMap<String, u64>,
}

impl Expiry {
    pub(super) fn new(retention: Duration, started_open_ms: u64) -> Self {
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        Self { retention_ms, started_open_ms, grace_ms: GRACE_MS, last_active: HashMap::new() }
    }

    /// Takes every offset whose group has no members at once.
    #[cfg(test)]
    pub(super) fn impatient() -> Self {
        Self { grace_ms: 0, ..Self::new(Duration::ZERO, 0) }
    }

    /// The keys of the offsets that are to go, of all there are; `active` are the groups with members.
    pub(super) fn due(
        &mut self,
        open_ms: u64,
        active: &HashMap<String, GroupDescription>,
        offsets: Vec<(Bytes, Bytes)>,
    ) -> Vec<Bytes> {
        let mut seen = HashSet::new();
        let mut due = Vec::new();
        for name in active.keys() {
            self.last_active.insert(name.clone(), open_ms);
        }
        for (key, value) in offsets {
            // What is not readable is not judged either.
            let Ok((group, topic, _)) = offset::read_key(key.clone()) else { continue };
            let Ok(committed) = CommittedOffset::from_fact(value) else { continue };
            let committed = committed.committed_open_ms.unwrap_or(self.started_open_ms);
            let used = match active.get(&group) {
                Some(group) if may_come_back(group, &topic) => open_ms,
                Some(_) => committed,
                None => committed.max(self.last_active.get(&group).copied().unwrap_or(0)),
            };
            if open_ms.saturating_sub(used) >= self.retention_ms {
                due.push(key);
            }
            seen.insert(group);
        }
        self.last_active.retain(|group, _| active.contains_key(group) || seen.contains(group));
        if open_ms.saturating_sub(self.started_open_ms) < self.grace_ms {
            return Vec::new();
        }
        due
    }
}

/// Whether members may still want the offsets of a topic: only those of consumers say what they read, and only between
/// rebalances have all of them said it.
fn may_come_back(group: &GroupDescription, topic: &str) -> bool {
    group.protocol_type != CONSUMER || group.phase != GroupPhase::Stable || group.reads(topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::group::MemberDescription;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// A group with one member, who reads the topic `t`.
    fn group(name: &str, protocol_type: &str, phase: GroupPhase) -> (String, GroupDescription) {
        let member = MemberDescription {
            metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
            ..MemberDescription::default()
        };
        let group = GroupDescription {
            group: name.to_owned(),
            phase,
            generation: 1,
            protocol_type: protocol_type.to_owned(),
            protocol: "range".to_owned(),
            members: vec![member],
        };
        (name.to_owned(), group)
    }

    fn reading(name: &str) -> HashMap<String, GroupDescription> {
        HashMap::from([group(name, CONSUMER, GroupPhase::Stable)])
    }

    fn offset(group: &str, committed_open_ms: Option<u64>) -> (Bytes, Bytes) {
        let committed = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            committed_ms: 0,
            committed_open_ms,
            metadata: String::new(),
        };
        (offset::key(group, "t", 0), committed.to_fact())
    }

    #[test]
    fn offsets_go_when_their_group_was_away_for_long_enough() {
        let start = 100 * DAY_MS;
        let mut expiry = Expiry::new(Duration::from_secs(7 * 24 * 3600), start);
        let offsets = || {
            vec![
                offset("old", Some(start - 8 * DAY_MS)),
                offset("fresh", Some(start - 6 * DAY_MS)),
                offset("reading", Some(start - 8 * DAY_MS)),
                offset("earlier-version", None),
            ]
        };
        let reading = reading("reading");
        let mut due = |open_ms: u64, active: &HashMap<String, _>| -> Vec<String> {
            let due = expiry.due(open_ms, active, offsets());
            due.into_iter().map(|key| offset::read_key(key).expect("a key").0).collect()
        };
        assert!(due(start, &reading).is_empty(), "groups may come back first");
        assert!(due(start + GRACE_MS - 1, &reading).is_empty());
        assert_eq!(due(start + GRACE_MS, &reading), ["old"]);
        assert_eq!(due(start + DAY_MS, &reading), ["old", "fresh"]);
        // Its members left at a day: from then on it is counted.
        let nobody = HashMap::new();
        assert_eq!(due(start + 7 * DAY_MS, &nobody), ["old", "fresh", "earlier-version"]);
        assert_eq!(due(start + 8 * DAY_MS, &nobody).len(), 4);
    }

    #[test]
    fn offsets_of_topics_that_members_no_longer_read_go_too() {
        let groups = [
            group("consumers", CONSUMER, GroupPhase::Stable),
            group("rebalancing", CONSUMER, GroupPhase::PreparingRebalance),
            group("connectors", "connect", GroupPhase::Stable),
        ];
        let offset = |group: &str, topic: &str, committed_open_ms| {
            let committed = CommittedOffset {
                offset: 1,
                leader_epoch: -1,
                committed_ms: 0,
                committed_open_ms: Some(committed_open_ms),
                metadata: String::new(),
            };
            (offset::key(group, topic, 0), committed.to_fact())
        };
        let mut offsets = vec![offset("consumers", "fresh", 1)];
        for (name, _) in &groups {
            offsets.extend([offset(name, "t", 0), offset(name, "left", 0)]);
        }
        let mut expiry = Expiry { grace_ms: 0, ..Expiry::new(Duration::from_millis(10), 0) };
        let due = expiry.due(10, &HashMap::from(groups), offsets);
        assert_eq!(due, [offset::key("consumers", "left", 0)]);
    }

    #[test]
    fn nothing_is_remembered_of_groups_that_are_gone() {
        let mut expiry = Expiry::new(Duration::from_secs(60), 0);
        let mut both = reading("g");
        both.extend(reading("h"));
        expiry.due(1, &both, vec![offset("g", None)]);
        expiry.due(2, &HashMap::new(), vec![offset("g", None)]);
        assert_eq!(expiry.last_active.keys().collect::<Vec<_>>(), ["g"]);
    }
}
