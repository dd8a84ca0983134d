//! Kafka's error codes, and which of them each refusal of the broker becomes.

use crate::{
    broker::{
        AppendError, TopicError,
        group::{CommitError, GroupError},
    },
    journal::{AdmitError, ReadError},
};

/// A client that compares no epochs.
const ANY_EPOCH: i32 = -1;

/// An error code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub(crate) i16);

#[rustfmt::skip]
impl ErrorCode {
    pub(crate) const UNKNOWN_SERVER_ERROR: Self = Self(-1);
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub(crate) const CORRUPT_MESSAGE: Self = Self(2);
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    pub(crate) const LEADER_NOT_AVAILABLE: Self = Self(5);
    pub(crate) const MESSAGE_TOO_LARGE: Self = Self(10);
    pub(crate) const OFFSET_METADATA_TOO_LARGE: Self = Self(12);
    pub(crate) const COORDINATOR_NOT_AVAILABLE: Self = Self(15);
    pub(crate) const INVALID_TOPIC: Self = Self(17);
    pub(crate) const NOT_ENOUGH_REPLICAS: Self = Self(19);
    pub(crate) const INVALID_REQUIRED_ACKS: Self = Self(21);
    pub(crate) const ILLEGAL_GENERATION: Self = Self(22);
    pub(crate) const INCONSISTENT_GROUP_PROTOCOL: Self = Self(23);
    pub(crate) const INVALID_GROUP_ID: Self = Self(24);
    pub(crate) const UNKNOWN_MEMBER_ID: Self = Self(25);
    pub(crate) const INVALID_SESSION_TIMEOUT: Self = Self(26);
    pub(crate) const REBALANCE_IN_PROGRESS: Self = Self(27);
    pub(crate) const INVALID_TIMESTAMP: Self = Self(32);
    pub(crate) const UNSUPPORTED_VERSION: Self = Self(35);
    pub(crate) const TOPIC_ALREADY_EXISTS: Self = Self(36);
    pub(crate) const INVALID_PARTITIONS: Self = Self(37);
    pub(crate) const INVALID_REPLICATION_FACTOR: Self = Self(38);
    pub(crate) const INVALID_REPLICA_ASSIGNMENT: Self = Self(39);
    pub(crate) const INVALID_CONFIG: Self = Self(40);
    pub(crate) const NOT_CONTROLLER: Self = Self(41);
    pub(crate) const INVALID_REQUEST: Self = Self(42);
    pub(crate) const POLICY_VIOLATION: Self = Self(44);
    pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self(45);
    pub(crate) const DUPLICATE_SEQUENCE_NUMBER: Self = Self(46);
    pub(crate) const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub(crate) const INVALID_TXN_STATE: Self = Self(48);
    pub(crate) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    pub(crate) const KAFKA_STORAGE_ERROR: Self = Self(56);
    pub(crate) const NON_EMPTY_GROUP: Self = Self(68);
    pub(crate) const GROUP_ID_NOT_FOUND: Self = Self(69);
    pub(crate) const FETCH_SESSION_ID_NOT_FOUND: Self = Self(70);
    pub(crate) const INVALID_FETCH_SESSION_EPOCH: Self = Self(71);
    pub(crate) const FENCED_LEADER_EPOCH: Self = Self(74);
    pub(crate) const UNKNOWN_LEADER_EPOCH: Self = Self(75);
    pub(crate) const UNSUPPORTED_COMPRESSION_TYPE: Self = Self(76);
    pub(crate) const MEMBER_ID_REQUIRED: Self = Self(79);
    pub(crate) const GROUP_MAX_SIZE_REACHED: Self = Self(81);
    pub(crate) const FENCED_INSTANCE_ID: Self = Self(82);
    pub(crate) const ELECTION_NOT_NEEDED: Self = Self(84);
    pub(crate) const GROUP_SUBSCRIBED_TO_TOPIC: Self = Self(86);
    pub(crate) const INVALID_RECORD: Self = Self(87);
    pub(crate) const UNKNOWN_TOPIC_ID: Self = Self(100);
    pub(crate) const FETCH_SESSION_TOPIC_ID_ERROR: Self = Self(106);
    pub(crate) const MISMATCHED_ENDPOINT_TYPE: Self = Self(114);
    pub(crate) const UNSUPPORTED_ENDPOINT_TYPE: Self = Self(115);
}

