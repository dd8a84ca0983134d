//! Why a group's request is refused; each maps to one Kafka error code.

use crate::broker::AppendError;

/// Why membership is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Empty, or longer than a group id may be: `INVALID_GROUP_ID`.
    #[error("group id is empty or too long")]
    InvalidGroupId,
    /// Outside of what the gateway allows: `INVALID_SESSION_TIMEOUT`.
    #[error("session timeout is outside of what is allowed")]
    InvalidSessionTimeout,
    /// Not a member, or no longer: `UNKNOWN_MEMBER_ID`.
    #[error("not a member of the group")]
    UnknownMember,
    /// Of another generation: `ILLEGAL_GENERATION`.
    #[error("generation is not the current one")]
    IllegalGeneration,
    /// The member has to join again: `REBALANCE_IN_PROGRESS`.
    #[error("the group rebalances")]
    RebalanceInProgress,
    /// Another protocol type, or no assignor that all members know: `INCONSISTENT_GROUP_PROTOCOL`.
    #[error("no protocol in common with the group")]
    InconsistentProtocol,
    /// Join again with this id (KIP-394): `MEMBER_ID_REQUIRED`.
    #[error("join again as {member_id}")]
    MemberIdRequired {
        /// The id that was drawn.
        member_id: String,
    },
    /// Another member took over the instance id: `FENCED_INSTANCE_ID`.
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// The group has as many members as it may: `GROUP_MAX_SIZE_REACHED`.
    #[error("the group has its {limit} members")]
    GroupFull {
        /// The limit.
        limit: usize,
    },
    /// As many groups, or bytes of their members, as the gateway holds; retry later: `COORDINATOR_NOT_AVAILABLE`.
    #[error("{what} = {limit} would be passed")]
    CoordinatorFull {
        /// The limit's name.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Metadata or assignment of a member over its limit: `INVALID_REQUEST`.
    #[error("{bytes} bytes of metadata or assignment where {limit} are allowed")]
    TooLarge {
        /// Size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More assignors than a member may have: `INVALID_REQUEST`.
    #[error("{count} protocols where {limit} are allowed")]
    TooManyProtocols {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Only a group without members can be deleted: `NON_EMPTY_GROUP`.
    #[error("the group has members")]
    NotEmpty,
    /// A member reads the topic, so its offsets stay: `GROUP_SUBSCRIBED_TO_TOPIC`.
    #[error("a member of the group reads the topic")]
    SubscribedToTopic,
    /// Neither members nor offsets: `GROUP_ID_NOT_FOUND`.
    #[error("no such group")]
    NotFound,
    /// The coordinator stopped: `COORDINATOR_NOT_AVAILABLE`.
    #[error("the coordinator stopped")]
    Stopped,
}

/// Why an offset is not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The member may not: the error that it would get in any other request.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("no such topic or partition")]
    UnknownPartition,
    /// `OFFSET_METADATA_TOO_LARGE`.
    #[error("offset metadata of {bytes} bytes where {limit} are allowed")]
    MetadataTooLarge {
        /// Size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The journal refused or stopped: `COORDINATOR_NOT_AVAILABLE`, or as the append says.
    #[error(transparent)]
    Append(#[from] AppendError),
}
