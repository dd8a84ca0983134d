//! One request that both servers get.

use std::fmt;

use serde_json::Value;

/// A request, in common names.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What it is for.
    pub(super) label: String,
    /// Which of a server's connections it takes.
    pub(super) connection: usize,
    pub(super) api: String,
    pub(super) version: i16,
    pub(super) body: Value,
    pub(super) source: Source,
    pub(super) answered: Answered,
}

/// Where a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It is written as it is to be sent, but for `"last"` where a server gave a number.
    Generated,
    /// What a client said to another server: members, generations, producers and sessions are those of its time.
    Recorded,
}

/// When the answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Before the next request.
    AtOnce,
    /// After the next request that is answered at once, which it may have to wait for.
    Later,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, api, version, body, .. } = self;
        write!(formatter, "{api} version {version}, {label}: {body}")
    }
}
