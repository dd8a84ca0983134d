//! Files, names, and what of them the medium holds. Copies share content until one of them writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Event;

/// What a power cut keeps or loses as a whole.
pub const SIM_BLOCK_BYTES: usize = 4096;

/// A moment of a disk.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) pending_names: Vec<(u64, NameChange)>,
    /// Counts pending changes of content and names, for their order.
    next_change: u64,
}

/// A file's content: as read, as durable, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) cache: Arc<Vec<u8>>,
    pub(super) medium: Arc<Vec<u8>>,
    pub(super) pending: Vec<(u64, Event)>,
}

/// A change of one or two names that no folder's sync made durable yet.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) added: Option<(String, u64)>,
    pub(super) removed: Option<(String, u64)>,
}

impl Files {
    /// All names, with their folders.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// Content of a file, as the application reads it.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> &[u8] {
        &self.inodes[&self.names[name]].cache
    }

    /// Changes a file behind everyone's back, on the medium and in the cache.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.inodes.get_mut(&self.names[name]).expect("names have files");
        change(Arc::make_mut(&mut inode.cache));
        inode.medium = Arc::clone(&inode.cache);
    }

    /// Adds a file behind everyone's back.
    pub fn add(&mut self, name: &str, content: &[u8]) {
        let cache = Arc::new(content.to_vec());
        let medium = Arc::clone(&cache);
        self.inodes.insert(self.next_inode, Inode { cache, medium, pending: Vec::new() });
        self.names.insert(name.to_owned(), self.next_inode);
        self.durable_names.clone_from(&self.names);
        self.next_inode += 1;
    }

    /// Adds, renames or removes names behind everyone's back.
    pub fn rewire(&mut self, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        change(&mut self.names);
        self.durable_names.clone_from(&self.names);
    }

    /// Bytes of all files that have a name or are told to.
    pub(super) fn bytes_beside(&self, inode: u64) -> usize {
        let named: BTreeSet<_> = self.names.values().copied().filter(|id| *id != inode).collect();
        named.iter().filter_map(|id| self.inodes.get(id)).map(|inode| inode.cache.len()).sum()
    }

    /// Number of a name's file.
    pub(super) fn inode(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// A number that images with other names or other readable bytes will hardly share.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut print = 0u64;
        for (name, inode) in &self.names {
            let content = &self.inodes[inode].cache;
            let name = u64::from(crc32c::crc32c(name.as_bytes()));
            let body = u64::from(crc32c::crc32c(content)) ^ ((content.len() as u64) << 32);
            print = (print.rotate_left(21) ^ name.rotate_left(32) ^ body)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        print
    }

    /// Performs an event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(name) => {
                let inode = self.next_inode;
                self.inodes.insert(inode, Inode::default());
                self.next_inode += 1;
                self.change_name(NameChange { added: Some((name.clone(), inode)), removed: None });
            }
            Event::Rename(from, to) => {
                if let Some(inode) = self.inode(from) {
                    let removed = Some((from.clone(), inode));
                    self.change_name(NameChange { added: Some((to.clone(), inode)), removed });
                }
            }
            Event::Remove(name) => {
                if let Some(inode) = self.inode(name) {
                    let removed = Some((name.clone(), inode));
                    self.change_name(NameChange { added: None, removed });
                }
            }
            Event::SyncFolder(folder) => self.sync_folder(folder),
            Event::Write { inode, .. } | Event::Resize { inode, .. } => {
                self.next_change += 1;
                if let Some(inode) = self.inodes.get_mut(inode) {
                    apply_content(&mut inode.cache, event);
                    inode.pending.push((self.next_change, event.clone()));
                }
            }
            Event::Sync(inode) => self.sync(*inode),
            Event::FailedSync(inode) => {
                if let Some(inode) = self.inodes.get_mut(inode) {
                    inode.pending.clear();
                }
            }
            Event::PowerCut(cut) => *self = self.after(*cut),
            Event::Acked(_) => {}
        }
    }

    fn sync(&mut self, inode: u64) {
        let Some(inode) = self.inodes.get_mut(&inode) else {
            return;
        };
        for (_, event) in std::mem::take(&mut inode.pending) {
            apply_content(&mut inode.medium, &event);
        }
        // Usually they agree now, and then one copy will do.
        if inode.medium == inode.cache {
            inode.medium = Arc::clone(&inode.cache);
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.next_change += 1;
        self.pending_names.push((self.next_change, change));
    }

    fn sync_folder(&mut self, folder: &str) {
        let durable = &mut self.durable_names;
        self.pending_names.retain_mut(|(_, change)| {
            change.take_of(folder).apply(durable);
            change.added.is_some() || change.removed.is_some()
        });
    }
}

impl NameChange {
    /// What of it is about names in this folder.
    fn take_of(&mut self, folder: &str) -> Self {
        let here = |name: &mut (String, u64)| folder_of(&name.0) == folder;
        Self { added: self.added.take_if(here), removed: self.removed.take_if(here) }
    }

    /// Whether it is a rename from one folder to another, which no file system does at once.
    pub(super) fn spans_folders(&self) -> bool {
        match (&self.added, &self.removed) {
            (Some((to, _)), Some((from, _))) => folder_of(to) != folder_of(from),
            _ => false,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some((name, inode)) = &self.removed
            && names.get(name) == Some(inode)
        {
            names.remove(name);
        }
        if let Some((name, inode)) = &self.added {
            names.insert(name.clone(), *inode);
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Does to a content what an event did to another.
pub(super) fn apply_content(content: &mut Arc<Vec<u8>>, event: &Event) {
    match event {
        Event::Write { at, bytes, .. } => write(content, *at, bytes),
        Event::Resize { length, .. } if content.is_empty() => {
            // The allocator has zeroed pages at hand.
            *content = Arc::new(vec![0; *length]);
        }
        // Not worth a copy of its own.
        Event::Resize { length, .. } if content.len() == *length => {}
        Event::Resize { length, .. } => Arc::make_mut(content).resize(*length, 0),
        _ => {}
    }
}

/// Writes bytes, past the end too.
pub(super) fn write(content: &mut Arc<Vec<u8>>, at: usize, bytes: &[u8]) {
    let content = Arc::make_mut(content);
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}