impl ErrorCode {
    /// Compares the leader epoch that a client knows with the partition's: an older one must look
    /// again, a newer one knows more than this node.
    pub(crate) fn of_epoch(asked: i32, current: i32) -> Result<(), Self> {
        match asked {
            ANY_EPOCH => Ok(()),
            older if older < current => Err(Self::FENCED_LEADER_EPOCH),
            newer if newer > current => Err(Self::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// The code of a result.
    pub(crate) fn of<'a, E>(result: &'a Result<(), E>) -> Self
    where
        Self: From<&'a E>,
    {
        match result {
            Ok(()) => Self::NONE,
            Err(error) => error.into(),
        }
    }

    /// Whether this is an error.
    pub(crate) fn is_error(self) -> bool {
        self != Self::NONE
    }
}

impl From<&AppendError> for ErrorCode {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::UnknownPartition(_) => Self::UNKNOWN_TOPIC_OR_PARTITION,
            AppendError::OutOfOrderSequence { .. } => Self::OUT_OF_ORDER_SEQUENCE_NUMBER,
            AppendError::ProducerFenced { .. } => Self::INVALID_PRODUCER_EPOCH,
            AppendError::DuplicateSequence { .. } => Self::DUPLICATE_SEQUENCE_NUMBER,
            AppendError::InTransaction { .. } => Self::INVALID_TXN_STATE,
            AppendError::NoProducer | AppendError::ControlBatch => Self::INVALID_RECORD,
            AppendError::BatchTooLarge { .. } => Self::MESSAGE_TOO_LARGE,
            // Not retriable: the producer gives the record up and tells its application.
            AppendError::Dropped => Self::POLICY_VIOLATION,
            AppendError::Journal(refusal) => refusal.into(),
            AppendError::Poisoned(_) => Self::KAFKA_STORAGE_ERROR,
            AppendError::Fact(_) => Self::UNKNOWN_SERVER_ERROR,
        }
    }
}

impl From<&AdmitError> for ErrorCode {
    fn from(error: &AdmitError) -> Self {
        match error {
            // Retriable without a refresh of metadata: the producer keeps its batch and asks again.
            AdmitError::Full | AdmitError::State(_) => Self::NOT_ENOUGH_REPLICAS,
            AdmitError::TooLarge { .. } => Self::MESSAGE_TOO_LARGE,
            AdmitError::Poisoned(_) => Self::KAFKA_STORAGE_ERROR,
        }
    }
}

impl From<&GroupError> for ErrorCode {
    fn from(error: &GroupError) -> Self {
        match error {
            GroupError::InvalidGroupId => Self::INVALID_GROUP_ID,
            GroupError::InvalidSessionTimeout => Self::INVALID_SESSION_TIMEOUT,
            GroupError::UnknownMember => Self::UNKNOWN_MEMBER_ID,
            GroupError::IllegalGeneration => Self::ILLEGAL_GENERATION,
            GroupError::RebalanceInProgress => Self::REBALANCE_IN_PROGRESS,
            GroupError::InconsistentProtocol => Self::INCONSISTENT_GROUP_PROTOCOL,
            GroupError::MemberIdRequired { .. } => Self::MEMBER_ID_REQUIRED,
            GroupError::FencedInstance => Self::FENCED_INSTANCE_ID,
            GroupError::GroupFull { .. } => Self::GROUP_MAX_SIZE_REACHED,
            GroupError::CoordinatorFull { .. } | GroupError::Stopped => {
                Self::COORDINATOR_NOT_AVAILABLE
            }
            GroupError::TooLarge { .. } | GroupError::TooManyProtocols { .. } => {
                Self::INVALID_REQUEST
            }
            GroupError::SubscribedToTopic => Self::GROUP_SUBSCRIBED_TO_TOPIC,
            GroupError::NotEmpty => Self::NON_EMPTY_GROUP,
            GroupError::NotFound => Self::GROUP_ID_NOT_FOUND,
        }
    }
}

impl From<&CommitError> for ErrorCode {
    fn from(error: &CommitError) -> Self {
        match error {
            CommitError::Group(error) => error.into(),
            CommitError::UnknownPartition => Self::UNKNOWN_TOPIC_OR_PARTITION,
            CommitError::MetadataTooLarge { .. } => Self::OFFSET_METADATA_TOO_LARGE,
            // Retriable for every client: the offset is not lost while the consumer lives.
            CommitError::Append(_) => Self::COORDINATOR_NOT_AVAILABLE,
        }
    }
}

impl From<&TopicError> for ErrorCode {
    fn from(error: &TopicError) -> Self {
        match error {
            TopicError::Exists(_) => Self::TOPIC_ALREADY_EXISTS,
            TopicError::Unknown(_) => Self::UNKNOWN_TOPIC_OR_PARTITION,
            TopicError::IllegalName(_) => Self::INVALID_TOPIC,
            TopicError::IllegalPartitions(_) | TopicError::NoMorePartitions { .. } => {
                Self::INVALID_PARTITIONS
            }
            TopicError::IllegalSetting(..) => Self::INVALID_CONFIG,
            TopicError::TooMany(_) => Self::POLICY_VIOLATION,
            TopicError::Fact(_) => Self::UNKNOWN_SERVER_ERROR,
            TopicError::Stopped => Self::NOT_CONTROLLER,
            TopicError::Append(refusal) => refusal.into(),
        }
    }
}

impl From<&ReadError> for ErrorCode {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::OutOfRange { .. } => Self::OFFSET_OUT_OF_RANGE,
            ReadError::Damaged { .. } => Self::CORRUPT_MESSAGE,
            ReadError::Io(_) => Self::KAFKA_STORAGE_ERROR,
        }
    }
}
