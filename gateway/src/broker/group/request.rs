//! What members ask and what they are told, in the terms of Kafka's group requests.

use std::time::Duration;

use bytes::Bytes;

use super::subscription;

/// Asks to be a member.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Group id.
    pub group: String,
    /// Member id; empty on the first try.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// Silence after which the member is out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for the member.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// Assignors with their metadata, preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member must come back with the id it is given (KIP-394: JoinGroup from version 4).
    pub requires_known_member_id: bool,
    /// Whether a static leader that returns may be told to skip the assignment (KIP-814: from version 9).
    pub can_skip_assignment: bool,
}

/// A member of the new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member's id from now on.
    pub member_id: String,
    /// Generation.
    pub generation: i32,
    /// Protocol type of the group.
    pub protocol_type: String,
    /// Assignor that was elected.
    pub protocol: String,
    /// Member id of the leader.
    pub leader: String,
    /// All members, for the leader alone.
    pub members: Vec<JoinedMember>,
    /// The leader keeps the assignment that the group has.
    pub skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// Instance id of a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the elected assignor.
    pub metadata: Bytes,
}

/// Who asks, as every request of a member says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRef {
    /// Group id.
    pub group: String,
    /// Member id; empty for a consumer that manages its partitions itself.
    pub member_id: String,
    /// Instance id of a static member.
    pub instance_id: Option<String>,
    /// Generation; -1 for a consumer that manages its partitions itself.
    pub generation: i32,
}

/// Asks for the member's assignment; the leader brings everyone's.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// Who asks.
    pub member: MemberRef,
    /// Protocol type, checked if given.
    pub protocol_type: Option<String>,
    /// Assignor, checked if given.
    pub protocol: Option<String>,
    /// Member id and assignment, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// The member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Protocol type of the group.
    pub protocol_type: String,
    /// Assignor that was elected.
    pub protocol: String,
    /// What the leader assigned; empty if it left the member out.
    pub assignment: Bytes,
}

/// A member to be taken out: by its id, or (by an administrator) by instance id alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Member id or empty.
    pub member_id: String,
    /// Instance id.
    pub instance_id: Option<String>,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Topic name.
    pub topic: String,
    /// Partition index.
    pub partition: u32,
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPhase {
    /// No members.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Everyone has an assignment.
    Stable,
}

impl GroupPhase {
    /// Kafka's name of the state.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One line of the list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Group id.
    pub group: String,
    /// Protocol type; empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// State.
    pub phase: GroupPhase,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Group id.
    pub group: String,
    /// State.
    pub phase: GroupPhase,
    /// Generation.
    pub generation: i32,
    /// Protocol type; empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// Assignor of a stable group; else empty.
    pub protocol: String,
    /// Members by id.
    pub members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// Whether anybody is in it.
    #[must_use]
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether a member reads a topic. While that is not known, because members are about to say it or what they say is
    /// not readable, they do.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        let reads = |member: &MemberDescription| {
            subscription::names_topic(member.metadata.clone(), topic).unwrap_or(true)
        };
        self.members.iter().any(reads)
    }
}

/// A member in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberDescription {
    /// Member id.
    pub member_id: String,
    /// Instance id of a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// Metadata for the elected assignor, in a stable group.
    pub metadata: Bytes,
    /// Assignment, in a stable group.
    pub assignment: Bytes,
}
