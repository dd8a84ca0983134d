//! Rebalancing: waiting for everyone to join again, electing leader and assignor, the next generation.

use std::time::Duration;

use bytes::Bytes;

use super::{Gathering, Group, Phase, Turn};
use crate::broker::group::{Answer, GroupError};

impl Group {
    /// Starts to wait for everyone to join again, unless that wait is on.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Preparing { .. } => return,
            Phase::Empty => {
                let delay = turn.options.initial_rebalance_delay;
                self.gather(turn, self.rebalance_timeout().max(delay));
                return;
            }
            Phase::Completing { .. } => {
                for member in self.members.values_mut() {
                    member.assignment = Bytes::new();
                    if let Some(ask) = member.sync.take() {
                        turn.out.push(Answer::Sync(ask, Err(GroupError::RebalanceInProgress)));
                        member.touch(turn.now);
                    }
                }
            }
            Phase::Stable { .. } => {}
        }
        let deadline = turn.now + self.rebalance_timeout();
        self.phase = Phase::Preparing { deadline, gathering: None };
    }

    /// Waits the initial delay, or what is left of the rebalance timeout.
    pub(super) fn gather(&mut self, turn: &Turn<'_>, left: Duration) {
        let delay = turn.options.initial_rebalance_delay.min(left);
        let gathering = Gathering { remaining: left - delay, has_new_member: false };
        self.phase = Phase::Preparing { deadline: turn.now + delay, gathering: Some(gathering) };
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|it| it.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let everyone_is_here =
            self.pending.is_empty() && self.members.values().all(|it| it.join.is_some());
        if matches!(self.phase, Phase::Preparing { gathering: None, .. }) && everyone_is_here {
            self.complete_join(turn);
        }
    }

    /// Ends the wait for joins: who did not come is out, the others are the next generation.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let absent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, it)| it.join.is_none() && it.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove(&id, turn.out);
        }
        // Static members alone, none of them back: their sessions decide.
        if !self.members.is_empty() && !self.elect_joined_leader() {
            let deadline = turn.now + self.rebalance_timeout();
            self.phase = Phase::Preparing { deadline, gathering: None };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol.clear();
            self.phase = Phase::Empty;
            return;
        }
        self.protocol = self.elect_protocol();
        self.phase = Phase::Completing { sync_deadline: turn.now + self.rebalance_timeout() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.touch(turn.now);
                member.is_new = false;
                member.owes_sync = true;
                if let Some(ask) = member.join.take() {
                    turn.out.push(Answer::Join(ask, Ok(joined)));
                }
            }
        }
    }

    /// Makes sure that the leader is one that joined.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|it| it.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, it)| it.join.is_some());
        match joined.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// The assignor with most votes among those that all members know; each votes for the first it
    /// prefers. Equal votes: the leader's preference.
    pub(super) fn elect_protocol(&self) -> String {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let candidates: Vec<&str> = leader
            .into_iter()
            .flat_map(|leader| &leader.protocols)
            .map(|(name, _)| name.as_str())
            .filter(|name| self.is_common(name))
            .collect();
        let mut votes = vec![0usize; candidates.len()];
        for member in self.members.values() {
            let preferred = member
                .protocols
                .iter()
                .find_map(|(name, _)| candidates.iter().position(|candidate| candidate == name));
            if let Some(vote) = preferred.and_then(|index| votes.get_mut(index)) {
                *vote += 1;
            }
        }
        let elected = candidates.iter().zip(votes).rev().max_by_key(|(_, count)| *count);
        elected.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }
}
