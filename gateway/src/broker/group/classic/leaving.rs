//! Leaving, and being put out by a deadline.

use std::collections::btree_map::Entry;

use super::{Group, Phase, Turn};
use crate::broker::group::{Answer, GroupError, Leaving};

impl Group {
    pub(super) fn leave_one(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &Leaving,
    ) -> Result<(), GroupError> {
        let id = if leaving.member_id.is_empty() {
            let instance = leaving.instance_id.as_ref().ok_or(GroupError::UnknownMember)?;
            self.statics.get(instance).cloned().ok_or(GroupError::UnknownMember)?
        } else if self.pending.remove(&leaving.member_id).is_some() {
            return Ok(());
        } else {
            self.current_member(&leaving.member_id, leaving.instance_id.as_deref())?
        };
        self.remove(&id, turn.out);
        self.prepare_rebalance_after_loss(turn);
        Ok(())
    }

    pub(super) fn expire_members(&mut self, turn: &mut Turn<'_>) {
        let mut out_of_time = Vec::new();
        for (id, member) in &mut self.members {
            if member.expires.is_none_or(|expires| expires > turn.now) {
                continue;
            }
            if !member.is_new && (member.join.is_some() || member.sync.is_some()) {
                // It waits for us: the answer starts its session again.
                member.expires = None;
            } else {
                out_of_time.push(id.clone());
            }
        }
        for id in out_of_time {
            self.remove(&id, turn.out);
            self.prepare_rebalance_after_loss(turn);
        }
    }

    /// Who joined and did not ask for the assignment in time is out.
    pub(super) fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
        let silent: Vec<String> =
            self.members.iter().filter(|(_, it)| it.owes_sync).map(|(id, _)| id.clone()).collect();
        for id in silent {
            self.remove(&id, turn.out);
        }
        self.prepare_rebalance(turn);
    }

    fn prepare_rebalance_after_loss(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Empty {
            self.prepare_rebalance(turn);
        }
    }

    /// Takes a member (or an id that was given out) off the group and answers what it waits for.
    pub(super) fn remove(&mut self, id: &str, out: &mut Vec<Answer>) {
        self.pending.remove(id);
        let Entry::Occupied(entry) = self.members.entry(id.to_owned()) else { return };
        let member = entry.remove();
        if let Some(ask) = member.join {
            out.push(Answer::Join(ask, Err(GroupError::UnknownMember)));
        }
        if let Some(ask) = member.sync {
            out.push(Answer::Sync(ask, Err(GroupError::UnknownMember)));
        }
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}
