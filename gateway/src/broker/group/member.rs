//! One member of a group.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Ask, JoinRequest};

/// One member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// Assignors with metadata, preferred first.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// Its JoinGroup that waits for the rebalance.
    pub(super) join: Option<Ask>,
    /// Its SyncGroup that waits for the leader.
    pub(super) sync: Option<Ask>,
    /// Never got a generation: it does not know its id, so it cannot send heartbeats.
    pub(super) is_new: bool,
    /// Was given a generation and has not asked for its assignment yet.
    pub(super) owes_sync: bool,
    /// When it is out; none while it waits for us.
    pub(super) expires: Option<Instant>,
}

impl Member {
    pub(super) fn new(request: JoinRequest, join: Option<Ask>, expires: Instant) -> Self {
        Self {
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            join,
            sync: None,
            is_new: true,
            owes_sync: false,
            expires: Some(expires),
        }
    }

    /// Takes over what a repeated join says.
    pub(super) fn update(&mut self, request: JoinRequest) {
        self.client_id = request.client_id;
        self.client_host = request.client_host;
        self.session_timeout = request.session_timeout;
        self.rebalance_timeout = request.rebalance_timeout;
        self.protocols = request.protocols;
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Bytes that it keeps in memory.
    pub(super) fn bytes(&self) -> usize {
        FIXED_BYTES
            + self.client_id.len()
            + self.client_host.len()
            + self.instance_id.as_ref().map_or(0, String::len)
            + protocols_bytes(&self.protocols)
            + self.assignment.len()
    }
}

/// What a member takes beside its texts, with ids and tables, rounded up.
const FIXED_BYTES: usize = 512;

/// What an assignor takes beside its name and metadata.
const PROTOCOL_BYTES: usize = 64;

pub(super) fn protocols_bytes(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| PROTOCOL_BYTES + name.len() + metadata.len()).sum()
}
