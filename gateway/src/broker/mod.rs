//! The broker: topics, partitions, idempotent producers, consumer groups. No socket, no protocol bytes, no file.
//!
//! Everything refusable is refused in [`Broker::append`] before an offset exists: checks, admission by
//! the journal and the assignment of offsets happen under one lock, so the order of offsets is the order
//! in the log. Whoever acknowledges anything waits for its [`Commit`] first. All durable state is facts
//! (see [`space`]); what is in memory besides is what the facts and the journal's ends say.

mod alter;
mod append;
#[expect(clippy::module_inception, reason = "the file owns the type of that name")]
mod broker;
mod catalog;
mod epoch;
mod fact;
pub mod group;
mod identity;
mod isolation;
mod keep;
mod lookup;
mod partitioner;
mod producer_id;
mod producers;
mod protection;
mod retention;
mod settings;
pub mod space;
#[cfg(test)]
pub(crate) mod tests;
mod topic;
mod transaction;

pub use alter::{SettingEdit, SettingOperation, SettingsEdit};
pub use append::{AppendError, AppendRequest, Commit};
pub use broker::{Broker, BrokerOptions, LogEnds, OpenError};
pub use epoch::{Continuity, EpochEnd};
pub use fact::FactError;
pub use group::Groups;
pub use identity::Uuid;
pub use isolation::{Fetched, Isolation};
pub use keep::{Gap, GapReason, Keeper, KeepingStatus};
pub use lookup::Located;
pub use partitioner::partition_for_key;
pub use producers::ActiveProducer;
pub use retention::DeleteRecordsError;
pub use settings::{
    BatchRules, CLEANUP_POLICY, CleanupPolicy, DAMAGE_POLICY, DamagePolicy, FULL_POLICY,
    FullPolicy, MAX_MESSAGE_BYTES, RETENTION_BYTES, RETENTION_MS, SettingKind, TOPIC_SETTINGS,
    TopicDefaults, TopicSetting, TopicSettings, UNREPLICATED_POLICY, UnreplicatedPolicy,
};
pub use topic::{MAX_PARTITIONS_PER_TOPIC, MAX_TOPIC_NAME_BYTES, MAX_TOPICS, Topic, TopicError};
pub use transaction::EndTransaction;
