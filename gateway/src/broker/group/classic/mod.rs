//! One group: the states, errors and timers of Kafka's classic group protocol (KIP-62, 134, 345, 394, 559, 814).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

mod assigning;
mod joining;
mod leaving;
mod rebalancing;

use super::{
    Answer, Ask, GroupDescription, GroupError, GroupOptions, GroupPhase, JoinRequest, Leaving,
    MemberDescription, MemberRef, SyncRequest, member::Member,
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
