//! All groups: limits, and the one list of deadlines. No clock, no socket, no randomness in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    GroupDescription, GroupError, GroupSummary, JoinRequest, Joined, Leaving, MemberRef,
    SyncRequest, Synced, classic::Group, member::protocols_bytes,
};

/// Longest group id: it is part of the key of every offset.
pub(super) const MAX_GROUP_ID_BYTES: usize = 1024;
/// What of a client's own name goes into its member id: ids travel as strings of at most 32 KiB.
const MAX_ID_PREFIX_BYTES: usize = 255;
/// Assignors of one member: each is compared with those of all others. Clients have one to three.
const MAX_PROTOCOLS: usize = 32;
/// Shortest rebalance timeout: every deadline of a group lies ahead of the time that it is set at.
const MIN_REBALANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest rebalance timeout: what the protocol's 32-bit milliseconds can say.
const MAX_REBALANCE_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Limits and times of groups.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`; Kafka's 3 s are for large clusters).
    pub initial_rebalance_delay: Duration,
    /// How long offsets outlive the last member of their group (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// Shortest session timeout (`group.min.session.timeout.ms`).
    pub min_session_timeout: Duration,
    /// Longest session timeout (`group.max.session.timeout.ms`).
    pub max_session_timeout: Duration,
    /// Groups with members at a time.
    pub max_groups: usize,
    /// Members of one group.
    pub max_members: usize,
    /// Bytes of one member's assignors with their metadata, and of its assignment.
    pub max_member_bytes: usize,
    /// Bytes that all members of all groups keep in memory.
    pub max_total_bytes: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_millis(250),
            offsets_retention: Duration::from_hours(7 * 24),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1800),
            max_groups: 1000,
            max_members: 500,
            max_member_bytes: 256 * 1024,
            max_total_bytes: 8 * 1024 * 1024,
        }
    }
}

/// Names a JoinGroup or SyncGroup that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub u64);

/// The answer to a request that waited; every [`Ask`] gets one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a JoinGroup.
    Join(Ask, Result<Joined, GroupError>),
    /// To a SyncGroup.
    Sync(Ask, Result<Synced, GroupError>),
}

/// The membership of all groups.
#[derive(Debug)]
pub struct Coordinator {
    options: GroupOptions,
    groups: BTreeMap<String, Tracked>,
    /// The next deadline of every group that has one.
    deadlines: BTreeSet<(Instant, String)>,
    total_bytes: usize,
}

#[derive(Debug, Default)]
struct Tracked {
    group: Group,
    deadline: Option<Instant>,
    bytes: usize,
}

impl Coordinator {
    /// A coordinator without groups.
    #[must_use]
    pub fn new(options: GroupOptions) -> Self {
        Self { options, groups: BTreeMap::new(), deadlines: BTreeSet::new(), total_bytes: 0 }
    }

    /// A member joins. `fresh` must never repeat: it makes the id of a member that has none.
    pub fn join(
        &mut self,
        now: Instant,
        ask: Ask,
        mut request: JoinRequest,
        fresh: &str,
        out: &mut Vec<Answer>,
    ) {
        if let Err(error) = self.admit_join(&request) {
            out.push(Answer::Join(ask, Err(error)));
            return;
        }
        request.rebalance_timeout =
            request.rebalance_timeout.clamp(MIN_REBALANCE_TIMEOUT, MAX_REBALANCE_TIMEOUT);
        let name = request.group.clone();
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let prefix = &prefix[..prefix.floor_char_boundary(MAX_ID_PREFIX_BYTES)];
        let fresh_id = format!("{prefix}-{fresh}");
        let options = self.options.clone();
        let group = &mut self.groups.entry(name.clone()).or_default().group;
        group.join(now, ask, request, fresh_id, &options, out);
        self.track(&name);
    }

    /// A member asks for its assignment.
    pub fn sync(&mut self, now: Instant, ask: Ask, request: SyncRequest, out: &mut Vec<Answer>) {
        if let Err(error) = self.admit_sync(&request) {
            out.push(Answer::Sync(ask, Err(error)));
            return;
        }
        let name = request.member.group.clone();
        match self.groups.get_mut(&name) {
            Some(tracked) => tracked.group.sync(now, ask, request, out),
            None => out.push(Answer::Sync(ask, Err(GroupError::UnknownMember))),
        }
        self.track(&name);
    }

    /// A member is alive.
    pub fn heartbeat(&mut self, now: Instant, who: &MemberRef) -> Result<(), GroupError> {
        check_group_id(&who.group)?;
        let tracked = self.groups.get_mut(&who.group).ok_or(GroupError::UnknownMember)?;
        let result = tracked.group.heartbeat(now, who);
        self.track(&who.group);
        result
    }

    /// Members leave; one result each, in order.
    pub fn leave(
        &mut self,
        now: Instant,
        group: &str,
        leaving: &[Leaving],
        out: &mut Vec<Answer>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_group_id(group)?;
        let Some(tracked) = self.groups.get_mut(group) else {
            return Ok(leaving.iter().map(|_| Err(GroupError::UnknownMember)).collect());
        };
        let results = tracked.group.leave(now, leaving, &self.options, out);
        self.track(group);
        Ok(results)
    }

    /// Whether offsets may be committed in this member's name.
    pub fn admit_commit(&mut self, now: Instant, who: &MemberRef) -> Result<(), GroupError> {
        check_group_id(&who.group)?;
        match self.groups.get_mut(&who.group) {
            Some(tracked) => {
                let result = tracked.group.admit_commit(now, who);
                self.track(&who.group);
                result
            }
            // Nobody manages this group's partitions: whoever does it for itself may commit.
            None if who.generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// When to call [`Coordinator::advance`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Time has passed: handles every deadline up to `now`.
    pub fn advance(&mut self, now: Instant, out: &mut Vec<Answer>) {
        while let Some((deadline, name)) = self.deadlines.first().cloned() {
            if deadline > now {
                return;
            }
            match self.groups.get_mut(&name) {
                Some(tracked) => tracked.group.advance(now, &self.options, out),
                None => {
                    self.deadlines.remove(&(deadline, name));
                    continue;
                }
            }
            self.track(&name);
        }
    }

    /// Groups with members, or with members to come.
    #[must_use]
    pub fn list(&self) -> Vec<GroupSummary> {
        let summary = |(name, tracked): (&String, &Tracked)| GroupSummary {
            group: name.clone(),
            protocol_type: tracked.group.protocol_type().to_owned(),
            phase: tracked.group.phase(),
        };
        self.groups.iter().map(summary).collect()
    }

    /// A group in full, if it has members or members to come.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        self.groups.get(group).map(|tracked| tracked.group.describe(group))
    }

    fn admit_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        check_group_id(&request.group)?;
        let options = &self.options;
        if !(options.min_session_timeout..=options.max_session_timeout)
            .contains(&request.session_timeout)
        {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if request.protocols.len() > MAX_PROTOCOLS {
            let limit = MAX_PROTOCOLS;
            return Err(GroupError::TooManyProtocols { count: request.protocols.len(), limit });
        }
        let bytes = protocols_bytes(&request.protocols)
            + request.client_id.len()
            + request.client_host.len()
            + request.instance_id.as_ref().map_or(0, String::len);
        self.admit_bytes(bytes, options.max_member_bytes)?;
        if self.groups.contains_key(&request.group) {
            return Ok(());
        }
        // Only a member without an id may found a group.
        if !request.member_id.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        if self.groups.len() >= options.max_groups {
            let limit = options.max_groups;
            return Err(GroupError::CoordinatorFull { what: "groups.max_groups", limit });
        }
        Ok(())
    }

    fn admit_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        check_group_id(&request.member.group)?;
        let limit = self.options.max_member_bytes;
        for (_, assignment) in &request.assignments {
            if assignment.len() > limit {
                return Err(GroupError::TooLarge { bytes: assignment.len(), limit });
            }
        }
        let bytes = request.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
        self.admit_bytes(bytes, self.options.max_total_bytes)
    }

    fn admit_bytes(&self, bytes: usize, limit: usize) -> Result<(), GroupError> {
        if bytes > limit {
            return Err(GroupError::TooLarge { bytes, limit });
        }
        let limit = self.options.max_total_bytes;
        if self.total_bytes.saturating_add(bytes) > limit {
            return Err(GroupError::CoordinatorFull { what: "groups.max_total_bytes", limit });
        }
        Ok(())
    }

    /// Notes a group's deadline and size after any change; forgets it when it is idle.
    fn track(&mut self, name: &str) {
        let Some(tracked) = self.groups.get_mut(name) else { return };
        let deadline = tracked.group.next_deadline();
        if deadline != tracked.deadline {
            if let Some(old) = tracked.deadline {
                self.deadlines.remove(&(old, name.to_owned()));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, name.to_owned()));
            }
            tracked.deadline = deadline;
        }
        let bytes = tracked.group.bytes();
        self.total_bytes = self.total_bytes - tracked.bytes + bytes;
        tracked.bytes = bytes;
        if tracked.group.is_idle() {
            self.groups.remove(name);
        }
    }
}

/// Kafka asks only that it is not empty.
pub(super) fn check_group_id(group: &str) -> Result<(), GroupError> {
    if (1..=MAX_GROUP_ID_BYTES).contains(&group.len()) {
        Ok(())
    } else {
        Err(GroupError::InvalidGroupId)
    }
}
