//! What the disk was asked to do, in order; files know each other by number, because names come and go.

use std::fmt;

use bytes::Bytes;

use super::Cut;

/// An operation that changed something, or what the test noted in between.
#[derive(Clone)]
pub enum Event {
    /// A file that did not exist.
    Create(String),
    /// From, to.
    Rename(String, String),
    /// A name that goes.
    Remove(String),
    /// A folder's names.
    SyncFolder(String),
    /// Bytes at a place.
    Write {
        /// File.
        inode: u64,
        /// Place in it.
        at: usize,
        /// What was written.
        bytes: Bytes,
    },
    /// Allocation or truncation.
    Resize {
        /// File.
        inode: u64,
        /// New length.
        length: usize,
    },
    /// A file's content and length.
    Sync(u64),
    /// A sync that reported an error: what was pending never reaches the medium, but stays readable.
    FailedSync(u64),
    /// The power went and came back.
    PowerCut(Cut),
    /// So many appends of the workload were acknowledged.
    Acked(usize),
}

impl Event {
    /// Whether the disk itself was asked for something.
    #[must_use]
    pub fn is_operation(&self) -> bool {
        !matches!(self, Self::Acked(_) | Self::PowerCut(_))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name) => write!(out, "create {name}"),
            Self::Rename(from, to) => write!(out, "rename {from} {to}"),
            Self::Remove(name) => write!(out, "remove {name}"),
            Self::SyncFolder(name) => write!(out, "sync folder {name}"),
            Self::Write { inode, at, bytes } => write!(out, "write #{inode} {at}+{}", bytes.len()),
            Self::Resize { inode, length } => write!(out, "resize #{inode} {length}"),
            Self::Sync(inode) => write!(out, "sync #{inode}"),
            Self::FailedSync(inode) => write!(out, "failed sync #{inode}"),
            Self::PowerCut(cut) => write!(out, "power cut {cut:?}"),
            Self::Acked(count) => write!(out, "acked {count}"),
        }
    }
}
