//! One group: the states, errors and timers of Kafka's classic group protocol (KIP-62, 134, 345, 394, 559, 814).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Answer, Ask, GroupDescription, GroupError, GroupOptions, GroupPhase, JoinRequest, Joined,
    JoinedMember, Leaving, MemberDescription, MemberRef, SyncRequest, Synced, member::Member,
};

/// How long a join of a member without an id may wait: it cannot send heartbeats, and a client that
/// gave up leaves no trace. Kafka's bound.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// What an id that was given out takes beside its text, rounded up.
const PENDING_BYTES: usize = 64;

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id -> member id.
    statics: BTreeMap<String, String>,
    /// Ids that were given out and are waited for, with their end.
    pending: BTreeMap<String, Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    Preparing {
        deadline: Instant,
        /// Set while the first members gather: nothing ends the wait early.
        gathering: Option<Gathering>,
    },
    Completing {
        sync_deadline: Instant,
    },
    Stable {
        /// Until everyone fetched the assignment.
        sync_deadline: Option<Instant>,
    },
}

/// The wait for more members of a group that was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gathering {
    /// How much longer the wait may become.
    remaining: Duration,
    /// Whether a member came since the wait was last extended.
    has_new_member: bool,
}

impl Group {
    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// Bytes that its members keep in memory.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| id.len() + member.bytes());
        let pending = self.pending.keys().map(|id| id.len() + PENDING_BYTES);
        members.sum::<usize>() + pending.sum::<usize>()
    }

    /// The earliest time at which [`Group::advance`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Empty => None,
            Phase::Preparing { deadline, .. } => Some(deadline),
            Phase::Completing { sync_deadline } => Some(sync_deadline),
            Phase::Stable { sync_deadline } => sync_deadline,
        };
        let members = self.members.values().filter_map(|member| member.expires);
        phase.into_iter().chain(members).chain(self.pending.values().copied()).min()
    }

    /// A member joins; `fresh_id` is used if it has no id yet.
    pub(super) fn join(
        &mut self,
        now: Instant,
        ask: Ask,
        request: JoinRequest,
        fresh_id: String,
        options: &GroupOptions,
        out: &mut Vec<Answer>,
    ) {
        let mut turn = Turn { now, options, out };
        let result = if !self.accepts(&request.member_id, options.max_members) {
            self.remove(&request.member_id, turn.out);
            Err(GroupError::GroupFull { limit: options.max_members })
        } else if !self.supports(&request) {
            Err(GroupError::InconsistentProtocol)
        } else if request.member_id.is_empty() {
            self.join_new(&mut turn, ask, request, fresh_id)
        } else {
            self.join_known(&mut turn, ask, request)
        };
        if let Err(error) = result {
            turn.out.push(Answer::Join(ask, Err(error)));
        }
        self.try_complete_join(&mut turn);
    }

    /// A member asks for its assignment.
    pub(super) fn sync(
        &mut self,
        now: Instant,
        ask: Ask,
        request: SyncRequest,
        out: &mut Vec<Answer>,
    ) {
        if let Err(error) = self.try_sync(now, ask, request, out) {
            out.push(Answer::Sync(ask, Err(error)));
        }
    }

    /// A member is alive.
    pub(super) fn heartbeat(&mut self, now: Instant, who: &MemberRef) -> Result<(), GroupError> {
        let member = self.current_member(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.touch(&member, now);
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// Members leave; one result each, in order.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        leaving: &[Leaving],
        options: &GroupOptions,
        out: &mut Vec<Answer>,
    ) -> Vec<Result<(), GroupError>> {
        let mut turn = Turn { now, options, out };
        let results = leaving.iter().map(|one| self.leave_one(&mut turn, one)).collect();
        self.try_complete_join(&mut turn);
        results
    }

    /// Whether offsets may be committed in this member's name; a member's session goes on with it.
    pub(super) fn admit_commit(&mut self, now: Instant, who: &MemberRef) -> Result<(), GroupError> {
        // Administrators and consumers that manage their partitions themselves.
        if who.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        let is_anonymous =
            who.generation < 0 && who.member_id.is_empty() && who.instance_id.is_none();
        if is_anonymous {
            return Err(GroupError::UnknownMember);
        }
        let member = self.current_member(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if matches!(self.phase, Phase::Completing { .. }) {
            return Err(GroupError::RebalanceInProgress);
        }
        self.touch(&member, now);
        Ok(())
    }

    /// Time has passed.
    pub(super) fn advance(&mut self, now: Instant, options: &GroupOptions, out: &mut Vec<Answer>) {
        let mut turn = Turn { now, options, out };
        self.pending.retain(|_, end| *end > now);
        self.expire_members(&mut turn);
        match self.phase {
            Phase::Preparing { deadline, gathering } if deadline <= now => match gathering {
                Some(it) if it.has_new_member && !it.remaining.is_zero() => {
                    self.gather(&turn, it.remaining);
                }
                _ => self.complete_join(&mut turn),
            },
            Phase::Completing { sync_deadline } if sync_deadline <= now => {
                self.expire_syncs(&mut turn);
            }
            Phase::Stable { sync_deadline: Some(deadline) } if deadline <= now => {
                self.expire_syncs(&mut turn);
            }
            _ => {}
        }
        self.try_complete_join(&mut turn);
    }

    pub(super) fn phase(&self) -> GroupPhase {
        match self.phase {
            Phase::Empty => GroupPhase::Empty,
            Phase::Preparing { .. } => GroupPhase::PreparingRebalance,
            Phase::Completing { .. } => GroupPhase::CompletingRebalance,
            Phase::Stable { .. } => GroupPhase::Stable,
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    pub(super) fn describe(&self, group: &str) -> GroupDescription {
        let is_stable = matches!(self.phase, Phase::Stable { .. });
        let protocol = if is_stable { self.protocol.clone() } else { String::new() };
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&protocol) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        GroupDescription {
            group: group.to_owned(),
            phase: self.phase(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            members: members.collect(),
            protocol,
        }
    }
}

/// One request or timer being handled.
struct Turn<'a> {
    now: Instant,
    options: &'a GroupOptions,
    out: &'a mut Vec<Answer>,
}

/// Joining.
impl Group {
    /// Whether there is room for one more, or this one is in already.
    fn accepts(&self, member_id: &str, max_members: usize) -> bool {
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

    fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type == request.protocol_type
            && request.protocols.iter().any(|(name, _)| self.is_common(name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    fn join_new(
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

    fn join_known(
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
    fn joined(&self, id: &str) -> Joined {
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

/// Rebalancing.
impl Group {
    /// Starts to wait for everyone to join again, unless that wait is on.
    fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
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
    fn gather(&mut self, turn: &Turn<'_>, left: Duration) {
        let delay = turn.options.initial_rebalance_delay.min(left);
        let gathering = Gathering { remaining: left - delay, has_new_member: false };
        self.phase = Phase::Preparing { deadline: turn.now + delay, gathering: Some(gathering) };
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|it| it.rebalance_timeout).max().unwrap_or_default()
    }

    fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let everyone_is_here =
            self.pending.is_empty() && self.members.values().all(|it| it.join.is_some());
        if matches!(self.phase, Phase::Preparing { gathering: None, .. }) && everyone_is_here {
            self.complete_join(turn);
        }
    }

    /// Ends the wait for joins: who did not come is out, the others are the next generation.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
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
    fn elect_protocol(&self) -> String {
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

/// Assignments.
impl Group {
    fn try_sync(
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

/// Leaving and being put out.
impl Group {
    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &Leaving) -> Result<(), GroupError> {
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

    fn expire_members(&mut self, turn: &mut Turn<'_>) {
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
    fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
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
    fn remove(&mut self, id: &str, out: &mut Vec<Answer>) {
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

/// Members.
impl Group {
    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    fn touch(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now);
        }
    }

    /// Checks that the member is in the group and, if it is static, that nobody took its place.
    fn current_member(&self, id: &str, instance: Option<&str>) -> Result<String, GroupError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) {
            Ok(id.to_owned())
        } else {
            Err(GroupError::UnknownMember)
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
