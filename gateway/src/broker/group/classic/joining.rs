//! Joining: new members, returning ones, static ones that come back under a new id.

use super::{Group, NEW_MEMBER_JOIN_TIMEOUT, Phase, Turn};
use crate::broker::group::{
    Answer, Ask, GroupError, JoinRequest, Joined, JoinedMember, member::Member,
};

impl Group {
    /// Whether there is room for one more, or this one is in already.
    pub(super) fn accepts(&self, member_id: &str, max_members: usize) -> bool {
        let known = self.members.get(member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::Preparing { .. } => {
                known.is_some_and(|member| member.join.is_some())
                    || self.members.values().filter(|it| it.join.is_some()).count() < max_members
            }
            Phase::Completing { .. } | Phase::Stable { .. } => {
                known.is_some() || self.members.len() < max_members
            }
        }
    }

    pub(super) fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type == request.protocol_type
            && request.protocols.iter().any(|(name, _)| self.is_common(name))
    }

    pub(super) fn is_common(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    pub(super) fn join_new(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        request: JoinRequest,
        fresh_id: String,
    ) -> Result<(), GroupError> {
        if let Some(instance) = &request.instance_id {
            match self.statics.get(instance).cloned() {
                Some(old_id) => self.replace_static(turn, ask, request, &old_id, fresh_id),
                None => self.add(turn, ask, request, fresh_id),
            }
            return Ok(());
        }
        if !request.requires_known_member_id {
            self.add(turn, ask, request, fresh_id);
            return Ok(());
        }
        // Bounded like members: an id costs its asker nothing.
        if self.pending.len() >= turn.options.max_members {
            return Err(GroupError::GroupFull { limit: turn.options.max_members });
        }
        self.pending.insert(fresh_id.clone(), turn.now + request.session_timeout);
        Err(GroupError::MemberIdRequired { member_id: fresh_id })
    }

    pub(super) fn join_known(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        request: JoinRequest,
    ) -> Result<(), GroupError> {
        let id = request.member_id.clone();
        if request.instance_id.is_none() && self.pending.contains_key(&id) {
            self.add(turn, ask, request, id);
            return Ok(());
        }
        self.current_member(&id, request.instance_id.as_deref())?;
        let is_leader = self.is_leader(&id);
        let is_same = self.members.get(&id).is_some_and(|it| it.protocols == request.protocols);
        match self.phase {
            Phase::Empty => return Err(GroupError::UnknownMember),
            // The first answer was lost: this generation is still its own.
            Phase::Completing { .. } if is_same => {
                turn.out.push(Answer::Join(ask, Ok(self.joined(&id))));
            }
            Phase::Stable { .. } if is_same && !is_leader => {
                turn.out.push(Answer::Join(ask, Ok(self.joined(&id))));
            }
            Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable { .. } => {
                self.update_awaiting(&id, ask, request, turn.out);
                self.prepare_rebalance(turn);
            }
        }
        Ok(())
    }

    fn add(&mut self, turn: &mut Turn<'_>, ask: Ask, request: JoinRequest, id: String) {
        if let Phase::Preparing { gathering: Some(gathering), .. } = &mut self.phase {
            gathering.has_new_member = true;
        }
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type.clone_from(&request.protocol_type);
        }
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member::new(request, Some(ask), turn.now + NEW_MEMBER_JOIN_TIMEOUT);
        self.members.insert(id, member);
        self.prepare_rebalance(turn);
    }

    /// A static member came back under a new id: the old one is fenced, its place is kept.
    fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        request: JoinRequest,
        old_id: &str,
        id: String,
    ) {
        let Some(mut member) = self.members.remove(old_id) else {
            // The table of instances names members only.
            self.add(turn, ask, request, id);
            return;
        };
        let old_leader = self.leader.clone().unwrap_or_default();
        let can_skip = request.can_skip_assignment;
        fence(&mut member, turn.out);
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        if old_leader == old_id {
            self.leader = Some(id.clone());
        }
        member.update(request);
        if member.is_new {
            // As when it was added: it does not know its id yet.
            member.expires = Some(turn.now + NEW_MEMBER_JOIN_TIMEOUT);
        } else {
            member.touch(turn.now);
        }
        self.members.insert(id.clone(), member);

        let keeps_assignor = self.elect_protocol() == self.protocol;
        if matches!(self.phase, Phase::Stable { .. }) && keeps_assignor {
            let mut joined = self.joined(&id);
            if can_skip {
                joined.skip_assignment = joined.leader == id;
            } else {
                // Named by its old id, a leader does not take itself for one: no assignment comes.
                joined.leader = old_leader;
                joined.members.clear();
            }
            turn.out.push(Answer::Join(ask, Ok(joined)));
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.join = Some(ask);
        }
        self.prepare_rebalance(turn);
    }

    fn update_awaiting(&mut self, id: &str, ask: Ask, request: JoinRequest, out: &mut Vec<Answer>) {
        if let Some(member) = self.members.get_mut(id) {
            member.update(request);
            // A repeated request: nobody waits for the first answer any more.
            if let Some(earlier) = member.join.replace(ask) {
                out.push(Answer::Join(earlier, Err(GroupError::RebalanceInProgress)));
            }
        }
    }

    /// What a member of the current generation is told.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let members = if self.is_leader(id) {
            let member = |(id, member): (&String, &Member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(&self.protocol),
            };
            self.members.iter().map(member).collect()
        } else {
            Vec::new()
        };
        Joined {
            member_id: id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            members,
            skip_assignment: false,
        }
    }
}

/// Whoever waits in the name of a replaced static member is told so.
fn fence(member: &mut Member, out: &mut Vec<Answer>) {
    if let Some(ask) = member.join.take() {
        out.push(Answer::Join(ask, Err(GroupError::FencedInstance)));
    }
    if let Some(ask) = member.sync.take() {
        out.push(Answer::Sync(ask, Err(GroupError::FencedInstance)));
    }
}
