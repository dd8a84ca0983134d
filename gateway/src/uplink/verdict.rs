//! What the client's errors mean: a record that will never be taken, a session that is over, and why.

use std::{collections::BTreeMap, time::Duration};

use krafka::{KrafkaError, ProtocolErrorKind, error::ErrorCode, producer::DeliveryHandle};

use super::centre::{CentreError, CommitError, Severity};
use crate::journal::PartitionId;

/// Answers that no other attempt with the same record would change.
const POISON: [ErrorCode; 7] = [
    ErrorCode::MessageTooLarge,
    ErrorCode::RecordListTooLarge,
    ErrorCode::InvalidTimestamp,
    ErrorCode::InvalidRecord,
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::PolicyViolation,
    ErrorCode::UnsupportedForMessageFormat,
];

/// Finds out whether particular records made the transaction fail. `at` is the partition whose
/// record was not even queued.
pub(super) async fn blame(
    sent: Vec<(PartitionId, DeliveryHandle)>,
    at: Option<PartitionId>,
    error: &KrafkaError,
) -> CommitError {
    let mut refused = BTreeMap::new();
    if let (Some(partition), Some(why)) = (at, refusal(error)) {
        refused.insert(partition, why);
    }
    for (partition, handle) in sent {
        // Only what is known by now: what is still on its way was not what failed.
        if let Ok(Err(error)) = tokio::time::timeout(Duration::ZERO, handle).await
            && let Some(why) = refusal(&error)
        {
            refused.entry(partition).or_insert(why);
        }
    }
    if refused.is_empty() {
        lost("commit", error)
    } else {
        CommitError::Poison(refused.into_iter().collect())
    }
}

/// Why the centre will never take this record, if that is what the error says.
fn refusal(error: &KrafkaError) -> Option<String> {
    match error {
        KrafkaError::Broker { code, .. } if POISON.contains(code) => Some(format!("{code:?}")),
        // Within a transaction the client reports the code at the end of its text only.
        KrafkaError::TransactionAbortable { message } => POISON
            .iter()
            .map(|code| format!("{code:?}"))
            .find(|code| message.ends_with(&format!("failed with {code}"))),
        KrafkaError::Protocol {
            kind: ProtocolErrorKind::FrameTooLarge | ProtocolErrorKind::InvalidLength,
            message,
        }
        | KrafkaError::Serialization { message }
        | KrafkaError::Compression { message } => Some(message.clone()),
        _ => None,
    }
}

/// Whether the error says that a topic is not there.
pub(super) fn is_missing(error: &KrafkaError) -> bool {
    matches!(
        error,
        KrafkaError::UnknownTopic { .. }
            | KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }
    )
}

/// A transaction that failed for a reason of the session.
pub(super) fn lost(what: &str, error: &KrafkaError) -> CommitError {
    CommitError::Lost(explain(what, error))
}

/// An error of the client, for the operator.
pub(super) fn explain(what: &str, error: &KrafkaError) -> CentreError {
    match error {
        KrafkaError::Fenced { .. }
        | KrafkaError::Broker {
            code: ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch,
            ..
        } => CentreError {
            severity: Severity::Fenced,
            message: format!(
                "{what}: another process took over this gateway's transactional id; is a copy of \
                 its data folder running elsewhere? ({error})"
            ),
        },
        KrafkaError::Auth { .. } | KrafkaError::Config { .. } => {
            CentreError::refused(format!("{what}: {error}"))
        }
        KrafkaError::Broker { code, .. } if is_refusal(*code) => {
            CentreError::refused(format!("{what}: {error}"))
        }
        // A handshake that the other side cut off comes as a network error.
        KrafkaError::Network(source) if source.to_string().contains("Certificate") => {
            CentreError::refused(format!("{what}: {error}"))
        }
        _ => CentreError::transient(format!("{what}: {error}")),
    }
}

fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed
            | ErrorCode::InvalidTransactionTimeout
            | ErrorCode::UnsupportedVersion
    )
}
