//! The targets of the link, which its own tests feed too.

#[path = "../../protocol/tests/fuzz/corpus.rs"]
mod corpus;
#[path = "../../protocol/tests/fuzz/target.rs"]
mod target;

pub(crate) use target::TARGETS;
