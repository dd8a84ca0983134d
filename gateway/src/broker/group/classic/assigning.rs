//! Assignments: the leader brings them, everyone fetches its own.

use std::time::Instant;

use bytes::Bytes;

use super::{Group, Phase};
use crate::broker::group::{Answer, Ask, GroupError, SyncRequest, Synced};

impl Group {
    pub(super) fn try_sync(
        &mut self,
        now: Instant,
        ask: Ask,
        request: SyncRequest,
        out: &mut Vec<Answer>,
    ) -> Result<(), GroupError> {
        let who = &request.member;
        let id = self.current_member(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |given: &Option<String>, own: &str| given.as_ref().is_some_and(|it| it != own);
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { sync_deadline } => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.owes_sync = false;
                    if let Some(earlier) = member.sync.replace(ask) {
                        out.push(Answer::Sync(earlier, Err(GroupError::RebalanceInProgress)));
                    }
                }
                if self.is_leader(&id) {
                    self.assign(now, request.assignments, out);
                    self.phase = Phase::Stable { sync_deadline: Some(sync_deadline) };
                    self.settle();
                }
                Ok(())
            }
            Phase::Stable { .. } => {
                let synced = self.synced(&id);
                if let Some(member) = self.members.get_mut(&id) {
                    member.owes_sync = false;
                    member.touch(now);
                }
                out.push(Answer::Sync(ask, Ok(synced)));
                self.settle();
                Ok(())
            }
        }
    }

    /// Takes the leader's assignment over; who is left out has an empty one.
    fn assign(&mut self, now: Instant, assignments: Vec<(String, Bytes)>, out: &mut Vec<Answer>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&id);
            if let Some(member) = self.members.get_mut(&id)
                && let Some(ask) = member.sync.take()
            {
                out.push(Answer::Sync(ask, Ok(synced)));
                // Its session did not run while it waited.
                member.touch(now);
            }
        }
    }

    /// Ends the wait for SyncGroup once everyone asked.
    fn settle(&mut self) {
        if let Phase::Stable { sync_deadline } = &mut self.phase
            && !self.members.values().any(|it| it.owes_sync)
        {
            *sync_deadline = None;
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|it| it.assignment.clone()).unwrap_or_default(),
        }
    }
}
